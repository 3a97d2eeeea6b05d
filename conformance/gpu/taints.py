"""Taints and tolerations, decided as kube-scheduler's TaintToleration plugin decides them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

SCHEDULING_EFFECTS = ("NoSchedule", "NoExecute")
"""The effects that keep a new pod away; PreferNoSchedule only lowers a node's score."""

LIFECYCLE_PREFIXES = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
LIFECYCLE_KEYS = ("ToBeDeletedByClusterAutoscaler", "DeletionCandidateOfClusterAutoscaler")


class Taint(msgspec.Struct, frozen=True, gc=False):
    """One taint of a node."""

    key: str
    value: str = ""
    effect: str = ""

    def __str__(self) -> str:
        pair = f"{self.key}={self.value}" if self.value else self.key
        return f"{pair}:{self.effect}"

    @property
    def is_lifecycle(self) -> bool:
        """Whether Kubernetes or the cluster autoscaler put it for a while (cordon, not ready, pressure, removal).

        Such a taint says how the node is today; it is no sign that its owners reserved it.
        """
        return self.key.startswith(LIFECYCLE_PREFIXES) or self.key in LIFECYCLE_KEYS


class Toleration(msgspec.Struct, frozen=True, gc=False):
    """One toleration of a pod. An empty operator means Equal, an empty effect every effect."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None

    def __str__(self) -> str:
        if not self.key:
            what = "every key" if self.operator == "Exists" else f"every key with value {self.value!r}"
        elif self.operator in ("", "Equal"):
            what = f"{self.key}={self.value}"
        else:
            what = f"{self.key} {self.operator} {self.value}".rstrip()
        return f"{what}:{self.effect or 'every effect'}"

    def tolerates(self, taint: Taint) -> bool:
        """Whether this one toleration covers ``taint`` (Kubernetes: api/core/v1/toleration.go, ToleratesTaint).

        An operator that is neither Exists nor Equal tolerates nothing. That holds for Lt and Gt too: their gate
        TaintTolerationComparisonOperators is alpha and off by default from 1.35 to 1.37 at least.
        """
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return self.operator in ("", "Equal") and self.value == taint.value


ORDINARY_POD = (
    Toleration("node.kubernetes.io/not-ready", "Exists", effect="NoExecute", toleration_seconds=300),
    Toleration("node.kubernetes.io/unreachable", "Exists", effect="NoExecute", toleration_seconds=300),
)
"""What a pod tolerates that asks for nothing: admission (DefaultTolerationSeconds) gives it these two."""

CORDON = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
"""What ``spec.unschedulable`` stands for: the NodeUnschedulable plugin admits only pods that tolerate it."""


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Whether at least one toleration covers the taint."""
    return any(toleration.tolerates(taint) for toleration in tolerations)


def untolerated(
    tolerations: Sequence[Toleration], taints: Iterable[Taint], effects: Sequence[str] = SCHEDULING_EFFECTS
) -> tuple[Taint, ...]:
    """The taints with one of ``effects`` that no toleration covers, in their order; empty when the pod may come."""
    return tuple(taint for taint in taints if taint.effect in effects and not tolerates(tolerations, taint))


def taint_from(mapping: Mapping[str, Any]) -> Taint:
    """A taint as a Node object holds it (``key``, ``value``, ``effect``). Raises KeyError when the key is missing."""
    return Taint(str(mapping["key"]), _text(mapping.get("value")), _text(mapping.get("effect")))


def toleration_from(mapping: Mapping[str, Any]) -> Toleration:
    """A toleration as a pod spec holds it; absent and null members become empty."""
    seconds = mapping.get("tolerationSeconds")
    return Toleration(
        _text(mapping.get("key")),
        _text(mapping.get("operator")),
        _text(mapping.get("value")),
        _text(mapping.get("effect")),
        None if seconds is None else int(seconds),
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)

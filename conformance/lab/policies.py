"""Objects that govern a namespace of the lab: quotas, limit ranges, disruption budgets; and PriorityClasses."""

from collections.abc import Mapping
from typing import Any, Protocol

from conformance.gpu.quantities import quantity
from conformance.kube.client import Client
from conformance.kube.errors import WaitTimeout
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.subjects import ObjectReference
from conformance.verdict import Finding, Inconclusive, format_value, require_ok

__all__ = [
    "BELOW_ZERO",
    "LOWEST",
    "LabQuota",
    "Priority",
    "below_zero_value",
    "budget_object",
    "limit_range_object",
    "priority_class_object",
    "quota_object",
    "require_counted",
]

BELOW_ZERO = -2_000_000_000
"""Added to a class's value for its mirror. Users may not go above 1e9, so every mirror is at -1e9 or lower."""
LOWEST = -(2**31)
_HIGHEST = 1_000_000_000


class Priority(Protocol):
    """A PriorityClass as the facts hold it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def value(self) -> int:
        """Its value."""

    @property
    def preemption_policy(self) -> str:
        """``PreemptLowerPriority`` or ``Never``."""


def below_zero_value(priority: Priority) -> int:
    """The value of a class's mirror: in the same order among mirrors, below every real workload.

    Raises Inconclusive for a system class, and for a value so low that there is nothing below it.
    """
    mirrored = priority.value + BELOW_ZERO
    if priority.value > _HIGHEST or mirrored < LOWEST:
        raise Inconclusive(f"priority class {priority.name} has value {priority.value}, which has no mirror below zero")
    return mirrored


def priority_class_object(
    name: str, *, value: int, preemption_policy: str, description: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """A PriorityClass that is never the global default."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name, "labels": dict(labels)},
        "value": value,
        "globalDefault": False,
        "preemptionPolicy": preemption_policy,
        "description": description,
    }


def quota_object(
    namespace: str, name: str, hard: Mapping[str, object], priority_classes: tuple[str, ...], labels: Mapping[str, str]
) -> dict[str, Any]:
    """A ResourceQuota, of pods of the named PriorityClasses only where there are names."""
    spec: dict[str, Any] = {"hard": {key: str(value) for key, value in hard.items()}}
    if priority_classes:
        expression = {"scopeName": "PriorityClass", "operator": "In", "values": list(priority_classes)}
        spec["scopeSelector"] = {"matchExpressions": [expression]}
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}


def limit_range_object(
    namespace: str, name: str, items: list[dict[str, Any]], labels: Mapping[str, str]
) -> dict[str, Any]:
    """A LimitRange with these raw items."""
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": items}}


def budget_object(
    namespace: str, name: str, match_labels: Mapping[str, str], min_available: int, labels: Mapping[str, str]
) -> dict[str, Any]:
    """A PodDisruptionBudget for the pods with these labels."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"minAvailable": min_available, "selector": {"matchLabels": dict(match_labels)}},
    }


def require_counted(client: Client, timeouts: Timeouts, budget: Mapping[str, Any]) -> None:
    """Wait until the disruption controller has counted the budget's pods; raises Inconclusive when it does not."""
    metadata = budget["metadata"]
    target = path("PodDisruptionBudget", namespace=metadata["namespace"], name=metadata["name"])

    def counted(found: dict[str, Any]) -> bool:
        status = found.get("status") or {}
        observed = int(status.get("observedGeneration") or 0) >= int(found["metadata"].get("generation") or 0)
        return observed and "disruptionsAllowed" in status

    what = f"disruption budget {metadata['namespace']}/{metadata['name']} is counted"
    try:
        wait_for(lambda: client.get(target), counted, what=what, timeout=timeouts.condition, format_seen=_format_status)
    except WaitTimeout as error:
        raise Inconclusive(f"{error}. Does a kube-controller-manager run the disruption controller?") from error


def _format_status(found: dict[str, Any]) -> str:
    return format_value(found.get("status") or {})


class LabQuota:
    """One quota of the lab, and expectations about what it counts."""

    def __init__(self, client: Client, timeouts: Timeouts, namespace: str, name: str) -> None:
        self._client = client
        self._timeouts = timeouts
        self.namespace = namespace
        self.name = name

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("ResourceQuota", self.name, namespace=self.namespace, text=str(self))

    def __str__(self) -> str:
        return f"quota {self.namespace}/{self.name}"

    @property
    def hard(self) -> dict[str, str]:
        """The limits that admission enforces now (``status.hard``)."""
        return self._status("hard")

    @property
    def used(self) -> dict[str, str]:
        """What is counted now; a key that Kubernetes does not understand never appears."""
        return self._status("used")

    def require_enforced(self, hard: Mapping[str, object]) -> "LabQuota":
        """Wait until the quota controller has taken the limits up; admission refuses everything before.

        Raises Inconclusive when it does not.
        """
        wanted = {key: quantity(str(value)) for key, value in hard.items()}

        def enforced(status: dict[str, str]) -> bool:
            return {key: quantity(value) for key, value in status.items()} == wanted

        try:
            wait_for(lambda: self.hard, enforced, what=f"{self} is enforced", timeout=self._timeouts.quota_counted)
        except WaitTimeout as error:
            raise Inconclusive(f"{error}. Does a kube-controller-manager run the resourcequota controller?") from error
        return self

    def wait_until_used(self, wanted: Mapping[str, object], *, because: str = "") -> "LabQuota":
        """Expect that the quota comes to count exactly these amounts of these keys."""
        amounts = {key: quantity(str(value)) for key, value in wanted.items()}

        def counted(used: dict[str, str]) -> bool:
            return all(quantity(used.get(key, "-1")) == amount for key, amount in amounts.items())

        try:
            used = wait_for(
                lambda: self.used,
                counted,
                what=f"{self} counts {format_value(dict(wanted))}",
                timeout=self._timeouts.quota_counted,
            )
        except WaitTimeout:
            used = self.used
        expected = f"to count {format_value(dict(wanted))}" + (f" ({because})" if because else "")
        require_ok(Finding(self.subject, counted(used), expected, format_value(used)))
        return self

    def _status(self, field: str) -> dict[str, str]:
        found = self._client.get(path("ResourceQuota", namespace=self.namespace, name=self.name))
        return dict((found.get("status") or {}).get(field) or {})

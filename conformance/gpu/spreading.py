"""Hard topology spread: how many more of its kind a pod's domain may have than the emptiest.

As kube-scheduler decides it (pkg/scheduler/framework/plugins/podtopologyspread/filtering.go): only constraints that
say DoNotSchedule forbid; only nodes with all of their keys, and by default those that the pod's node affinity allows,
make domains; pods that are being deleted do not count.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from conformance.gpu.affinity import node_matcher, selector_matches
from conformance.gpu.neighbours import same
from conformance.gpu.taints import taint_from, toleration_from, untolerated

Manifest: TypeAlias = Mapping[str, Any]

HARD = "DoNotSchedule"


class Spreading:
    """The hard constraints of one pod, counted over all nodes once."""

    def __init__(self, pod: Manifest, nodes: Sequence[Manifest], bound: Mapping[str, Sequence[Manifest]]) -> None:
        spec = pod["spec"]
        stated = [
            each for each in spec.get("topologySpreadConstraints") or () if each.get("whenUnsatisfiable", HARD) == HARD
        ]
        keys = [each["topologyKey"] for each in stated]
        domains = [each for each in nodes if all(key in _labels(each) for key in keys)] if stated else ()
        matches = node_matcher(spec.get("nodeSelector"), (spec.get("affinity") or {}).get("nodeAffinity"))
        self._rules = [_Rule(pod, each, _counted(pod, each, domains, matches), bound) for each in stated]

    def on(self, node: Manifest) -> Iterator[str]:
        """What keeps the pod off the node, in words."""
        for rule in self._rules:
            words = rule.against(_labels(node))
            if words:
                yield words


class _Rule:
    """One constraint with the number of pods that it is about in each domain."""

    def __init__(
        self, pod: Manifest, stated: Manifest, nodes: Sequence[Manifest], bound: Mapping[str, Sequence[Manifest]]
    ) -> None:
        self._key, self._most = str(stated["topologyKey"]), int(stated.get("maxSkew") or 1)
        labels = pod["metadata"].get("labels") or {}
        alike = {key: labels[key] for key in stated.get("matchLabelKeys") or () if key in labels}

        def selects(other: Manifest) -> bool:
            theirs = other["metadata"].get("labels") or {}
            return selector_matches(stated.get("labelSelector"), theirs) and alike.items() <= theirs.items()

        self._itself = int(selects(pod))
        self._counts: dict[str, int] = {}
        namespace = pod["metadata"].get("namespace")
        for node in nodes:
            domain = _labels(node)[self._key]
            number = 0
            for other in bound.get(str(node["metadata"]["name"]), ()):
                metadata = other["metadata"]
                counts = metadata.get("namespace") == namespace and not metadata.get("deletionTimestamp")
                number += counts and selects(other) and not same(other, pod)
            self._counts[domain] = self._counts.get(domain, 0) + number
        wanted = int(stated.get("minDomains") or 1)
        self._least = min(self._counts.values()) if len(self._counts) >= wanted else 0
        self._few = wanted if len(self._counts) < wanted else 0

    def against(self, labels: Mapping[str, str]) -> str:
        if self._key not in labels:
            return f"topology spread wants the label {self._key}, which it lacks"
        here = self._counts.get(labels[self._key], 0)
        if here + self._itself - self._least <= self._most:
            return ""
        against = f"{self._least} in the emptiest {self._key}"
        if self._few:
            against = f"0, because there are fewer than {self._few} domains (minDomains)"
        return (
            f"topology spread: {here} of its kind in {self._key}={labels[self._key]} already, {against}, "
            f"maxSkew {self._most}"
        )


def _counted(pod: Manifest, stated: Manifest, nodes: Sequence[Manifest], matches: Any) -> list[Manifest]:
    """The nodes whose domains count for one constraint, by its policies."""
    tolerations = [toleration_from(each) for each in pod["spec"].get("tolerations") or ()]
    found = list(nodes)
    if stated.get("nodeAffinityPolicy") != "Ignore":
        found = [each for each in found if matches(_labels(each), str(each["metadata"]["name"]))]
    if stated.get("nodeTaintsPolicy") == "Honor":
        found = [each for each in found if not untolerated(tolerations, _taints(each))]
    return found


def _taints(node: Manifest) -> list[Any]:
    return [taint_from(each) for each in (node.get("spec") or {}).get("taints") or ()]


def _labels(node: Manifest) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}

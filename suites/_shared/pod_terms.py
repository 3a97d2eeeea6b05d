"""Node affinity, pod anti-affinity and the taints to tolerate, for the pods of scenarios."""

from collections.abc import Iterable, Mapping
from typing import Any

from conformance.facts import Node
from conformance.gpu.taints import SCHEDULING_EFFECTS, Taint
from conformance.reference.model import Pool

HOSTNAME = "kubernetes.io/hostname"


def carrying(labels: Mapping[str, str]) -> dict[str, Any]:
    """A nodeSelectorTerm: nodes with all of these labels."""
    return {
        "matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(labels.items())]
    }


def named(node: Node) -> dict[str, Any]:
    """A nodeSelectorTerm: this node alone."""
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node.name]}]}


def requiring(*terms: dict[str, Any]) -> dict[str, Any]:
    """Required node affinity: the node has to match one of the terms."""
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def preferring(term: dict[str, Any]) -> dict[str, Any]:
    """Preferred node affinity with the largest weight that the API allows."""
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}}


def avoiding(labels: Mapping[str, str]) -> dict[str, Any]:
    """Preferred pod anti-affinity: a node without pods of these labels."""
    term = {"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": HOSTNAME}
    return {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]
        }
    }


def taints_of(pools: Iterable[Pool]) -> tuple[Taint, ...]:
    """The declared taints with effect NoSchedule or NoExecute, each once, in the order of declaration."""
    declared = (Taint(taint.key, taint.value, taint.effect) for pool in pools for taint in pool.taints)
    return tuple(dict.fromkeys(taint for taint in declared if taint.effect in SCHEDULING_EFFECTS))

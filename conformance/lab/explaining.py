"""Why a pod is not placed, computed from nodes, pods and quotas. The scheduler's own words are never quoted.

What is computed: scheduling gates, cordons and taints minus tolerations, node selector and required node affinity,
required pod anti-affinity, and free devices, cores, bytes and pod slots of every node.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from conformance.gpu.affinity import node_matches, required_terms, selector_matches, unmet
from conformance.gpu.quantities import quantity
from conformance.gpu.requests import Asking, effective_requests, pod_requests
from conformance.gpu.taints import CORDON, taint_from, tolerates, toleration_from, untolerated

__all__ = ["Explanation", "Obstacle", "bound_by_node", "explain", "explain_refusal", "obstacles"]

_MOST_HOLDERS = 4
_TAINT, _AFFINITY, _ROOM, _NEIGHBOUR = "a taint", "selector or affinity", "too little room", "pod anti-affinity"
_NONE_OF_IT = "having none of the devices"
# A node of another pool is never the one that the reader had in mind, however little else is wrong with it.
_OF_ANOTHER_POOL = (_AFFINITY, _NONE_OF_IT)
_MIB = 2**20
_IN_BYTES = ("memory", "ephemeral-storage")


class Obstacle(msgspec.Struct, frozen=True):
    """One thing that keeps a pod off a node. ``lasting`` ones do not go away by waiting."""

    kind: str
    text: str
    lasting: bool


class Explanation(msgspec.Struct, frozen=True):
    """``cause`` is the sentence for the report; ``hopeless`` says that waiting will not help."""

    cause: str
    hopeless: bool

    def __str__(self) -> str:
        return self.cause


def explain(
    pod: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]
) -> Explanation:
    """Why none of ``nodes`` takes ``pod``, given all the ``pods`` that may be on them."""
    gates = [str(gate["name"]) for gate in pod["spec"].get("schedulingGates") or ()]
    if gates:
        return Explanation(f"it has the scheduling gate {', '.join(gates)}, so no scheduler looks at it", True)
    if not nodes:
        return Explanation("the cluster has no node", False)
    bound = bound_by_node(pods)
    found = {str(node["metadata"]["name"]): obstacles(pod, node, nodes, bound) for node in nodes}
    nearest = sorted(found, key=lambda name: (_distance(found[name]), name))
    best = nearest[0]
    if not found[best]:
        return Explanation(f"nothing keeps it off node {best}: the scheduler has not placed it yet", False)
    words = f"node {best}: {'; '.join(obstacle.text for obstacle in found[best])}"
    others = Counter(_main_kind(found[name]) for name in nearest[1:])
    if others:
        counted = ", ".join(f"{count} by {kind}" for kind, count in others.most_common())
        words += f"; the other {len(nearest) - 1} nodes are ruled out: {counted}"
    return Explanation(words, all(any(each.lasting for each in kept) for kept in found.values()))


def obstacles(
    pod: Mapping[str, Any],
    node: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    bound: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Obstacle]:
    """Everything that keeps the pod off the node; ``bound`` are the unfinished pods by node name."""
    return [
        *_affinity_obstacles(pod, node),
        *_taint_obstacles(pod, node),
        *_room_obstacles(pod, node, bound.get(str(node["metadata"]["name"]), ())),
        *_neighbour_obstacles(pod, node, nodes, bound),
    ]


def explain_refusal(template: Mapping[str, Any], namespace: str, quotas: Iterable[Mapping[str, Any]]) -> str:
    """Which quota of the namespace has no room for a pod of this template; empty when all have."""
    asked = requests_of(template)
    for quota in quotas:
        status = quota.get("status") or {}
        for key, hard in (status.get("hard") or quota["spec"].get("hard") or {}).items():
            wanted = asked.get(key.removeprefix("requests."), Fraction(0)) if key != "pods" else Fraction(1)
            used = quantity((status.get("used") or {}).get(key, "0"))
            if wanted and used + wanted > quantity(hard):
                name = f"{namespace}/{quota['metadata']['name']}"
                return f"quota {name} allows {hard} of {key}, {_number(used)} are used and {_number(wanted)} asked for"
    return ""


def requests_of(pod: Mapping[str, Any]) -> dict[str, Fraction]:
    """What a pod or pod template asks a node for, by resource."""
    spec = pod["spec"]
    return pod_requests(
        [_asking(container) for container in spec.get("containers") or ()],
        [_asking(container) for container in spec.get("initContainers") or ()],
        (spec.get("resources") or {}).get("requests"),
        spec.get("overhead"),
    )


def _asking(container: Mapping[str, Any]) -> Asking:
    resources = container.get("resources") or {}
    requests = effective_requests(resources.get("requests") or {}, resources.get("limits") or {})
    return Asking(requests, restartable=container.get("restartPolicy") == "Always")


def bound_by_node(pods: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The unfinished pods that are bound to a node, by its name."""
    bound: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") and pod["spec"].get("nodeName"):
            bound.setdefault(str(pod["spec"]["nodeName"]), []).append(pod)
    return bound


def _main_kind(kept: Sequence[Obstacle]) -> str:
    kinds = [obstacle.kind for obstacle in kept]
    return next((kind for kind in _OF_ANOTHER_POOL if kind in kinds), kinds[0])


def _distance(kept: Sequence[Obstacle]) -> tuple[int, int]:
    return (sum(obstacle.kind in _OF_ANOTHER_POOL for obstacle in kept), len(kept))


def _taint_obstacles(pod: Mapping[str, Any], node: Mapping[str, Any]) -> Iterable[Obstacle]:
    tolerations = [toleration_from(each) for each in pod["spec"].get("tolerations") or ()]
    taints = [taint_from(each) for each in node["spec"].get("taints") or ()]
    if node["spec"].get("unschedulable") and CORDON not in taints and not tolerates(tolerations, CORDON):
        yield Obstacle(_TAINT, "it is cordoned", False)
    for taint in untolerated(tolerations, taints):
        yield Obstacle(_TAINT, f"taint {taint} is not tolerated", not taint.is_lifecycle)


def _affinity_obstacles(pod: Mapping[str, Any], node: Mapping[str, Any]) -> Iterable[Obstacle]:
    labels, name = node["metadata"].get("labels") or {}, str(node["metadata"]["name"])
    selector = pod["spec"].get("nodeSelector") or {}
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity")
    for key, value in selector.items():
        if labels.get(key) != value:
            has = f"is {labels[key]}" if key in labels else "is missing"
            yield Obstacle(_AFFINITY, f"node selector wants {key}={value}, the label {has}", True)
    if not node_matches(labels, name, None, affinity):
        terms = [", ".join(unmet(term, labels, name)) for term in required_terms(affinity)]
        yield Obstacle(_AFFINITY, f"required affinity is not met: {' or '.join(terms) or 'it has no term'}", True)


def _room_obstacles(
    pod: Mapping[str, Any], node: Mapping[str, Any], here: Sequence[Mapping[str, Any]]
) -> Iterable[Obstacle]:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    held = [(other, requests_of(other) | {"pods": Fraction(1)}) for other in here if not _same(other, pod)]
    for resource, wanted in (requests_of(pod) | {"pods": Fraction(1)}).items():
        total = quantity(allocatable.get(resource, "0"))
        free = total - sum((asked.get(resource, Fraction(0)) for _, asked in held), Fraction(0))
        if wanted > free:
            holders = [other for other, asked in held if asked.get(resource)]
            amounts = f"{_amount(resource, wanted)} asked for, {_in_units(resource, free)} of "
            amounts += f"{_in_units(resource, total)} free"
            yield Obstacle(_ROOM if total else _NONE_OF_IT, f"{amounts}{_held_by(holders)}", wanted > total)


def _neighbour_obstacles(
    pod: Mapping[str, Any],
    node: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    bound: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Iterable[Obstacle]:
    anti = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
    for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
        key = term["topologyKey"]
        domain = (node["metadata"].get("labels") or {}).get(key)
        if domain is None or term.get("namespaceSelector") is not None:
            continue
        namespaces = term.get("namespaces") or [pod["metadata"].get("namespace")]
        for other_node in nodes:
            if (other_node["metadata"].get("labels") or {}).get(key) != domain:
                continue
            for other in bound.get(str(other_node["metadata"]["name"]), ()):
                labels = other["metadata"].get("labels") or {}
                if other["metadata"]["namespace"] in namespaces and selector_matches(term.get("labelSelector"), labels):
                    yield Obstacle(_NEIGHBOUR, f"it may not share {key}={domain} with pod {_full_name(other)}", False)
                    break


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return _full_name(one) == _full_name(other)


def _full_name(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata'].get('namespace')}/{pod['metadata'].get('name')}"


def _held_by(holders: Sequence[Mapping[str, Any]]) -> str:
    if not holders:
        return ""
    names = [_full_name(holder) for holder in holders[:_MOST_HOLDERS]]
    more = len(holders) - len(names)
    return f" (held by {', '.join(names)}{f' and {more} more' if more else ''})"


def _amount(resource: str, amount: Fraction) -> str:
    unit = " MiB of" if resource in _IN_BYTES else ""
    return f"{_in_units(resource, amount)}{unit} {resource}"


def _in_units(resource: str, amount: Fraction) -> str:
    return _number(amount / _MIB if resource in _IN_BYTES else amount)


def _number(amount: Fraction) -> str:
    return f"{float(amount):.10g}"

"""Where a pod can go, decided from plain manifests as kube-scheduler's filters decide it, all reasons at once.

Decided are cordons and taints minus tolerations (NodeUnschedulable, TaintToleration), node selector and required node
affinity (NodeAffinity), free devices, cores, bytes and pod slots (NodeResourcesFit), host ports (NodePorts) and
required anti-affinity to other pods (InterPodAffinity). The scheduler's own words are never quoted: it stops at a
node's first reason, and counts nodes without naming them.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import msgspec

from conformance.gpu.affinity import node_matches, required_terms, selector_matches, unmet
from conformance.gpu.quantities import quantity
from conformance.gpu.requests import Asking, effective_requests, pod_requests
from conformance.gpu.taints import CORDON, taint_from, tolerates, toleration_from, untolerated

Manifest: TypeAlias = Mapping[str, Any]

TAINT, AFFINITY, ROOM, NEIGHBOUR = "a taint", "selector or affinity", "too little room", "pod anti-affinity"
NONE_OF_IT, HOST_PORT = "having none of the devices", "a host port"
OF_ANOTHER_POOL = (AFFINITY, NONE_OF_IT)
"""A node of another pool is never the one that the reader had in mind, however little else is wrong with it."""

_MOST_HOLDERS = 4
_MIB = 2**20
_IN_BYTES = ("memory", "ephemeral-storage")


class Obstacle(msgspec.Struct, frozen=True):
    """One thing that keeps a pod off a node. ``lasting`` ones do not go away by waiting."""

    kind: str
    text: str
    lasting: bool


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
        *_port_obstacles(pod, bound.get(str(node["metadata"]["name"]), ())),
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


def taken_of_node(pod: Manifest) -> dict[str, Fraction]:
    """What a pod takes of a node, by resource: its requests, and one of the pods that the kubelet runs."""
    return requests_of(pod) | {"pods": Fraction(1)}


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


def _taint_obstacles(pod: Mapping[str, Any], node: Mapping[str, Any]) -> Iterable[Obstacle]:
    tolerations = [toleration_from(each) for each in pod["spec"].get("tolerations") or ()]
    taints = [taint_from(each) for each in node["spec"].get("taints") or ()]
    if node["spec"].get("unschedulable") and CORDON not in taints and not tolerates(tolerations, CORDON):
        yield Obstacle(TAINT, "it is cordoned", False)
    for taint in untolerated(tolerations, taints):
        yield Obstacle(TAINT, f"taint {taint} is not tolerated", not taint.is_lifecycle)


def _affinity_obstacles(pod: Mapping[str, Any], node: Mapping[str, Any]) -> Iterable[Obstacle]:
    labels, name = node["metadata"].get("labels") or {}, str(node["metadata"]["name"])
    selector = pod["spec"].get("nodeSelector") or {}
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity")
    for key, value in selector.items():
        if labels.get(key) != value:
            has = f"is {labels[key]}" if key in labels else "is missing"
            yield Obstacle(AFFINITY, f"node selector wants {key}={value}, the label {has}", True)
    if not node_matches(labels, name, None, affinity):
        terms = [", ".join(unmet(term, labels, name)) for term in required_terms(affinity)]
        yield Obstacle(AFFINITY, f"required affinity is not met: {' or '.join(terms) or 'it has no term'}", True)


def _room_obstacles(
    pod: Mapping[str, Any], node: Mapping[str, Any], here: Sequence[Mapping[str, Any]]
) -> Iterable[Obstacle]:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    held = [(other, taken_of_node(other)) for other in here if not _same(other, pod)]
    for resource, wanted in taken_of_node(pod).items():
        total = quantity(allocatable.get(resource, "0"))
        free = total - sum((asked.get(resource, Fraction(0)) for _, asked in held), Fraction(0))
        if wanted > free:
            holders = [other for other, asked in held if asked.get(resource)]
            amounts = f"{_amount(resource, wanted)} asked for, {_in_units(resource, free)} of "
            amounts += f"{_in_units(resource, total)} free"
            yield Obstacle(ROOM if total else NONE_OF_IT, f"{amounts}{_held_by(holders)}", wanted > total)


def _port_obstacles(pod: Manifest, here: Sequence[Manifest]) -> Iterable[Obstacle]:
    """Ports of the node that another pod has; address 0.0.0.0 stands for all of them (NodePorts)."""
    for wanted in _host_ports(pod):
        for other in here:
            if not _same(other, pod) and any(_collide(wanted, taken) for taken in _host_ports(other)):
                yield Obstacle(HOST_PORT, f"host port {wanted[2]} is taken by pod {_full_name(other)}", False)


def _host_ports(pod: Manifest) -> list[tuple[str, str, int]]:
    """Address, protocol and number of every port of the node that a pod asks for."""
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"]))  # noqa: S104 (compared)
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _collide(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or "0.0.0.0" in (one[0], other[0]))  # noqa: S104 (compared)


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
                    yield Obstacle(NEIGHBOUR, f"it may not share {key}={domain} with pod {_full_name(other)}", False)
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

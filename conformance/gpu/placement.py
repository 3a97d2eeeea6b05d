"""Where a pod can go, decided from plain manifests as kube-scheduler's filters decide it, all reasons at once.

Decided are cordons and taints minus tolerations (NodeUnschedulable, TaintToleration), node selector and required node
affinity (NodeAffinity), free devices, cores, bytes and pod slots (NodeResourcesFit), host ports (NodePorts) and
required affinity and anti-affinity to other pods (InterPodAffinity) and hard spreading (PodTopologySpread). Claims and
volumes have modules of their own (claims.py, volume_places.py). The scheduler's own words are never quoted: it stops
at a node's first reason, and counts nodes without naming them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from conformance.gpu.affinity import node_matcher, required_terms, unmet
from conformance.gpu.neighbours import Namespaces, Neighbours, full_name, has_pod_rules, keeps_away, same
from conformance.gpu.node_taints import state_of
from conformance.gpu.quantities import quantity
from conformance.gpu.requests import Asking, effective_requests, pod_requests
from conformance.gpu.spreading import Spreading
from conformance.gpu.taints import CORDON, Taint, taint_from, tolerates, toleration_from, untolerated

Manifest: TypeAlias = Mapping[str, Any]
_Items: TypeAlias = tuple[tuple[str, str], ...]
_NO_AMOUNTS: tuple[_Items, _Items] = ((), ())

TAINT, AFFINITY, ROOM, NEIGHBOUR = "a taint", "selector or affinity", "too little room", "pod (anti-)affinity"
CLAIM, VOLUME, SELECTOR = "a device claim", "a volume", "a selector of devices"
DEVICE_TAINT = "a taint of devices"
NONE_OF_IT, HOST_PORT, SPREAD = "having none of the devices", "a host port", "topology spread"
OF_ANOTHER_POOL = (AFFINITY, NONE_OF_IT)
"""A node of another pool is never the one that the reader had in mind, however little else is wrong with it."""

_STATES = {
    CORDON.key: "it is cordoned",
    "node.kubernetes.io/not-ready": "it is not ready",
    "node.kubernetes.io/unreachable": "it is not ready: its kubelet is not heard of",
}
"""Taints that Kubernetes sets for what it sees; a node that loses its kubelet has its taint twice."""
_MOST_HOLDERS = 4
_MIB = 2**20
_IN_BYTES = ("memory", "ephemeral-storage")
_NOTHING = Fraction(0)
_ENDED = ("Succeeded", "Failed")
_NO_STATUS: Mapping[str, Any] = {}
_SLOTS = "pods"
"""The resource of which every pod takes one: how many a kubelet runs."""
_SIDECAR = "Always"
"""The restartPolicy of an init container that keeps running beside the others."""


class Obstacle(msgspec.Struct, frozen=True):
    """One thing that keeps a pod off a node. ``lasting`` ones do not go away by waiting.

    Of a resource ``wanted`` and ``free`` are amounts in its base unit; ``resource`` is empty for other obstacles.
    """

    kind: str
    text: str
    lasting: bool
    resource: str = ""
    wanted: Fraction = Fraction(0)
    free: Fraction = Fraction(0)


def obstacles(
    pod: Manifest,
    node: Manifest,
    nodes: Sequence[Manifest],
    bound: Mapping[str, Sequence[Manifest]],
    namespaces: Namespaces | None = None,
) -> list[Obstacle]:
    """Everything that keeps the pod off the node; ``bound`` are the unfinished pods by node name."""
    return judge_of(pod, nodes, Occupancy(bound), namespaces)(node)


class Occupancy:
    """The unfinished pods by node name, with what is counted of them once, however many pods are judged."""

    def __init__(self, bound: Mapping[str, Sequence[Manifest]]) -> None:
        self.bound = bound
        self._asked: dict[str, Sequence[Mapping[str, Fraction]]] = {}
        self._taken: dict[tuple[int, ...], tuple[Mapping[str, Fraction], Sequence[object]]] = {}

    def asked_of(self, node: str) -> Sequence[Mapping[str, Fraction]]:
        """What each of the pods of a node takes of it, in their order."""
        if node not in self._asked:
            self._asked[node] = [taken_of_node(pod) for pod in self.bound.get(node, ())]
        return self._asked[node]

    def taken_of(self, node: str) -> Mapping[str, Fraction]:
        """What the pods of a node take of it together, by resource; one object for nodes whose pods ask alike."""
        asked = self.asked_of(node)
        key = tuple(sorted(map(id, asked)))
        if key not in self._taken:
            # What was asked for is kept with its sum, so that no other object gets the place of one that has gone.
            self._taken[key] = _sum(asked), asked
        return self._taken[key][0]

    def node_of(self, pod: Manifest) -> str | None:
        """The node on which a pod is among these, None where it is not."""
        name = pod["metadata"].get("name")
        for node, pods in self.bound.items():
            for other in pods:
                if other["metadata"].get("name") == name and same(other, pod):
                    return node
        return None

    @cached_property
    def repelling(self) -> Mapping[str, Sequence[Manifest]]:
        """Those that have anti-affinity, the only ones that matter to pods without rules about others."""
        found = {name: [pod for pod in pods if keeps_away(pod)] for name, pods in self.bound.items()}
        return {name: pods for name, pods in found.items() if pods}

    def neighbours_of(self, pod: Manifest) -> Mapping[str, Sequence[Manifest]]:
        """The pods by whose labels or rules affinity and anti-affinity of a pod are decided."""
        return self.bound if has_pod_rules(pod) else self.repelling


def judge_of(
    pod: Manifest, nodes: Sequence[Manifest], occupancy: Occupancy, namespaces: Namespaces | None = None
) -> Callable[[Manifest], list[Obstacle]]:
    """``obstacles`` for one pod and many nodes: what depends on all of them is counted once."""
    neighbours = Neighbours(pod, nodes, occupancy.neighbours_of(pod), namespaces)
    spreading = Spreading(pod, nodes, occupancy.bound)
    room, own = _Room(taken_of_node(pod)), occupancy.node_of(pod)
    affinity, taints = _affinity_judge(pod), _taint_judge(pod)
    ports = _host_ports(pod)

    def judge(node: Manifest) -> list[Obstacle]:
        name = str(node["metadata"]["name"])
        here, asked = occupancy.bound.get(name, ()), occupancy.asked_of(name)
        if name == own:
            here = [other for other in here if not same(other, pod)]
            asked = [taken_of_node(other) for other in here]
        taken = occupancy.taken_of(name) if name != own else _sum(asked)
        return [
            *affinity(node),
            *taints(node),
            *room.obstacles(node, taken, here, asked),
            *(_port_obstacles(ports, here) if ports else ()),
            *(Obstacle(NEIGHBOUR, words, False) for words in neighbours.on(node)),
            *(Obstacle(SPREAD, words, False) for words in spreading.on(node)),
        ]

    return judge


def explain_refusal(template: Mapping[str, Any], namespace: str, quotas: Iterable[Mapping[str, Any]]) -> str:
    """Which quota of the namespace has no room for a pod of this template; empty when all have."""
    asked = requests_of(template)
    for quota in quotas:
        status = quota.get("status") or {}
        for key, hard in (status.get("hard") or quota["spec"].get("hard") or {}).items():
            wanted = asked.get(key.removeprefix("requests."), Fraction(0)) if key != _SLOTS else Fraction(1)
            used = quantity((status.get("used") or {}).get(key, "0"))
            if wanted and used + wanted > quantity(hard):
                name = f"{namespace}/{quota['metadata']['name']}"
                return f"quota {name} allows {hard} of {key}, {_number(used)} are used and {_number(wanted)} asked for"
    return ""


def requests_of(pod: Manifest) -> dict[str, Fraction]:
    """What a pod or pod template asks a node for, by resource."""
    return {resource: amount for resource, amount in taken_of_node(pod).items() if resource != _SLOTS}


def taken_of_node(pod: Manifest) -> Mapping[str, Fraction]:
    """What a pod takes of a node, by resource: its requests, and one of the pods that the kubelet runs.

    Of tens of thousands of pods most ask alike, and get the same object.
    """
    spec = pod["spec"]
    containers = tuple([_amounts(each) for each in spec.get("containers") or ()])
    if not (spec.get("initContainers") or spec.get("overhead") or spec.get("resources")):
        return _taken(containers)
    starting = tuple([(*_amounts(each), each.get("restartPolicy")) for each in spec.get("initContainers") or ()])
    of_pod = (spec.get("resources") or {}).get("requests")
    return _taken(containers, starting, _items(of_pod), _items(spec.get("overhead")))


def _amounts(container: Manifest) -> tuple[_Items, _Items]:
    resources = container.get("resources")
    return (_items(resources.get("requests")), _items(resources.get("limits"))) if resources else _NO_AMOUNTS


def _items(amounts: Mapping[str, str] | None) -> _Items:
    return tuple(amounts.items()) if amounts else ()


@lru_cache(maxsize=4096)
def _taken(
    containers: tuple[tuple[_Items, _Items], ...],
    starting: tuple[tuple[_Items, _Items, str | None], ...] = (),
    of_pod: _Items = (),
    overhead: _Items = (),
) -> Mapping[str, Fraction]:
    asked = pod_requests(
        [Asking(effective_requests(dict(requests), dict(limits))) for requests, limits in containers],
        [
            Asking(effective_requests(dict(requests), dict(limits)), restartable=policy == _SIDECAR)
            for requests, limits, policy in starting
        ],
        dict(of_pod),
        dict(overhead),
    )
    return MappingProxyType(asked | {_SLOTS: Fraction(1)})


def bound_by_node(pods: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The unfinished pods that are bound to a node, by its name."""
    bound: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if not node or (pod.get("status") or _NO_STATUS).get("phase") in _ENDED:
            continue
        if node in bound:
            bound[node].append(pod)
        else:
            bound[str(node)] = [pod]
    return bound


def _sum(every: Iterable[Mapping[str, Fraction]]) -> Mapping[str, Fraction]:
    """Pods of a node are mostly alike: what those take that ask alike is multiplied."""
    alike: dict[int, tuple[Mapping[str, Fraction], int]] = {}
    for asked in every:
        alike[id(asked)] = asked, alike[id(asked)][1] + 1 if id(asked) in alike else 1
    amounts: dict[str, Fraction] = {}
    for asked, number in alike.values():
        for resource, amount in asked.items():
            amounts[resource] = amounts.get(resource, _NOTHING) + amount * number
    return amounts


def _taint_judge(pod: Manifest) -> Callable[[Manifest], Iterator[Obstacle]]:
    tolerations = [toleration_from(each) for each in pod["spec"].get("tolerations") or ()]

    def judge(node: Manifest) -> Iterator[Obstacle]:
        spec = node.get("spec") or {}
        taints = [taint_from(each) for each in spec.get("taints") or ()]
        if spec.get("unschedulable") and CORDON not in taints and not tolerates(tolerations, CORDON):
            yield Obstacle(TAINT, "it is cordoned", False)
        kept_by = {
            _STATES.get(taint.key) or _not_tolerated(taint): taint
            for taint in (untolerated(tolerations, taints) if taints else ())
        }
        for words, taint in kept_by.items():
            yield Obstacle(TAINT, words, not taint.is_lifecycle)

    return judge


def _not_tolerated(taint: Taint) -> str:
    state = state_of(taint)
    return f"taint {taint} is not tolerated{f' ({state.means})' if state else ''}"


def _affinity_judge(pod: Manifest) -> Callable[[Manifest], Iterator[Obstacle]]:
    selector = pod["spec"].get("nodeSelector") or {}
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity")
    matches = node_matcher(None, affinity)

    def judge(node: Manifest) -> Iterator[Obstacle]:
        labels, name = node["metadata"].get("labels") or {}, str(node["metadata"]["name"])
        for key, value in selector.items():
            if labels.get(key) != value:
                has = f"is {labels[key]}" if key in labels else "is missing"
                yield Obstacle(AFFINITY, f"node selector wants {key}={value}, the label {has}", True)
        if not matches(labels, name):
            terms = [", ".join(unmet(term, labels, name)) for term in required_terms(affinity)]
            yield Obstacle(AFFINITY, f"required affinity is not met: {' or '.join(terms) or 'it has no term'}", True)

    return judge


class _Room:
    """Which resources nodes have too little of, for what one pod wants: found once for nodes that are alike."""

    def __init__(self, wanted: Mapping[str, Fraction]) -> None:
        self._wanted = wanted
        self._short: dict[tuple[Any, ...], tuple[Sequence[Obstacle], object]] = {}

    def obstacles(
        self, node: Manifest, taken: Mapping[str, Fraction], here: Sequence[Manifest], asked: Sequence[Manifest]
    ) -> Iterator[Obstacle]:
        """One for each of them, with the pods that hold it; ``asked`` is what each of those that are here takes."""
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        key = id(taken), *(allocatable.get(resource) for resource in self._wanted)
        if key not in self._short:
            self._short[key] = tuple(self._lacking(allocatable, taken)), taken
        for each in self._short[key][0]:
            words = _held_by([other for other, amounts in zip(here, asked, strict=True) if amounts.get(each.resource)])
            yield Obstacle(each.kind, each.text + words, each.lasting, each.resource, each.wanted, each.free)

    def _lacking(self, allocatable: Mapping[str, Any], taken: Mapping[str, Fraction]) -> Iterator[Obstacle]:
        for resource, amount in self._wanted.items():
            total = quantity(allocatable.get(resource, "0"))
            free = total - taken.get(resource, _NOTHING)
            if amount > free:
                amounts = f"{_amount(resource, amount)} asked for, {in_units(resource, max(free, _NOTHING))} of "
                amounts += f"{in_units(resource, total)} free"
                yield Obstacle(ROOM if total else NONE_OF_IT, amounts, amount > total, resource, amount, free)


def _port_obstacles(ports: Sequence[tuple[str, str, int]], here: Sequence[Manifest]) -> Iterable[Obstacle]:
    """Ports of the node that another pod has; address 0.0.0.0 stands for all of them (NodePorts)."""
    for wanted in ports:
        for other in here:
            if any(_collide(wanted, taken) for taken in _host_ports(other)):
                yield Obstacle(HOST_PORT, f"host port {wanted[2]} is taken by pod {full_name(other)}", False)


def _host_ports(pod: Manifest) -> list[tuple[str, str, int]]:
    """Address, protocol and number of every port of the node that a pod asks for."""
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"]))  # noqa: S104 (compared)
        for container in _side_by_side(pod)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _side_by_side(pod: Manifest) -> Iterable[Manifest]:
    """The containers that run at the same time: init containers that restart always are sidecars."""
    sidecars = (each for each in pod["spec"].get("initContainers") or () if each.get("restartPolicy") == _SIDECAR)
    return (*sidecars, *(pod["spec"].get("containers") or ()))


def _collide(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or "0.0.0.0" in (one[0], other[0]))  # noqa: S104 (compared)


def _held_by(holders: Sequence[Mapping[str, Any]]) -> str:
    if not holders:
        return ""
    names = [full_name(holder) for holder in holders[:_MOST_HOLDERS]]
    more = len(holders) - len(names)
    return f" (held by {', '.join(names)}{f' and {more} more' if more else ''})"


def _amount(resource: str, amount: Fraction) -> str:
    unit = " MiB of" if resource in _IN_BYTES else ""
    return f"{in_units(resource, amount)}{unit} {resource}"


def in_units(resource: str, amount: Fraction) -> str:
    """An amount of a resource as people read it: MiB where it is bytes."""
    return _number(amount / _MIB if resource in _IN_BYTES else amount)


def _number(amount: Fraction) -> str:
    return f"{float(amount):.10g}"

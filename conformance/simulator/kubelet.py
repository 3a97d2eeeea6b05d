"""Actor ``kubelet``: the device manager of each simulated node; what else a kubelet does, KWOK's stages do.

It writes what plugins have registered into the node's capacity and allocatable, and gives devices to the pods that
are bound to the node. Such pods start only once they have the annotation ADMITTED.
Source: kubernetes/kubernetes, pkg/kubelet/cm/devicemanager and pkg/kubelet/kubelet.go (rejectPod).
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from conformance.kube.paths import path
from conformance.simulator.agents import phase_of
from conformance.simulator.allocation import PREFIX, Allocator, Refused, asks
from conformance.simulator.annotations import (
    ADMITTED,
    DEVICES,
    SIMULATED,
    SIMULATED_VALUE,
    Allocation,
    allocation_of,
    annotation,
)
from conformance.simulator.devices import Device, Offer, Registrations
from conformance.simulator.hardware import Machine, gpu_uuid, machine_of
from conformance.simulator.world import Object, World

_REASON = "UnexpectedAdmissionError"
_FINISHED = ("Succeeded", "Failed")
_STALE = "stale-accounting"
_log = logging.getLogger(__name__)


class Kubelet:
    """The kubelets of all simulated nodes; its keys are their names."""

    name = "kubelet"
    watches = ("Node", "Pod")

    def __init__(self, world: World, registrations: Registrations) -> None:
        self._world = world
        self._registrations = registrations
        # What was given a moment ago, by node and uid of the pod, until the cache shows it. Keys are served one after
        # the other, so that each node's part has one reader and writer.
        self._recent: dict[str, dict[str, Allocation | None]] = {}

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The node, or the node of a pod that asks for devices."""
        if kind == "Node":
            return (obj["metadata"]["name"],) if _is_ours(obj) else ()
        node = obj["spec"].get("nodeName")
        return (node,) if node and asks(obj) else ()

    def reconcile(self, key: str) -> float | None:
        """Write what the node offers and admit the pods that wait on it. Raises KubeError."""
        node = self._world.get("Node", key)
        if node is None or not _is_ours(node):
            self._registrations.register_image(key, {})
            self._recent.pop(key, None)
            return None
        machine = _machine(node)
        self._registrations.register_image(key, {} if machine is None else offered_by_image(key, machine))
        offers = self._registrations.on(key)
        if machine is not None:
            self._advertise(node, offers)
        # What somebody wrote into the status of a node without hardware has no plugin: its pods are let in.
        self._admit(key, machine, offers, managed=() if machine is None else _managed(node))
        return None

    def _advertise(self, node: Object, offers: Mapping[str, Offer]) -> None:
        status = node.get("status") or {}
        capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
        # Whatever a plugin once registered keeps its name, with 0, after the plugin has gone.
        names = [*offers, *(name for name in _managed(node) if name not in offers)]
        there = {name: str(len(offers[name].devices)) if name in offers else "0" for name in names}
        healthy = {name: str(_healthy(offers[name])) if name in offers else "0" for name in names}
        if any(capacity.get(name) != there[name] or allocatable.get(name) != healthy[name] for name in names):
            change = {"status": {"capacity": there, "allocatable": healthy}}
            self._world.client.patch(path("Node", name=node["metadata"]["name"], subresource="status"), change)

    def _admit(
        self, node: str, machine: Machine | None, offers: Mapping[str, Offer], *, managed: Iterable[str]
    ) -> None:
        pods = [pod for pod in self._world.pods_on(node) if phase_of(pod) not in _FINISHED]
        recent = self._remembered(node, pods)
        held = {uid: given.ids for uid, given in recent.items() if given is not None}
        held |= {_uid(pod): allocation_of(pod).ids for pod in pods if annotation(pod, DEVICES)}
        waiting = [pod for pod in pods if _waits(pod) and _uid(pod) not in recent]
        stale = _stale(machine, offers)
        for pod in sorted(waiting, key=lambda pod: (pod["metadata"]["creationTimestamp"], _uid(pod))):
            taken = stale.union(*held.values())
            try:
                given = Allocator(offers, taken, frozenset((*managed, *offers))).allocate(pod)
            except Refused as refusal:
                self._refuse(pod, str(refusal))
                recent[_uid(pod)] = None
                continue
            self._give(pod, given)
            recent[_uid(pod)] = given
            held[_uid(pod)] = given.ids

    def _remembered(self, node: str, pods: Iterable[Object]) -> dict[str, Allocation | None]:
        """What was decided for pods that the cache still shows undecided."""
        undecided = {_uid(pod) for pod in pods if _waits(pod)}
        recent = {uid: given for uid, given in self._recent.get(node, {}).items() if uid in undecided}
        self._recent[node] = recent
        return recent

    def _give(self, pod: Object, given: Allocation) -> None:
        annotations = {ADMITTED: "true"}
        if given.devices:
            annotations[DEVICES] = msgspec.json.encode(given).decode()
        # With the uid, so that a pod that has taken the name of this one meanwhile does not get its devices.
        metadata = {"uid": _uid(pod), "annotations": annotations}
        self._world.client.patch(_path(pod), {"metadata": metadata})

    def _refuse(self, pod: Object, message: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {"phase": "Failed", "reason": _REASON, "message": message, "startTime": now}
        self._world.client.patch(_path(pod, "status"), {"metadata": {"uid": _uid(pod)}, "status": status})
        _log.info("%s: %s", _path(pod), message)


def _is_ours(node: Object) -> bool:
    return annotation(node, SIMULATED) == SIMULATED_VALUE


def _machine(node: Object) -> Machine | None:
    try:
        return machine_of(node)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        _log.warning("node %s: its hardware annotation cannot be read: %s", node["metadata"]["name"], error)
        return None


def offered_by_image(node: str, machine: Machine) -> dict[str, Offer]:
    """What the plugin in a node's image offers: each GPU that the driver lists, whole."""
    if not machine.offered_as:
        return {}
    uuids = {index: gpu_uuid(node, index) for index in machine.present}
    devices = (Device(uuid, uuid, index, healthy=index not in machine.unhealthy) for index, uuid in uuids.items())
    return {machine.offered_as: Offer(tuple(devices))}


def _managed(node: Object) -> list[str]:
    """The resources that a plugin has registered at some time: the node still names them."""
    capacity = (node.get("status") or {}).get("capacity") or {}
    return [name for name in capacity if name.startswith(PREFIX)]


def _healthy(offer: Offer) -> int:
    return sum(device.healthy for device in offer.devices)


def _stale(machine: Machine | None, offers: Mapping[str, Offer]) -> frozenset[str]:
    """The ids that a kubelet with wrong books believes to be taken: the first ones, or all."""
    amount: Any = machine.broken.get(_STALE, 0) if machine else 0
    ids = [device.id for offer in offers.values() for device in offer.devices]
    return frozenset(ids if amount is True else ids[: int(amount)])


def _waits(pod: Object) -> bool:
    decided = annotation(pod, ADMITTED) == "true" or phase_of(pod) in _FINISHED
    return not decided and not pod["metadata"].get("deletionTimestamp") and asks(pod)


def _uid(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def _path(pod: Object, subresource: str | None = None) -> str:
    metadata = pod["metadata"]
    return path("Pod", namespace=metadata["namespace"], name=metadata["name"], subresource=subresource)

"""Which nodes of a topology are real ones: with GPUs they take the places of its nodes, without they come on top."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conformance.clusters.embedded import topologies
from conformance.clusters.embedded.annotations import NOT_READY, SIMULATED_ANNOTATION
from conformance.clusters.embedded.errors import EmbeddedError
from conformance.gpu.quantities import quantity
from conformance.simulator.hardware import HARDWARE, machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.clusters.embedded.spec import EmbeddedSpec


class NoPlace(EmbeddedError):
    """A topology has not so many nodes with GPUs that real ones could take the places of."""


@dataclass(frozen=True)
class Place:
    """A real node: its name, and the Node object that it takes over, None where its kubelet makes it."""

    name: str
    node: dict[str, Any] | None = None
    offers: str = ""
    """The resource as which a device plugin of its image offers its GPUs; empty without GPUs or such a plugin."""

    @property
    def processors(self) -> int:
        """How many processors it says that it has; 0 for what the machine has."""
        return 0 if self.node is None else int(quantity(self.node["status"]["capacity"]["cpu"]))

    @property
    def memory_kib(self) -> int:
        """How much memory it says that it has, in KiB; 0 for what the machine has."""
        return 0 if self.node is None else int(quantity(self.node["status"]["capacity"]["memory"])) // 1024

    @property
    def pods(self) -> int:
        """How many pods it takes."""
        return 110 if self.node is None else int(self.node["status"]["capacity"]["pods"])


def places(spec: EmbeddedSpec, *, kubelet: str = "") -> list[Place]:
    """The real nodes of a cluster. Raises NoPlace.

    With GPUs the last node of each pool that has some is a real one, pool after pool, then the last but one, and so on.
    """
    if not spec.real_gpus:
        return [Place(f"real-{number}") for number in range(1, spec.real_nodes + 1)]
    found = list(_nodes_with_gpus(spec, kubelet))
    if spec.real_nodes > len(found):
        raise NoPlace(
            f"{spec.real_nodes} real nodes with GPUs are asked for, and topology {spec.topology or 'none'} has "
            f"{len(found)} nodes with GPUs: ask for at most so many, or name a larger topology"
        )
    return [_place(node) for node in found[: spec.real_nodes]]


def instead(spec: EmbeddedSpec, *, kubelet: str = "") -> dict[str, dict[str, Any]]:
    """Node objects that differ from the topology's, by name: those of real nodes and the other nodes of their pools.

    A real node cannot say that it has another kernel than the machine, so the rest of its pool says the same.
    """
    if not spec.real_gpus or spec.topology is None:
        return {}
    real = {place.name: place.node for place in places(spec, kubelet=kubelet) if place.node}
    pools = {name.rpartition("-")[0] for name in real}
    found = dict(real)
    for node in topologies.nodes(topologies.load(spec.topology), kubelet=kubelet):
        name = node["metadata"]["name"]
        if name not in real and name.rpartition("-")[0] in pools:
            system = {**node["status"]["nodeInfo"], "kernelVersion": platform.release()}
            found[name] = {**node, "status": {**node["status"], "nodeInfo": system}}
    return found


def _nodes_with_gpus(spec: EmbeddedSpec, kubelet: str) -> Iterator[dict[str, Any]]:
    topology = topologies.load(spec.topology) if spec.topology is not None else None
    if topology is None:
        return
    known = {node["metadata"]["name"]: node for node in topologies.nodes(topology, kubelet=kubelet)}
    pools = [pool for pool in topology.pools if pool.gpu]
    for back in range(max((pool.count for pool in pools), default=0)):
        for pool in pools:
            node = known.get(f"{pool.name}-{pool.count - back}")
            if node is not None and HARDWARE in node["metadata"]["annotations"] and _is_well(node):
                yield node


def _is_well(node: dict[str, Any]) -> bool:
    return NOT_READY not in node["metadata"]["annotations"]


def _place(node: dict[str, Any]) -> Place:
    """A place of the topology: what its kubelet finds there is in ``node``.

    The object has labels, annotations and taints of the pool, and nobody plays it. It offers no GPUs yet: a kubelet to
    which no plugin has come would leave a resource that it does not know in the object, and start pods that ask for it
    without any device.
    """
    metadata, spec, status = node["metadata"], node["spec"], node["status"]
    annotations = {name: value for name, value in metadata["annotations"].items() if name != SIMULATED_ANNOTATION}
    kept = {name: value for name, value in spec.items() if name != "providerID"}
    machine = machine_of(node)
    offers = machine.offered_as if machine is not None else ""
    of_the_kubelet = {
        part: {name: amount for name, amount in status[part].items() if name != offers}
        for part in ("capacity", "allocatable")
    }
    taken_over = {
        **node, "metadata": {**metadata, "annotations": annotations}, "spec": kept, "status": status | of_the_kubelet
    }  # fmt: skip
    return Place(metadata["name"], taken_over, offers)

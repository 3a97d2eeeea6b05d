"""Which devices the containers of a pod get, as the kubelet's device manager decides it, and why a pod gets none.

Sources: kubernetes/kubernetes, pkg/kubelet/cm/devicemanager/manager.go (devicesToAllocate, reuse between init
containers and containers); NVIDIA/k8s-device-plugin v0.20.0, internal/rm (the plugin's preference and its refusals).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.simulator.annotations import Allocation
from conformance.simulator.devices import Device, Offer
from conformance.simulator.world import Object

PREFIX = "nvidia.com/"
"""How the resources begin that plugins of NVIDIA register."""


class Refused(Exception):
    """The pod cannot have its devices; the text is what its status then says."""


@dataclass(frozen=True)
class Asking:
    """A container and how many devices it asks for, by resource. ``before``: it ends before the others start."""

    container: str
    amounts: Mapping[str, int]
    before: bool


def asks(pod: Object) -> bool:
    """Whether any container names a resource of NVIDIA, be it with 0: the stages gate such pods."""
    return any(name.startswith(PREFIX) for container, _ in _containers(pod) for name in _named(container))


def asked(pod: Object) -> list[Asking]:
    """What the containers of a pod ask for, in the order in which the kubelet serves them."""
    return [
        Asking(container["name"], _amounts(container), first and container.get("restartPolicy") != "Always")
        for container, first in _containers(pod)
    ]


def _containers(pod: Object) -> Iterator[tuple[Mapping[str, Any], bool]]:
    for container in pod["spec"].get("initContainers") or ():
        yield container, True
    for container in pod["spec"]["containers"]:
        yield container, False


def _named(container: Mapping[str, Any]) -> dict[str, str]:
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def _amounts(container: Mapping[str, Any]) -> dict[str, int]:
    named = {name: int(amount) for name, amount in _named(container).items() if name.startswith(PREFIX)}
    return {name: amount for name, amount in named.items() if amount > 0}


@dataclass
class Allocator:
    """Gives the devices of one node to one pod. ``held`` are the ids that other pods have.

    ``managed`` are the resources that some plugin has ever registered here: of others the kubelet knows nothing and
    lets their pods in without devices.
    """

    offers: Mapping[str, Offer]
    held: Collection[str]
    managed: Collection[str]
    _reusable: set[str] = field(default_factory=set)

    def allocate(self, pod: Object) -> Allocation:
        """What each container gets. Raises Refused."""
        devices: dict[str, list[str]] = {}
        uuids: dict[str, list[str]] = {}
        taken: set[str] = set()
        for asking in asked(pod):
            given = [device for name, count in asking.amounts.items() for device in self._take(name, count, taken)]
            ids = {device.id for device in given}
            taken |= ids
            # What an init container had, the next containers get before anything else.
            self._reusable = self._reusable | ids if asking.before else self._reusable - ids
            if given:
                devices[asking.container] = [device.id for device in given]
                uuids[asking.container] = list(dict.fromkeys(device.uuid for device in given))
        return Allocation(devices, uuids)

    def _take(self, resource: str, count: int, taken: Collection[str]) -> list[Device]:
        offer = self.offers.get(resource)
        if offer is None and resource not in self.managed:
            return []
        healthy = [device for device in offer.devices if device.healthy] if offer else []
        if offer is None or not healthy:
            raise Refused(_failed(f"no healthy devices present; cannot allocate unhealthy devices {resource}"))
        if offer.refuses_many and count > 1:
            limit = f"maximum request size for shared resources is 1; found {count}"
            raise Refused(_failed(f"rpc error: code = Unknown desc = {limit}"))
        reused = [device for device in healthy if device.id in self._reusable][:count]
        free = [device for device in healthy if device.id not in self.held and device.id not in taken]
        missing = count - len(reused)
        if len(free) < missing:
            story = f"Requested: {missing}, Available: {len(free)}"
            raise Refused(_failed(f"requested number of devices unavailable for {resource}. {story}"))
        return reused + _preferred(offer, free, missing)


def _preferred(offer: Offer, free: list[Device], count: int) -> list[Device]:
    """The first free ones; of shared GPUs, whatever spreads the replicas over as many GPUs as possible."""
    if not offer.shared:
        return free[:count]
    left = Counter(device.uuid for device in free)
    used = Counter(device.uuid for device in offer.devices)
    used.subtract(left)
    chosen: list[Device] = []
    for _ in range(count):
        best = min((device for device in free if device not in chosen), key=lambda device: used[device.uuid])
        used[best.uuid] += 1
        chosen.append(best)
    return chosen


def _failed(why: str) -> str:
    return f"Pod was rejected: Allocate failed due to {why}, which is unexpected"

"""Which of the free devices a container should get, as GetPreferredAllocation says it to the kubelet.

Whole devices come from as few NUMA nodes as can be; replicas of shared ones from as many GPUs as can be.
Source: NVIDIA/k8s-device-plugin, README (aligned and distributed allocation); the choice is ours.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.simulator.devices import Device, Offer

NUMA_NODES = 2


def numa_node(gpu: int, gpus: int) -> int:
    """The NUMA node of a GPU: the first half of a machine's GPUs hangs on the first processor."""
    return gpu * NUMA_NODES // gpus if gpus >= NUMA_NODES else 0


def preferred(offer: Offer, gpus: int, free: Sequence[str], needed: Sequence[str], count: int) -> list[str]:
    """``count`` ids of ``free``, ``needed`` among them. ``gpus`` is how many GPUs the machine has."""
    known = {device.id: device for device in offer.devices}
    chosen = list(needed)
    left = [known[each] for each in free if each in known and each not in chosen]
    if offer.shared:
        return _spread(offer, left, chosen, free, count)
    while len(chosen) < count and left:
        best = min(left, key=lambda device: _distance(device, left, [known[each] for each in chosen], gpus, count))
        left.remove(best)
        chosen.append(best.id)
    return chosen[:count]


def _distance(
    device: Device, left: Sequence[Device], chosen: Sequence[Device], gpus: int, count: int
) -> tuple[bool, bool, int, int]:
    """What is nearest comes first: beside what is chosen, then where all find room, then where least stays unused."""
    home = numa_node(device.gpu, gpus)
    beside = any(numa_node(each.gpu, gpus) == home for each in chosen)
    room = sum(numa_node(each.gpu, gpus) == home for each in left)
    return bool(chosen) and not beside, room < count - len(chosen), room, device.gpu


def _spread(offer: Offer, left: list[Device], chosen: list[str], free: Sequence[str], count: int) -> list[str]:
    used = Counter(device.uuid for device in offer.devices if device.id not in free or device.id in chosen)
    while len(chosen) < count and left:
        best = min(left, key=lambda device: (used[device.uuid], device.gpu))
        left.remove(best)
        used[best.uuid] += 1
        chosen.append(best.id)
    return chosen[:count]

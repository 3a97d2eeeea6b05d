"""What schedulers that share GPUs give, and Kubernetes' own filters know nothing of: shares of KAI, memory of HAMi."""

from collections.abc import Sequence
from fractions import Fraction

from conformance.explaining.seen import Seen
from conformance.gpu.kai_fractions import RequestedFraction, asks_for_a_share
from conformance.gpu.labels import HAMI_RESOURCES
from conformance.gpu.placement import NONE_OF_IT, ROOM, Manifest, Obstacle, taken_of_node
from conformance.gpu.resources import GPU, PARTS_OF_GPUS

SHARING_SCHEDULERS = ("kai-scheduler", "runai-scheduler")
"""KAI, and Run:ai, of which it was a part: they read the same annotations."""
_HAMI = "hami"


def add_fractions(seen: Seen, pod: Manifest, found: dict[str, list[Obstacle]]) -> Sequence[str]:
    """Add what nodes lack for the share of a GPU that a pod asks KAI for; returns what was not decided."""
    if pod["spec"].get("schedulerName") not in SHARING_SCHEDULERS or not asks_for_a_share(pod):
        return ()
    try:
        fraction = RequestedFraction(pod)
        for name, kept in found.items():
            taken = seen.occupancy.taken_of(name).get(GPU, Fraction(0))
            for lack in fraction.on(seen.nodes[name], seen.bound.get(name, ()), taken):
                kind = NONE_OF_IT if lack.none else ROOM
                kept.append(Obstacle(kind, lack.words, lack.none, GPU, lack.wanted, lack.free))
    except ValueError as error:
        return (f"its share of a GPU: {error}",)
    return fraction.undecided


def parts_of_gpus(pod: Manifest) -> Sequence[str]:
    """Parts of GPUs that nodes offer as a sum of all of their GPUs: whether one GPU has enough left is not decided."""
    asked = (name for name in PARTS_OF_GPUS if taken_of_node(pod).get(name))
    return [f"how much {each} is left on a single GPU, which the scheduler that shares GPUs counts" for each in asked]


def leave_to_hami(pod: Manifest, found: dict[str, list[Obstacle]]) -> Sequence[str]:
    """Take out what HAMi's own scheduler counts, where it is to place the pod: nodes never offer that."""
    if _HAMI not in str(pod["spec"].get("schedulerName") or ""):
        return ()
    asked = {each.resource for kept in found.values() for each in kept if each.resource in HAMI_RESOURCES}
    for name, kept in found.items():
        found[name] = [each for each in kept if each.resource not in asked]
    return [f"{each}, which HAMi's scheduler counts" for each in sorted(asked)]

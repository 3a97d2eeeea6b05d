"""Why a pod is not placed, in one sentence for whoever reads a scenario's report."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from conformance.gpu.placement import OF_ANOTHER_POOL, Obstacle, bound_by_node, obstacles

__all__ = ["Explanation", "explain"]


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


def _main_kind(kept: Sequence[Obstacle]) -> str:
    kinds = [obstacle.kind for obstacle in kept]
    return next((kind for kind in OF_ANOTHER_POOL if kind in kinds), kinds[0])


def _distance(kept: Sequence[Obstacle]) -> tuple[int, int]:
    return (sum(obstacle.kind in OF_ANOTHER_POOL for obstacle in kept), len(kept))

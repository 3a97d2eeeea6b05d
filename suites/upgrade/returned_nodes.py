"""The nodes of a baseline afterwards: the same ones, or those by which a managed node pool has replaced them.

Clouds upgrade a node pool by new machines with new names, and an autoscaler takes away what is idle. Neither is a node
that did not come back; a pool with fewer nodes than its owners declare has lost some.
"""

from collections.abc import Iterator
from typing import NamedTuple

from conformance.facts import Facts, Node
from conformance.reference.model import Pool, Reference
from conformance.upgrading.baseline import Baseline, NodeBefore


class Fewer(NamedTuple):
    """A pool that has fewer nodes than before: in words, and whether its owners want no more."""

    told: str
    enough: bool


class Returned:
    """Each node of a baseline with the one that is there now."""

    def __init__(self, facts: Facts, reference: Reference, before: Baseline) -> None:
        self._known = {each.name for each in before.nodes}
        self._pools = {pool.name: pool for pool in reference.gpu_pools}
        self._facts = facts
        self.pairs = tuple(self._paired(before))

    def fewer(self, gone: NodeBefore) -> Fewer | None:
        """What the pool of a node that is gone has, where that is no loss for sure; None where it is one.

        Enough for its owners are as many nodes as they declare. Where they declare none, nobody can tell.
        """
        pool = self._pools.get(gone.pool)
        there = sum(node.ready for node in self._facts.nodes if pool is not None and pool.holds(node.labels))
        if pool is None or there < max(1, pool.nodes):
            return None
        if pool.nodes:
            return Fewer(f"{pool} has {there} nodes, and at least {pool.nodes} are declared", enough=True)
        return Fewer(f"it is gone, and {pool} declares no number of nodes: scaled down, or lost", enough=False)

    def _paired(self, before: Baseline) -> Iterator[tuple[NodeBefore, Node | None]]:
        fresh = {name: self._fresh(pool) for name, pool in self._pools.items()}
        for each in before.nodes:
            node = self._facts.node(each.name)
            if node is None and fresh.get(each.pool):
                node = fresh[each.pool].pop(0)
            yield each, node

    def _fresh(self, pool: Pool) -> list[Node]:
        """The nodes of a pool that the baseline does not have, Ready ones first."""
        found = [each for each in self._facts.nodes if each.name not in self._known and pool.holds(each.labels)]
        return sorted(found, key=lambda node: (not node.ready, node.name))

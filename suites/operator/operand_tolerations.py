"""The taints of GPU nodes that the DaemonSets of the stack do not tolerate, and the setting to change."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from conformance.facts import Facts, Node, Workload
from conformance.gpu.resources import GPU
from conformance.gpu.taints import Taint, seconds_tolerated
from conformance.reference.model import Pool, Reference
from suites._shared.formatting import join_limited
from suites._shared.operand_status import not_tolerated, where_to_tolerate
from suites._shared.operands import discovery_workers, expected_components, wants_discovery
from suites._shared.pod_terms import taints_of

# How much of a taint has to be alike for a typo: nvidia.com/gpuu=present:NoSchedule is, spot=true:NoSchedule is not.
_ALIKE = 0.8


class RefusedTaint(NamedTuple):
    """A taint that a DaemonSet does not tolerate: the pool that it is about, and the nodes of it that have the taint.

    ``meant`` is the declared taint that an undeclared one resembles and whose place it seems to have taken.
    """

    taint: Taint
    pool: Pool
    nodes: tuple[str, ...]
    meant: Taint | None = None

    @property
    def declared(self) -> bool:
        """Whether the pool declares the taint."""
        return self.taint in taints_of([self.pool])

    def __str__(self) -> str:
        nodes = f"on {'nodes' if len(self.nodes) > 1 else 'node'} {join_limited(self.nodes)}" if self.nodes else ""
        if self.declared:
            return f"{self.taint} of {self.pool}" + (f" ({nodes})" if nodes else " (no node has it yet)")
        like = f", which looks like {self.meant}" if self.meant else ""
        return f"{self.taint} {nodes}, which {self.pool} does not declare{like}"

    @property
    def remedy(self) -> str:
        """What to do about a taint that is not declared. Nobody is advised to tolerate a quarantine or a typo."""
        command = f"kubectl taint node {self.nodes[0]} {self.taint.key}:{self.taint.effect}-" if self.nodes else ""
        if self.meant is not None:
            return f"Set {self.meant} in place of {self.taint} where the node is made, and on the node: {command}"
        return (
            f"Find out who put {self.taint}. A quarantine goes when its agent finds the node well; what is left "
            f"over is taken off ({command}); only what is to stay is declared for {self.pool} and then tolerated."
        )


class RequiredDaemonSet(NamedTuple):
    """A DaemonSet, and the pools whose nodes need its pods."""

    workload: Workload
    pools: tuple[Pool, ...]

    def remedy(self, refused: Sequence[RefusedTaint], facts: Facts) -> str:
        """The setting to change for taints that belong there; what belongs nowhere is not to be tolerated."""
        # Several pools may declare the same taint.
        meant = list(dict.fromkeys(each.taint for each in refused if each.declared))
        found = [each.remedy for each in refused if not each.declared]
        return " ".join([*([self._how_to_tolerate(meant, facts)] if meant else []), *found])

    def _how_to_tolerate(self, refused: Sequence[Taint], facts: Facts) -> str:
        """The setting to change, and the entries that it must keep."""
        tolerated = any(each.key == GPU or not each.key for each in self.workload.template.tolerations)
        lost = not tolerated and any(taint.key == GPU for taint in refused)
        note = "the list replaces the chart's own, which had nvidia.com/gpu" if lost else "keep the entries of the list"
        passing = [each for each in refused if seconds_tolerated(self.workload.template.tolerations, each)]
        if passing:
            note = f"{note}; without tolerationSeconds for {', '.join(map(str, passing))}"
        return f"Add {', '.join(map(str, refused))} to {where_to_tolerate(self.workload, facts)}: {note}."


def workloads_on_gpu_nodes(facts: Facts, reference: Reference) -> list[RequiredDaemonSet]:
    """The DaemonSets that have to run on GPU nodes, each with the pools that need it."""
    found = []
    for expected in expected_components(facts, reference):
        pools = tuple(pool for pool in reference.gpu_pools if expected.is_needed_on(pool))
        found += [
            RequiredDaemonSet(each, _served(each, expected.workloads, pools, facts)) for each in expected.workloads
        ]
    discovered = tuple(pool for pool in reference.gpu_pools if wants_discovery(pool))
    if reference.stack is not None and reference.stack.kind == "gpu-operator":
        found += [RequiredDaemonSet(each, discovered) for each in discovery_workers(facts)]
    return [needed for needed in found if needed.pools]


def untolerated_taints(needed: RequiredDaemonSet, facts: Facts) -> list[RefusedTaint]:
    """The taints, declared or on a node, that a DaemonSet does not tolerate on the pools that need it."""
    found = []
    for pool in needed.pools:
        nodes = facts.nodes_with(pool.selector)
        for taint in not_tolerated(needed.workload, _taints(pool, facts)):
            having = tuple(node.name for node in nodes if taint in node.taints)
            found.append(RefusedTaint(taint, pool, having, _meant(taint, pool, nodes)))
    return found


def _meant(taint: Taint, pool: Pool, nodes: Iterable[Node]) -> Taint | None:
    """The declared taint that is missing from a node with an undeclared one, and that this one resembles."""
    declared = taints_of([pool])
    if taint in declared:
        return None
    holder = next((node for node in nodes if taint in node.taints), None)
    missing = {str(each): each for each in declared if holder is not None and each not in holder.taints}
    alike = get_close_matches(str(taint), missing, n=1, cutoff=_ALIKE)
    return missing[alike[0]] if alike else None


def _served(workload: Workload, siblings: Sequence[Workload], pools: Iterable[Pool], facts: Facts) -> tuple[Pool, ...]:
    """The pools that a DaemonSet is for, where a component has several of them, such as one for each driver."""
    if len(siblings) == 1:
        return tuple(pools)
    found = []
    for pool in pools:
        nodes = facts.nodes_with(pool.selector)
        selecting = [each for each in siblings if any(each.template.selects(node) for node in nodes)]
        if workload in selecting or not selecting:
            found.append(pool)
    return tuple(found)


# Asked for each DaemonSet, and the nodes of a pool are thousands.
@lru_cache(maxsize=256)
def _taints(pool: Pool, facts: Facts) -> tuple[Taint, ...]:
    """The declared and actual taints of a pool's nodes, each once; those of the node lifecycle left out."""
    actual = (taint for node in facts.nodes_with(pool.selector) for taint in node.lasting_taints)
    return tuple(dict.fromkeys((*taints_of([pool]), *actual)))

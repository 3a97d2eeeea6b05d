"""Which taints keep the DaemonSets of the stack off the GPU nodes that need them, and where that is set."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from conformance.facts import Facts, Workload
from conformance.gpu.resources import GPU
from conformance.gpu.taints import Taint
from conformance.reference.model import Pool, Reference
from suites._shared.operand_status import not_tolerated, where_to_tolerate
from suites._shared.operands import discovery_workers, parts_of, wants_discovery
from suites._shared.pod_terms import taints_of


class Needed(NamedTuple):
    """A DaemonSet, and the pools whose nodes need its pods."""

    workload: Workload
    pools: tuple[Pool, ...]

    def remedy(self, refused: Sequence[Taint]) -> str:
        """Which setting to change, and what not to lose by it."""
        tolerated = any(each.key == GPU or not each.key for each in self.workload.template.tolerations)
        lost = not tolerated and any(taint.key == GPU for taint in refused)
        note = "the list replaces the chart's own, which had nvidia.com/gpu" if lost else "repeat what the list has"
        return f"Add {', '.join(map(str, refused))} to {where_to_tolerate(self.workload)}: {note}."


def workloads_on_gpu_nodes(facts: Facts, reference: Reference) -> list[Needed]:
    """The DaemonSets that have to run on GPU nodes, each with the pools that need it."""
    found = []
    for part in parts_of(facts, reference):
        pools = tuple(pool for pool in reference.gpu_pools if part.is_needed_on(pool))
        found += [Needed(each, _served(each, part.workloads, pools, facts)) for each in part.workloads]
    discovered = tuple(pool for pool in reference.gpu_pools if wants_discovery(pool))
    if reference.stack is not None and reference.stack.kind == "gpu-operator":
        found += [Needed(each, discovered) for each in discovery_workers(facts)]
    return [needed for needed in found if needed.pools]


def keepers_away(needed: Needed, facts: Facts) -> dict[Taint, list[str]]:
    """The taints, declared or found on a node, that keep a DaemonSet off pools that need it."""
    refused: dict[Taint, list[str]] = {}
    for pool in needed.pools:
        for taint in not_tolerated(needed.workload, _taints(pool, facts)):
            refused.setdefault(taint, []).append(str(pool))
    return refused


def _served(workload: Workload, siblings: Sequence[Workload], pools: Iterable[Pool], facts: Facts) -> tuple[Pool, ...]:
    """The pools that a DaemonSet is there for, where a component has several of them, such as one for each driver."""
    if len(siblings) == 1:
        return tuple(pools)
    found = []
    for pool in pools:
        nodes = [node for node in facts.nodes if pool.holds(node.labels)]
        taken = [each for each in siblings if any(each.template.selects(node) for node in nodes)]
        if workload in taken or not taken:
            found.append(pool)
    return tuple(found)


def _taints(pool: Pool, facts: Facts) -> tuple[Taint, ...]:
    """The taints that the nodes of a pool have or ought to have, each once; those that come and go left out."""
    there = (taint for node in facts.nodes if pool.holds(node.labels) for taint in node.lasting_taints)
    return tuple(dict.fromkeys((*taints_of([pool]), *there)))

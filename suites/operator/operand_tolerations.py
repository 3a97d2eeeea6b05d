"""The taints of GPU nodes that the DaemonSets of the stack do not tolerate, and the setting to change."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from conformance.facts import Facts, Workload
from conformance.gpu.resources import GPU
from conformance.gpu.taints import Taint, seconds_tolerated
from conformance.reference.model import Pool, Reference
from suites._shared.operand_status import not_tolerated, where_to_tolerate
from suites._shared.operands import discovery_workers, expected_components, wants_discovery
from suites._shared.pod_terms import taints_of


class RequiredDaemonSet(NamedTuple):
    """A DaemonSet, and the pools whose nodes need its pods."""

    workload: Workload
    pools: tuple[Pool, ...]

    def remedy(self, refused: Sequence[Taint]) -> str:
        """The setting to change, and the entries that it must keep."""
        tolerated = any(each.key == GPU or not each.key for each in self.workload.template.tolerations)
        lost = not tolerated and any(taint.key == GPU for taint in refused)
        note = "the list replaces the chart's own, which had nvidia.com/gpu" if lost else "keep the entries of the list"
        passing = [each for each in refused if seconds_tolerated(self.workload.template.tolerations, each)]
        if passing:
            note = f"{note}; without tolerationSeconds for {', '.join(map(str, passing))}"
        return f"Add {', '.join(map(str, refused))} to {where_to_tolerate(self.workload)}: {note}."


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


def untolerated_taints(needed: RequiredDaemonSet, facts: Facts) -> dict[Taint, list[str]]:
    """The taints, declared or on a node, that a DaemonSet does not tolerate on pools that need it, with the pools."""
    refused: dict[Taint, list[str]] = {}
    for pool in needed.pools:
        for taint in not_tolerated(needed.workload, _taints(pool, facts)):
            refused.setdefault(taint, []).append(str(pool))
    return refused


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


def _taints(pool: Pool, facts: Facts) -> tuple[Taint, ...]:
    """The declared and actual taints of a pool's nodes, each once; those of the node lifecycle left out."""
    actual = (taint for node in facts.nodes_with(pool.selector) for taint in node.lasting_taints)
    return tuple(dict.fromkeys((*taints_of([pool]), *actual)))

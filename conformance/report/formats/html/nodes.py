"""The fleet on the page: the pools with what fails on their nodes, and which nodes fail the same."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from conformance.report.model import PoolFacts, Report, Verdict
from conformance.verdict import Status


class OnNodes(msgspec.Struct, frozen=True):
    """Nodes on which the same requirements fail, and the pools that they are of: whose nodes they are."""

    requirements: tuple[str, ...]
    nodes: tuple[str, ...]
    pools: tuple[str, ...] = ()


class OnPool(msgspec.Struct, frozen=True):
    """A pool, how many of its nodes fail something, and the requirements that fail there with how many nodes."""

    pool: PoolFacts
    failing: int
    requirements: tuple[tuple[str, int], ...]

    @property
    def percent(self) -> float:
        """The share of nodes that fail something, 0 to 100."""
        return round(100 * self.failing / len(self.pool.nodes), 1) if self.pool.nodes else 0.0

    @property
    def occupancy(self) -> tuple["Occupancy", ...]:
        """What pods request of each resource that the pool offers; empty where nobody knows."""
        requested, allocatable = self.pool.requested or {}, self.pool.allocatable
        every = (Occupancy(name, count, allocatable.get(name, 0)) for name, count in requested.items())
        return tuple(each for each in every if each.allocatable or each.requested)


class Occupancy(msgspec.Struct, frozen=True):
    """How many devices of a resource pods request, of those that are allocatable."""

    resource: str
    requested: int
    allocatable: int

    @property
    def percent(self) -> float:
        """The share that is requested, 0 to 100."""
        return min(100.0, round(100 * self.requested / self.allocatable, 1)) if self.allocatable else 0.0


def alike(failing: Mapping[str, Sequence[str]], pools: Iterable[PoolFacts] = ()) -> tuple[OnNodes, ...]:
    """The nodes that fail the same requirements together; those with most requirements first."""
    pool_of = {node: pool.name for pool in pools for node in pool.nodes if pool.name}
    together: dict[tuple[str, ...], list[str]] = {}
    for node, requirements in failing.items():
        together.setdefault(tuple(requirements), []).append(node)
    found = [
        OnNodes(requirements, tuple(sorted(nodes)), tuple(sorted({pool_of[node] for node in nodes if node in pool_of})))
        for requirements, nodes in together.items()
    ]
    return tuple(sorted(found, key=lambda each: (-len(each.requirements), -len(each.nodes), each.nodes)))


def fleet(report: Report, failing: Mapping[str, Sequence[str]]) -> tuple[OnPool, ...]:
    """Each pool of the report with what fails on its nodes."""
    return tuple(_on_pool(pool, failing) for pool in report.fleet)


def failing_by_node(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """The failed requirements of each node: those that fail on itself, and on pods and devices of it."""
    failing: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.status is Status.FAILED:
            for node in _nodes(verdict):
                failing.setdefault(node, []).append(verdict.requirement)
    return failing


def _on_pool(pool: PoolFacts, failing: Mapping[str, Sequence[str]]) -> OnPool:
    counts = Counter(requirement for node in pool.nodes for requirement in failing.get(node, ()))
    return OnPool(pool, sum(node in failing for node in pool.nodes), tuple(sorted(counts.items())))


def _nodes(verdict: Verdict) -> dict[str, None]:
    return {
        node: None
        for group in verdict.causes
        for subject in group.subjects
        if (node := subject.name if group.kind == "Node" else subject.node)
    }

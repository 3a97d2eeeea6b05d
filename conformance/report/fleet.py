"""The nodes of a cluster by declared pool, as a report tells them: how many, with which GPUs, shared in which way."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from conformance.facts.nodes import Node
from conformance.facts.pods import Pod
from conformance.reference.model import Gpu, Pool, Reference
from conformance.report.model import PoolFacts


def pools_of(nodes: Iterable[Node], reference: Reference, pods: Iterable[Pod] | None = None) -> tuple[PoolFacts, ...]:
    """One PoolFacts for each declared pool in the order declared, and one without a name for other nodes with GPUs.

    ``pods`` are all of the cluster; None where they could not be read.
    """
    nodes = tuple(nodes)
    requests = None if pods is None else _requests(pods, {name for node in nodes for name in node.gpu_resources})
    members: dict[str, list[Node]] = {pool.name: [] for pool in reference.pools}
    others = []
    for node in nodes:
        pool = reference.pool_of(node.labels)
        if pool is not None:
            members[pool.name].append(node)
        elif node.gpu_resources:
            others.append(node)
    found = [_pool(pool, members[pool.name], requests) for pool in reference.pools]
    return tuple([*found, _facts("", 0, "", "", others, requests)] if others else found)


_Requests = Mapping[str, Mapping[str, int]]


def _requests(pods: Iterable[Pod], offered: Iterable[str]) -> _Requests:
    """The devices that unfinished pods request, by node and resource, also of makers other than NVIDIA."""
    names = frozenset(offered)
    by_node: dict[str, Counter[str]] = {}
    for pod in pods:
        if pod.node and not pod.finished and (requested := pod.gpu_requests(names)):
            by_node.setdefault(pod.node, Counter()).update(requested)
    return by_node


def _pool(pool: Pool, nodes: Sequence[Node], requests: _Requests | None) -> PoolFacts:
    if pool.gpu is None:
        return _facts(pool.name, pool.nodes, "", "", nodes, requests)
    return _facts(pool.name, pool.nodes, pool.gpu.model, _layout(pool, pool.gpu), nodes, requests)


def _layout(pool: Pool, gpu: Gpu) -> str:
    """How pods get devices, in words."""
    layout = [f"MIG {pool.mig_layout}"] if pool.mig_layout else []
    if gpu.shared_by:
        layout.append(f"{gpu.shared_by}, {gpu.replicas} replicas")
    if gpu.allocated_by == "dra":
        layout.append("by DRA")
    return ", ".join(layout) or "whole devices"


def _facts(
    name: str, declared: int, model: str, layout: str, nodes: Sequence[Node], requests: _Requests | None
) -> PoolFacts:
    capacity: Counter[str] = Counter()
    allocatable: Counter[str] = Counter()
    requested: Counter[str] = Counter()
    for node in nodes:
        for resource in node.gpu_resources:
            capacity[resource] += node.gpu_capacity(resource)
            allocatable[resource] += node.gpus(resource)
            requested[resource] += (requests or {}).get(node.name, {}).get(resource, 0)
    return PoolFacts(
        name, declared, model, layout, tuple(sorted(node.name for node in nodes)),
        sum(not node.ready for node in nodes), sum(node.unschedulable for node in nodes),
        dict(sorted(capacity.items())), dict(sorted(allocatable.items())),
        None if requests is None else dict(sorted(requested.items())),
    )  # fmt: skip

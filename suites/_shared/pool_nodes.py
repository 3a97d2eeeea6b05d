"""Nodes of the cluster with the declared pool that each belongs to."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from conformance.facts import Node
from conformance.gpu.resources import is_for_virtual_machines, is_of_other_maker
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import HasSubject
from conformance.verdict import Judge, NotApplicable, Waits, join_limited

Members: TypeAlias = Callable[[Pool], tuple[Node, ...]]


class PoolNode(NamedTuple):
    """A node of the cluster and the declared pool that it belongs to."""

    pool: Pool
    node: Node


class GpuPoolNode(NamedTuple):
    """A node of a declared GPU pool, with the GPUs that it is declared to have."""

    pool: Pool
    node: Node
    gpu: Gpu


def is_of_another_maker(pool: Pool) -> bool:
    """Whether a pool's accelerators are not NVIDIA's, so that nothing of NVIDIA's stack belongs on its nodes."""
    return pool.gpu is not None and is_of_other_maker(pool.gpu.resource)


def is_for_containers(pool: Pool) -> bool:
    """Whether containers use a pool's GPUs by NVIDIA's driver: not another maker's, nor those of virtual machines."""
    return pool.gpu is not None and not is_of_another_maker(pool) and not is_for_virtual_machines(pool.gpu.resource)


def require_nodes(
    pools: Sequence[Pool], nodes: Sequence[GpuPoolNode], reference: Reference, members: Members
) -> tuple[GpuPoolNode, ...]:
    """Those of the nodes that belong to these pools. Raises NotApplicable or Waits where there is none."""
    own = tuple(each for each in nodes if each.pool in pools)
    if not own:
        raise without_nodes(pools, reference, members)
    return own


def without_nodes(pools: Sequence[Pool], reference: Reference, members: Members) -> NotApplicable | Waits:
    """Why nothing can be judged where none of these pools has a node, to be raised.

    It is not applicable where none of them declares any; else it waits for POOL-01, and the cause has the same words
    for all requirements that need nodes where the cluster has no node of any pool.
    """
    wanting = [str(pool) for pool in pools if pool.nodes]
    if not wanting:
        declared = join_limited([str(pool) for pool in pools])
        return NotApplicable(
            f"{declared} {'is' if len(pools) == 1 else 'are'} declared with 0 nodes, and there is none"
        )
    if not any(members(pool) for pool in reference.pools):
        return Waits("no node of the cluster belongs to a declared pool", on="POOL-01")
    if not any(members(pool) for pool in reference.gpu_pools):
        return Waits("no node of the cluster belongs to a declared GPU pool", on="POOL-01")
    return Waits(f"{join_limited(wanting)} {'has' if len(wanting) == 1 else 'have'} no node", on="POOL-01")


def set_aside(judge: Judge, subject: HasSubject, reason: NotApplicable | Waits) -> None:
    """Go on without a subject whose pools have no node: it is passed over where it waits for them."""
    if isinstance(reason, Waits):
        judge.pass_over(subject, reason)
    else:
        judge.without_subjects(reason)


def without_gpus(reference: Reference, members: Members) -> NotApplicable | Waits:
    """Why nothing can be judged where no node of the cluster has GPUs, to be raised."""
    if not any(pool.nodes or members(pool) for pool in reference.gpu_pools):
        return NotApplicable("every GPU pool is declared with 0 nodes, and no node of the cluster has GPUs")
    if not any(members(pool) for pool in reference.gpu_pools):
        return without_nodes(reference.gpu_pools, reference, members)
    return Waits("no node of the cluster has GPUs", on="POOL-04")


def without_open_nodes(pools: Sequence[Pool], reference: Reference, members: Members) -> NotApplicable | Waits:
    """Why no pod can be put on these pools where no node of theirs is Ready and schedulable, to be raised."""
    there = [pool for pool in pools if members(pool)]
    if not there:
        return without_nodes(tuple(pools), reference, members)
    return Waits(f"no node of {join_limited([str(pool) for pool in there])} is Ready and schedulable", on="POOL-10")

"""What the profiles share: the declared pools, and the nodes of the cluster that belong to them.

The cloud or installer that creates the nodes labels them with a pool's selector labels; the owners then add labels
and taints of their own. Here a node belongs to a pool by the selector alone, so that a node that lost the owners'
labels or taints is still judged. A fixture raises NotApplicable where the reference set-up declares no such thing,
and Waits where it does but the cluster has no such node.
"""

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

import pytest

from conformance.facts import Facts, Node, Pod
from conformance.gpu.taints import Taint
from conformance.lab import RequirementLab
from conformance.reference.expected import offer_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive, NotApplicable, Waits
from suites._shared.declared_workloads import (
    DeclaredWorkload,
    PlacedWorkload,
    declared_in,
    placed_in,
    without_any,
)
from suites._shared.pod_owners import pods_of_owners
from suites._shared.pod_terms import taints_of
from suites._shared.pool_nodes import (
    GpuPoolNode,
    Members,
    PoolNode,
    is_for_containers,
    require_nodes,
    without_nodes,
    without_open_nodes,
)
from suites._shared.resource_slices import (
    GPU,
    MIG,
    DeviceClass,
    Published,
    all_published,
    without_chosen_devices,
)
from suites.dra.device_claims import gpu_classes
from suites.scheduling.gpu_pod import GpuPod

ENOUGH = 20


@pytest.fixture(scope="session")
def members(facts: Facts) -> Members:
    """The nodes of a pool: those that carry every label of its selector, by name."""

    @cache
    def of(pool: Pool) -> tuple[Node, ...]:
        return tuple(sorted(facts.nodes_with(pool.selector), key=lambda node: node.name))

    return of


@pytest.fixture
def pools(reference: Reference) -> tuple[Pool, ...]:
    """Every declared pool."""
    if not reference.pools:
        raise NotApplicable(f"{reference} declares no pools")
    return reference.pools


@pytest.fixture
def gpu_pools(reference: Reference) -> tuple[Pool, ...]:
    """The declared pools whose nodes have GPUs."""
    if not reference.gpu_pools:
        raise NotApplicable(f"{reference} declares no pool with GPUs")
    return reference.gpu_pools


@pytest.fixture
def pool_nodes(pools: tuple[Pool, ...], members: Members, reference: Reference) -> tuple[PoolNode, ...]:
    """Every node of every declared pool, with its pool."""
    nodes = _nodes_of(pools, members)
    if not nodes:
        raise without_nodes(pools, reference, members)
    return nodes


@pytest.fixture
def gpu_pool_nodes(gpu_pools: tuple[Pool, ...], members: Members, reference: Reference) -> tuple[GpuPoolNode, ...]:
    """Every node of every declared GPU pool, with its pool and its declared GPUs."""
    nodes = _gpu_nodes_of(gpu_pools, members)
    if not nodes:
        raise without_nodes(gpu_pools, reference, members)
    return nodes


@pytest.fixture
def nvidia_pool_nodes(
    gpu_pool_nodes: tuple[GpuPoolNode, ...], gpu_pools: tuple[Pool, ...], members: Members
) -> tuple[GpuPoolNode, ...]:
    """Those nodes of GPU pools whose GPUs containers use by NVIDIA's driver: its stack and programs serve no others."""
    nodes = _gpu_nodes_of(tuple(pool for pool in gpu_pools if is_for_containers(pool)), members)
    if not nodes:
        raise NotApplicable("the accelerators of every declared pool are another maker's, or for virtual machines")
    return nodes


@pytest.fixture
def gpu_nodes(gpu_pool_nodes: tuple[GpuPoolNode, ...]) -> tuple[Node, ...]:
    """Every node of the declared GPU pools, each once."""
    return tuple({node.name: node for _, node, _ in gpu_pool_nodes}.values())


@pytest.fixture
def open_gpu_nodes(facts: Facts, gpu_nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Some GPU nodes that take new pods (Ready and not cordoned), those with the fewest pods first."""
    return _open(facts, gpu_nodes, "GPU node", judged_by="POOL-10")


@pytest.fixture
def ordinary_nodes(facts: Facts, gpu_pools: tuple[Pool, ...]) -> tuple[Node, ...]:
    """Some nodes for ordinary pods: schedulable, without taints, outside the GPU pools that declare taints."""
    guarded = [pool for pool in gpu_pools if taints_of([pool])]
    outside = [node for node in facts.nodes if not any(pool.holds(node.labels) for pool in guarded)]
    return _open(facts, [node for node in outside if not node.repels(())], "node outside the GPU pools without taints")


@pytest.fixture
def declared_taints(gpu_pools: tuple[Pool, ...]) -> tuple[Taint, ...]:
    """The taints of the GPU pools with effect NoSchedule or NoExecute, each once."""
    taints = taints_of(gpu_pools)
    if not taints:
        raise NotApplicable("no GPU pool declares a NoSchedule or NoExecute taint")
    return taints


@pytest.fixture
def labelled_pools(gpu_pools: tuple[Pool, ...], members: Members, reference: Reference) -> tuple[Pool, ...]:
    """The GPU pools with labels and with nodes that are Ready and schedulable."""
    labelled = [pool for pool in gpu_pools if pool.labels]
    if not labelled:
        raise NotApplicable("no GPU pool declares labels")
    return _inhabited(labelled, reference, members)


@pytest.fixture
def tainted_pools(labelled_pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
    """Those of the labelled pools that declare taints."""
    tainted = tuple(pool for pool in labelled_pools if taints_of([pool]))
    if not tainted:
        raise NotApplicable("no GPU pool declares both labels and NoSchedule or NoExecute taints")
    return tainted


@pytest.fixture
def doubly_tainted_pool(gpu_pools: tuple[Pool, ...], members: Members, reference: Reference) -> Pool:
    """A GPU pool that declares more than one taint and has nodes that take pods."""
    doubly = [pool for pool in gpu_pools if len(taints_of([pool])) > 1]
    if not doubly:
        raise NotApplicable("no GPU pool declares more than one taint")
    return _inhabited(doubly, reference, members)[0]


@pytest.fixture
def idle_gpu_node(open_gpu_nodes: tuple[Node, ...], lab: RequirementLab) -> Node:
    """A GPU node without pods but those of DaemonSets, so that borrowing it does no harm."""
    return lab.pick_idle(open_gpu_nodes, 1)[0]


@pytest.fixture
def idle_twins(
    facts: Facts, reference: Reference, gpu_pools: tuple[Pool, ...], members: Members, lab: RequirementLab
) -> tuple[Node, ...]:
    """Two or three idle nodes of one GPU pool, between which only the pod's own preferences decide."""
    usual = [pool for pool in gpu_pools if reference.gpu_resource in (offer_of(reference, pool).resources or {})]
    if all(pool.nodes < 2 and len(members(pool)) < 2 for pool in usual):
        raise NotApplicable(f"no GPU pool whose nodes offer {reference.gpu_resource} has two of them to choose from")
    too_few: Waits | None = None
    for wanted in (3, 2):
        for pool in usual:
            nodes = _least_busy(facts, members(pool))
            if len(nodes) >= wanted:
                try:
                    return tuple(lab.pick_idle(nodes, wanted))
                except Waits as reason:
                    too_few = reason
    raise too_few or Inconclusive("no GPU pool has two nodes that take pods, between which a preference could decide")


@pytest.fixture
def dra_nodes(
    reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], members: Members
) -> tuple[GpuPoolNode, ...]:
    """The nodes of the pools whose GPUs are allocated by DRA."""
    declared = [pool for pool in reference.gpu_pools if pool.gpu and pool.gpu.allocated_by == "dra"]
    if not declared:
        raise NotApplicable(f"no pool of {reference} has its GPUs allocated by DRA")
    return require_nodes(declared, gpu_pool_nodes, reference, members)


@pytest.fixture
def slices(facts: Facts, dra_nodes: tuple[GpuPoolNode, ...]) -> dict[str, Published]:
    """What NVIDIA's driver publishes, by node."""
    if not facts.serves("ResourceSlice"):
        raise Waits("the API server serves no resource.k8s.io/v1", on="DRA-01")
    return all_published(facts)


@pytest.fixture
def classes(facts: Facts, slices: dict[str, Published]) -> tuple[DeviceClass, ...]:
    """The device classes of NVIDIA's driver."""
    return gpu_classes(facts)


@pytest.fixture
def gpu_class(classes: tuple[DeviceClass, ...], slices: dict[str, Published]) -> DeviceClass:
    """The class that scenarios claim devices of: the one of whole GPUs, or of MIG devices where there are no others."""
    devices = [device for each in slices.values() for device in each.devices]
    for kind in (GPU, MIG):
        named = [each for each in classes if each.kind == kind and any(device.kind == kind for device in devices)]
        if named:
            return min(named, key=lambda each: (each.name != f"{kind}.nvidia.com", each.name))
    raise without_chosen_devices(slices)


@pytest.fixture
def gpu_pod(lab: RequirementLab, reference: Reference, gpu_pools: tuple[Pool, ...]) -> GpuPod:
    """A pod that the API server accepts as long as its GPU amounts are right."""
    pod = GpuPod(lab, reference.gpu_resource)
    answer = pod.dry_run(requests="1", limits="1")
    if not answer:
        raise Waits(f"the API server refuses even a well-formed GPU pod: {answer}")
    return pod


@pytest.fixture
def declared_workloads(reference: Reference, facts: Facts) -> tuple[DeclaredWorkload, ...]:
    """The declared workloads that name the pools they belong on, as they are in the cluster."""
    named = [workload for workload in reference.workloads if workload.pools]
    if not named:
        raise NotApplicable(f"{reference} declares no workload with pools")
    workloads = declared_in(reference, facts)
    if not workloads:
        raise without_any(named, facts)
    return workloads


@pytest.fixture
def placed_workloads(reference: Reference, facts: Facts) -> tuple[PlacedWorkload, ...]:
    """The declared workloads that name the pools they belong on, each once, with their pods."""
    workloads = placed_in(reference, facts)
    if not workloads:
        raise NotApplicable(f"{reference} declares no workload with pools")
    return workloads


@pytest.fixture
def gpu_workloads(
    declared_workloads: tuple[DeclaredWorkload, ...], reference: Reference, facts: Facts
) -> tuple[DeclaredWorkload, ...]:
    """Those of them that belong on GPU nodes; of a workload of another kind the pods that ask for GPUs."""
    workloads = tuple(
        workload
        for workload in declared_workloads
        if any(pool.gpu for pool in workload.pools) and workload.is_for_gpus(reference, facts)
    )
    if not workloads:
        raise NotApplicable("no declared workload belongs on a GPU pool")
    return workloads


@pytest.fixture
def ordinary_pods(facts: Facts, reference: Reference) -> tuple[Pod, ...]:
    """The unfinished pods of the owners: not those of the platform, of the GPU stack, of node agents outside teams."""
    pods = pods_of_owners(facts, reference)
    if not pods:
        raise NotApplicable("the cluster has no pod but those of the platform, of the GPU stack and of node agents")
    return pods


# These are not fixtures of the session: pytest would set them up before all others, and one that finds no node would
# hide that a requirement is not applicable.
@lru_cache(maxsize=8)
def _nodes_of(pools: tuple[Pool, ...], members: Members) -> tuple[PoolNode, ...]:
    return tuple(PoolNode(pool, node) for pool in pools for node in members(pool))


@lru_cache(maxsize=8)
def _gpu_nodes_of(pools: tuple[Pool, ...], members: Members) -> tuple[GpuPoolNode, ...]:
    return tuple(GpuPoolNode(pool, node, pool.gpu) for pool, node in _nodes_of(pools, members) if pool.gpu)


def _inhabited(pools: Sequence[Pool], reference: Reference, members: Members) -> tuple[Pool, ...]:
    inhabited = tuple(pool for pool in pools if _taking_pods(members(pool)))
    if not inhabited:
        raise without_open_nodes(pools, reference, members)
    return inhabited


def _taking_pods(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(node for node in nodes if node.ready and not node.unschedulable)


def _least_busy(facts: Facts, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Those that take pods, the least busy ones first, and few enough to be named in a pod's affinity."""
    return tuple(sorted(_taking_pods(nodes), key=lambda node: len(facts.pods_on(node.name)))[:ENOUGH])


def _open(facts: Facts, nodes: Iterable[Node], what: str, judged_by: str = "") -> tuple[Node, ...]:
    taking = _least_busy(facts, nodes)
    if not taking:
        raise Waits(f"no {what} is Ready and schedulable, so that no scenario can place a pod on one", on=judged_by)
    return taking

"""Scheduling: taints repel pods, affinity selects nodes, and GPUs are whole numbers.

The owners' rules depend on a few guarantees of Kubernetes. A taint repels every pod that does not tolerate it, and a
node with two taints requires tolerations of both. A toleration permits nodes and does not select them; affinity selects
nodes and does not permit them; only both together put a GPU pod on a GPU node and on no other. A GPU is never
overcommitted: the API server itself rejects a request that differs from its limit. These scenarios test each guarantee
on the cluster, because an admission policy or a scheduler profile can silently break any of them.

Scenarios about taints request no GPU, so that only the taint can keep their pods Pending, and each of them also
schedules a pod that is permitted: otherwise a scheduler that schedules nothing would pass.
"""

from typing import Any

import pytest

from conformance.catalog import (
    DISRUPTIVE,
    MUST,
    OCCUPIES_IDLE_GPUS,
    ON_BORROWED_NODES,
    ON_NO_NODE,
    ON_PICKED_NODES,
    OWN_NAMESPACE,
    PATCHES_NODES,
    WITHOUT_DEVICES,
    requirement,
)
from conformance.facts import Facts, Node
from conformance.gpu.taints import Taint, untolerated
from conformance.lab import TAINTED, LabPods, RequirementLab
from conformance.reference.model import Pool
from conformance.verdict import Inconclusive, Judge, Unsupported, expect, format_value
from suites._shared.formatting import join_limited
from suites._shared.pod_terms import avoiding, carrying, named, preferring, requiring, taints_of
from suites._shared.pool_nodes import Members
from suites.scheduling.gpu_pod import GpuPod

# Seconds: what an evicted pod needs to end is a tenth of what it has, so that a busy node is no reason to fail.
_GRACE, _STOPS_WITHIN = 10, 1
_TRIAL_KEY, _TRIAL = "gpu-conformance.io/eviction", "gpu-conformance-trial"
NOWHERE = {"gpu-conformance.io/nowhere": "nowhere"}


@requirement(
    "SCHED-01",
    "Each declared taint alone, and all of them together, keep a pod without tolerations off a GPU node",
    level=MUST,
    effect=PATCHES_NODES,
    pods=ON_BORROWED_NODES,
    sources=["guide-1", "k8s-taints"],
    remedy="Look for a policy that adds tolerations to every pod, and for a scheduler without TaintToleration.",
)
def test_every_taint_keeps_ordinary_pods_out(
    declared_taints: tuple[Taint, ...], idle_gpu_node: Node, lab: RequirementLab
) -> None:
    combinations = {declared_taints, *((taint,) for taint in declared_taints)}
    with lab.borrow(idle_gpu_node) as node:
        for taints in sorted(combinations, key=len, reverse=True):
            node.set_taints(taints)
            lab.pod(on=node).stays_pending(because=f"the node has {format_value(taints)} and the pod tolerates nothing")

        node.set_taints(())
        lab.pod(on=node).wait_until_scheduled()


@requirement(
    "SCHED-02",
    "A pod that tolerates all but one of the declared taints stays Pending",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=WITHOUT_DEVICES,
    sources=["guide-6", "k8s-taints"],
    remedy="Give every GPU node both taints (POOL-03), and tolerate both in every GPU pod.",
)
def test_tolerating_some_of_the_taints_is_not_enough(doubly_tainted_pool: Pool, lab: RequirementLab) -> None:
    taints = taints_of([doubly_tainted_pool])
    others = {missing: [taint for taint in taints if taint != missing] for missing in taints}
    halves = LabPods(lab.pod(node_selector=doubly_tainted_pool.selector, tolerates=each) for each in others.values())
    halves.stay_pending(
        because=[f"it tolerates {format_value(each)} and not {missing}" for missing, each in others.items()]
    )

    lab.pod(node_selector=doubly_tainted_pool.selector, tolerates=taints).wait_until_scheduled()


@requirement(
    "SCHED-03",
    "A NoSchedule taint leaves running pods alone; a NoExecute taint evicts those that do not tolerate it",
    level=MUST,
    effect=DISRUPTIVE,
    pods=ON_BORROWED_NODES,
    sources=["guide-1", "k8s-taints"],
    remedy="Check that the taint-eviction controller runs and that no policy adds NoExecute tolerations to every pod.",
)
@pytest.mark.usefixtures("declared_taints")
def test_no_schedule_spares_running_pods_and_no_execute_evicts_them(
    idle_gpu_node: Node, facts: Facts, lab: RequirementLab
) -> None:
    no_execute = _taint_tolerated_by_all(facts, idle_gpu_node)
    no_schedule = Taint(_TRIAL_KEY, _TRIAL, "NoSchedule")
    with lab.borrow(idle_gpu_node) as node:
        intolerant = lab.pod(
            on=node, tolerates=node, grace_seconds=_GRACE, stop_seconds=_STOPS_WITHIN, held=True
        ).require_running()
        tolerant = lab.pod(on=node, tolerates=(node, no_schedule, no_execute)).require_running()

        node.set_taints((*idle_gpu_node.taints, no_schedule))
        intolerant.keeps_running(because="NoSchedule only repels new pods")

        node.set_taints((*idle_gpu_node.taints, no_execute))
        intolerant.wait_until_evicted(by=TAINTED)
        intolerant.ends_by_itself(because="a pod that a taint evicts has its grace period")
        tolerant.keeps_running(because=f"it tolerates {no_execute}")


@requirement(
    "SCHED-04",
    "A toleration without node affinity lets a pod run on GPU nodes and on ordinary nodes",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=WITHOUT_DEVICES,
    sources=["guide-4", "k8s-taints"],
    remedy="Find the policy that adds a nodeSelector to pods with tolerations; pods that need a GPU node have a "
    "required affinity (SCHED-13).",
)
def test_a_toleration_permits_and_does_not_force(
    declared_taints: tuple[Taint, ...],
    ordinary_nodes: tuple[Node, ...],
    open_gpu_nodes: tuple[Node, ...],
    lab: RequirementLab,
) -> None:
    lab.pod(on=ordinary_nodes, tolerates=declared_taints).wait_until_scheduled(because="a toleration forces nothing")

    lab.pod(on=open_gpu_nodes, tolerates=declared_taints).wait_until_scheduled(because="a toleration permits it")


@requirement(
    "SCHED-05",
    "Required node affinity without tolerations leaves a pod Pending on tainted pools",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=WITHOUT_DEVICES,
    sources=["guide-4", "k8s-taints", "k8s-affinity"],
    remedy="Put the missing taints back on the pool (POOL-03): its nodes take pods without tolerations.",
)
def test_affinity_without_toleration_stays_pending(tainted_pools: tuple[Pool, ...], lab: RequirementLab) -> None:
    into_the_pools = requiring(*(carrying(pool.labels) for pool in tainted_pools))

    intolerant = lab.pod(affinity=into_the_pools)
    intolerant.stays_pending(because="it requires tainted pools and tolerates nothing")

    tolerant = lab.pod(affinity=into_the_pools, tolerates=taints_of(tainted_pools))
    tolerant.wait_until_scheduled()


@requirement(
    "SCHED-06",
    "Required node affinity places a pod on the matching pool, or leaves it Pending",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=WITHOUT_DEVICES,
    sources=["guide-4", "k8s-affinity"],
    remedy="Correct labels that nodes of another pool carry (POOL-02), and look for policies that rewrite affinity.",
)
def test_required_affinity_binds(labelled_pools: tuple[Pool, ...], members: Members, lab: RequirementLab) -> None:
    every_taint = taints_of(labelled_pools)
    placed = [
        (pool, lab.pod(affinity=requiring(carrying(pool.labels)), tolerates=every_taint)) for pool in labelled_pools
    ]
    unmatched = lab.pod(affinity=requiring(carrying(NOWHERE)), tolerates=every_taint)

    for pool, pod in placed:
        pod.wait_until_scheduled()
        names = [node.name for node in members(pool)]
        expect(pod.node, pod).is_among(names, because=f"it requires the labels of {pool}")
    unmatched.stays_pending(because=f"no node carries {format_value(NOWHERE)}")


@requirement(
    "SCHED-07",
    "Preferred node affinity chooses between idle nodes, and never keeps a pod Pending",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_PICKED_NODES,
    sources=["guide-4", "k8s-affinity"],
    remedy="Leave the score plugin NodeAffinity on, with a weight above that of bin-packing, and keep admission "
    "policies from turning preferred terms into required ones.",
)
def test_preferred_affinity_prefers_and_never_blocks(idle_twins: tuple[Node, ...], lab: RequirementLab) -> None:
    for preferred in idle_twins[:2]:
        pod = lab.pod(on=idle_twins, tolerates=idle_twins, affinity=preferring(named(preferred)))
        pod.wait_until_scheduled()
        expect(pod.node, pod).equals(preferred.name, because="between idle nodes of one pool the preference decides")

    unmatched = lab.pod(on=idle_twins, tolerates=idle_twins, affinity=preferring(carrying(NOWHERE)))
    unmatched.wait_until_scheduled()


@requirement(
    "SCHED-08",
    "Preferred pod anti-affinity spreads replicas over idle nodes, and never keeps a pod Pending",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["guide-4", "k8s-affinity"],
    remedy="Weigh the score plugin InterPodAffinity above bin-packing, or require the anti-affinity, or use topology "
    "spread constraints.",
)
def test_anti_affinity_spreads_replicas(idle_twins: tuple[Node, ...], lab: RequirementLab) -> None:
    app = {"app": "spread"}
    options: dict[str, Any] = {"on": idle_twins, "tolerates": idle_twins, "labels": app, "affinity": avoiding(app)}

    replicas = [lab.pod(gpus=1, **options) for _ in idle_twins]
    for replica in replicas:
        replica.wait_until_scheduled()
    nodes = {replica.node for replica in replicas}
    expect(nodes, f"{len(replicas)} replicas").equals(
        {node.name for node in idle_twins}, because="each idle node had room for one of them"
    )

    one_more = lab.pod(**options)
    one_more.wait_until_scheduled()


@requirement(
    "SCHED-09",
    "The API server rejects a pod whose GPU request differs from its GPU limit",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["guide-4", "k8s-gpus"],
    remedy="Find the mutating policy or webhook that rewrites GPU limits or requests, and take GPUs out of it.",
)
def test_a_request_must_equal_its_limit(gpu_pod: GpuPod, judge: Judge) -> None:
    gpu_pod.must_be_rejected(judge, requests="1", limits="2")


@requirement(
    "SCHED-10",
    "The API server rejects a pod with a GPU request and no GPU limit",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["guide-4", "k8s-gpus"],
    remedy="Find the mutating policy or webhook that adds GPU limits, and take GPUs out of it.",
)
def test_a_request_needs_a_limit(gpu_pod: GpuPod, judge: Judge) -> None:
    gpu_pod.must_be_rejected(judge, requests="1")


@requirement(
    "SCHED-11",
    "The API server rejects a pod that requests a fraction of a GPU",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["guide-4", "k8s-gpus"],
    remedy="Find the mutating policy or webhook that rounds GPU quantities; share GPUs by MIG or time-slicing instead.",
)
def test_a_gpu_is_a_whole_number(gpu_pod: GpuPod, judge: Judge) -> None:
    for fraction in ("0.5", "1500m"):
        gpu_pod.must_be_rejected(judge, requests=fraction, limits=fraction)


@requirement(
    "SCHED-12",
    "The API server accepts a GPU limit without request and sets the request to the limit",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=ON_NO_NODE,
    sources=["k8s-gpus"],
    remedy="Find the policy or webhook that rewrites GPU requests: scheduler and quota count requests, not limits.",
)
def test_a_limit_alone_is_enough(gpu_pod: GpuPod, judge: Judge) -> None:
    gpu_pod.must_be_accepted(judge, limits="2", requested="2")


def _taint_tolerated_by_all(facts: Facts, node: Node) -> Taint:
    """A NoExecute taint that every pod on the node tolerates, node agents of the GPU stack included.

    A key of this project first; else one of the node's own taints with another value and effect, which agents that
    tolerate the key alone tolerate as well. Raises Unsupported when each would evict node agents only, by their
    deployed tolerations (the operator's tolerate NoSchedule only), and Inconclusive when it would evict other pods.
    """
    own = Taint(_TRIAL_KEY, _TRIAL, "NoExecute")
    of_the_node = [Taint(taint.key, _TRIAL, "NoExecute") for taint in node.lasting_taints]
    running = [pod for pod in facts.pods_on(node.name) if not pod.finished]
    for trial in (own, *of_the_node):
        if not any(untolerated(pod.tolerations, [trial]) for pod in running):
            return trial
    evicted = [pod for pod in running if untolerated(pod.tolerations, [own])]
    agents = all(pod.owner_kind == "DaemonSet" for pod in evicted)
    raise (Unsupported if agents else Inconclusive)(
        f"a NoExecute taint on {node.name} would evict "
        f"{join_limited([str(pod) for pod in evicted])}, so the scenario is not run. "
        f"Node agents that tolerate a taint's key with operator Exists and without effect would stay"
    )

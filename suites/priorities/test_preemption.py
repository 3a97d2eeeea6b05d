"""Preemption: what happens when GPUs run out.

The scheduler lets a newcomer evict pods of lower priority, on one node, as few as it needs, after their grace period.
What it does not do surprises people: it does not move pods, a newcomer with policy Never evicts nobody, that policy
protects nobody either, and a PodDisruptionBudget is best effort. Each scenario makes GPUs run out and looks who
leaves, who stays and who waits.

No real workload can lose a GPU here. The scenarios use a fake resource on a tainted, idle node, and copies of the
cluster's own classes with values below zero: these have the order and the policies of the originals, and all of them
are lower than a pod without class.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import pytest

from conformance.catalog import DISRUPTIVE, MUST, ON_BORROWED_NODES, PATCHES_NODES, requirement
from conformance.facts import Facts
from conformance.lab import RequirementLab
from conformance.reference.model import Reference
from conformance.verdict import NotApplicable, expect
from suites._shared.priority_order import declared_classes, declared_preemptions, live_class
from suites.priorities.borrowed_node import JOB_BACKOFF, FakeGpuNode

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# A victim needs one second to end, and has time for more on a busy node.
GRACE_SECONDS, STOP_SECONDS = 10, 1

BorrowFakeGpuNodes: TypeAlias = Callable[..., list[FakeGpuNode]]


@pytest.fixture
def fake_gpu_nodes(facts: Facts, lab: RequirementLab) -> BorrowFakeGpuNodes:
    """Borrows idle nodes and gives each its number of fake GPUs; workers without real GPUs are taken first."""
    workers = [node for node in facts.nodes if CONTROL_PLANE not in node.labels]
    cheapest_first = sorted(workers, key=lambda node: (bool(node.gpu_resources), node.name))

    def borrowed(*gpus: int) -> list[FakeGpuNode]:
        nodes = lab.pick_idle(cheapest_first, len(gpus))
        return [FakeGpuNode(lab, node, number) for node, number in zip(nodes, gpus, strict=True)]

    return borrowed


class ClassPair(NamedTuple):
    """The names of two of the cluster's classes, copied with values below zero."""

    higher: str
    lower: str


@pytest.fixture
def training_over_experiments(reference: Reference, facts: Facts, lab: RequirementLab) -> ClassPair:
    """Copies of a class that is declared to preempt another, and of that other."""
    for winner, loser in declared_preemptions(reference):
        if winner.preemption_policy != "Never":
            return ClassPair(lab.below_zero(live_class(facts, winner)), lab.below_zero(live_class(facts, loser)))
    raise NotApplicable("every class that is declared to preempt another has policy Never (PRIO-14)")


@pytest.fixture
def inference_over_the_rest(reference: Reference, facts: Facts, lab: RequirementLab) -> ClassPair:
    """Copies of the highest class that is declared never to preempt, and of the next class below it."""
    for higher, lower in pairwise(declared_classes(reference)):
        if higher.preemption_policy == "Never":
            return ClassPair(lab.below_zero(live_class(facts, higher)), lab.below_zero(live_class(facts, lower)))
    raise NotApplicable("no declared class has policy Never and another class below it")


@requirement(
    "PRIO-03",
    "A training pod preempts as many experiment pods as it needs GPUs, and no more",
    level=MUST,
    effect=DISRUPTIVE,
    pods=ON_BORROWED_NODES,
    sources=["guide-5", "k8s-preemption"],
    remedy="Give training a higher value than experiments and leave its preemptionPolicy at PreemptLowerPriority.",
)
def test_training_preempts_experiments(
    fake_gpu_nodes: BorrowFakeGpuNodes, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    [node] = fake_gpu_nodes(4)
    experiments = node.filled(priority=training_over_experiments.lower)

    training = node.pod(gpus=3, priority=training_over_experiments.higher)

    training.wait_until_running(because="experiments hold all GPUs, and training has a higher priority")
    expect(experiments.evicted(), "experiments").has_length(3, because="exactly the GPUs that training requests")
    survivor = next(pod for pod in experiments if not pod.evicted)
    survivor.keeps_running(because="training has the GPUs that it requests")


@requirement(
    "PRIO-04",
    "Preemption evicts lower-priority pods on the node where that makes room, never equal ones",
    level=MUST,
    effect=DISRUPTIVE,
    pods=ON_BORROWED_NODES,
    sources=["k8s-preemption"],
    remedy="Leave preemption to kube-scheduler's DefaultPreemption, or check how another scheduler preempts.",
)
def test_preemption_happens_on_the_node_where_it_helps(
    fake_gpu_nodes: BorrowFakeGpuNodes, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    full_of_peers, full_of_experiments = fake_gpu_nodes(1, 1)
    [peer] = full_of_peers.filled(priority=training_over_experiments.higher)
    [experiment] = full_of_experiments.filled(priority=training_over_experiments.lower)

    newcomer = full_of_peers.pod(priority=training_over_experiments.higher, or_on=full_of_experiments)

    newcomer.wait_until_running(because="one of its two nodes is full of pods with lower priority")
    expect(newcomer.node, newcomer).equals(
        full_of_experiments.name, because="that node had the pods with lower priority"
    )
    experiment.wait_until_evicted(because="it has a lower priority than the new pod")
    peer.keeps_running(because="pods of equal priority never preempt each other")


@requirement(
    "PRIO-05",
    "A pod with preemptionPolicy Never evicts no pod, stays Pending, and runs when a GPU becomes free",
    level=MUST,
    effect=PATCHES_NODES,
    pods=ON_BORROWED_NODES,
    sources=["guide-5", "k8s-preemption", "koordinator-2389"],
    remedy="If the class must not wait, give it preemptionPolicy PreemptLowerPriority; if it may, keep GPUs free for "
    "it: its value only puts its pods at the head of the scheduling queue.",
)
def test_a_class_that_never_preempts_waits_for_a_free_gpu(
    fake_gpu_nodes: BorrowFakeGpuNodes, inference_over_the_rest: ClassPair, lab: RequirementLab
) -> None:
    [node] = fake_gpu_nodes(2)
    lower = node.filled(priority=inference_over_the_rest.lower)

    inference = node.pod(priority=inference_over_the_rest.higher)

    inference.stays_pending(because="its policy is Never, and pods of lower priority hold all GPUs")
    expect(inference.nominated_node, inference).equals(None, because="no pod is preempted for it")
    expect(lower.evicted(), "pods of lower priority").is_empty(because="it may not preempt any pod")

    lower[0].delete()
    inference.wait_until_running(because="a GPU is free now")


@requirement(
    "PRIO-06",
    "preemptionPolicy Never does not protect a pod from preemption by a higher PriorityClass",
    level=MUST,
    effect=DISRUPTIVE,
    pods=ON_BORROWED_NODES,
    sources=["k8s-preemption", "koordinator-2389"],
    remedy="Do not rely on Never for protection: only a value with no higher class protects pods (PRIO-02).",
)
def test_policy_never_protects_nobody(
    fake_gpu_nodes: BorrowFakeGpuNodes, inference_over_the_rest: ClassPair, lab: RequirementLab
) -> None:
    [node] = fake_gpu_nodes(2)
    inference = node.filled(priority=inference_over_the_rest.higher)
    above_it = lab.priority_class("above", value=(inference[0].priority or 0) + 1)

    newcomer = node.pod(priority=above_it)

    newcomer.wait_until_running(because="it has a higher priority than inference, whatever inference's own policy is")
    expect(inference.evicted(), "inference pods").has_length(1, because="one GPU was requested")


@requirement(
    "PRIO-10",
    "Preemption prefers victims without a PodDisruptionBudget, and violates the budget when there are none",
    level=MUST,
    effect=DISRUPTIVE,
    pods=ON_BORROWED_NODES,
    sources=["k8s-preemption"],
    remedy="Do not rely on a PodDisruptionBudget to keep a training job: raise its class, and save checkpoints.",
)
def test_a_disruption_budget_is_preferred_and_guarantees_nothing(
    fake_gpu_nodes: BorrowFakeGpuNodes, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    [node] = fake_gpu_nodes(2)
    [guarded] = node.filled(1, priority=training_over_experiments.lower, labels={"guarded": "yes"})
    lab.disruption_budget(guarded.namespace, {"guarded": "yes"}, min_available=1)
    # By priority alone the guarded pod would be evicted, so that only the budget can prevent it.
    slightly_above = lab.priority_class("slightly-above", value=(guarded.priority or 0) + 1, preemption_policy="Never")
    [unguarded] = node.filled(1, priority=slightly_above)

    first = node.pod(priority=training_over_experiments.higher)
    first.wait_until_running(because="two pods of lower priority hold the GPUs")
    unguarded.wait_until_evicted(because="evicting it violates no budget")
    guarded.keeps_running(because="another pod could be preempted")

    second = node.pod(priority=training_over_experiments.higher)
    second.wait_until_running(because="a PodDisruptionBudget does not stop preemption when no other pod can be evicted")
    guarded.wait_until_evicted(because="it was the only pod of lower priority left")


@requirement(
    "PRIO-11",
    "A preempted pod gets its terminationGracePeriodSeconds, and the preempting pod waits for its end",
    level=MUST,
    effect=DISRUPTIVE,
    pods=ON_BORROWED_NODES,
    sources=["k8s-preemption", "k8s-72124"],
    remedy="Set terminationGracePeriodSeconds of GPU pods to the time of saving a checkpoint: preempting pods wait "
    "for it.",
)
def test_a_victim_gets_its_grace_period_and_the_newcomer_waits(
    fake_gpu_nodes: BorrowFakeGpuNodes, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    [node] = fake_gpu_nodes(1)
    [experiment] = node.filled(
        priority=training_over_experiments.lower, grace_seconds=GRACE_SECONDS, stop_seconds=STOP_SECONDS, held=True
    )
    expect(experiment.created["spec"]["terminationGracePeriodSeconds"], experiment).equals(
        GRACE_SECONDS, because="that is the grace period in its spec"
    )

    training = node.pod(priority=training_over_experiments.higher)

    training.wait_until_nominated(because="pods of the node are preempted for it")
    experiment.wait_until_evicted(because="it has a lower priority than training")
    waiting, leaving = training.state, experiment.read() or {"metadata": {}, "status": {}}
    if leaving["status"].get("phase") == "Running":
        expect(leaving["metadata"].get("deletionGracePeriodSeconds"), experiment).equals(
            GRACE_SECONDS, because="preemption does not shorten a grace period"
        )
        expect(waiting.node, training).equals(None, because="the evicted pod still holds the GPU")
    experiment.ends_by_itself(because="a preempted program can save a checkpoint")
    training.wait_until_running(because="the victim has ended")
    expect(experiment.phase, experiment).is_among(
        ("Failed", "Succeeded", ""), because="it had ended before its GPU was allocated again"
    )


@requirement(
    "PRIO-12",
    "A Job whose podFailurePolicy ignores DisruptionTarget replaces a preempted pod without a failure",
    level=MUST,
    effect=DISRUPTIVE,
    pods=ON_BORROWED_NODES,
    pause=JOB_BACKOFF,
    sources=["guide-5", "k8s-pod-failure-policy"],
    remedy="Keep the Job controller on; give training Jobs a podFailurePolicy that ignores DisruptionTarget, or every "
    "preemption uses up backoffLimit.",
)
def test_a_preempted_job_pod_is_tried_again(
    fake_gpu_nodes: BorrowFakeGpuNodes, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    [node] = fake_gpu_nodes(1)
    with node.retrying_job(priority=training_over_experiments.lower) as job:
        job.wait_until_running()
        [victim] = job.pods()

        training = node.pod(priority=training_over_experiments.higher)
        training.wait_until_running(because="the Job's pod has a lower priority")
        victim.wait_until_evicted(because="it had the only GPU")

        training.delete()
        job.wait_until_running(because="being preempted is no failure: the Job with backoffLimit 0 continues")
        [successor] = job.pods().running()
        expect(successor.uid == victim.uid, job).equals(False, because="a preempted pod is not restarted but replaced")

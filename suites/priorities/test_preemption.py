"""Preemption: what happens when GPUs run out.

The scheduler lets a newcomer evict pods of lower priority, on one node, as few as it needs, after their grace period.
What it does not do surprises people: it does not move pods, a newcomer with policy Never evicts nobody, that policy
shields nobody either, and a disruption budget is a wish and no wall. Each scenario makes GPUs run out and looks who
leaves, who stays and who waits.

No real workload can lose a GPU here. The scenarios use GPUs of a made-up resource on a fenced, idle node, and
stand-ins for the cluster's own classes that lie below zero: they keep the order and the policies that the cluster's
classes have, and all of them are weaker than a pod that names no class.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import pytest

from conformance.catalog import DISRUPTIVE, MUST, PATCHES_NODES, requirement
from conformance.facts import Facts
from conformance.lab import RequirementLab
from conformance.reference.model import Reference
from conformance.verdict import NotApplicable, expect
from suites._shared.priority_order import declared_classes, declared_preemptions, live_class
from suites.priorities.borrowed_node import FakeGpuNode

GUIDE = "guide part 5"
PREEMPTION = "kubernetes.io: Pod Priority and Preemption"
NEVER_WAITS = "github.com/koordinator-sh/koordinator/issues/2389"
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
GRACE_SECONDS = 2

BorrowFakeGpuNode: TypeAlias = Callable[[int], FakeGpuNode]


@pytest.fixture
def fake_gpu_node(facts: Facts, lab: RequirementLab) -> BorrowFakeGpuNode:
    """Borrows an idle node and gives it some made-up GPUs; workers without real GPUs are taken first."""
    workers = [node for node in facts.nodes if CONTROL_PLANE not in node.labels]
    cheapest_first = sorted(workers, key=lambda node: (bool(node.gpu_resources), node.name))

    def borrowed(gpus: int) -> FakeGpuNode:
        return FakeGpuNode(lab, lab.pick_idle(cheapest_first)[0], gpus)

    return borrowed


class ClassPair(NamedTuple):
    """Two of the cluster's classes, moved below zero: names to give to pods."""

    higher: str
    lower: str


@pytest.fixture
def training_over_experiments(reference: Reference, facts: Facts, lab: RequirementLab) -> ClassPair:
    """Stand-ins for a class that is declared to preempt another, and for that other."""
    for winner, loser in declared_preemptions(reference):
        if winner.preemption_policy != "Never":
            return ClassPair(lab.below_zero(live_class(facts, winner)), lab.below_zero(live_class(facts, loser)))
    raise NotApplicable("every class that is declared to preempt another has policy Never (PRIO-14)")


@pytest.fixture
def inference_over_the_rest(reference: Reference, facts: Facts, lab: RequirementLab) -> ClassPair:
    """Stand-ins for the highest class that is declared never to preempt, and for the next class below it."""
    for higher, lower in pairwise(declared_classes(reference)):
        if higher.preemption_policy == "Never":
            return ClassPair(lab.below_zero(live_class(facts, higher)), lab.below_zero(live_class(facts, lower)))
    raise NotApplicable("no declared class has policy Never and another class below it")


@requirement(
    "PRIO-03",
    "Training preempts experiments when GPUs run out, and no more of them than it needs",
    level=MUST,
    effect=DISRUPTIVE,
    sources=[GUIDE, PREEMPTION],
    remedy="Give training a higher value than experiments and leave its preemptionPolicy at PreemptLowerPriority.",
)
def test_training_preempts_experiments(
    fake_gpu_node: BorrowFakeGpuNode, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    node = fake_gpu_node(4)
    experiments = node.filled(priority=training_over_experiments.lower)

    training = node.pod(gpus=3, priority=training_over_experiments.higher)

    training.wait_until_running(because="experiments hold all GPUs, and training is above them")
    expect(experiments.evicted(), "experiments").has_length(3, because="exactly the GPUs that training asked for")
    survivor = next(pod for pod in experiments if not pod.evicted)
    survivor.keeps_running(because="training has what it asked for")


@requirement(
    "PRIO-04",
    "Preemption happens on the node where it helps",
    level=MUST,
    effect=DISRUPTIVE,
    sources=[PREEMPTION],
    remedy="Leave preemption to kube-scheduler's DefaultPreemption, or look what another scheduler does instead.",
)
def test_preemption_happens_on_the_node_where_it_helps(
    fake_gpu_node: BorrowFakeGpuNode, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    full_of_peers, full_of_experiments = fake_gpu_node(1), fake_gpu_node(1)
    [peer] = full_of_peers.filled(priority=training_over_experiments.higher)
    [experiment] = full_of_experiments.filled(priority=training_over_experiments.lower)

    newcomer = full_of_peers.pod(priority=training_over_experiments.higher, or_on=full_of_experiments)

    newcomer.wait_until_running(because="one of its two nodes is full of lower pods")
    expect(newcomer.node, newcomer).equals(full_of_experiments.name, because="that is where the lower pods were")
    experiment.wait_until_evicted(because="it is below the newcomer")
    peer.keeps_running(because="equals never evict each other")


@requirement(
    "PRIO-05",
    "A class with policy Never waits, evicts nobody, and takes the first GPU that is free",
    level=MUST,
    effect=PATCHES_NODES,
    sources=[GUIDE, PREEMPTION, NEVER_WAITS],
    remedy="If it shall not wait, give it PreemptLowerPriority; if it shall, keep GPUs free for it: its value only "
    "puts it at the head of the queue.",
)
def test_a_class_that_never_preempts_waits_for_a_free_gpu(
    fake_gpu_node: BorrowFakeGpuNode, inference_over_the_rest: ClassPair, lab: RequirementLab
) -> None:
    node = fake_gpu_node(2)
    lower = node.filled(priority=inference_over_the_rest.lower)

    inference = node.pod(priority=inference_over_the_rest.higher)

    inference.stays_pending(because="its policy is Never, and lower pods hold all GPUs")
    expect(inference.nominated_node, inference).equals(None, because="no node is cleared for it")
    expect(lower.evicted(), "pods below it").is_empty(because="it may not evict anybody")

    lower[0].delete()
    inference.wait_until_running(because="a GPU is free now")


@requirement(
    "PRIO-06",
    "Policy Never protects nobody: a higher class evicts its pods",
    level=MUST,
    effect=DISRUPTIVE,
    sources=[PREEMPTION, NEVER_WAITS],
    remedy="Do not count on Never as a shield. The highest class is protected by nothing standing above it (PRIO-02).",
)
def test_policy_never_protects_nobody(
    fake_gpu_node: BorrowFakeGpuNode, inference_over_the_rest: ClassPair, lab: RequirementLab
) -> None:
    node = fake_gpu_node(2)
    inference = node.filled(priority=inference_over_the_rest.higher)
    above_it = lab.priority_class("above", value=(inference[0].priority or 0) + 1)

    newcomer = node.pod(priority=above_it)

    newcomer.wait_until_running(because="it is above inference, whatever inference's own policy is")
    expect(inference.evicted(), "inference pods").has_length(1, because="one GPU was asked for")


@requirement(
    "PRIO-10",
    "A disruption budget is preferred by preemption, and guarantees nothing",
    level=MUST,
    effect=DISRUPTIVE,
    sources=[PREEMPTION],
    remedy="Do not rely on a PodDisruptionBudget to keep a training job: raise its class, and save checkpoints.",
)
def test_a_disruption_budget_is_preferred_and_guarantees_nothing(
    fake_gpu_node: BorrowFakeGpuNode, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    node = fake_gpu_node(2)
    [guarded] = node.filled(1, priority=training_over_experiments.lower, labels={"guarded": "yes"})
    lab.disruption_budget(guarded.namespace, {"guarded": "yes"}, min_available=1)
    # By priority alone the guarded pod would be the one to leave, so that only the budget can save it.
    slightly_above = lab.priority_class("slightly-above", value=(guarded.priority or 0) + 1, preemption_policy="Never")
    [unguarded] = node.filled(1, priority=slightly_above)

    first = node.pod(priority=training_over_experiments.higher)
    first.wait_until_running(because="two lower pods hold the GPUs")
    unguarded.wait_until_evicted(because="evicting it violates no budget")
    guarded.keeps_running(because="there was another victim")

    second = node.pod(priority=training_over_experiments.higher)
    second.wait_until_running(because="a budget does not stop preemption when nobody else can leave")
    guarded.wait_until_evicted(because="it was the only lower pod left")


@requirement(
    "PRIO-11",
    "A victim gets its whole grace period, and the newcomer waits for it",
    level=MUST,
    effect=DISRUPTIVE,
    sources=[PREEMPTION, "github.com/kubernetes/kubernetes/issues/72124"],
    remedy="Keep grace periods of GPU pods as long as saving a checkpoint takes, no longer: whoever evicts them waits.",
)
def test_a_victim_gets_its_grace_period_and_the_newcomer_waits(
    fake_gpu_node: BorrowFakeGpuNode, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    node = fake_gpu_node(1)
    [experiment] = node.filled(priority=training_over_experiments.lower, grace_seconds=GRACE_SECONDS, held=True)
    expect(experiment.created["spec"]["terminationGracePeriodSeconds"], experiment).equals(
        GRACE_SECONDS, because="that is the grace period it asked for"
    )

    training = node.pod(priority=training_over_experiments.higher)

    training.wait_until_nominated(because="the node is being cleared for it")
    experiment.wait_until_evicted(because="it is below training")
    waiting, leaving = training.state, experiment.read() or {"metadata": {}, "status": {}}
    if leaving["status"].get("phase") == "Running":
        expect(leaving["metadata"].get("deletionGracePeriodSeconds"), experiment).equals(
            GRACE_SECONDS, because="preemption does not cut a grace period short"
        )
        expect(waiting.node, training).equals(None, because="the victim still holds the GPU")
    training.wait_until_running(because="the grace period is over")
    expect(experiment.phase, experiment).is_among(
        ("Failed", "Succeeded", ""), because="it had ended before its GPU was given away"
    )


@requirement(
    "PRIO-12",
    "A Job that ignores disruptions tries a preempted pod again",
    level=MUST,
    effect=DISRUPTIVE,
    sources=[GUIDE, "kubernetes.io: Jobs, pod failure policy"],
    remedy="Keep the Job controller on; give training Jobs a podFailurePolicy that ignores DisruptionTarget, or every "
    "preemption uses up backoffLimit.",
)
def test_a_preempted_job_pod_is_tried_again(
    fake_gpu_node: BorrowFakeGpuNode, training_over_experiments: ClassPair, lab: RequirementLab
) -> None:
    node = fake_gpu_node(1)
    with node.retrying_job(priority=training_over_experiments.lower) as job:
        job.wait_until_running()
        [victim] = job.pods()

        training = node.pod(priority=training_over_experiments.higher)
        training.wait_until_running(because="the Job's pod is below it")
        victim.wait_until_evicted(because="it had the only GPU")

        training.delete()
        job.wait_until_running(
            because="being preempted is no failure: the Job may fail no pod and goes on all the same"
        )
        [successor] = job.pods().running()
        expect(successor.uid == victim.uid, job).equals(
            False, because="a preempted pod does not come back, another does"
        )

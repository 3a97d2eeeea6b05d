"""Gangs, on objects made by hand: queues of KAI, their workloads, and jobs that are scheduled in part."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference.model import PriorityClass, Reference
from conformance.reference.stack import Kai, KaiQueue
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported
from suites._shared.kai import gpu_units, kai_of, pods_of_kai, queues_of
from suites.gang import test_gang

Object = dict[str, Any]
NOW = datetime(2026, 9, 20, 12, tzinfo=UTC)
YESTERDAY = (NOW - timedelta(days=1)).isoformat()
JUST_NOW = (NOW - timedelta(seconds=30)).isoformat()

CLASSES = (
    PriorityClass("training", 500000, preempts=("experiments",)),
    PriorityClass("experiments", 100000),
)
NOTHING = Reference("nothing", priority_classes=CLASSES)
DECLARED = Reference("kai", priority_classes=CLASSES, kai=Kai(queues=(KaiQueue("research", "all", 4, 8),)))


def queue(name: str, parent: str = "", quota: float = -1, limit: float = -1) -> Object:
    spec = {"parentQueue": parent or None, "resources": {"gpu": {"quota": quota, "limit": limit}}}
    return {"apiVersion": "scheduling.run.ai/v2", "kind": "Queue", "metadata": {"name": name}, "spec": spec}


def group(name: str, members: int, **spec: Any) -> Object:
    return {
        "apiVersion": "scheduling.run.ai/v2alpha2",
        "kind": "PodGroup",
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"minMember": members, **spec},
    }


def live_class(name: str, value: int) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
    }


def pod(
    name: str,
    *,
    gpus: int = 0,
    resource: str = "nvidia.com/gpu",
    node: str = "",
    owner: str = "",
    kind: str = "Job",
    kai: bool = True,
    priority: str = "",
    created: str = YESTERDAY,
    annotations: dict[str, str] | None = None,
    **labels: str,
) -> Object:
    metadata: Object = {"name": name, "namespace": "ml", "creationTimestamp": created, "annotations": annotations or {}}
    metadata["labels"] = {
        key.replace("___", "-").replace("__", "/").replace("_", "."): value for key, value in labels.items()
    }
    if owner:
        metadata["ownerReferences"] = [{"apiVersion": "batch/v1", "kind": kind, "name": owner, "controller": True}]
    limits = {resource: str(gpus)} if gpus else {}
    spec = {
        "nodeName": node,
        "schedulerName": "kai-scheduler" if kai else "default-scheduler",
        "priorityClassName": priority,
        "containers": [{"name": "c", "image": "i", "resources": {"limits": limits, "requests": limits}}],
    }
    status = {"phase": "Running" if node else "Pending"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def facts(*objects: Object) -> Facts:
    return Facts.from_objects(objects, server_version="v1.36.3", taken_at=NOW)


def judged(requirement: Any, found: Facts, reference: Reference = NOTHING) -> dict[str, str]:
    """The broken subjects of a requirement, each with its story."""
    judge = Judge()
    names = requirement.__code__.co_varnames[: requirement.__code__.co_argcount]
    known: dict[str, Any] = {"facts": found, "reference": reference, "judge": judge}
    if "kai" in names:
        known["kai"] = kai_of(reference, found)
        known["queues"] = queues_of(found)
        known["kai_pods"] = pods_of_kai(found, known["kai"])
    requirement(**{name: known[name] for name in names})
    if nothing := judge.nothing_judged():
        raise nothing
    return {str(each.subject): f"{each.actual} | {each.cause}" for each in judge.broken}


# --- whether there is anything to judge ---------------------------------------------------------------------------


def test_without_kai_nothing_is_judged() -> None:
    with pytest.raises(NotApplicable, match="declares no KAI"):
        kai_of(NOTHING, facts())


def test_kai_that_is_declared_and_not_installed_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"scheduling\.run\.ai"):
        kai_of(DECLARED, facts())


def test_kai_that_is_only_installed_is_judged_by_its_defaults() -> None:
    assert kai_of(NOTHING, facts(queue("a"))).scheduler == "kai-scheduler"


def test_without_a_pod_of_kai_there_is_no_workload_to_judge() -> None:
    with pytest.raises(NotApplicable, match="no pod names"):
        test_gang.kai_pods.__wrapped__(Kai(), facts(queue("a"), pod("p", kai=False)))


# --- queues -------------------------------------------------------------------------------------------------------


def test_queues_as_declared_pass() -> None:
    found = facts(queue("all"), queue("research", "all", 4, 8))

    assert judged(test_gang.test_queues_exist_as_declared, found, DECLARED) == {}


@pytest.mark.parametrize(
    ("live", "says"),
    [
        ([queue("all")], "no such queue"),
        ([queue("all"), queue("research", "all", 2, 8)], "gpu quota differ from what is declared"),
        ([queue("all"), queue("other"), queue("research", "other", 4, 8)], "parent differ from what is declared"),
    ],
)
def test_queues_that_differ_are_reported(live: list[Object], says: str) -> None:
    assert says in judged(test_gang.test_queues_exist_as_declared, facts(*live), DECLARED)["queue research"]


def test_a_queue_below_nothing_is_reported() -> None:
    broken = judged(test_gang.test_queues_exist_as_declared, facts(queue("research", "gone")))

    assert "there is no queue gone" in broken["queue research, spec.parentQueue"]


@pytest.mark.parametrize(
    ("labels", "queues", "says"),
    [
        ({"kai_scheduler__queue": "research"}, [queue("research")], ""),
        ({"kai_scheduler__queue": "reserach"}, [queue("research")], "there is no queue reserach"),
        ({"kai_scheduler__queue": "all"}, [queue("all"), queue("research", "all")], "has child queues"),
        ({}, [queue("research")], "there is no queue default-queue, the default for workloads without label"),
        ({}, [queue("default-queue")], ""),
    ],
)
def test_a_workload_has_to_be_in_a_queue_that_takes_it(labels: dict[str, str], queues: list[Object], says: str) -> None:
    found = facts(*queues, pod("p", owner="train", **labels))

    broken = judged(test_gang.test_workloads_are_in_queues, found)

    assert broken == {} if not says else says in broken["pods of job ml/train"]


def test_what_a_group_says_of_its_queue_counts_more_than_a_label() -> None:
    grouped = pod("p", annotations={"pod-group-name": "g"}, kai_scheduler__queue="nowhere")
    found = facts(queue("research"), group("g", 1, queue="research"), grouped)

    assert judged(test_gang.test_workloads_are_in_queues, found) == {}


def test_a_limit_holds_for_all_queues_below() -> None:
    labels = {"kai_scheduler__queue": "research", "kai_scheduler__preemptibility": "preemptible"}
    found = facts(queue("all", limit=3), queue("research", "all"), pod("p", gpus=4, **labels))

    broken = judged(test_gang.test_no_queue_is_asked_for_more_than_it_may_have, found)

    assert list(broken) == ["queue all"]
    assert "beyond its limit" in broken["queue all"]


def test_what_is_never_evicted_has_to_fit_into_the_quota() -> None:
    labels = {"kai_scheduler__queue": "research"}
    objects = [queue("research", quota=1), live_class("experiments", 100000)]
    staying = pod("p", gpus=2, priority="experiments", **labels)
    leaving = pod("p", gpus=2, priority="experiments", kai_scheduler__preemptibility="preemptible", **labels)
    rule = test_gang.test_no_queue_is_asked_for_more_than_it_may_have

    assert (
        "pods that are never evicted have to fit into the quota"
        in judged(rule, facts(*objects, staying))["queue research"]
    )
    assert judged(rule, facts(*objects, leaving)) == {}


def grouped(members: int, **more: Any) -> list[Object]:
    """Four pods of one GPU each, in a group that starts with so many of them."""
    labels = {"kai_scheduler__queue": "research", "kai_scheduler__preemptibility": "preemptible"}
    pods = [pod(f"p{n}", gpus=1, annotations={"pod-group-name": "g"}, **labels, **more) for n in range(4)]
    return [queue("research", quota=0, limit=3), group("g", members, queue="research"), *pods]


@pytest.mark.parametrize(
    ("objects", "broken"),
    [(grouped(4), True), (grouped(3), False), (grouped(1), False), (grouped(1, owner="s", kind="StatefulSet"), True)],
)
def test_only_what_runs_at_once_counts_against_a_limit(objects: list[Object], broken: bool) -> None:
    assert bool(judged(test_gang.test_no_queue_is_asked_for_more_than_it_may_have, facts(*objects))) is broken


@pytest.mark.parametrize("preemptibility", ["preemptible", "non-preemptible"])
def test_a_backlog_is_no_fault_of_its_queue(preemptibility: str) -> None:
    labels = {"kai_scheduler__queue": "research", "kai_scheduler__preemptibility": preemptibility}
    backlog = [pod(f"p{n}", gpus=2, owner=f"train-{n}", **labels) for n in range(9)]
    found = facts(queue("research", quota=3, limit=3), *backlog)

    assert judged(test_gang.test_no_queue_is_asked_for_more_than_it_may_have, found) == {}


@pytest.mark.parametrize(("kind", "broken"), [("ReplicaSet", True), ("Job", False)])
def test_services_count_as_inference_where_nothing_names_a_class(kind: str, broken: bool) -> None:
    served = pod("p", gpus=1, owner="serve", kind=kind, kai_scheduler__queue="research")
    found = facts(queue("research", quota=0, limit=8), live_class("inference", 125), served)

    assert bool(judged(test_gang.test_no_queue_is_asked_for_more_than_it_may_have, found)) is broken


@pytest.mark.parametrize(
    ("asking", "units"),
    [
        (pod("p", gpus=2), 2),
        (pod("p", gpus=2, resource="nvidia.com/mig-3g.20gb"), 6),
        (pod("p", annotations={"gpu-fraction": "0.5"}), 0.5),
        (pod("p", annotations={"gpu-fraction": "0.5", "gpu-fraction-num-devices": "2"}), 1),
        (pod("p"), 0),
    ],
)
def test_what_a_pod_takes_of_a_queue(asking: Object, units: float) -> None:
    assert gpu_units(facts(asking).pods[0]) == units


# --- who makes room -----------------------------------------------------------------------------------------------

PREEMPTED = test_gang.test_what_is_to_be_preempted_can_be


@pytest.mark.parametrize(
    ("labels", "value", "broken"),
    [
        ({}, 100000, True),
        ({}, 50, False),
        ({"kai_scheduler__preemptibility": "preemptible"}, 100000, False),
        ({"kai_scheduler__preemptibility": "semi-preemptible"}, 100000, False),
        ({"kai_scheduler__preemptibility": "non-preemptible"}, 50, True),
    ],
)
def test_experiments_make_room_only_where_kai_may_evict_them(labels: dict[str, str], value: int, broken: bool) -> None:
    found = facts(queue("a"), live_class("experiments", value), pod("p", priority="experiments", **labels))

    assert bool(judged(PREEMPTED, found)) is broken


def test_a_class_named_by_label_counts_where_the_pod_has_none() -> None:
    found = facts(queue("a"), live_class("experiments", 100000), pod("p", priorityClassName="experiments"))

    assert "never evicted by KAI" in judged(PREEMPTED, found)["pod ml/p"]


def test_a_group_may_say_that_its_pods_make_room() -> None:
    grouped = pod("p", priority="experiments", annotations={"pod-group-name": "g"})
    objects = [queue("a"), live_class("experiments", 100000), grouped]

    assert judged(PREEMPTED, facts(*objects, group("g", 1, preemptibility="preemptible"))) == {}


@pytest.mark.parametrize("with_group", [True, False])
@pytest.mark.parametrize(
    ("value", "priority_class_for_kai", "says"),
    [(100000, "train", ""), (50, "inference", "class inference, which KAI uses for it, has a value of 125")],
)
def test_kai_goes_by_the_class_of_the_group_and_the_label(
    value: int, priority_class_for_kai: str, says: str, with_group: bool
) -> None:
    classes = [live_class("experiments", value), live_class("train", 50), live_class("inference", 125)]
    more: dict[str, Any] = (
        {"annotations": {"pod-group-name": "g"}} if with_group else {"priorityClassName": priority_class_for_kai}
    )
    objects = [queue("a"), *classes, group("g", 1, priorityClassName=priority_class_for_kai)]

    broken = judged(PREEMPTED, facts(*objects, pod("p", priority="experiments", **more)))

    assert broken == {} if not says else says in broken["pod ml/p"]


def test_a_label_with_a_class_that_is_not_there_makes_the_pod_an_ordinary_one() -> None:
    found = facts(
        queue("a"), live_class("experiments", 100000), pod("p", priority="experiments", priorityClassName="gone")
    )

    assert judged(PREEMPTED, found) == {}


def test_what_is_never_evicted_by_its_label_is_reported() -> None:
    labels = {"kai_scheduler__preemptibility": "non-preemptible"}
    found = facts(queue("a"), live_class("experiments", 50), pod("p", priority="experiments", **labels))

    assert "its label kai.scheduler/preemptibility makes it non-preemptible" in judged(PREEMPTED, found)["pod ml/p"]


def test_a_declared_class_is_judged_by_its_value_while_no_pod_has_it() -> None:
    found = facts(queue("a"), live_class("experiments", 100000))

    assert "priority class experiments" in judged(PREEMPTED, found, DECLARED)
    with pytest.raises(NotApplicable):
        judged(PREEMPTED, found, NOTHING)


# --- halves -------------------------------------------------------------------------------------------------------


def members(placed: int, waiting: int, created: str = YESTERDAY, **more: Any) -> list[Object]:
    nodes = ["n"] * placed + [""] * waiting
    return [pod(f"p{n}", node=node, gpus=1, created=created, **more) for n, node in enumerate(nodes)]


@pytest.mark.parametrize(
    ("pods", "wanted", "broken"),
    [(members(1, 1), 2, True), (members(2, 1), 2, False), (members(0, 2), 2, False), (members(1, 1), 1, False),
     (members(1, 1, JUST_NOW), 2, False)],
)  # fmt: skip
def test_a_group_is_placed_whole_or_not_at_all(pods: list[Object], wanted: int, broken: bool) -> None:
    for each in pods:
        each["metadata"]["annotations"] = {"pod-group-name": "g"}
    found = facts(queue("a"), group("g", wanted), *pods)

    assert bool(judged(test_gang.test_no_pod_group_is_placed_in_part, found)) is broken


def jobs(*halves: tuple[str, int, int], indexed: bool = True, **more: Any) -> list[Object]:
    if indexed:
        more["annotations"] = {"batch.kubernetes.io/job-completion-index": "0"}
    made = [(name, each) for name, placed, waiting in halves for each in members(placed, waiting, owner=name, **more)]
    for name, each in made:
        each["metadata"]["name"] = f"{name}-{each['metadata']['name']}"
    return [each for _, each in made]


PYTORCH = {"2 jobs with GPUs", "pytorchjob ml/a", "pytorchjob ml/b"}
JOB_SETS = {"2 jobs with GPUs", "jobset ml/a", "jobset ml/b"}


def independent(kind: str) -> list[Object]:
    return jobs(("a", 1, 1), ("b", 1, 1), kai=False, kind=kind, indexed=False)


def job_set(name: str, placed: int, waiting: int) -> list[Object]:
    return jobs((f"{name}-workers", placed, waiting), kai=False, jobset_sigs_k8s_io__jobset___name=name)


@pytest.mark.parametrize(
    ("pods", "broken"),
    [
        (job_set("a", 1, 1) + job_set("b", 1, 1), JOB_SETS),
        (job_set("a", 1, 1) + job_set("b", 2, 0), set()),
        (job_set("a", 1, 1) + job_set("b", 0, 2), set()),
        (jobs(("a", 1, 1), ("b", 1, 1), kai=False, kind="ReplicaSet") + jobs(("c", 1, 0), kai=False), set()),
        (jobs(("a", 1, 1), ("b", 1, 1), kai=False, indexed=False) + jobs(("c", 1, 0), kai=False), set()),
        (jobs(("a", 1, 1), ("b", 1, 1), kai=False, kind="PyTorchJob", indexed=False), PYTORCH),
        (independent("Workflow"), set()),
        (independent("Pod"), set()),
        (independent("RayCluster"), set()),
    ],
)
def test_two_jobs_in_halves_are_reported_and_one_is_not(pods: list[Object], broken: set[str]) -> None:
    assert set(judged(test_gang.test_no_two_jobs_hold_what_the_other_needs, facts(*pods))) == broken


def test_indexed_jobs_in_halves_may_be_of_use_one_by_one() -> None:
    indexed = jobs(("a", 1, 1), ("b", 1, 1), kai=False)
    judge = Judge()

    test_gang.test_no_two_jobs_hold_what_the_other_needs(facts(*indexed, *job_set("c", 2, 0)), NOTHING, judge)

    assert [(str(each.subject), each.ok) for each in judge.findings] == [("1 jobs with GPUs", True)]
    assert [str(each.subject) for each in judge.unseen] == ["job ml/a", "job ml/b"]
    with pytest.raises(Inconclusive, match="does not declare whether its pods need each other"):
        judged(test_gang.test_no_two_jobs_hold_what_the_other_needs, facts(*indexed))


def test_without_jobs_of_gpus_there_are_no_halves() -> None:
    with pytest.raises(NotApplicable):
        judged(test_gang.test_no_two_jobs_hold_what_the_other_needs, facts(pod("p", gpus=1)))

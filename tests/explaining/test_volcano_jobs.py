"""Jobs of Volcano, which have the kind of Kubernetes' own: what they made is found, and why they have made nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest
from manifests import job, node, pod

from conformance.explaining import Stage, explain_workload, seen_from, waiting_pods
from conformance.session.explaining_pods import parsed, told

Object = dict[str, Any]


def volcano_job(**state: str) -> Object:
    template = {"spec": pod(gpus=8)["spec"]}
    tasks = [{"name": "master", "replicas": 1, "template": template}, {"replicas": 3, "template": template}]
    return {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "team", "uid": "vcjob-1"},
        "spec": {"queue": "research", "minAvailable": 4, "tasks": tasks},
        "status": {"state": state or {"phase": "Pending"}},
    }


def pod_group(
    name: str = "train-vcjob-1", phase: str = "Pending", said: str = "", owners: list[Object] | None = None
) -> Object:
    conditions = [{"type": "Unschedulable", "status": "True", "message": said}] if said else []
    return {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": {"name": name, "namespace": "team", "ownerReferences": owners or []},
        "spec": {"queue": "research", "minMember": 4, "minResources": {"nvidia.com/gpu": "32"}},
        "status": {"phase": phase, "conditions": conditions},
    }


def queue(allocated: str, capability: str = "64", state: str = "Open") -> Object:
    return {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "Queue",
        "metadata": {"name": "research"},
        "spec": {"capability": {"nvidia.com/gpu": capability}},
        "status": {"state": state, "allocated": {"nvidia.com/gpu": allocated}},
    }


def test_its_pods_are_those_of_the_job_of_volcano_and_not_of_one_of_kubernetes_with_its_name():
    own, others = pod("train-master-0", gpus=16), pod("train-x7k2p", gpus=32)
    own["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "train", "uid": "vcjob-1"}]
    others["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "train", "uid": "job-1"}]
    seen = seen_from([node("gpu-1"), volcano_job(phase="Running"), job(), own, others])

    (of_volcano,) = told(seen, *parsed("vcjob/team/train"))
    (of_kubernetes,) = told(seen, *parsed("job/team/train"))

    assert of_volcano.subject == "pod team/train-master-0"
    assert of_kubernetes.subject == "pod team/train-x7k2p"


@pytest.mark.parametrize(
    "group",
    [pod_group(), pod_group("train"), pod_group("any", owners=[{"kind": "Job", "name": "train", "uid": "vcjob-1"}])],
    ids=["by name and UID", "by name", "by owner"],
)
def test_a_queue_without_room_for_its_pod_group_keeps_its_pods_from_being_made(group):
    (told_of,) = explain_workload(
        seen_from([node("gpu-1"), volcano_job(), group, queue(allocated="48")]), volcano_job()
    )

    assert told_of.subject == "vcjob team/train"
    assert told_of.inspect == "kubectl describe vcjob train -n team"
    assert told_of.stage is Stage.QUEUED
    assert "Volcano queue research has not let in its PodGroup" in told_of.cause
    assert "32 nvidia.com/gpu asked for (minResources), its capability is 64, 48 are allocated" in told_of.cause


def test_a_queue_with_room_that_has_not_let_it_in_is_told_with_the_words_of_volcano():
    objects = [node("gpu-1"), volcano_job(), pod_group(said="queue resource quota insufficient"), queue(allocated="0")]

    (told_of,) = explain_workload(seen_from(objects), volcano_job())

    assert told_of.stage is Stage.QUEUED
    assert "its pods are made only then: queue resource quota insufficient" in told_of.cause


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([pod_group(), queue("0", state="Closed")], "Volcano queue research is Closed"),
        ([pod_group(), {**queue("0"), "metadata": {"name": "other"}}], "there is no Volcano queue research"),
    ],
    ids=["closed", "missing"],
)
def test_a_queue_that_takes_nothing_is_the_cause(objects, words):
    (told_of,) = explain_workload(seen_from([node("gpu-1"), volcano_job(), *objects]), volcano_job())

    assert told_of.stage is Stage.QUEUED
    assert words in told_of.cause


def test_one_that_was_suspended_waits_to_be_resumed():
    (told_of,) = explain_workload(seen_from([node("gpu-1"), volcano_job()]), volcano_job(phase="Aborted"))

    assert told_of.stage is Stage.QUEUED
    assert "suspended (Aborted)" in told_of.cause
    assert "vcctl job resume" in told_of.remedy


def test_one_that_has_ended_is_told_with_its_reason():
    ended = volcano_job(phase="Failed", message="Job has been retried 3 times")

    (told_of,) = explain_workload(seen_from([node("gpu-1"), ended]), ended)

    assert told_of.stage is Stage.FINISHED
    assert told_of.cause == "it has ended: Failed (Job has been retried 3 times)"


def test_one_of_which_volcano_makes_nothing_is_told_as_that():
    (told_of,) = explain_workload(seen_from([node("gpu-1"), volcano_job()]), volcano_job())

    assert told_of.stage is Stage.REFUSED
    assert "nothing that could be read was made for it" in told_of.cause


def test_the_overview_counts_the_pods_of_all_of_its_tasks():
    seen = seen_from([node("gpu-1"), volcano_job(), pod_group(), queue(allocated="48")])

    (group,) = waiting_pods(seen, (), datetime(2026, 12, 1, tzinfo=UTC)).groups

    assert (group.pods, group.stage) == (4, Stage.QUEUED)


def cron_job(**spec: Any) -> Object:
    template = {"spec": {"template": {"spec": pod(gpus=8)["spec"]}}}
    return {
        "kind": "CronJob",
        "metadata": {"name": "train", "namespace": "team", "uid": "cron-1"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": template, **spec},
        "status": {"lastScheduleTime": "2026-11-30T03:00:00Z"},
    }


def test_a_cron_job_between_its_times_waits_for_nothing():
    seen = seen_from([node("gpu-1"), cron_job()])

    (told_of,) = told(seen, *parsed("cronjob/team/train"))

    assert told_of.stage is Stage.FINISHED
    assert "by its schedule (0 3 * * *), the last at 2026-11-30T03:00:00Z" in told_of.cause


def test_a_cron_job_that_is_suspended_is_told_as_that_and_not_among_what_waits():
    seen = seen_from([node("gpu-1"), cron_job(suspend=True)])

    (told_of,) = told(seen, *parsed("cj/team/train"))

    assert told_of.stage is Stage.QUEUED
    assert "it is suspended (spec.suspend)" in told_of.cause
    assert waiting_pods(seen, (), datetime(2026, 12, 1, tzinfo=UTC)).groups == ()

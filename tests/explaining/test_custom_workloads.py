"""Workloads of custom kinds: their pods are found by who owns whom, and what keeps them from being made is told."""

from typing import Any

import pytest
from manifests import node, pod

from conformance.explaining import Stage, explain_workload, seen_from


def made(kind: str, name: str, owner: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "team", "uid": f"{kind}-{name}"}
    if owner is not None:
        metadata["ownerReferences"] = [reference(owner)]
    return {"kind": kind, "metadata": metadata, "spec": {}, **members}


def reference(owner: dict[str, Any]) -> dict[str, Any]:
    return {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"].get("uid")}


def waiting(owner: dict[str, Any], name: str = "train-0") -> dict[str, Any]:
    waits = pod(name, gpus=16)
    waits["metadata"] |= {"ownerReferences": [reference(owner)], "uid": f"Pod-{name}"}
    return waits


def chain(*kinds: str) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = []
    for kind in kinds:
        objects.append(made(kind, kind.lower(), objects[-1] if objects else None))
    return objects


@pytest.mark.parametrize(
    "kinds",
    [
        ("PyTorchJob",),
        ("MPIJob",),
        ("JobSet", "Job"),
        ("TrainJob", "JobSet", "Job"),
        ("RayCluster",),
        ("RayJob", "RayCluster"),
        ("RayService", "RayCluster"),
        ("LeaderWorkerSet", "StatefulSet"),
        ("CronJob", "Job"),
    ],
    ids="-".join,
)
def test_the_pods_of_what_it_made_are_its_own(kinds):
    objects = chain(*kinds)
    for each in objects:
        if each["kind"] in ("Job", "StatefulSet"):
            each |= {"spec": {"parallelism": 1, "replicas": 1}, "status": {"active": 1, "replicas": 1}}

    (told,) = explain_workload(seen_from([node("gpu-1"), *objects, waiting(objects[-1])]), objects[0])

    assert told.subject == "pod team/train-0"
    assert "wants 16 nvidia.com/gpu" in told.cause


def test_workers_of_a_leader_pod_are_those_of_the_set():
    objects = chain("LeaderWorkerSet", "StatefulSet")
    objects[1] |= {"spec": {"replicas": 1}, "status": {"replicas": 1}}
    leader = waiting(objects[1], "lws-0")
    workers = made("StatefulSet", "lws-0", leader, status={"replicas": 1})
    every = [node("gpu-1"), *objects, leader, workers, waiting(workers, "lws-0-1")]

    assert [each.subject for each in explain_workload(seen_from(every), objects[0])] == [
        "pod team/lws-0",
        "pod team/lws-0-1",
    ]


def test_a_job_that_was_made_and_is_refused_pods_is_told():
    sets, one = chain("JobSet", "Job")
    one["spec"] = {"parallelism": 2, "template": {"spec": pod()["spec"]}}
    refused = {
        "kind": "Event",
        "type": "Warning",
        "reason": "FailedCreate",
        "metadata": {"name": "e", "namespace": "team"},
        "involvedObject": {"kind": "Job", "namespace": "team", "name": "job"},
        "message": 'Error creating: pods "x" is forbidden: exceeded quota: gpus',
    }

    (told,) = explain_workload(seen_from([node("gpu-1"), sets, one, refused]), sets)

    assert (told.subject, told.stage) == ("job team/job", Stage.REFUSED)
    assert "exceeded quota" in told.cause


@pytest.mark.parametrize("reason", ["FailedCreatePod", "FailedToCreateWorkerPod"])
def test_the_words_of_its_own_controller_about_refused_pods_are_told(reason):
    cluster = made("RayCluster", "serve")
    refused = {
        "kind": "Event",
        "type": "Warning",
        "reason": reason,
        "metadata": {"name": "e", "namespace": "team"},
        "involvedObject": {"kind": "RayCluster", "namespace": "team", "name": "serve"},
        "message": 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"',
    }

    (told,) = explain_workload(seen_from([node("gpu-1"), cluster, refused]), cluster)

    assert told.stage is Stage.REFUSED
    assert "violates PodSecurity" in told.cause
    assert "securityContext" in told.remedy


@pytest.mark.parametrize("spec", [{"suspend": True}, {"runPolicy": {"suspend": True}}])
def test_one_that_is_suspended_waits_for_kueue_or_for_somebody(spec):
    job = made("PyTorchJob", "train") | {"spec": spec}

    (told,) = explain_workload(seen_from([job]), job)

    assert told.stage is Stage.QUEUED
    assert f"it is suspended (spec.{'suspend' if 'suspend' in spec else 'runPolicy.suspend'})" in told.cause


def test_what_kueue_lacks_for_it_is_computed():
    job = made("PyTorchJob", "train") | {"spec": {"runPolicy": {"suspend": True}}}
    demand = {"spec": {"containers": [{"name": "x", "resources": {"limits": {"nvidia.com/gpu": "8"}}}]}}
    flavor = {"name": "h100", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": 4}]}
    group = {"coveredResources": ["nvidia.com/gpu"], "flavors": [flavor]}
    workload = made("Workload", "w", job) | {"spec": {"queueName": "q", "podSets": [{"count": 1, "template": demand}]}}
    local = made("LocalQueue", "q") | {"spec": {"clusterQueue": "gpus"}}
    queue = {"kind": "ClusterQueue", "metadata": {"name": "gpus"}, "spec": {"resourceGroups": [group]}}

    (told,) = explain_workload(seen_from([job, workload, local, queue]), job)

    assert "flavor h100 lacks 4 nvidia.com/gpu: 8 asked for" in told.cause


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "BackOff", "message": "gave up"}]}, "gave up"),
        ({"jobDeploymentStatus": "Failed", "message": "head pod went away"}, "head pod went away"),
    ],
)
def test_one_that_has_ended_says_how(status, words):
    job = made("RayJob", "train", status=status)

    (told,) = explain_workload(seen_from([job]), job)

    assert told.stage is Stage.FINISHED
    assert words in told.cause


def test_one_for_which_nothing_was_made_asks_for_its_controller():
    job = made("JobSet", "train")

    (told,) = explain_workload(seen_from([job]), job)

    assert told.stage is Stage.REFUSED
    assert "controller" in told.remedy

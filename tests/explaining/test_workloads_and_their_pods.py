"""Which pods are those of a workload, and when it is told that they are not made."""

from typing import Any

from manifests import job, node, pod

from conformance.explaining import Stage, explain_workload, seen_from


def deployment(replicas: int, counted: int, **metadata: Any) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "server", "namespace": "team", **metadata},
        "spec": {"replicas": replicas, "template": {"spec": pod()["spec"]}},
        "status": {"replicas": counted},
    }


def owned(made: dict[str, Any], kind: str, name: str, **uid: str) -> dict[str, Any]:
    made["metadata"]["ownerReferences"] = [{"kind": kind, "name": name, **uid}]
    return made


def test_pods_that_the_status_counts_and_nobody_found_were_not_refused():
    (told,) = explain_workload(seen_from([node("gpu-1")]), deployment(2, counted=2, uid="d"))

    assert told.stage is Stage.DELETING
    assert "counts 2 pods that are not among those that were read" in told.cause


def test_pods_that_the_status_does_not_count_either_are_missing():
    (told,) = explain_workload(seen_from([node("gpu-1")]), deployment(2, counted=1, uid="d"))

    assert told.stage is Stage.REFUSED
    assert told.cause.startswith("1 of its pods")


def test_owners_without_uid_are_known_by_their_name():
    wanted = job()
    del wanted["metadata"]["uid"]

    for uid in ({}, {"uid": "job-1"}):
        waits = owned(pod("train-0", 16), "Job", "train", **uid)
        (told,) = explain_workload(seen_from([node("gpu-1"), waits]), wanted)

        assert told.subject == "pod team/train-0", told


def test_pods_of_others_without_uid_are_not_its_own():
    wanted = job()
    del wanted["metadata"]["uid"]
    another = owned(pod("other-0"), "Job", "other")

    (told,) = explain_workload(seen_from([node("gpu-1"), another]), wanted)

    assert told.stage is Stage.REFUSED


def test_pods_of_the_job_of_the_same_name_before_are_not_its_own():
    before = owned(pod("train-0"), "Job", "train", uid="job-0")

    (told,) = explain_workload(seen_from([node("gpu-1"), before]), job())

    assert told.stage is Stage.REFUSED


def test_a_job_wants_no_pods_for_what_has_succeeded():
    nearly_done = job(pods=2, completions=2) | {"status": {"succeeded": 1, "active": 1}}
    last = owned(pod("train-1", on="gpu-1"), "Job", "train", uid="job-1")

    (told,) = explain_workload(seen_from([node("gpu-1"), last]), nearly_done)

    assert told.stage is Stage.RUNNING, told


def test_a_pod_that_is_there_beyond_those_that_are_wanted_is_not_missed():
    """As while a Deployment is rolled out."""
    runs = owned(pod("server-1", on="gpu-1"), "Deployment", "server", uid="d")

    (told,) = explain_workload(seen_from([node("gpu-1"), runs]), deployment(1, counted=2, uid="d"))

    assert told.stage is Stage.RUNNING, told

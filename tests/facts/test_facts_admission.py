"""Tolerations that admission adds are known from pods and platform, and never taken for what a template says."""

import pytest

from conformance.facts import Facts

TAINT_OF_GKE = {"cloud.google.com/gke-nodepool": "gpu"}
ADDED = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def job(name, *tolerations, gpus=1):
    limits = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    spec = {"containers": [{"name": "main", "image": "app", "resources": limits}], "tolerations": list(tolerations)}
    metadata = {"name": name, "namespace": "lab"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {"spec": spec}}}


def pod_of(workload, *tolerations):
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": workload["metadata"]["name"], "controller": True}
    spec = {**workload["spec"]["template"]["spec"], "tolerations": list(tolerations)}
    metadata = {"name": "pod", "namespace": "lab", "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def node(labels):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one", "labels": labels}}


def admitted(*objects):
    facts = Facts.from_objects(objects)
    return [str(each) for each in facts.as_admitted(facts.workload("Job", "lab", "asked").template).tolerations]


ASKED = job("asked")


@pytest.mark.parametrize(
    "shown",
    [[node(TAINT_OF_GKE)], [pod_of(ASKED, ADDED)], [job("other"), pod_of(job("other"), ADDED)]],
    ids=["platform", "own pod", "pod of another"],
)
def test_a_template_gets_what_admission_adds(shown):
    assert admitted(ASKED, *shown) == ["nvidia.com/gpu Exists:NoSchedule"]


@pytest.mark.parametrize(
    "shown",
    [[], [node({})], [pod_of(ASKED)], [job("other", ADDED), pod_of(job("other", ADDED), ADDED)]],
    ids=["nothing", "no platform", "pod without", "pod that says what its template says"],
)
def test_a_template_is_taken_as_it_stands_where_nothing_shows_the_plugin(shown):
    assert admitted(ASKED, *shown) == []


def test_nothing_is_added_to_what_asks_for_no_gpu_or_tolerates_already():
    assert admitted(job("asked", gpus=0), node(TAINT_OF_GKE)) == []
    assert admitted(job("asked", {"operator": "Exists"}), node(TAINT_OF_GKE)) == ["every key:every effect"]

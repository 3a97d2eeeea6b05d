"""What admission adds to the pods of a workload is read off its pods, and off no others than those of its template."""

from typing import Any

import pytest

from conformance.facts import Facts
from conformance.gpu.taints import Taint, tolerates

ML = {"key": "example.com/reserved", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}
RESERVED = Taint("example.com/reserved", "ml", "NoSchedule")
NOT_READY = {
    "key": "node.kubernetes.io/not-ready",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 300,
}
CONTAINER = {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
SHM = {"name": "shm", "emptyDir": {"medium": "Memory"}}
MOUNTING = {**CONTAINER, "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}


def workload(kind: str = "StatefulSet", updated: int = 2, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "llm", "namespace": "ml", "generation": 3},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [CONTAINER], "nodeSelector": {"a": "1"}}}},
        "status": {"updatedReplicas": updated, "observedGeneration": 3, **status},
    }


def pod(name: str, kind: str = "StatefulSet", **spec: Any) -> dict[str, Any]:
    owner = {"kind": kind, "name": "llm", "controller": True}
    given = {"tolerations": [NOT_READY, ML], "runtimeClassName": "nvidia", "priorityClassName": "serving", **spec}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ml", "ownerReferences": [owner]},
        "spec": {"containers": [CONTAINER], "nodeSelector": {"a": "1", "pool": "gpu"}, **given},
        "status": {"phase": "Running"},
    }


KYVERNO = {"kind": "Namespace", "metadata": {"name": "kyverno"}}


def template_of(*objects: dict[str, Any], mutators: tuple[dict[str, Any], ...] = (KYVERNO,)):
    facts = Facts.from_objects([*objects, *mutators])
    return facts.template_of(facts.workloads[0])


def test_what_all_pods_have_beside_the_template_was_added_by_admission():
    found = template_of(workload(), pod("a"), pod("b"))

    assert tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("nvidia", "serving")
    assert found.node_selector == {"a": "1", "pool": "gpu"}
    # The admission plugin DefaultTolerationSeconds gives it to every pod, and it is about no lasting taint.
    assert len(found.tolerations) == 1


def test_volumes_that_admission_adds_are_there():
    mounted = {"containers": [MOUNTING], "volumes": [SHM]}

    (container,) = template_of(workload(), pod("a", **mounted), pod("b", **mounted)).containers

    assert any(mount.path == "/dev/shm" for mount in container.mounts)


@pytest.mark.parametrize(
    "outdated",
    [workload(updated=1), workload(updated=0), workload(observedGeneration=2)],
    ids=["under way", "not begun", "not seen"],
)
def test_pods_of_an_older_template_say_nothing_of_the_present_one(outdated):
    found = template_of(outdated, pod("a"), pod("b"))

    assert not tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("", "")
    assert found.node_selector == {"a": "1"}


def test_what_one_pod_lacks_was_not_added_by_admission():
    other = pod("b", tolerations=[], runtimeClassName="", nodeSelector={"a": "1"})

    found = template_of(workload(), pod("a"), other)

    assert not tolerates(found.tolerations, RESERVED)
    assert found.runtime_class == ""
    assert found.node_selector == {"a": "1"}


def test_the_template_of_a_job_does_not_change():
    assert tolerates(template_of(workload("Job", updated=0), pod("a", "Job")).tolerations, RESERVED)


def test_the_default_class_is_given_to_pods_of_templates_that_name_none():
    default = {"kind": "PriorityClass", "metadata": {"name": "serving"}, "value": 5, "globalDefault": True}

    assert template_of(workload(), pod("a"), pod("b"), default).priority_class == ""


def test_pods_that_ask_for_other_gpus_are_of_another_template():
    other = [{**CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "8"}}}]

    found = template_of(workload("Job", updated=0), pod("a", "Job", containers=other))

    assert not tolerates(found.tolerations, RESERVED)
    assert found.gpus() == 1


def test_what_the_template_asks_for_is_kept_where_pods_have_less():
    template = workload()
    template["spec"]["template"]["spec"]["containers"] = [
        {**CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "256Gi"}}}
    ]
    less = [{**CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "64Gi"}}}]

    found = template_of(template, pod("a", containers=less), pod("b", containers=less))

    assert found.requests()["memory"] == 256 * 2**30


def test_where_nothing_changes_pods_those_that_differ_are_older():
    found = template_of(workload(), pod("a"), pod("b"), mutators=())

    assert not tolerates(found.tolerations, RESERVED)
    assert (found.runtime_class, found.priority_class) == ("", "")

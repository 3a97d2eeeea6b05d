"""Whose pods are whose, through objects of every kind."""

from typing import Any

import pytest

from conformance.facts import Facts

Object = dict[str, Any]


def obj(kind: str, name: str, owner: str = "", **more: Any) -> Object:
    """An object of namespace ml; ``owner`` is kind/name."""
    metadata: Object = {"name": name, "namespace": "ml", **more.pop("metadata", {})}
    if owner:
        made_by, _, its_name = owner.partition("/")
        metadata["ownerReferences"] = [{"kind": made_by, "name": its_name, "controller": True}]
    group = {"ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "Deployment": "apps/v1", "Job": "batch/v1"}
    return {"apiVersion": group.get(kind, "v1"), "kind": kind, "metadata": metadata, **more}


def pod(name: str, owner: str = "", labels: dict[str, str] | None = None, **annotations: str) -> Object:
    metadata = {"labels": labels or {}, "annotations": {k.replace("_", "-"): v for k, v in annotations.items()}}
    return obj("Pod", name, owner, metadata=metadata, spec={"containers": [{"name": "main"}]})


GROVE = {"app.kubernetes.io/managed-by": "grove-operator", "app.kubernetes.io/part-of": "it"}
NIM = {
    "app.kubernetes.io/name": "it",
    "app.kubernetes.io/part-of": "nim-service",
    "app.kubernetes.io/managed-by": "k8s-nim-operator",
}
LLM = {"app.kubernetes.io/name": "it", "app.kubernetes.io/part-of": "llminferenceservice"}


def over_nodes(labels: dict[str, str]) -> list[Object]:
    """A leader and its worker below a LeaderWorkerSet that is not read."""
    return [
        obj("StatefulSet", "it-lws", "LeaderWorkerSet/it-lws"),
        pod("a", "StatefulSet/it-lws", labels),
        obj("StatefulSet", "it-lws-0", "Pod/a"),
        pod("b", "StatefulSet/it-lws-0", labels),
    ]


RAY = {"ray.io/originated-from-cr-name": "tune", "ray.io/originated-from-crd": "RayJob"}
CHAINS = {
    "PyTorchJob": [pod("a", "PyTorchJob/it"), pod("b", "PyTorchJob/it")],
    "MPIJob": [obj("Job", "it-launcher", "MPIJob/it"), pod("a", "Job/it-launcher"), pod("b", "MPIJob/it")],
    "JobSet": [
        obj("Job", "it-0", "JobSet/it"),
        obj("Job", "it-1", "JobSet/it"),
        pod("a", "Job/it-0"),
        pod("b", "Job/it-1"),
    ],
    "LeaderWorkerSet": [
        obj("StatefulSet", "it", "LeaderWorkerSet/it"),
        pod("a", "StatefulSet/it"),
        obj("StatefulSet", "it-0", "Pod/a"),
        pod("b", "StatefulSet/it-0"),
    ],
    "Notebook": [obj("StatefulSet", "it", "Notebook/it"), pod("a", "StatefulSet/it"), pod("b", "StatefulSet/it")],
    "InferenceService": [
        obj("Deployment", "it", "InferenceService/it"),
        obj("ReplicaSet", "it-1", "Deployment/it"),
        pod("a", "ReplicaSet/it-1"),
        pod("b", "ReplicaSet/it-0", {"serving.kserve.io/inferenceservice": "it"}),
    ],
    "DynamoGraphDeployment": [
        pod("a", "PodClique/it-0-decode", {"nvidia.com/dynamo-graph-deployment-name": "it"}),
        obj("Deployment", "it-frontend", "DynamoComponentDeployment/it-frontend"),
        obj("ReplicaSet", "it-frontend-1", "Deployment/it-frontend"),
        pod("b", "ReplicaSet/it-frontend-1", {"nvidia.com/dynamo-graph-deployment-name": "it"}),
    ],
    "PodCliqueSet": [
        pod("a", "PodClique/it-0-decode", GROVE),
        pod("b", "PodClique/it-0-pool-0-worker", GROVE | {"grove.io/podcliquescalinggroup": "it-0-pool"}),
    ],
    "NIMService": over_nodes(NIM),
    "LLMInferenceService": over_nodes(LLM),
    "SparkApplication": [pod("a", "SparkApplication/it"), pod("b", "Pod/a")],
    "TrainJob": [
        obj("Job", "it-node-0", "JobSet/it"),
        pod("a", "Job/it-node-0", {"jobset.sigs.k8s.io/jobset-name": "it"}),
        pod("b", "Job/it-node-0", {"jobset.sigs.k8s.io/jobset-name": "it"}),
    ],
    "Service": [
        obj("Deployment", "it-00001-deployment", "Revision/it-00001"),
        obj("ReplicaSet", "it-1", "Deployment/it-00001-deployment"),
        pod("a", "ReplicaSet/it-1", {"serving.knative.dev/service": "it"}),
        pod("b", "ReplicaSet/it-1", {"serving.knative.dev/service": "it"}),
    ],
    "VirtualMachine": [
        pod("a", "VirtualMachineInstance/it", {"vm.kubevirt.io/name": "it"}),
        pod("b", "VirtualMachineInstance/it", {"vm.kubevirt.io/name": "it"}),
    ],
    "Workflow": [pod("a", "Workflow/it"), pod("b", "Workflow/it")],
    "AnythingElse": [
        {
            "apiVersion": "scheduling.run.ai/v2alpha2",
            "kind": "PodGroup",
            "metadata": {
                "name": "pg-1",
                "namespace": "ml",
                "ownerReferences": [{"kind": "AnythingElse", "name": "it", "apiVersion": "example.com/v1"}],
            },
        },
        pod("a", "Between/x", pod_group_name="pg-1"),
        pod("b", "Between/y", pod_group_name="pg-1"),
    ],
}
STRANGERS = [
    pod("c", "PyTorchJob/other"),
    pod("d"),
    obj("Job", "e", "JobSet/other"),
    pod("f", "Job/e"),
    pod("g", "StatefulSet/h", {"app.kubernetes.io/name": "it", "app.kubernetes.io/part-of": "it"}),
]


@pytest.mark.parametrize("kind", CHAINS)
def test_pods_are_found_through_whatever_is_between(kind):
    facts = Facts.from_objects([*STRANGERS, *CHAINS[kind]])

    assert {each.name for each in facts.pods_below(kind, "ml", "it")} == {"a", "b"}


@pytest.mark.parametrize("kind", [kind for kind in CHAINS if kind not in ("AnythingElse", "TrainJob")])
def test_the_topmost_owner_is_found_from_the_pods(kind):
    facts = Facts.from_objects([*STRANGERS, *CHAINS[kind]])

    assert facts.ownership.top_of(facts.pod("ml", "a")) == (kind, "it")


def test_a_ray_cluster_that_is_not_read_is_passed_by_its_labels():
    facts = Facts.from_objects(
        [
            pod("head", "RayCluster/tune-x1", RAY),
            pod("worker", "RayCluster/tune-x1", RAY),
            pod("of-another", "RayCluster/b", RAY | {"ray.io/originated-from-crd": "RayService"}),
            obj("Job", "tune-x1", "RayJob/tune"),
            pod("submitter", "Job/tune-x1"),
        ]
    )

    assert {each.name for each in facts.pods_below("RayJob", "ml", "tune")} == {"head", "worker", "submitter"}
    assert {each.name for each in facts.pods_below("RayCluster", "ml", "tune-x1")} == {"head", "worker"}
    assert facts.ownership.top_of(facts.pod("ml", "head")) == ("RayJob", "tune")
    assert facts.ownership.top_of(facts.pod("ml", "of-another")) == ("RayService", "tune")


def test_the_suspended_jobs_below_are_found():
    facts = Facts.from_objects([obj("Job", "it-0", "JobSet/it", spec={"suspend": True}), obj("Job", "other")])

    assert [(each.name, each.suspended) for each in facts.ownership.workloads_below("JobSet", "ml", "it")] == [
        ("it-0", True)
    ]


def test_a_pod_that_nobody_owns_is_its_own():
    facts = Facts.from_objects(STRANGERS)

    assert facts.ownership.top_of(facts.pod("ml", "d")) == ("Pod", "d")
    assert [each.name for each in facts.pods_below("Pod", "ml", "d")] == ["d"]


def test_owners_that_own_each_other_end():
    facts = Facts.from_objects([obj("Job", "a", "Job/b"), obj("Job", "b", "Job/a"), pod("p", "Job/a")])

    assert [each.name for each in facts.pods_below("Job", "ml", "b")] == ["p"]
    assert facts.ownership.top_of(facts.pod("ml", "p")).kind == "Job"

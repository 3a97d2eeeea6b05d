"""What nodes offer and pods ask for, and how they are found."""

import pytest
from paged_server import node, pod

from conformance.facts import Facts, node_from, pod_from
from conformance.gpu.taints import ORDINARY_POD, Taint, Toleration
from conformance.verdict import CouldNotLook

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def test_a_node_tells_what_it_has_and_what_it_offers() -> None:
    raw = node("gpu-1", gpus=8, providerID="aws:///i-1")
    raw["status"]["allocatable"] = {"nvidia.com/gpu": "7", "nvidia.com/mig-1g.5gb": "0", "cpu": "15900m"}
    raw["status"]["nodeInfo"] = {"kernelVersion": "6.8.0", "kubeletVersion": "v1.36.3"}
    gpu_1 = node_from(raw)

    assert (gpu_1.gpu_capacity(), gpu_1.gpus(), gpu_1.gpus("nvidia.com/gpu.shared")) == (8, 7, 0)
    assert gpu_1.gpu_resources == ("nvidia.com/gpu", "nvidia.com/mig-1g.5gb")
    assert (gpu_1.kernel, gpu_1.kubelet, gpu_1.provider_id) == ("6.8.0", "v1.36.3", "aws:///i-1")
    assert gpu_1.ready
    assert str(gpu_1) == "node gpu-1"


def test_a_cordon_does_not_count_as_protection_yet_keeps_pods_away_now() -> None:
    cordoned = node_from(node("gpu-1", unschedulable=True, taints=[CORDON]))
    just_cordoned = node_from(node("gpu-2", unschedulable=True))

    for each in (cordoned, just_cordoned):
        assert not each.repels(ORDINARY_POD)
        assert each.untolerated(ORDINARY_POD) == (Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"),)


def test_a_reserved_node_repels_who_does_not_tolerate_it() -> None:
    reserved = node_from(node("gpu-1", taints=[GPU_TAINT]))

    assert reserved.repels(ORDINARY_POD)
    assert not reserved.repels([*ORDINARY_POD, Toleration("nvidia.com/gpu", "Exists")])


def test_one_played_node_makes_all_evidence_simulated() -> None:
    real, played = node("real"), node("played")
    played["metadata"]["annotations"] = {"kwok.x-k8s.io/node": "fake"}

    assert not Facts.from_objects([real]).simulated
    assert Facts.from_objects([real, played]).simulated


def test_free_gpus_leave_out_what_running_and_leaving_pods_hold() -> None:
    facts = Facts.from_objects(
        [
            node("gpu-1", gpus=8),
            pod("running", gpus=2, on="gpu-1"),
            pod("leaving", gpus=1, on="gpu-1", deletionTimestamp="2026-01-01T00:00:00Z"),
            pod("done", gpus=4, on="gpu-1", phase="Succeeded"),
            pod("waiting", gpus=4),
        ]
    )

    assert facts.free_gpus(facts.node("gpu-1")) == 5
    assert [each.deleting for each in facts.pods] == [False, True, False, False]


def test_a_pod_asks_for_its_gpus_by_every_name() -> None:
    raw = pod("train")
    raw["spec"]["containers"] = [
        {"name": "a", "resources": {"limits": {"nvidia.com/mig-1g.5gb": "2"}}},
        {"name": "b", "resources": {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 1}}},
    ]
    raw["spec"]["initContainers"] = [
        {"name": "side", "restartPolicy": "Always", "resources": {"limits": {"nvidia.com/gpu": "1"}}},
        {"name": "init", "resources": {"limits": {"nvidia.com/gpu": "4"}}},
    ]
    train = pod_from(raw)

    assert train.gpu_requests() == {"nvidia.com/gpu": 5, "nvidia.com/mig-1g.5gb": 2}
    assert train.gpus() == 5
    assert pod_from(pod("idle")).gpu_requests() == {}


def test_a_template_that_names_limits_only_asks_like_its_pods() -> None:
    template = {"spec": {"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": 2}}}]}}
    facts = Facts.from_objects([{"kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template}}])

    assert facts.workloads[0].template.gpus() == 2
    assert facts.workloads[0].replicas == 1


def test_a_pod_is_read_with_all_that_scheduling_and_tenancy_look_at() -> None:
    raw = pod("p", on="gpu-1", annotations={"kubernetes.io/config.mirror": "x"})
    raw["metadata"]["ownerReferences"] = [
        {"kind": "Other", "name": "first"},
        {"kind": "Job", "name": "train", "controller": True},
    ]
    raw["spec"] |= {
        "priority": 500000,
        "priorityClassName": "training-normal",
        "preemptionPolicy": "Never",
        "serviceAccountName": "trainer",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "schedulingGates": [{"name": "wait"}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "tolerationSeconds": None}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
    }
    raw["spec"]["containers"][0]["volumeMounts"] = [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]
    read = pod_from(raw)

    assert (read.owner_kind, read.owner_name) == ("Job", "train")
    assert (read.priority, read.priority_class, read.preemption_policy) == (500000, "training-normal", "Never")
    assert (read.service_account, read.automounts_token, read.grace_seconds) == ("trainer", False, 0)
    assert read.mounts_token
    assert read.static
    assert not read.gated
    assert read.tolerations == (Toleration("nvidia.com/gpu", "Exists"),)
    assert not read.selects(node_from(node("gpu-1")))
    assert read.tolerates(node_from(node("gpu-1", taints=[GPU_TAINT])))
    assert str(read) == "pod ml-training/p"


def test_the_copy_that_kubectl_apply_leaves_is_not_kept() -> None:
    raw = pod("p", annotations={"kubectl.kubernetes.io/last-applied-configuration": "{...}", "owner": "ml"})

    assert pod_from(raw).annotations == {"owner": "ml"}


def test_pods_are_found_by_node_namespace_and_workload() -> None:
    def owned(name: str, kind: str, owner: str, namespace: str = "ml-serving") -> dict[str, object]:
        return pod(name, namespace, ownerReferences=[{"kind": kind, "name": owner, "controller": True}], on="gpu-1")

    facts = Facts.from_objects(
        [
            {"kind": "Deployment", "metadata": {"name": "serve", "namespace": "ml-serving"}},
            _replica_set("serve-1", "serve"),
            _replica_set("serve-2", "serve"),
            _replica_set("other-1", "other"),
            owned("a", "ReplicaSet", "serve-1"),
            owned("b", "ReplicaSet", "serve-2"),
            owned("c", "ReplicaSet", "other-1"),
            owned("d", "ReplicaSet", "serve-1", namespace="elsewhere"),
            {"kind": "Job", "metadata": {"name": "serve", "namespace": "ml-serving"}},
            owned("e", "Job", "serve"),
        ]
    )
    deployment = facts.workload("Deployment", "ml-serving", "serve")
    job = facts.workload("Job", "ml-serving", "serve")

    assert [each.name for each in facts.pods_of(deployment)] == ["a", "b"]
    assert [each.name for each in facts.pods_of(job)] == ["e"]
    assert [each.name for each in facts.pods_in("elsewhere")] == ["d"]
    assert len(facts.pods_on("gpu-1")) == 5
    assert facts.pods_on("gpu-2") == ()
    assert facts.pod("elsewhere", "d") is not None
    assert facts.workload("DaemonSet", "ml-serving", "serve") is None


def test_a_workload_needs_only_its_own_kind_to_be_readable() -> None:
    facts = Facts.from_objects(
        [{"kind": "Job", "metadata": {"name": "j", "namespace": "n"}}], {"Deployment": "Forbidden: no"}
    )

    assert facts.workload("Job", "n", "j") is not None
    with pytest.raises(CouldNotLook, match="grant list on deployments of API group apps"):
        _ = facts.workloads
    with pytest.raises(CouldNotLook, match="'PyTorchJob' are not read"):
        facts.workload("PyTorchJob", "n", "j")


def _replica_set(name: str, deployment: str) -> dict[str, object]:
    owner = {"kind": "Deployment", "name": deployment, "controller": True}
    return {"kind": "ReplicaSet", "metadata": {"name": name, "namespace": "ml-serving", "ownerReferences": [owner]}}

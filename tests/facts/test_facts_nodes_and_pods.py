"""What nodes offer and pods ask for, and how they are found."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from paged_server import node, plugin, pod

from conformance.facts import ContainerStatus, Facts, Mount, Pod, PodClaim, Volume, node_from, pod_from
from conformance.facts.token_volume import TOKEN_MOUNT
from conformance.gpu.taints import ORDINARY_POD, Taint, Toleration
from conformance.verdict import Inconclusive

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def test_a_node_tells_what_it_has_and_what_it_offers() -> None:
    raw = node("gpu-1", gpus=8, providerID="aws:///i-1")
    raw["status"]["allocatable"] = {"nvidia.com/gpu": "7", "nvidia.com/mig-1g.5gb": "0", "cpu": "15900m"}
    raw["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    raw["status"]["nodeInfo"] = {"kernelVersion": "6.8.0", "kubeletVersion": "v1.36.3"}
    gpu_1 = node_from(raw)

    assert (gpu_1.gpu_capacity(), gpu_1.gpus(), gpu_1.gpus("nvidia.com/gpu.shared")) == (8, 7, 0)
    assert gpu_1.gpu_resources == ("nvidia.com/gpu", "nvidia.com/mig-1g.5gb")
    assert (gpu_1.kernel, gpu_1.kubelet, gpu_1.provider_id) == ("6.8.0", "v1.36.3", "aws:///i-1")
    assert gpu_1.ready
    assert gpu_1.created == datetime(2026, 1, 1, tzinfo=UTC)
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
    assert Facts.from_objects([real]).real_beside_simulated == frozenset()
    assert len(Facts.from_objects([real, played]).real_beside_simulated) == 1


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


def test_a_pod_is_read_with_what_it_may_do_on_its_host() -> None:
    raw = pod("p")
    raw["spec"] |= {"hostUsers": False, "hostNetwork": True, "hostPID": True}
    raw["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    read, plain = pod_from(raw), pod_from(pod("plain"))

    assert (read.host_users, read.host_network, read.host_pid) == (False, True, True)
    assert (plain.host_users, plain.host_network, plain.host_pid) == (None, False, False)
    assert read.containers[0].privileged
    assert not plain.containers[0].privileged


def test_volumes_are_read_by_the_member_that_says_what_fills_them() -> None:
    raw = pod("p")
    raw["spec"]["volumes"] = [
        {"name": "root", "hostPath": {"path": "/", "type": "Directory"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": 8}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "settings", "configMap": {"name": "plugin-config", "items": [{"key": "a", "path": "b"}]}},
        {"name": "key", "secret": {"secretName": "ngc"}},
        {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}},
        {"projected": {"sources": [{"configMap": {"name": "ca"}}]}, "name": "kube-api-access-x"},
        {"name": "later", "volumeOfTomorrow": {"path": "/x"}},
        {"name": "nothing", "emptyDir": None},
    ]
    read = pod_from(raw)

    assert read.volumes == (
        Volume(name="root", kind="hostPath", host_path="/"),
        Volume(name="shm", kind="emptyDir", medium="Memory", size_limit="8"),
        Volume(name="scratch", kind="emptyDir"),
        Volume(name="settings", kind="configMap", source="plugin-config"),
        Volume(name="key", kind="secret", source="ngc"),
        Volume(name="weights", kind="persistentVolumeClaim", source="weights"),
        Volume(name="kube-api-access-x", kind="projected"),
        Volume(name="later", kind="volumeOfTomorrow"),
        Volume(name="nothing", kind=""),
    )


def test_a_volume_that_is_no_mapping_makes_the_pod_odd() -> None:
    raw = pod("p")
    raw["spec"]["volumes"] = [{"name": "root", "hostPath": ["/"]}]

    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.volumes"):
        pod_from(raw)


def test_of_the_environment_only_what_tells_of_gpus_is_kept_and_no_credential() -> None:
    raw = pod("p")
    raw["spec"]["containers"][0]["env"] = [
        {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
        {"name": "FALLBACK_STRATEGIES", "value": "empty"},
        {"name": "CONFIG_FILE", "value": "/config/config.yaml"},
        {"name": "NVIDIA_API_KEY", "value": "nvapi-hunter2"},
        {"name": "CONFIG_PASSWORD", "value": "hunter2"},
        {"name": "CONTAINERD_SOCKET", "value": "/run/k3s/containerd/containerd.sock"},
        {"name": "RUNTIME_DATABASE", "value": "postgres://u:hunter2@db"},
        {"name": "DATABASE", "value": "postgres://u:hunter2@db"},
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]

    assert pod_from(raw).containers[0].env == {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "FALLBACK_STRATEGIES": "empty",
        "CONFIG_FILE": "/config/config.yaml",
        "CONTAINERD_SOCKET": "/run/k3s/containerd/containerd.sock",
    }


def test_mounts_are_read_but_for_that_of_the_token() -> None:
    raw = pod("p")
    raw["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    (container,) = pod_from(raw).containers

    assert container.mounts == (Mount("/dev/shm", "shm"),)
    assert container.mounts_token


def token(volume: str, pod_name: str = "p", *, path: str = TOKEN_MOUNT) -> Pod:
    """A pod with the volume of its token as the API server writes it."""
    raw = pod(pod_name)
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}, {"name": volume, "readOnly": True, "mountPath": path}]
    raw["spec"]["containers"][0]["volumeMounts"] = mounts
    raw["spec"]["volumes"] = [
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        {"name": volume, "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        {"name": "named alike", "configMap": {"name": volume}},
    ]
    return pod_from(raw)


def test_pods_that_differ_in_the_name_of_the_tokens_volume_hold_the_same_containers() -> None:
    one, other = token("kube-api-access-abcde", "one"), token("kube-api-access-fghij", "other")

    assert one.containers is other.containers
    assert one.containers[0].mounts == (Mount("/dev/shm", "shm"),)
    assert one.mounts_token


def test_each_pod_keeps_the_name_of_its_tokens_volume() -> None:
    for name in ("kube-api-access-abcde", "kube-api-access-fghij"):
        assert token(name).volumes == (
            Volume(name="shm", kind="emptyDir", medium="Memory"),
            Volume(name=name, kind="projected"),
            Volume(name="named alike", kind="configMap", source=name),
        )


def daemon_pod(node: str, **spec: object) -> dict[str, Any]:
    """A pod of a DaemonSet as the API server writes it: the node first, and an affinity to it."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    raw = pod(f"agent-{node}")
    raw["spec"] = {**raw["spec"], **spec, "nodeName": node, "affinity": {"nodeAffinity": required}}
    return raw


def test_pods_of_a_daemon_set_hold_the_same_containers_and_each_its_own_node_and_affinity() -> None:
    one, other = (pod_from(daemon_pod(name)) for name in ("a", "b"))

    assert one.containers is other.containers
    assert (one.node, other.node) == ("a", "b")
    for each in (one, other):
        (term,) = (each.node_affinity or {})["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert term["matchFields"][0]["values"] == [each.node]


def test_a_node_selector_by_the_key_node_name_stays_that_of_its_pod() -> None:
    for selector_first in (True, False):
        for name in ("a", "b"):
            raw = daemon_pod(name, nodeSelector={"nodeName": name})
            if not selector_first:
                raw["spec"]["nodeSelector"] = raw["spec"].pop("nodeSelector")
            read = pod_from(raw)
            assert (read.node, read.node_selector) == (name, {"nodeName": name})


def test_members_in_another_order_are_read_like_those_in_the_order_of_the_api_server() -> None:
    raw = daemon_pod("a")
    reordered = {**raw, "spec": dict(reversed(raw["spec"].items()))}

    assert pod_from(reordered) == pod_from(raw)


def test_the_name_of_the_tokens_volume_elsewhere_in_a_pod_stays_there() -> None:
    for name in ("kube-api-access-abcde", "kube-api-access-fghij"):
        raw = daemon_pod("a", volumes=[{"name": "kept", "configMap": {"name": name}}, {"name": name, "projected": {}}])
        assert [(each.name, each.source) for each in pod_from(raw).volumes] == [("kept", name), (name, "")]


@pytest.mark.parametrize("member", ["nodeName", "nodeSelector", "affinity", "tolerations", "containers"])
def test_what_is_odd_in_a_pods_spec_is_told_with_its_place(member: str) -> None:
    raw = daemon_pod("a")
    raw["spec"][member] = 7

    with pytest.raises(msgspec.ValidationError, match=rf"at `\$\.spec\.{member}"):
        pod_from(raw)


def test_the_volume_of_the_token_mounted_elsewhere_is_a_mount_like_others() -> None:
    for name in ("kube-api-access-abcde", "kube-api-access-fghij"):
        read = token(name, path="/token")

        assert read.containers[0].mounts == (Mount("/dev/shm", "shm"), Mount("/token", name))
        assert not read.mounts_token


@pytest.mark.parametrize("member", ["containers", "initContainers"])
def test_an_odd_container_makes_the_pod_odd_and_is_named(member: str) -> None:
    raw = pod("p")
    raw["spec"][member] = [{"name": "fine"}, {"name": "odd", "env": {"A": "b"}}]

    with pytest.raises(msgspec.ValidationError, match=rf"\$\.spec\.{member}\[1\]\.env"):
        pod_from(raw)


def test_claims_have_the_names_of_the_objects_that_were_made_for_them() -> None:
    raw = pod("p")
    raw["spec"]["resourceClaims"] = [
        {"name": "shared", "resourceClaimName": "one-gpu"},
        {"name": "own", "resourceClaimTemplateName": "gpus"},
        {"name": "pending", "resourceClaimTemplateName": "gpus"},
    ]
    raw["spec"]["containers"][0]["resources"]["claims"] = [{"name": "own", "request": "gpu"}]
    raw["status"]["resourceClaimStatuses"] = [{"name": "own", "resourceClaimName": "p-own-x7k"}, {"name": "pending"}]
    read = pod_from(raw)

    assert read.claims == (
        PodClaim(name="shared", claim="one-gpu"),
        PodClaim(name="own", claim="p-own-x7k", template="gpus"),
        PodClaim(name="pending", template="gpus"),
    )
    assert read.containers[0].claims == ("own",)


def test_a_pod_tells_how_its_containers_fare() -> None:
    raw = pod("p", on="gpu-1", creationTimestamp="2026-01-01T00:00:00Z", deletionTimestamp="2026-01-02T00:00:00Z")
    raw["status"] |= {
        "startTime": "2026-01-01T00:00:01Z",
        "reason": "UnexpectedAdmissionError",
        "message": "Allocate failed",
        "initContainerStatuses": [
            {"name": "init", "ready": True, "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}
        ],
        "containerStatuses": [
            {
                "name": "main",
                "restartCount": 7,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            },
            {"name": "side", "ready": True, "state": {"running": {"startedAt": "2026-01-01T00:00:02Z"}}},
        ],
    }
    read = pod_from(raw)

    assert read.statuses == (
        ContainerStatus(name="init", init=True, ready=True, terminated="Completed", exit_code=0),
        ContainerStatus(
            name="main", restarts=7, waiting="CrashLoopBackOff", last_terminated="OOMKilled", last_exit_code=137
        ),
        ContainerStatus(name="side", ready=True, running_since=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)),
    )
    assert (read.reason, read.message) == ("UnexpectedAdmissionError", "Allocate failed")
    assert read.started == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert read.deletion == datetime(2026, 1, 2, tzinfo=UTC)
    assert pod_from(pod("new")).statuses == ()


def test_a_daemon_set_tells_whose_it_is_and_how_far_it_got() -> None:
    facts = Facts.from_objects([plugin("gpu-operator", owner="ClusterPolicy")])
    (read,) = facts.workloads

    assert (read.owner_kind, read.owner_name) == ("ClusterPolicy", "cluster-policy")
    assert (read.replicas, read.scheduled, read.updated, read.available) == (3, 2, 1, 1)
    assert read.update_strategy == "OnDelete"
    assert read.created is None


def test_a_deployment_tells_how_it_is_updated() -> None:
    raw = {
        "kind": "Deployment",
        "metadata": {"name": "d", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"strategy": {"type": "Recreate"}},
        "status": {"updatedReplicas": 2, "observedGeneration": 2},
    }
    (read,) = Facts.from_objects([raw]).workloads

    assert (read.update_strategy, read.updated) == ("Recreate", 2)
    assert (read.generation, read.observed_generation) == (3, 2)
    assert read.created == datetime(2026, 1, 1, tzinfo=UTC)


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


def test_nodes_are_found_by_labels_in_their_order_and_all_of_them_count() -> None:
    labels = {"gpu-2": {"pool": "a", "zone": "x"}, "gpu-1": {"pool": "a"}, "cpu-1": {"pool": "b"}}
    facts = Facts.from_objects(
        [{**node(name), "metadata": {"name": name, "labels": held}} for name, held in labels.items()]
    )

    assert [each.name for each in facts.nodes_with({"pool": "a"})] == ["gpu-2", "gpu-1"]
    assert [each.name for each in facts.nodes_with({"zone": "x", "pool": "a"})] == ["gpu-2"]
    assert facts.nodes_with({"pool": "c"}) == ()


def test_pods_that_ask_alike_share_the_sum_and_nobody_can_change_it() -> None:
    first, second = (pod_from(pod(name, gpus=2)) for name in ("a", "b"))

    first.gpu_requests().clear()
    first.requests().clear()

    assert second.gpu_requests() == {"nvidia.com/gpu": 2}
    assert second.requests() == {"nvidia.com/gpu": 2}


def test_a_workload_needs_only_its_own_kind_to_be_readable() -> None:
    facts = Facts.from_objects(
        [{"kind": "Job", "metadata": {"name": "j", "namespace": "n"}}], {"Deployment": "Forbidden: no"}
    )

    assert facts.workload("Job", "n", "j") is not None
    with pytest.raises(Inconclusive, match="grant list on deployments of API group apps"):
        _ = facts.workloads
    with pytest.raises(Inconclusive, match="'PyTorchJob' are not read"):
        facts.workload("PyTorchJob", "n", "j")


def _replica_set(name: str, deployment: str) -> dict[str, object]:
    owner = {"kind": "Deployment", "name": deployment, "controller": True}
    return {"kind": "ReplicaSet", "metadata": {"name": name, "namespace": "ml-serving", "ownerReferences": [owner]}}


def test_a_pod_selects_the_same_of_many_nodes_as_of_each() -> None:
    valid = [{"key": "kind", "operator": "In", "values": ["a100"]}]
    terms = [{}, {"matchExpressions": [{"key": "kind", "operator": "In", "values": []}]}, {"matchExpressions": valid}]
    required = {"nodeSelectorTerms": terms}
    raw = pod("p", spec={"nodeSelector": {"zone": "1"}})
    raw["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    labelled = {"both": {"kind": "a100", "zone": "1"}, "kind-only": {"kind": "a100"}, "zone-only": {"zone": "1"}}
    nodes = []
    for name, labels in labelled.items():
        nodes.append(node(name))
        nodes[-1]["metadata"]["labels"] = labels
    read, there = pod_from(raw), [node_from(each) for each in nodes]

    assert [each.name for each in read.selected(there)] == ["both"]
    assert read.selected(there) == tuple(each for each in there if read.selects(each))

"""GPUs that are shared by what the cluster does not tell: a cloud, a node image, another system such as HAMi."""

import msgspec
import pytest
import yaml
from sharing_cluster import SharingCluster

from conformance.facts import snapshot
from conformance.reference import Reference
from conformance.reference.stack import Stack
from conformance.verdict import Inconclusive, NotApplicable, Unsupported
from suites.pools.test_pools import test_every_gpu_node_advertises_its_gpus as every_gpu_node_advertises_its_gpus
from suites.sharing import test_mps as mps
from suites.sharing import test_time_slicing as slicing

OF_THE_CONFIGURATION = [
    slicing.test_time_slicing_configurations_mean_what_is_declared,
    slicing.test_every_sliced_node_is_reached_by_its_configuration,
    slicing.test_the_plugin_has_read_the_current_configuration,
    slicing.test_replicas_cannot_be_taken_for_fractions,
    mps.test_mps_configurations_mean_what_is_declared,
    mps.test_every_mps_node_is_reached_by_its_configuration,
    mps.test_mps_nodes_enable_neither_mig_nor_time_slicing,
    mps.test_the_control_daemon_runs_on_every_mps_node,
    mps.test_the_plugin_has_read_the_current_mps_configuration,
]
OF_THE_NODES = [
    slicing.test_every_sliced_node_offers_its_replicas,
    slicing.test_replicas_of_one_node_belong_to_one_namespace,
    slicing.test_undeclared_gpus_are_not_shared,
    mps.test_every_mps_node_offers_its_replicas,
    every_gpu_node_advertises_its_gpus,
]
IMAGE = Stack(kind="device-plugin", driver_managed=False, gpu_feature_discovery=False, mig_strategy="none")
CHAIN = slicing.test_every_sliced_node_is_reached_by_its_configuration
OFFERS = slicing.test_every_sliced_node_offers_its_replicas
MPS_OFFERS = mps.test_every_mps_node_offers_its_replicas
UNSHARED = slicing.test_undeclared_gpus_are_not_shared


def without_layouts(reference: Reference, stack: Stack | None, **gpu: object) -> Reference:
    """The set-up without MIG and DRA, with another stack; other settings of the pools that are shared."""
    names = ("t4-shared", "l4-mps", "a100-training")
    kept = [each for each in reference.pools if each.gpu is None or each.name in names]
    pools = [
        msgspec.structs.replace(each, gpu=msgspec.structs.replace(each.gpu, **gpu))
        if each.gpu is not None and each.gpu.shared_by
        else each
        for each in kept
    ]
    return msgspec.structs.replace(reference, stack=stack, pools=tuple(pools))


def by_the_node_image(reference: Reference) -> SharingCluster:
    """The cluster without any object of the GPU stack: its nodes offer the replicas all the same."""
    cluster = SharingCluster(reference)
    gone = ("ClusterPolicy", "Deployment", "DaemonSet", "ConfigMap", "CustomResourceDefinition", "Pod")
    cluster.objects = [each for each in cluster.objects if each["kind"] not in gone]
    for each in cluster.objects:
        if each["kind"] == "Node":
            held = each["metadata"]["labels"]
            each["metadata"]["labels"] = {k: v for k, v in held.items() if not k.startswith("nvidia.com/gpu")}
    return cluster


@pytest.mark.parametrize("stack", [None, IMAGE], ids=["no stack", "plugin of the image"])
@pytest.mark.parametrize("requirement", OF_THE_CONFIGURATION, ids=lambda each: each.__name__)
def test_what_configures_a_plugin_outside_kubernetes_is_unsupported(requirement, stack, reference):
    outcome = by_the_node_image(reference).verdict(requirement, without_layouts(reference, stack))

    assert isinstance(outcome.ended, Unsupported), (outcome.ended, outcome.broken)
    assert str(outcome.ended).count("runs outside Kubernetes") == 1
    assert not outcome.judge.unseen


@pytest.mark.parametrize("stack", [None, IMAGE], ids=["no stack", "plugin of the image"])
@pytest.mark.parametrize("requirement", OF_THE_NODES, ids=lambda each: each.__name__)
def test_what_its_nodes_offer_is_judged_all_the_same(requirement, stack, reference):
    outcome = by_the_node_image(reference).verdict(requirement, without_layouts(reference, stack))

    assert outcome.passed, (outcome.ended, outcome.broken)
    assert not outcome.judge.unseen


@pytest.mark.parametrize("requirement", OF_THE_CONFIGURATION[:4], ids=lambda each: each.__name__)
def test_a_plugin_of_the_cloud_takes_its_settings_from_no_object(requirement, reference):
    cluster = by_the_node_image(reference)
    container = {"name": "nvidia-gpu-device-plugin", "image": "cloud/plugin"}
    cluster.daemonset_with_pods("kube-system", "cloud-gpu-plugin", {}, {"containers": [container]}, owned=False)

    outcome = cluster.verdict(requirement, without_layouts(reference, None))

    assert isinstance(outcome.ended, Unsupported), (outcome.ended, outcome.broken)
    assert "daemonset kube-system/cloud-gpu-plugin mounts no configuration" in str(outcome.ended)


def test_a_set_up_that_declares_configurations_expects_an_object_that_holds_them(reference):
    stack = msgspec.structs.replace(IMAGE, plugin_configs=reference.stack.plugin_configs)

    outcome = by_the_node_image(reference).verdict(CHAIN, without_layouts(reference, stack))

    assert isinstance(outcome.ended, Inconclusive)


def test_nodes_that_offer_nothing_show_no_plugin_at_all(reference):
    cluster = by_the_node_image(reference)
    for each in cluster.objects:
        if each["kind"] == "Node":
            each["status"] |= {"capacity": {}, "allocatable": {}}

    assert isinstance(cluster.verdict(CHAIN, without_layouts(reference, IMAGE)).ended, Inconclusive)


@pytest.mark.parametrize("requirement", [*OF_THE_CONFIGURATION, OFFERS, MPS_OFFERS], ids=lambda each: each.__name__)
def test_what_something_else_shares_is_neither_time_slicing_nor_mps(requirement, reference):
    outcome = by_the_node_image(reference).verdict(requirement, without_layouts(reference, IMAGE, shared_by="other"))

    assert isinstance(outcome.ended, NotApplicable)


def test_what_something_else_shares_has_to_be_offered_as_declared(reference):
    by_others = without_layouts(reference, None, shared_by="other")
    cluster = by_the_node_image(reference)
    cluster.offer("t4-shared-1", gpu_shared=4)

    outcome = cluster.verdict(every_gpu_node_advertises_its_gpus, by_others)

    assert set(outcome.broken) == {"node t4-shared-1"}
    assert cluster.verdict(UNSHARED, by_others).passed


@pytest.mark.parametrize(
    ("requirement", "node", "name"),
    [(OFFERS, "t4-shared-1", "nvidia.com/gpu"), (UNSHARED, "a100-training-1", "nvidia.com/gpu.shared")],
    ids=["shared", "whole"],
)
def test_what_the_kubelet_remembers_of_a_former_configuration_is_not_offered(requirement, node, name, reference):
    cluster = SharingCluster(reference)
    status = cluster.node(node)["status"]
    status["capacity"][name], status["allocatable"][name] = "8", "0"

    remembered = cluster.verdict(requirement)
    status["allocatable"][name] = "8"
    offered = cluster.verdict(requirement)

    assert remembered.passed, remembered.broken
    assert set(offered.broken) == {f"node {node}"}


def test_what_is_unsupported_for_one_reason_is_told_once_at_the_end_of_a_run(conform, tmp_path):
    taint = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    gpu = {"model": "l40s", "count": 2, "replicas": 6, "shared_by": "time-slicing", "resource": "nvidia.com/gpu.shared"}
    pools = [
        {"name": "l40s", "selector": {"pool": "l40s"}, "nodes": 1, "taints": [taint], "gpu": gpu},
        {"name": "cpu", "selector": {"pool": "cpu"}, "nodes": 1},
    ]
    stack = {"kind": "device-plugin", "gpu_feature_discovery": False, "mig_strategy": "none"}
    set_up = tmp_path / "image.yaml"
    set_up.write_text(yaml.safe_dump({"name": "image", "stack": stack, "pools": pools}))
    cluster = tmp_path / "cluster.json.gz"
    nodes = [node("gpu-0", "l40s", {"nvidia.com/gpu.shared": "12"}, [taint]), node("cpu-0", "cpu", {}, [])]
    snapshot.save(snapshot.Snapshot.of(nodes), cluster)

    outcome = conform("--cluster", f"snapshot:{cluster}", "--gpu-reference", str(set_up))

    assert outcome.exit_code == 0, outcome.output
    told = " ".join(outcome.output.split())  # lines are as wide as the terminal
    one = "unsupported: TS-01 TS-02 TS-03 TS-10: the device plugin runs outside Kubernetes: no object of the cluster "
    assert f"{one}configures it" in told
    assert told.count("runs outside Kubernetes") == 1


def node(name: str, pool: str, gpus: dict[str, str], taints: list[dict[str, str]]) -> dict[str, object]:
    amounts = {"cpu": "16", "memory": "64Gi", **gpus}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"pool": pool}, "creationTimestamp": "2026-03-01T00:00:00Z"},
        "spec": {"taints": taints},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kernelVersion": "6.1.128", "kubeletVersion": "v1.34.2"},
        },
    }

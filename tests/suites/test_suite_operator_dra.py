"""The operator profile with GPUCluster, and with several NVIDIADriver objects."""

import msgspec
import pytest
from operated_cluster import OPERATOR, WORKER, Cluster, deployment, made
from operator_chapters import (
    A_NODE,
    COVERAGE,
    EVERY,
    OBSTACLES,
    RECONCILED,
    SETTINGS,
    STACK,
    STUCK,
    TOLERATIONS,
    VALIDATED,
    WORKLOADS,
    other,
    tolerations,
)

from conformance.verdict import NotApplicable


@pytest.fixture
def all_dra(reference):
    """The set-up with an operator that gives GPUs out by DRA, and drivers in the node images."""
    pools = tuple(
        msgspec.structs.replace(
            pool,
            labels={key: value for key, value in pool.labels.items() if not key.startswith("nvidia.com/")},
            gpu=msgspec.structs.replace(
                pool.gpu, allocated_by="dra", resource="nvidia.com/gpu", shared_by=None, replicas=1
            ),
        )
        if pool.gpu
        else pool
        for pool in reference.pools
    )
    values = {"gpuCluster": {"deployCR": True}, "clusterPolicy": {"deployCR": False}}
    changed = {"dra": None, "driver_managed": False, "plugin_configs": None, "mig_layouts": None, "values": values}
    return other(msgspec.structs.replace(reference, pools=pools), **changed)


@pytest.fixture
def dra_cluster(all_dra):
    cluster = Cluster(all_dra)
    kept = (WORKER, OPERATOR, "gpu-operator-node-feature-discovery-master")
    cluster.objects = [
        each
        for each in cluster.objects
        if each["kind"] not in ("DaemonSet", "Pod", "ClusterPolicy") or each["metadata"]["name"].startswith(kept)
    ]
    conditions = [{"type": "Ready", "status": "True", "reason": "Reconciled"}]
    spec = {
        "draDriver": {"computeDomains": {"enabled": True}},
        "dcgm": {"enabled": False},
        "dcgmExporter": {"enabled": True},
    }
    status = {"state": "ready", "conditions": conditions}
    cluster.objects.append(made("nvidia.com/v1alpha1", "GPUCluster", "gpu-cluster", spec=spec, status=status))
    gates = ("dra-driver", "dcgm-exporter-dra", "dra-validator")
    for node in [each for each in cluster.objects if each["kind"] == "Node" and "cpu" not in each["metadata"]["name"]]:
        labels = node["metadata"]["labels"]
        for key in [key for key in labels if key.startswith("nvidia.com/gpu.deploy.")]:
            del labels[key]
        labels |= {f"nvidia.com/gpu.deploy.{each}": "true" for each in gates}
    for name, gate, container in (
        ("nvidia-dra-driver-kubelet-plugin", "dra-driver", "gpus"),
        ("nvidia-dcgm-exporter-dra", "dcgm-exporter-dra", "exporter"),
        ("nvidia-dra-validator", "dra-validator", "validator"),
    ):
        pod = {
            "nodeSelector": {f"nvidia.com/gpu.deploy.{gate}": "true"},
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": container, "image": "x:v1"}],
        }
        cluster.daemonset_with_pods(OPERATOR, name, {"app": name}, pod, owned=True)
    cluster.objects.append(deployment("nvidia-dra-driver-controller", "x:v1"))
    return cluster


def test_an_operator_with_dra_is_held_to_the_names_of_its_own_operands(dra_cluster):
    for requirement in EVERY:
        outcome = dra_cluster.verdict(requirement)
        assert not outcome.broken, (requirement, outcome.broken)
        assert outcome.passed or isinstance(outcome.ended, NotApplicable), (requirement, outcome.ended)

    dra_cluster.remove(dra_cluster.pod("nvidia-dra-driver-kubelet-plugin", A_NODE))
    assert "DRA driver" in dra_cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]


@pytest.mark.parametrize(("block", "expected"), [({}, True), ({"enabled": True}, True), ({"enabled": False}, False)])
def test_an_exporter_is_expected_where_the_gpu_cluster_has_a_block_for_it(dra_cluster, block, expected):
    """As NVIDIA's operator was seen to deploy it (bench/operator_comparison.py)."""
    spec = dra_cluster.get("GPUCluster", "gpu-cluster")["spec"]
    spec["dcgmExporter"] = block
    dra_cluster.remove(dra_cluster.get("DaemonSet", "nvidia-dcgm-exporter-dra"))
    assert bool(dra_cluster.verdict(WORKLOADS).broken) is expected

    del spec["dcgmExporter"]
    assert not dra_cluster.verdict(WORKLOADS).broken


def test_a_disabled_gpu_cluster_is_not_ready(dra_cluster):
    dra_cluster.get("GPUCluster", "gpu-cluster")["status"] = {"state": "disabled"}

    assert "disabled" in dra_cluster.verdict(RECONCILED).broken["GPU cluster gpu-cluster"]


def test_both_objects_at_once_are_one_fault_of_the_stack(cluster):
    cluster.objects.append(made("nvidia.com/v1alpha1", "GPUCluster", "gpu-cluster", spec={}))

    assert "keeps both at notReady" in str(cluster.verdict(STACK).broken)


def test_drivers_of_several_objects_each_serve_their_own_pools(reference):
    cluster = Cluster(reference)
    sound = cluster.daemonset("nvidia-driver-daemonset")
    cluster.remove(sound)
    cluster.objects = [each for each in cluster.objects if not each["metadata"]["name"].startswith("nvidia-driver-")]
    cluster.policy()["spec"]["driver"]["useNvidiaDriverCRD"] = True
    only_gpu = [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "dedicated", "operator": "Exists"}]
    for pool in reference.gpu_pools:
        spec = {"nodeSelector": dict(pool.selector), "version": "580.95.05"}
        cluster.objects.append(made("nvidia.com/v1alpha1", "NVIDIADriver", pool.name, spec=spec))
        pod = {
            "nodeSelector": {**pool.selector, "nvidia.com/gpu.deploy.driver": "true"},
            "tolerations": [*only_gpu, {"key": "spot", "operator": "Exists"}]
            if pool.name == "t4-notebook"
            else only_gpu,
            "containers": [{"name": "nvidia-driver-ctr", "image": "driver:580.95.05"}],
        }
        labels = {"app.kubernetes.io/component": "nvidia-driver"}
        cluster.daemonset_with_pods(OPERATOR, f"nvidia-gpu-driver-{pool.name}", labels, pod, owned=True)
    for node in ("t4-notebook-1", "t4-notebook-2"):
        cluster.node(node)["spec"]["taints"].append({"key": "spot", "effect": "NoSchedule"})
    for each in cluster.objects:
        if each["kind"] == "DaemonSet" and "driver" not in each["metadata"]["name"]:
            each["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]
    tolerations(cluster, "nvidia-container-toolkit-daemonset", [{"operator": "Exists"}])

    for requirement in (STACK, WORKLOADS, SETTINGS, TOLERATIONS, COVERAGE, VALIDATED, STUCK, OBSTACLES):
        outcome = cluster.verdict(requirement)
        assert outcome.passed, (requirement, outcome.ended, outcome.broken)

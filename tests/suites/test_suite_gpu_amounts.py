"""Why a node offers another number of GPUs: the first thing that is wrong between the device and the kubelet."""

import msgspec
import pytest
from operated_cluster import unready
from operator_chapters import A_NODE, with_pool
from sharing_cluster import SharingCluster

from suites.pools.test_pools import test_every_gpu_node_advertises_its_gpus as offers

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"


@pytest.fixture
def cluster(reference):
    return SharingCluster(reference)


def status(cluster, capacity: dict[str, int], allocatable: dict[str, int]) -> None:
    for member, amounts in (("capacity", capacity), ("allocatable", allocatable)):
        held = cluster.node(A_NODE)["status"][member]
        for name in [name for name in held if name.startswith("nvidia.com/")]:
            del held[name]
        held.update({name: str(count) for name, count in amounts.items()})


def finding(cluster):
    broken = cluster.verdict(offers).judge.broken
    assert [str(each.subject) for each in broken] == [f"node {A_NODE}"]
    return broken[0]


def test_a_layout_that_failed_is_no_reason_to_declare_something_else(cluster):
    status(cluster, {GPU: 1}, {GPU: 1})
    cluster.label(A_NODE, {"nvidia.com/mig.config": "all-1g.5gb", "nvidia.com/mig.config.state": "failed"})

    assert "MIG manager failed to apply all-1g.5gb" in finding(cluster).cause
    assert "MIG-04" in finding(cluster).remedy
    assert "eclare" not in finding(cluster).remedy


@pytest.mark.parametrize(("purpose", "told"), [("kata", "is kata"), (None, "is missing")])
def test_a_node_that_the_operator_does_not_take_for_one_of_virtual_machines(cluster, reference, purpose, told):
    # NVIDIA/gpu-operator issue 1871: a value that the operator does not know counts as the default, containers.
    cluster.label(A_NODE, {"nvidia.com/gpu.workload.config": purpose})
    status(cluster, {GPU: 8}, {GPU: 8})
    inference = next(pool for pool in reference.pools if pool.name == "t4-inference")
    passed_through = msgspec.structs.replace(inference.gpu, resource="nvidia.com/pgpu")

    [found, *_] = cluster.verdict(offers, with_pool(reference, "t4-inference", gpu=passed_through)).judge.broken

    assert f"nvidia.com/gpu.workload.config {told}" in found.cause
    assert found.remedy.startswith("Let the pods that use these GPUs end, then set nvidia.com/gpu.workload.config")


def test_the_first_operand_that_is_broken_is_the_cause(cluster):
    status(cluster, {}, {})
    unready(cluster.pod("nvidia-device-plugin-daemonset", A_NODE), reason="PodInitializing")
    unready(cluster.pod("nvidia-driver-daemonset", A_NODE), reason="ImagePullBackOff")

    assert "the driver does not work on the node" in finding(cluster).cause
    assert "logs" not in finding(cluster).remedy


def test_all_devices_without_a_plugin_are_not_broken_devices(cluster):
    status(cluster, {GPU: 4}, {GPU: 0})
    unready(cluster.pod("nvidia-device-plugin-daemonset", A_NODE), reason="CrashLoopBackOff", restarts=9)

    assert "the device plugin does not work on the node" in finding(cluster).cause
    assert "XID" not in finding(cluster).remedy
    assert "--previous" in finding(cluster).remedy


def test_all_devices_at_once_are_a_lost_registration_before_they_are_broken(cluster):
    status(cluster, {GPU: 4}, {GPU: 0})

    assert "none of it is allocatable although pod" in finding(cluster).cause
    assert "XID" not in finding(cluster).remedy


def test_one_device_of_several_is_broken(cluster):
    status(cluster, {GPU: 4}, {GPU: 3})

    assert "1 of 4 nvidia.com/gpu as unhealthy" in finding(cluster).cause
    assert "XID" in finding(cluster).remedy


def test_a_name_of_a_former_configuration_is_told_as_such(cluster):
    status(cluster, {GPU: 4, SHARED: 16}, {GPU: 4, SHARED: 0})
    assert not cluster.verdict(offers).broken

    status(cluster, {GPU: 4, SHARED: 16}, {GPU: 3, SHARED: 0})
    assert "left over in the kubelet: 16 nvidia.com/gpu.shared" in finding(cluster).actual
    assert "nvidia.com/gpu.shared" not in finding(cluster).cause


def test_two_models_in_one_node_are_told(cluster):
    status(cluster, {GPU: 6}, {GPU: 6})
    cluster.label(A_NODE, {"nvidia.com/gpu.count": "6"})
    assert finding(cluster).remedy == "Declare the number that the pool has."

    cluster.label(A_NODE, {"nvidia.com/gpu.count": "4"})
    assert "two models are in the node" in finding(cluster).cause


def test_mig_devices_in_a_pool_without_mig_are_told_as_a_layout(cluster):
    status(cluster, {"nvidia.com/mig-1g.5gb": 7}, {"nvidia.com/mig-1g.5gb": 7})

    assert "MIG layout" in finding(cluster).remedy


def test_nobody_is_to_divide_gpus_anew_under_pods_or_by_a_label_that_nothing_reads(cluster):
    status(cluster, {"nvidia.com/mig-1g.10gb": 7}, {"nvidia.com/mig-1g.10gb": 7})
    cluster.label(A_NODE, {"nvidia.com/mig.config": None})

    assert "or resource nvidia.com/mig-1g.10gb and its number" in finding(cluster).remedy
    assert "nvidia.com/mig.config" not in finding(cluster).remedy
    assert "let the pods that use them end first" in finding(cluster).remedy

    cluster.label(A_NODE, {"nvidia.com/mig.config": "all-1g.10gb"})

    assert "Declare the pool's MIG layout" in finding(cluster).remedy
    assert "then label the node nvidia.com/mig.config=all-disabled" in finding(cluster).remedy


def of_inference(reference, gpu, **more):
    pools = tuple(
        msgspec.structs.replace(pool, gpu=msgspec.structs.replace(pool.gpu, **gpu), **more)
        if pool.name == "t4-inference"
        else pool
        for pool in reference.pools
    )
    return msgspec.structs.replace(reference, pools=pools)


def told(cluster, reference):
    broken = cluster.verdict(offers, reference=reference).judge.broken
    [found] = [each for each in broken if str(each.subject) == f"node {A_NODE}"]
    return found


def test_a_plugin_that_shares_by_mps_waits_for_the_control_daemon(cluster, reference):
    status(cluster, {}, {})
    shared = of_inference(reference, {"replicas": 10, "shared_by": "mps"})

    assert "waits for the MPS control daemon, and the node has none" in told(cluster, shared).cause
    assert told(cluster, shared).remedy.startswith("Follow MPS-04")

    for each in [each for each in cluster.objects if "mps-control-daemon" in each["metadata"]["name"]]:
        cluster.remove(each)
    assert "log" in told(cluster, shared).remedy


def test_a_layout_that_the_mig_manager_has_not_begun_with_is_no_broken_bus(cluster, reference):
    pool = next(pool for pool in reference.gpu_pools if pool.mig_layout)
    node = f"{pool.name}-1"
    cluster.label(node, {"nvidia.com/mig.config.state": None})
    cluster.node(node)["status"] |= {"capacity": {GPU: "1"}, "allocatable": {GPU: "1"}}

    [found] = cluster.verdict(offers).judge.broken

    assert "has not been applied to the node (no label nvidia.com/mig.config.state)" in found.cause
    assert found.remedy.startswith("Follow MIG-04")


@pytest.mark.parametrize(
    ("capacity", "says"),
    [
        ({}, "has a Ready pod on the node"),
        ({"amd.com/gpu": "0"}, "maker's driver is loaded"),
        ({"amd.com/gpu": "4"}, "names the device and the reason"),
    ],
    ids=["no-plugin", "no-device", "no-healthy-device"],
)
def test_of_another_maker_nobody_is_sent_to_the_programs_of_nvidia(cluster, reference, capacity, says):
    status(cluster, {}, {})
    cluster.node(A_NODE)["status"]["capacity"] |= capacity

    found = told(cluster, of_inference(reference, {"resource": "amd.com/gpu"}))

    assert says in found.remedy
    assert not any(word in f"{found.cause} {found.remedy}" for word in ("OPER-", "XID", "NVIDIA", "nvidia"))


def test_gpus_for_virtual_machines_that_containers_have_are_no_matter_of_sharing(cluster, reference):
    status(cluster, {GPU: 4}, {GPU: 4})
    declared = of_inference(
        reference, {"resource": "nvidia.com/TU104GL_T4"}, labels={"nvidia.com/gpu.workload.config": "vm-passthrough"}
    )

    assert "sandboxWorkloads.enabled" in told(cluster, declared).cause
    assert told(cluster, declared).remedy.startswith("Set sandboxWorkloads.enabled once no pod uses")


def test_a_name_that_the_plugin_cannot_be_told_is_not_looked_for_in_the_sharing(cluster, reference):
    status(cluster, {GPU: 4}, {GPU: 4})
    cluster.objects = [each for each in cluster.objects if each["kind"] != "ClusterPolicy"]

    found = told(cluster, of_inference(reference, {"resource": "nvidia.com/t4"}))

    assert "ignores resources in its configuration" in found.remedy

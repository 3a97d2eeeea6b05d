"""What goes with the target driver is kept green, and what is unknown is said to be: the false alarms held away."""

from operated_cluster import Cluster, Outcome, pod_on

from conformance.gpu.drivers import DriverVersion
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits
from suites._shared.pool_nodes import GpuPoolNode
from suites.upgrade import test_driver_companions as companions
from suites.upgrade.target_nodes import target_nodes
from suites.upgrade.upgrade_groups import upgrade_groups

NODE = "h100-training-1"


def judged(cluster: Cluster, requirement, target: str) -> Outcome:
    facts, reference, judge = cluster.facts(), cluster.reference, Judge()
    nodes = tuple(
        GpuPoolNode(pool, node, pool.gpu)
        for pool in reference.gpu_pools
        for node in facts.nodes
        if pool.gpu and pool.holds(node.labels)
    )
    known = {
        "facts": facts,
        "reference": reference,
        "judge": judge,
        "meant": target_nodes(facts, reference, nodes),
        "target_driver": DriverVersion.parse(target),
    }
    code = requirement.__code__
    try:
        if "groups" in code.co_varnames[: code.co_argcount]:
            known["groups"] = upgrade_groups(facts, reference, nodes)
        requirement(**{name: known[name] for name in code.co_varnames[: code.co_argcount]})
    except (Inconclusive, NotApplicable, Unsupported) as ended:
        return Outcome(judge, ended)
    return Outcome(judge, None)


def driver_settings(cluster: Cluster, **settings) -> None:
    cluster.policy()["spec"].setdefault("driver", {}).update(settings)


def with_systems(cluster: Cluster, kernel: str = "6.8.0-1035-aws") -> None:
    for each in cluster.objects:
        if each["kind"] == "Node":
            each["metadata"]["labels"] |= {
                "feature.node.kubernetes.io/system-os_release.ID": "ubuntu",
                "feature.node.kubernetes.io/system-os_release.VERSION_ID": "24.04",
            }
            each["status"].setdefault("nodeInfo", {})["kernelVersion"] = kernel


def test_an_operator_that_lists_the_branch_is_good(cluster):
    assert judged(cluster, companions.test_the_operator_is_documented_for_the_branch, "595.91.07").passed


def test_a_maintained_branch_that_a_maintained_operator_does_not_list_is_unknown(cluster):
    outcome = judged(cluster, companions.test_the_operator_is_documented_for_the_branch, "620.12.01")

    assert isinstance(outcome.ended, Unsupported)
    assert "every production driver that is maintained" in str(outcome.ended)


def test_a_branch_that_ended_is_told_once(cluster):
    outcome = judged(cluster, companions.test_the_operator_is_documented_for_the_branch, "575.57.08")

    assert isinstance(outcome.ended, Waits)
    assert outcome.ended.requirement == "UPG-07"


def test_an_operator_that_the_tables_do_not_know_is_unknown(cluster):
    operator = cluster.get("Deployment", "gpu-operator")
    operator["spec"]["template"]["spec"]["containers"][0]["image"] = "nvcr.io/nvidia/gpu-operator:v31.1.0"

    outcome = judged(cluster, companions.test_the_operator_is_documented_for_the_branch, "595.91.07")

    assert "v31.1.0 is documented for is unknown" in str(outcome.ended)


def test_without_precompiled_drivers_no_kernel_is_judged(cluster):
    outcome = judged(cluster, companions.test_precompiled_images_are_built_for_every_kernel, "595.91.07")

    assert isinstance(outcome.ended, NotApplicable)


def test_kernels_that_are_built_pass_and_the_registry_stays_unknown(cluster):
    with_systems(cluster)
    driver_settings(cluster, usePrecompiled=True)

    outcome = judged(cluster, companions.test_precompiled_images_are_built_for_every_kernel, "595.91.07")

    assert outcome.passed
    assert "whether the registry has nvcr.io/nvidia/driver:595-6.8.0-1035-aws-ubuntu24.04" in str(
        outcome.judge.unseen[0]
    )


def test_without_labels_the_kubelet_tells_the_operating_system(cluster):
    driver_settings(cluster, usePrecompiled=True)
    for each in cluster.objects:
        if each["kind"] == "Node":
            labels = each["metadata"]["labels"]
            each["metadata"]["labels"] = {key: value for key, value in labels.items() if "os_release" not in key}
            each["status"]["nodeInfo"] = {"kernelVersion": "6.8.0-60-generic", "osImage": "Ubuntu 24.04.3 LTS"}

    assert judged(cluster, companions.test_precompiled_images_are_built_for_every_kernel, "595.91.07").passed


def test_images_of_the_owners_are_not_judged_by_what_nvidia_builds(cluster):
    with_systems(cluster, "6.8.0-1015-gke")
    driver_settings(cluster, usePrecompiled=True, repository="registry.example/gpu")

    outcome = judged(cluster, companions.test_precompiled_images_are_built_for_every_kernel, "595.91.07")

    assert not outcome.broken
    assert "registry.example/gpu" in str(outcome.judge.unseen[0])


def test_a_guest_of_its_hosts_branch_is_good_and_a_host_of_no_known_branch_unknown(cluster):
    requirement = companions.test_vgpu_guests_go_with_their_hosts
    assert isinstance(judged(cluster, requirement, "580.95.05").ended, NotApplicable)

    cluster.label(NODE, {"nvidia.com/vgpu.host-driver-version": "580.65.05"})
    assert judged(cluster, requirement, "580.95.05").passed

    cluster.label(NODE, {"nvidia.com/vgpu.host-driver-version": "595.71.03"})
    outcome = judged(cluster, requirement, "580.95.05")
    assert not outcome.broken
    assert outcome.judge.unseen


def test_storage_with_the_modules_that_auto_chooses_is_good(cluster):
    requirement = companions.test_modules_beside_the_driver_can_load
    assert isinstance(judged(cluster, requirement, "595.91.07").ended, NotApplicable)

    cluster.policy()["spec"]["gds"] = {"enabled": True, "version": "2.29.4"}
    for each in cluster.objects:
        if each["kind"] == "Node":
            each["metadata"]["labels"] |= {
                "nvidia.com/gpu.compute.major": "9",
                "nvidia.com/gpu.compute.minor": "0",
            }

    assert judged(cluster, requirement, "595.91.07").passed


def test_a_network_driver_that_is_ready_is_good_and_one_that_is_not_is_named(cluster):
    requirement = companions.test_modules_beside_the_driver_can_load
    driver_settings(cluster, rdma={"enabled": True})
    cluster.label(NODE, {"feature.node.kubernetes.io/pci-15b3.present": "true"})
    labels = {"nvidia.com/ofed-driver": ""}
    pod = pod_on(NODE, "mofed-ubuntu24.04", "nvidia-network-operator", labels, {"containers": [{"name": "mofed"}]})
    cluster.objects.append(pod)
    assert judged(cluster, requirement, "595.91.07").passed

    cluster.label(NODE, {"nvidia.com/ofed-driver-upgrade-state": "drain-required"})
    assert "is upgrading the network driver" in judged(cluster, requirement, "595.91.07").broken[f"node {NODE}"]

    cluster.label(NODE, {"nvidia.com/ofed-driver-upgrade-state": "upgrade-done"})
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert "is not Ready" in judged(cluster, requirement, "595.91.07").broken[f"node {NODE}"]


def test_a_network_driver_of_the_host_is_unknown_and_nodes_without_adapter_need_none(cluster):
    requirement = companions.test_modules_beside_the_driver_can_load
    driver_settings(cluster, rdma={"enabled": True})
    assert isinstance(judged(cluster, requirement, "595.91.07").ended, NotApplicable)

    driver_settings(cluster, rdma={"enabled": True, "useHostMofed": True})
    cluster.label(NODE, {"feature.node.kubernetes.io/pci-15b3.present": "true"})

    outcome = judged(cluster, requirement, "595.91.07")
    assert not outcome.broken
    assert "useHostMofed" in str(outcome.judge.unseen[0])


def test_a_fabric_manager_of_the_targets_version_is_good(cluster):
    requirement = companions.test_fabric_manager_has_the_version_of_the_driver
    assert isinstance(judged(cluster, requirement, "595.91.07").ended, NotApplicable)

    image = "registry.example/nvidia-fabricmanager:595.91.07-1"
    spec = {"containers": [{"name": "fm", "image": image}]}
    cluster.objects.append(pod_on(NODE, "fabricmanager", "kube-system", {}, spec))

    assert judged(cluster, requirement, "595.91.07").passed
    assert judged(cluster, requirement, "595.71.05").broken


def test_without_a_dra_driver_on_managed_nodes_no_floor_is_judged(cluster):
    outcome = judged(cluster, companions.test_the_target_is_new_enough_for_dra, "535.309.01")

    assert isinstance(outcome.ended, NotApplicable)

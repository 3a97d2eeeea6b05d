"""The operator profile: the stack as a whole, and the operator resource."""

import copy

import msgspec
import pytest
from operated_cluster import JUST_NOW, OPERATOR, Cluster, made
from operator_chapters import (
    COVERAGE,
    EVERY,
    NAMESPACES,
    RECONCILED,
    SETTINGS,
    STABLE,
    STACK,
    TOLERATIONS,
    WORKLOADS,
    not_ready,
    other,
    with_pool,
)

from conformance.verdict import Inconclusive, NotApplicable


@pytest.mark.parametrize("requirement", EVERY, ids=lambda each: each.__name__)
def test_a_sound_cluster_passes_every_requirement(requirement, cluster):
    outcome = cluster.verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)


def test_a_second_policy_is_a_finding_of_its_own(cluster):
    extra = copy.deepcopy(cluster.policy())
    extra["metadata"] |= {"name": "gpu-cluster-policy", "creationTimestamp": JUST_NOW}
    cluster.objects.append(extra)

    broken = cluster.verdict(STACK).broken

    assert list(broken) == ["ClusterPolicy gpu-cluster-policy"]
    assert "is ignored" in broken["ClusterPolicy gpu-cluster-policy"]


def test_the_name_that_openshift_gives_the_policy_is_as_good(cluster):
    cluster.policy()["metadata"]["name"] = "gpu-cluster-policy"

    for requirement in EVERY:
        assert cluster.verdict(requirement).passed, requirement


def test_an_operator_without_a_running_pod_is_found(cluster):
    cluster.get("Deployment", OPERATOR)["status"]["availableReplicas"] = 0

    assert "has no available pod" in cluster.verdict(STACK).broken[f"deployment {OPERATOR}/{OPERATOR}"]


@pytest.mark.parametrize(
    ("labels", "image", "found"),
    [
        ({"helm.sh/chart": "gpu-operator-v25.10.1"}, "example.com/gpu-operator:v26.7.0", "25.10.1"),
        ({"helm.sh/chart": "gpu-operator-25.10.1_mirrored.2"}, "example.com/gpu-operator@sha256:0", "25.10.1"),
        ({"olm.owner": "gpu-operator-certified.v25.3.4"}, "example.com/gpu-operator@sha256:0", "25.3.4"),
        ({}, "nvcr.io/nvidia/gpu-operator:v24.9.2", "24.9.2"),
    ],
)
def test_another_version_than_the_declared_one_is_found(cluster, labels, image, found):
    operator = cluster.get("Deployment", OPERATOR)
    operator["metadata"]["labels"] = labels
    operator["spec"]["template"]["spec"]["containers"][0]["image"] = image

    (finding,) = cluster.verdict(STACK).broken.values()

    assert f"was deployed from version {found}" in finding
    assert "Upgrade the release to v26.7.0" in finding


@pytest.mark.parametrize("chart", ["gpu-operator-v26.7.0", "gpu-operator-26.7.0", "gpu-operator-v26.7.0_mirrored.1"])
def test_the_declared_version_is_found_however_the_chart_is_labelled(cluster, chart):
    cluster.get("Deployment", OPERATOR)["metadata"]["labels"] = {"helm.sh/chart": chart}

    assert cluster.verdict(STACK).passed


@pytest.mark.parametrize("version", ["", "stable"])
def test_a_version_that_nobody_declares_or_that_is_none_is_not_judged(cluster, reference, version):
    cluster.get("Deployment", OPERATOR)["metadata"]["labels"] = {"helm.sh/chart": "gpu-operator-v25.10.1"}

    assert cluster.verdict(STACK, other(reference, version=version)).passed


def test_an_operator_that_tells_no_version_is_passed_over(cluster):
    operator = cluster.get("Deployment", OPERATOR)
    operator["spec"]["template"]["spec"]["containers"][0]["image"] = "example.com/gpu-operator@sha256:0"

    assert cluster.verdict(STACK).passed


def test_another_stack_than_the_declared_one_is_found(cluster, reference):
    outcome = cluster.verdict(STACK, other(reference, kind="device-plugin"))

    assert "GPU Operator with ClusterPolicy" in outcome.broken["GPU stack device-plugin in namespace gpu-operator"]


def test_definitions_that_helm_left_behind_hurt_no_other_stack(cluster, reference):
    cluster.remove(cluster.policy())
    cluster.remove(cluster.get("Deployment", OPERATOR))
    for each in [each for each in cluster.objects if each["kind"] == "DaemonSet"]:
        each["metadata"].pop("ownerReferences", None)

    assert cluster.verdict(STACK, other(reference, kind="device-plugin")).passed


def test_a_second_plugin_counts_only_on_nodes_where_both_run(cluster):
    pod = {"nodeSelector": {"cloud.google.com/gke": "true"}, "containers": [{"name": "nvidia-gpu-device-plugin"}]}
    cluster.daemonset_with_pods("kube-system", "nvidia-gpu-device-plugin", {}, pod, owned=False)
    assert cluster.verdict(STACK).passed

    pod["nodeSelector"] = {"gpu-type": "a100"}
    cluster.remove(cluster.daemonset("nvidia-gpu-device-plugin"))
    cluster.daemonset_with_pods("kube-system", "nvidia-gpu-device-plugin", {}, pod, owned=False)
    assert (
        "is a second device plugin" in cluster.verdict(STACK).broken["daemonset kube-system/nvidia-gpu-device-plugin"]
    )


def test_a_plugin_of_the_node_image_leaves_no_object_and_is_the_declared_one(reference):
    declared = other(reference, kind="device-plugin", dra=None)
    cluster = Cluster(reference)
    cluster.objects = [each for each in cluster.objects if each["kind"] in ("Node", "Namespace")]

    assert cluster.verdict(STACK, declared).passed
    for requirement in (COVERAGE, STABLE, NAMESPACES, TOLERATIONS):
        ended = cluster.verdict(requirement, declared).ended
        assert isinstance(ended, NotApplicable)
        assert "outside Kubernetes" in str(ended)


def test_a_stack_without_workloads_and_without_gpus_is_not_called_sound(reference):
    declared = other(reference, kind="device-plugin", dra=None)
    cluster = Cluster(reference)
    cluster.objects = [each for each in cluster.objects if each["kind"] == "Namespace"]

    for requirement in (STABLE, NAMESPACES, TOLERATIONS):
        assert isinstance(cluster.verdict(requirement, declared).ended, Inconclusive)


def test_what_may_not_be_read_is_not_called_absent(cluster):
    outcome = cluster.verdict(STACK, unreadable={"ClusterPolicy": "Forbidden: no"})

    assert isinstance(outcome.ended, Inconclusive)
    assert not outcome.broken


def test_nothing_is_judged_where_no_stack_is_declared(cluster, reference):
    bare = msgspec.structs.replace(reference, stack=None)

    for requirement in EVERY:
        outcome = cluster.verdict(requirement, bare)
        assert not outcome.broken, requirement
        assert isinstance(outcome.ended, NotApplicable) or outcome.passed, requirement


def test_without_an_operator_only_what_is_about_the_plugin_is_judged(reference):
    declared = other(reference, kind="device-plugin", version="0.20.0", dra=None)
    cluster = Cluster(reference)
    gone = ("ClusterPolicy", "CustomResourceDefinition", "Deployment", "DaemonSet", "Pod")
    cluster.objects = [each for each in cluster.objects if each["kind"] not in gone]
    pod = {
        "nodeSelector": {"node-type": "gpu"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "nvidia-device-plugin-ctr", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"}],
    }
    cluster.daemonset_with_pods("kube-system", "nvidia-device-plugin", {}, pod, owned=False)

    passed = {each.__name__ for each in EVERY if cluster.verdict(each, declared).passed}

    assert not any(cluster.verdict(each, declared).broken for each in EVERY)
    assert {STACK.__name__, COVERAGE.__name__, TOLERATIONS.__name__} <= passed
    assert not passed & {
        "test_the_operator_resource_has_the_declared_settings",
        "test_the_operator_has_reconciled_its_resource",
    }


@pytest.mark.parametrize("reason", ["NFDLabelsMissing", "NoGPUNodes"])
def test_ready_for_want_of_gpu_nodes_is_not_ready(cluster, reason):
    cluster.policy()["status"]["conditions"][0]["reason"] = reason

    told = cluster.verdict(RECONCILED).broken["cluster policy cluster-policy"]
    assert "no operand was deployed" in told
    assert "Let Node Feature Discovery run on the GPU nodes" in told


def test_without_a_message_of_the_operator_its_log_is_named(cluster):
    cluster.policy()["status"] = {"state": "notReady", "conditions": []}

    told = cluster.verdict(RECONCILED).broken["cluster policy cluster-policy"]
    assert "its conditions have no message" in told
    assert "Read the operator's log" in told


def test_no_gpu_nodes_is_right_where_every_pool_is_scaled_to_zero(cluster, reference):
    pools = tuple(msgspec.structs.replace(pool, nodes=0) if pool.gpu else pool for pool in reference.pools)
    cluster.objects = [
        each for each in cluster.objects if each["kind"] != "Node" or each["metadata"]["name"].startswith("cpu")
    ]
    cluster.policy()["status"]["conditions"][0]["reason"] = "NoGPUNodes"
    empty = msgspec.structs.replace(reference, pools=pools)

    assert cluster.verdict(RECONCILED, empty).passed
    assert isinstance(cluster.verdict(WORKLOADS, empty).ended, NotApplicable)


def test_not_ready_is_reported_with_the_message_of_the_operator(cluster):
    not_ready(cluster, "2026-09-20T10:00:00Z")

    told = cluster.verdict(RECONCILED).broken["cluster policy cluster-policy"]
    assert "state-driver" in told
    assert "Follow OPER-13: it tells on which nodes" in told

    not_ready(cluster, "2026-09-20T10:00:00Z", reason="ReconcileFailed")
    assert "OPER-13" not in cluster.verdict(RECONCILED).broken["cluster policy cluster-policy"]


def test_not_ready_since_a_minute_is_a_start_and_no_fault(cluster):
    not_ready(cluster, JUST_NOW)
    assert isinstance(cluster.verdict(RECONCILED).ended, Inconclusive)

    not_ready(cluster, JUST_NOW, reason="ReconcileFailed")
    assert cluster.verdict(RECONCILED).broken


def test_an_older_operator_without_conditions_is_taken_at_its_word(cluster):
    cluster.policy()["status"] = {"state": "ready"}

    assert cluster.verdict(RECONCILED).passed


def test_a_component_without_workload_and_one_too_many_are_found(cluster):
    cluster.remove(cluster.daemonset("nvidia-dcgm-exporter"))
    cluster.daemonset_with_pods(OPERATOR, "nvidia-node-status-exporter", {}, {"containers": []}, owned=True)

    broken = cluster.verdict(WORKLOADS).broken

    assert sorted(broken) == ["dcgm-exporter", "node status exporter"]
    assert "left over" in broken["node status exporter"]


def test_what_the_object_switches_off_is_not_missed(reference):
    declared = other(reference, driver_managed=False, toolkit=False)
    cluster = Cluster(declared)
    for name in ("nvidia-driver-daemonset", "nvidia-container-toolkit-daemonset"):
        cluster.remove(cluster.daemonset(name))
        cluster.objects = [each for each in cluster.objects if not each["metadata"]["name"].startswith(f"{name}-")]

    for requirement in EVERY:
        outcome = cluster.verdict(requirement)
        assert not outcome.broken, requirement
        assert isinstance(outcome.ended, NotApplicable) or outcome.passed or "toolkit" in str(outcome.ended), (
            requirement
        )


def test_a_driver_for_each_kernel_is_still_the_driver(cluster):
    driver_set = cluster.daemonset("nvidia-driver-daemonset")
    driver_set["metadata"]["name"] = "nvidia-driver-daemonset-6.8.0-51-generic-ubuntu22.04"
    driver_set["metadata"]["labels"] = {"app": "nvidia-driver-daemonset-6.8.0-51", "more": "labels"}
    for each in cluster.objects:
        for owner in each["metadata"].get("ownerReferences", ()):
            if owner["name"] == "nvidia-driver-daemonset":
                owner["name"] = driver_set["metadata"]["name"]

    assert cluster.verdict(WORKLOADS).passed
    assert cluster.verdict(COVERAGE).passed


def test_sandbox_workloads_bring_components_of_their_own(cluster):
    cluster.policy()["spec"]["sandboxWorkloads"] = {"enabled": True, "defaultWorkload": "container"}
    cluster.policy()["spec"]["vfioManager"] = {"enabled": True}

    assert sorted(cluster.verdict(WORKLOADS).broken) == ["VFIO manager", "sandbox validator"]


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("nvidia-vgpu-manager-daemonset-417.94.202501", ["sandbox validator"]),
        ("nvidia-vgpu-managers", ["sandbox validator", "vGPU manager"]),
    ],
)
def test_a_vgpu_manager_for_each_release_of_openshift_is_still_the_vgpu_manager(cluster, name, broken):
    cluster.policy()["spec"] |= {"sandboxWorkloads": {"enabled": True}, "vgpuManager": {"enabled": True}}
    cluster.daemonset_with_pods(OPERATOR, name, {"app": name}, {"containers": []}, owned=True)

    assert sorted(cluster.verdict(WORKLOADS).broken) == broken


@pytest.mark.parametrize(
    ("image", "shared_by", "missed"),
    [
        ("gpu-operator:v23.9.2", "time-slicing", False),
        ("gpu-operator:v23.9.2", "mps", True),
        ("gpu-operator:v24.3.0", "time-slicing", True),
        ("gpu-operator@sha256:abc", "time-slicing", True),
    ],
)
def test_an_operator_older_than_the_mps_daemon_lacks_it_only_where_a_pool_shares_by_mps(
    reference, image, shared_by, missed
):
    pools = tuple(
        msgspec.structs.replace(pool, gpu=msgspec.structs.replace(pool.gpu, shared_by=shared_by))
        if pool.gpu is not None and pool.gpu.shared_by == "mps"
        else pool
        for pool in reference.pools
    )
    declared = msgspec.structs.replace(reference, pools=pools)
    cluster = Cluster(declared)
    cluster.get("Deployment", OPERATOR)["spec"]["template"]["spec"]["containers"][0]["image"] = f"nvcr.io/{image}"
    cluster.remove(cluster.daemonset("nvidia-device-plugin-mps-control-daemon"))

    assert list(cluster.verdict(WORKLOADS).broken) == (["MPS control daemon"] if missed else [])


def test_no_component_is_missed_one_by_one_where_no_node_is_discovered(cluster):
    for each in cluster.objects:
        if each["kind"] == "Node":
            each["metadata"]["labels"].pop("nvidia.com/gpu.present", None)

    assert list(cluster.verdict(WORKLOADS).broken) == ["cluster policy cluster-policy"]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("mig.strategy", "single", "single"),
        ("driver.version", "570.172.08", "570.172.08"),
        ("driver.enabled", False, "false"),
        ("dcgmExporter.enabled", False, "false"),
        ("devicePlugin.config.default", "", "nothing"),
        ("migManager.config.name", "default-mig-parted-config", "default-mig-parted-config"),
    ],
)
def test_a_setting_that_differs_is_one_finding(cluster, path, value, says):
    *blocks, last = path.split(".")
    spec = cluster.policy()["spec"]
    for block in blocks:
        spec = spec[block]
    spec[last] = value

    broken = cluster.verdict(SETTINGS).broken

    assert list(broken) == [f"cluster policy cluster-policy, {path}"]
    assert broken[f"cluster policy cluster-policy, {path}"].startswith(says)


def test_further_values_are_settings_too_and_follow_the_chart_to_their_place(reference):
    values = {"driver": {"upgradePolicy": {"gpuPodDeletion": {"deleteEmptyDir": True}}}, "dcgm": {"enabled": True}}
    declared = other(reference, values=values)
    cluster = Cluster(declared)

    assert list(cluster.verdict(SETTINGS).broken) == ["cluster policy cluster-policy, dcgm.enabled"]


@pytest.mark.parametrize("version", ["sha256:0123", None])
def test_a_version_that_cannot_be_compared_is_not_judged(cluster, version):
    cluster.policy()["spec"]["driver"]["version"] = version

    assert cluster.verdict(SETTINGS).passed


def test_drivers_of_several_objects_are_held_to_the_pools_that_they_serve(reference):
    declared = with_pool(reference, "h100-training", gpu=msgspec.structs.replace(
        reference.pool("h100-training").gpu, driver="570.172.08"))  # fmt: skip
    cluster = Cluster(declared)
    cluster.policy()["spec"]["driver"]["useNvidiaDriverCRD"] = True
    for pool, version in (("h100-training", "570.172.08"), ("a100-training", "570.172.08")):
        selector = {"eks.amazonaws.com/nodegroup": pool}
        spec = {"nodeSelector": selector, "version": version}
        cluster.objects.append(made("nvidia.com/v1alpha1", "NVIDIADriver", pool, spec=spec))

    assert list(cluster.verdict(SETTINGS, declared).broken) == ["NVIDIA driver a100-training, version"]

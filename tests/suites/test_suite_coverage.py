"""Coverage: the stack on every GPU node, and no false alarm where a node is changing."""

import msgspec
import pytest
from operated_cluster import JUST_NOW, WORKER, Cluster, unready
from operator_chapters import (
    A_NODE,
    COVERAGE,
    DISCOVERED,
    SWITCHED_OFF,
    TOLERATIONS,
    VALIDATED,
    VERSION,
    other,
    tolerations,
    with_pool,
)


def test_the_default_toleration_is_too_little_for_a_second_taint(cluster):
    gpu_only = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    tolerations(cluster, "nvidia-device-plugin-daemonset", gpu_only)

    broken = cluster.verdict(TOLERATIONS).broken

    assert list(broken) == ["daemonset gpu-operator/nvidia-device-plugin-daemonset"]
    assert "dedicated=gpu:NoSchedule" in str(broken)
    assert "daemonsets.tolerations" in str(broken)
    assert "nvidia.com/gpu=present" not in str(broken).partition("|")[2]


def test_a_list_that_replaced_the_default_is_reported(cluster):
    tolerations(cluster, "nvidia-device-plugin-daemonset", [{"key": "dedicated", "operator": "Exists"}])

    assert "replaces the chart's own, which had nvidia.com/gpu" in str(cluster.verdict(TOLERATIONS).broken)


def test_the_worker_of_discovery_has_a_list_of_its_own(cluster):
    tolerations(cluster, WORKER, [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])

    broken = cluster.verdict(TOLERATIONS).broken

    assert list(broken) == [f"daemonset gpu-operator/{WORKER}"]
    assert "node-feature-discovery.worker.tolerations" in str(broken)


def test_a_taint_that_only_the_nodes_have_counts_and_one_that_passes_does_not(cluster):
    taints = cluster.node(A_NODE)["spec"]["taints"]
    taints.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    assert cluster.verdict(TOLERATIONS).passed

    taints.append({"key": "maintenance", "effect": "NoExecute"})
    told = cluster.verdict(TOLERATIONS).broken["daemonset gpu-operator/nvidia-device-plugin-daemonset"]
    assert f"maintenance:NoExecute on node {A_NODE}, which pool t4-inference does not declare" in told


def test_what_is_not_declared_is_not_advised_to_be_tolerated(cluster):
    cluster.node(A_NODE)["spec"]["taints"].append({"key": "gpu-broken", "value": "xid-79", "effect": "NoSchedule"})

    told = cluster.verdict(TOLERATIONS).judge.broken[0]

    assert "A quarantine goes when its agent finds the node well" in told.remedy
    assert "daemonsets.tolerations" not in told.remedy
    assert f"kubectl taint node {A_NODE} gpu-broken:NoSchedule-" in told.remedy


def test_a_typo_on_a_node_is_corrected_there(cluster):
    taints = cluster.node(A_NODE)["spec"]["taints"]
    taints[:] = [{**each, "key": "nvidia.com/gpuu"} if each["key"] == "nvidia.com/gpu" else each for each in taints]

    told = cluster.verdict(TOLERATIONS).judge.broken[0]

    assert "which looks like nvidia.com/gpu=present:NoSchedule" in told.cause
    assert told.remedy.startswith("Set nvidia.com/gpu=present:NoSchedule in place of nvidia.com/gpuu=present")


def test_a_declared_taint_is_told_with_the_nodes_that_have_it(cluster):
    tolerations(cluster, "nvidia-device-plugin-daemonset", [{"key": "nvidia.com/gpu", "operator": "Exists"}])
    for node in ("t4-inference-2", "t4-inference-3"):
        cluster.node(node)["spec"]["taints"] = []

    told = cluster.verdict(TOLERATIONS).broken["daemonset gpu-operator/nvidia-device-plugin-daemonset"]

    assert f"dedicated=gpu:NoSchedule of pool t4-inference (on node {A_NODE})" in told


@pytest.mark.parametrize("key", ["karpenter.sh/disrupted", "ebs.csi.aws.com/agent-not-ready"])
def test_nobody_has_to_tolerate_what_removes_a_node_or_waits_for_an_agent(cluster, key):
    cluster.node(A_NODE)["spec"]["taints"].append({"key": key, "effect": "NoSchedule"})

    assert cluster.verdict(TOLERATIONS).passed


def test_a_component_that_no_node_needs_need_not_tolerate(cluster, reference):
    tolerations(cluster, "nvidia-device-plugin-mps-control-daemon", [])
    assert list(cluster.verdict(TOLERATIONS).broken) == [
        "daemonset gpu-operator/nvidia-device-plugin-mps-control-daemon"
    ]

    without = msgspec.structs.replace(reference, pools=tuple(p for p in reference.pools if p.name != "l4-mps"))
    assert cluster.verdict(TOLERATIONS, without).passed


def test_an_undiscovered_node_is_traced_to_the_worker_that_cannot_come(cluster):
    cluster.label(A_NODE, {"feature.node.kubernetes.io/pci-10de.present": None, "nvidia.com/gpu.present": "false"})
    tolerations(cluster, WORKER, [])
    cluster.remove(cluster.pod(WORKER, A_NODE))

    broken = cluster.verdict(DISCOVERED).broken

    assert list(broken) == [f"node {A_NODE}"]
    assert f"not tolerated by daemonset gpu-operator/{WORKER}" in str(broken)


@pytest.mark.parametrize("requirement", [COVERAGE, VALIDATED])
def test_operands_that_wait_for_labels_are_told_under_discovery_and_not_beside_it(cluster, requirement):
    cluster.label(A_NODE, {"feature.node.kubernetes.io/pci-10de.present": None, "nvidia.com/gpu.present": "false"})

    ended = cluster.verdict(requirement)

    assert not ended.broken
    assert [str(each) for each in ended.judge.unseen] == [
        f"node {A_NODE}: it lacks the labels that bring operands to it (OPER-11)"
    ]


def test_a_pci_label_that_discovery_calls_otherwise_is_named(cluster):
    label = "feature.node.kubernetes.io/pci-10de_1eb8.present"
    cluster.label(A_NODE, {"feature.node.kubernetes.io/pci-10de.present": None, label: "true"})

    assert "deviceLabelFields" in str(cluster.verdict(DISCOVERED).broken)


@pytest.mark.parametrize("label", ["pci-0302_10de.present", "pci-0300_10de.present"])
def test_the_older_names_of_the_pci_label_are_as_good(cluster, label):
    labels = {"feature.node.kubernetes.io/pci-10de.present": None, f"feature.node.kubernetes.io/{label}": "true"}
    cluster.label(A_NODE, labels)

    assert cluster.verdict(DISCOVERED).passed
    assert cluster.verdict(COVERAGE).passed


def joined(cluster, name):
    """Make a node one that joined a minute ago: nobody has labelled it yet, and nothing of the stack runs there."""
    node = cluster.node(name)
    node["metadata"]["creationTimestamp"] = JUST_NOW
    labels = node["metadata"]["labels"]
    for key in [key for key in labels if key.startswith(("feature.node", "nvidia.com/"))]:
        del labels[key]
    cluster.objects = [each for each in cluster.objects if each.get("spec", {}).get("nodeName") != name]


def test_a_node_that_joined_a_minute_ago_is_not_judged_for_what_is_still_to_come(cluster):
    joined(cluster, A_NODE)

    for requirement in (
        DISCOVERED,
        SWITCHED_OFF,
        COVERAGE,
        VALIDATED,
        VERSION,
    ):
        assert cluster.verdict(requirement).passed, requirement


def test_a_new_node_is_judged_for_lasting_failures(cluster):
    joined(cluster, A_NODE)
    cluster.node(A_NODE)["metadata"]["labels"]["nvidia.com/gpu.present"] = "true"
    cluster.node(A_NODE)["metadata"]["labels"]["feature.node.kubernetes.io/pci-10de.present"] = "true"
    tolerations(cluster, "nvidia-driver-daemonset", [])

    assert "not tolerated" in cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]


@pytest.mark.parametrize(
    ("label", "value", "remedy"),
    [
        # The operator does not watch the label of one operand, so removing it would bring nothing back.
        (
            "nvidia.com/gpu.deploy.device-plugin",
            "paused-for-driver-upgrade",
            "nvidia.com/gpu.deploy.device-plugin=true",
        ),
        ("nvidia.com/gpu.deploy.dcgm-exporter", "false", "nvidia.com/gpu.deploy.dcgm-exporter=true"),
        ("nvidia.com/gpu.deploy.operands", "false", "nvidia.com/gpu.deploy.operands-"),
    ],
)
def test_a_label_that_keeps_a_component_away_is_found_unless_the_pool_declares_it(
    cluster, reference, label, value, remedy
):
    cluster.label(A_NODE, {label: value})
    told = cluster.verdict(SWITCHED_OFF).broken[f"node {A_NODE}"]
    assert f"{label}={value}" in told
    assert f"--overwrite {remedy};" in told

    pool = reference.pool("t4-inference")
    declared = with_pool(reference, "t4-inference", labels={**pool.labels, label: value})
    assert cluster.verdict(SWITCHED_OFF, declared).passed


@pytest.mark.parametrize(
    "change",
    [
        {"nvidia.com/gpu-driver-upgrade-state": "pod-restart-required"},
        {"nvidia.com/mig.config.state": "pending"},
        {"nvidia.com/mig.config.state": "rebooting"},
    ],
)
def test_components_that_leave_during_a_change_are_not_missed(cluster, change):
    cluster.label(A_NODE, {"nvidia.com/gpu.deploy.device-plugin": "paused-for-mig-change", **change})
    cluster.remove(cluster.pod("nvidia-device-plugin-daemonset", A_NODE))

    assert cluster.verdict(SWITCHED_OFF).passed
    assert cluster.verdict(COVERAGE).passed


def test_a_driver_of_the_node_image_is_not_missed_and_not_switched_off(cluster):
    cluster.label(A_NODE, {"nvidia.com/gpu.deploy.driver": "pre-installed"})
    cluster.remove(cluster.pod("nvidia-driver-daemonset", A_NODE))

    for requirement in (SWITCHED_OFF, COVERAGE, VALIDATED):
        assert cluster.verdict(requirement).passed, requirement


def test_only_the_first_broken_component_of_a_node_is_named(cluster):
    unready(cluster.pod("nvidia-driver-daemonset", A_NODE), reason="CrashLoopBackOff", restarts=12)
    for owner in ("nvidia-container-toolkit-daemonset", "nvidia-device-plugin-daemonset", "nvidia-operator-validator"):
        unready(cluster.pod(owner, A_NODE), init="driver-validation")

    broken = cluster.verdict(COVERAGE).broken

    assert list(broken) == [f"node {A_NODE}"]
    assert "nvidia-driver-daemonset-t4-inference-1 exists and is not Ready" in broken[f"node {A_NODE}"]
    assert "CrashLoopBackOff" in broken[f"node {A_NODE}"]
    assert not cluster.verdict(VALIDATED).broken


def test_a_pod_that_waits_since_yesterday_is_broken_and_one_of_a_minute_starts(cluster):
    pod = cluster.pod("nvidia-container-toolkit-daemonset", A_NODE)
    unready(pod, init="driver-validation")
    assert "driver-validation" in cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]

    pod["metadata"]["creationTimestamp"] = JUST_NOW
    assert cluster.verdict(COVERAGE).passed


def test_a_missing_pod_is_explained_by_the_label_that_is_missing(cluster):
    cluster.label(A_NODE, {"nvidia.com/gpu.deploy.dcgm-exporter": None})
    cluster.remove(cluster.pod("nvidia-dcgm-exporter", A_NODE))

    told = cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]
    assert "no label nvidia.com/gpu.deploy.dcgm-exporter=true" in told
    assert "OPER-12" not in told


def test_a_missing_pod_that_a_label_keeps_away_follows_the_requirement_of_such_labels(cluster):
    cluster.label(A_NODE, {"nvidia.com/gpu.deploy.dcgm-exporter": "false"})
    cluster.remove(cluster.pod("nvidia-dcgm-exporter", A_NODE))

    told = cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]
    assert "label nvidia.com/gpu.deploy.dcgm-exporter=false" in told
    assert "Follow OPER-12." in told
    assert f"node {A_NODE}" in cluster.verdict(SWITCHED_OFF).broken


def test_nobody_is_to_set_labels_of_operands_on_a_node_for_virtual_machines(cluster):
    cluster.label(A_NODE, {"nvidia.com/gpu.workload.config": "vm-vgpu", "nvidia.com/gpu.deploy.dcgm-exporter": None})
    cluster.remove(cluster.pod("nvidia-dcgm-exporter", A_NODE))

    told = cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]
    assert "nvidia.com/gpu.workload.config=vm-vgpu gives the GPUs of the node to virtual machines" in told
    assert "Restore" not in told


def test_labels_that_an_affinity_asks_for_are_named(cluster):
    asked = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["none"]}
    terms = [{"matchExpressions": [asked]}]
    term = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    cluster.get("DaemonSet", "nvidia-dcgm-exporter")["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": term}
    cluster.remove(cluster.pod("nvidia-dcgm-exporter", A_NODE))

    told = cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]
    assert "asks for one of nvidia.com/gpu.product=none" in told
    assert "kubectl label" not in told


def test_cordoned_nodes_keep_their_components_and_dead_ones_are_not_asked(cluster):
    cluster.node(A_NODE)["spec"] |= {"unschedulable": True}
    assert f"node {A_NODE}" in cluster.verdict(COVERAGE).subjects

    cluster.node(A_NODE)["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    cluster.objects = [each for each in cluster.objects if each.get("spec", {}).get("nodeName") != A_NODE]
    assert f"node {A_NODE}" not in cluster.verdict(COVERAGE).subjects
    assert cluster.verdict(COVERAGE).passed


def test_the_mig_manager_is_missed_only_where_the_gpus_have_mig(cluster):
    for node in ("t4-inference-1", "a100-mig-1"):
        pods = [each for each in cluster.objects if each["metadata"]["name"] == f"nvidia-mig-manager-{node}"]
        for pod in pods:
            cluster.remove(pod)
    broken = cluster.verdict(COVERAGE).broken
    assert list(broken) == ["node a100-mig-1"]

    cluster.label("a100-mig-1", {"nvidia.com/mig.capable": "false"})
    assert cluster.verdict(COVERAGE).passed


def test_the_mps_daemon_is_missed_where_gpus_are_shared_by_mps(cluster):
    cluster.remove(cluster.pod("nvidia-device-plugin-mps-control-daemon", "l4-mps-1"))

    assert "MPS control daemon" in cluster.verdict(COVERAGE).broken["node l4-mps-1"]


def test_gpus_of_dra_need_its_driver_and_no_device_plugin(cluster):
    assert not any(
        each["metadata"]["name"].startswith("nvidia-device-plugin-daemonset-h100-dra") for each in cluster.objects
    )
    cluster.remove(cluster.pod("dra-driver-nvidia-gpu-kubelet-plugin", "h100-dra-1"))

    assert "DRA driver" in cluster.verdict(COVERAGE).broken["node h100-dra-1"]


def test_nodes_that_are_set_aside_for_virtual_machines_need_no_components_of_containers(reference):
    pool = reference.pool("t4-notebook")
    labels = {**pool.labels, "nvidia.com/gpu.workload.config": "vm-passthrough"}
    declared = with_pool(reference, "t4-notebook", labels=labels)
    cluster = Cluster(declared)
    cluster.policy()["spec"]["sandboxWorkloads"] = {"enabled": True}
    cluster.objects = [
        each
        for each in cluster.objects
        if not (
            each["kind"] == "Pod" and each["spec"]["nodeName"].startswith("t4-notebook") and WORKER not in str(each)
        )
    ]

    assert cluster.verdict(COVERAGE, declared).passed
    assert cluster.verdict(VALIDATED, declared).passed
    assert cluster.verdict(SWITCHED_OFF, declared).passed
    assert cluster.verdict(SWITCHED_OFF, reference).broken.keys() == {"node t4-notebook-1", "node t4-notebook-2"}


def test_a_stuck_validator_is_named_with_its_init_container_and_passing_says_what_it_proves(cluster):
    assert "neither the number of GPUs" in cluster.verdict(VALIDATED).judge.findings[0].expected

    unready(cluster.pod("nvidia-operator-validator", A_NODE), init="cuda-validation", reason="CrashLoopBackOff")
    assert "cuda-validation" in cluster.verdict(VALIDATED).broken[f"node {A_NODE}"]


def test_a_plugin_that_is_nowhere_is_to_be_installed_where_no_operator_is(cluster, reference):
    cluster.objects = [each for each in cluster.objects if "device-plugin" not in each["metadata"]["name"]]

    found = cluster.verdict(COVERAGE, other(reference, kind="device-plugin")).judge.broken[0]

    assert "no workload of the device plugin exists" in found.cause
    assert found.remedy.startswith("Install the device plugin by its chart or manifest")


def test_an_affinity_that_a_node_does_not_meet_is_named_by_its_expressions(cluster):
    # OKE's add-on leaves out nodes with this label: docs.oracle.com, NVIDIA GPU Plugin.
    disabled = "oci.oraclecloud.com/disable-gpu-device-plugin"
    expressions = [
        {"key": "nvidia.com/gpu.present", "operator": "In", "values": ["true"]},
        {"key": disabled, "operator": "NotIn", "values": ["true"]},
    ]
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    plugin = cluster.get("DaemonSet", "nvidia-device-plugin-daemonset")
    plugin["spec"]["template"]["spec"]["affinity"] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    }
    cluster.label(A_NODE, {disabled: "true"})
    cluster.objects.remove(cluster.pod("nvidia-device-plugin-daemonset", A_NODE))

    [found] = cluster.verdict(COVERAGE).judge.broken

    assert f"{disabled} NotIn (true)" in found.remedy
    assert f"{disabled}=true" in found.remedy
    assert "gpu.present" not in found.remedy

"""The chapters of the operator on a sound cluster, and on clusters that are broken in one place."""

import copy

import msgspec
import pytest
from operated_cluster import JUST_NOW, OPERATOR, WORKER, Cluster, made, unready

from conformance.reference import Reference, load
from conformance.shipped import shipped
from conformance.verdict import CouldNotLook, NotApplicable
from suites import test_coverage as coverage
from suites import test_driver as driver
from suites import test_operator as operator

CHAPTERS = (operator, coverage, driver)
EVERY = [
    each
    for chapter in CHAPTERS
    for name, each in vars(chapter).items()
    if name.startswith("test_") and each.__module__ == chapter.__name__
]


@pytest.fixture(scope="session")
def reference() -> Reference:
    return load(shipped("fixtures/reference"))


@pytest.fixture
def cluster(reference):
    return Cluster(reference)


@pytest.mark.parametrize("requirement", EVERY, ids=lambda each: each.__name__)
def test_a_sound_cluster_passes_every_requirement(requirement, cluster):
    outcome = cluster.verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)


def other(reference: Reference, **stack: object) -> Reference:
    """The set-up with another stack."""
    return msgspec.structs.replace(reference, stack=msgspec.structs.replace(reference.stack, **stack))


def with_pool(reference: Reference, name: str, **members: object) -> Reference:
    pools = tuple(msgspec.structs.replace(p, **members) if p.name == name else p for p in reference.pools)
    return msgspec.structs.replace(reference, pools=pools)


# --- OPER-01: the stack ------------------------------------------------------------------------------------------

STACK = operator.test_one_complete_stack_is_installed


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
    assert isinstance(
        cluster.verdict(coverage.test_every_component_runs_on_every_gpu_node, declared).ended, NotApplicable
    )


def test_what_may_not_be_read_is_not_called_absent(cluster):
    outcome = cluster.verdict(STACK, unreadable={"ClusterPolicy": "Forbidden: no"})

    assert isinstance(outcome.ended, CouldNotLook)
    assert not outcome.broken


def test_nothing_is_judged_where_no_stack_is_declared(cluster, reference):
    bare = msgspec.structs.replace(reference, stack=None)

    for requirement in EVERY:
        outcome = cluster.verdict(requirement, bare)
        assert not outcome.broken, requirement
        assert isinstance(outcome.ended, NotApplicable) or outcome.passed, requirement


def test_without_an_operator_only_what_is_about_the_plugin_is_judged(reference):
    declared = other(reference, kind="device-plugin", dra=None)
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
    assert not passed & {"test_the_object_has_the_declared_settings", "test_the_operator_has_reconciled_its_object"}


# --- OPER-02 to OPER-04: the object ------------------------------------------------------------------------------

RECONCILED = operator.test_the_operator_has_reconciled_its_object
WORKLOADS = operator.test_every_component_has_its_workload
SETTINGS = operator.test_the_object_has_the_declared_settings


@pytest.mark.parametrize("reason", ["NFDLabelsMissing", "NoGPUNodes"])
def test_ready_for_want_of_gpu_nodes_is_not_ready(cluster, reason):
    cluster.policy()["status"]["conditions"][0]["reason"] = reason

    assert "no operand was deployed" in cluster.verdict(RECONCILED).broken["cluster policy cluster-policy"]


def test_no_gpu_nodes_is_right_where_every_pool_is_scaled_to_zero(cluster, reference):
    pools = tuple(msgspec.structs.replace(pool, nodes=0) if pool.gpu else pool for pool in reference.pools)
    cluster.objects = [
        each for each in cluster.objects if each["kind"] != "Node" or each["metadata"]["name"].startswith("cpu")
    ]
    cluster.policy()["status"]["conditions"][0]["reason"] = "NoGPUNodes"
    empty = msgspec.structs.replace(reference, pools=pools)

    assert cluster.verdict(RECONCILED, empty).passed
    assert isinstance(cluster.verdict(WORKLOADS, empty).ended, NotApplicable)


def not_ready(cluster, since, reason="OperandNotReady"):
    cluster.policy()["status"] = {
        "state": "notReady",
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Error", "lastTransitionTime": since},
            {"type": "Error", "status": "True", "reason": reason, "message": "states not ready: [state-driver]"},
        ],
    }


def test_not_ready_is_told_with_the_message_of_the_operator(cluster):
    not_ready(cluster, "2026-09-20T10:00:00Z")

    assert "state-driver" in cluster.verdict(RECONCILED).broken["cluster policy cluster-policy"]


def test_not_ready_since_a_minute_is_a_start_and_no_fault(cluster):
    not_ready(cluster, JUST_NOW)
    assert isinstance(cluster.verdict(RECONCILED).ended, CouldNotLook)

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

    assert list(broken) == [f"cluster policy cluster-policy: {path}"]
    assert broken[f"cluster policy cluster-policy: {path}"].startswith(says)


def test_further_values_are_settings_too_and_follow_the_chart_to_their_place(reference):
    values = {"driver": {"upgradePolicy": {"gpuPodDeletion": {"deleteEmptyDir": True}}}, "dcgm": {"enabled": True}}
    declared = other(reference, values=values)
    cluster = Cluster(declared)

    assert list(cluster.verdict(SETTINGS).broken) == ["cluster policy cluster-policy: dcgm.enabled"]


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

    assert list(cluster.verdict(SETTINGS, declared).broken) == ["NVIDIA driver a100-training: version"]


# --- OPER-05 to OPER-09: pods, namespaces, versions ---------------------------------------------------------------

REST = operator.test_the_pods_of_the_stack_come_to_rest
NAMESPACES = operator.test_the_namespaces_of_the_stack_let_its_pods_in
CLASSES = operator.test_every_runtime_class_exists
ESCAPES = operator.test_no_program_has_a_known_way_out_of_a_container
BREAKING = operator.test_no_setting_is_known_to_break_pods


def operator_pod(cluster, **status):
    replicas = made(
        "apps/v1", "ReplicaSet", "gpu-operator-1", OPERATOR,
        owners=[{"apiVersion": "apps/v1", "kind": "Deployment", "name": OPERATOR, "controller": True}],
    )  # fmt: skip
    pod = made(
        "v1", "Pod", "gpu-operator-1-x", OPERATOR,
        owners=[{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "gpu-operator-1", "controller": True}],
        spec={"nodeName": "cpu-1", "containers": [{"name": OPERATOR}]},
        status={"phase": "Running", "containerStatuses": [{"name": OPERATOR} | status]},
    )  # fmt: skip
    cluster.objects += [replicas, pod]
    return pod


def test_an_operator_that_runs_out_of_memory_is_told_how_much_it_needs(cluster):
    operator_pod(
        cluster,
        restartCount=4,
        state={"running": {"startedAt": "2026-09-20T11:50:00Z"}},
        lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    )

    broken = cluster.verdict(REST).broken["pod gpu-operator/gpu-operator-1-x"]

    assert "OOMKilled" in broken
    assert "1400Mi" in broken


def test_restarts_of_long_ago_are_no_unrest(cluster):
    operator_pod(
        cluster,
        restartCount=40,
        state={"running": {"startedAt": "2026-09-01T00:00:00Z"}},
        lastState={"terminated": {"reason": "OOMKilled"}},
    )

    assert cluster.verdict(REST).passed


def test_only_the_first_crashing_pod_of_a_node_is_named(cluster):
    for owner in ("nvidia-driver-daemonset", "nvidia-operator-validator"):
        unready(cluster.pod(owner, "t4-inference-1"), reason="CrashLoopBackOff", restarts=9)

    assert list(cluster.verdict(REST).broken) == ["pod gpu-operator/nvidia-driver-daemonset-t4-inference-1"]


def test_a_level_of_pod_security_that_refuses_operands_is_found_before_they_are_refused(cluster):
    cluster.get("Namespace", OPERATOR)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"

    assert "which baseline refuses" in cluster.verdict(NAMESPACES).broken["namespace gpu-operator"]


def test_no_level_of_its_own_is_the_cluster_s_business(cluster):
    cluster.get("Namespace", OPERATOR)["metadata"]["labels"] = {}

    assert cluster.verdict(NAMESPACES).passed


def starved(cluster):
    status = cluster.daemonset("nvidia-dcgm-exporter")["status"]
    status |= {"currentNumberScheduled": 0, "numberAvailable": 0}


def test_a_quota_that_the_critical_class_needs_is_missed_by_what_is_not_created(cluster):
    starved(cluster)

    broken = cluster.verdict(NAMESPACES).broken["daemonset gpu-operator/nvidia-dcgm-exporter"]

    assert "system-node-critical" in broken
    assert "scopeSelector" in broken


def test_a_quota_that_is_used_up_is_named(cluster):
    starved(cluster)
    critical = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
    cluster.objects.append(
        made(
            "v1", "ResourceQuota", "operands", OPERATOR,
            spec={"hard": {"pods": "100"}, "scopeSelector": {"matchExpressions": [critical]}},
            status={"used": {"pods": "100"}},
        )
    )  # fmt: skip

    assert (
        "quota gpu-operator/operands"
        in cluster.verdict(NAMESPACES).broken["daemonset gpu-operator/nvidia-dcgm-exporter"]
    )


def test_pods_that_are_just_being_made_are_not_missed(cluster):
    starved(cluster)
    cluster.daemonset("nvidia-dcgm-exporter")["metadata"]["creationTimestamp"] = JUST_NOW

    assert cluster.verdict(NAMESPACES).passed


def test_a_runtime_class_that_is_named_and_gone_is_found(cluster):
    cluster.remove(cluster.get("RuntimeClass", "nvidia"))

    assert list(cluster.verdict(CLASSES).broken) == ["runtime class nvidia"]


def toolkit_image(cluster, image):
    containers = cluster.daemonset("nvidia-container-toolkit-daemonset")["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = image


@pytest.mark.parametrize(
    ("tag", "says"),
    [("v1.17.7-ubuntu20.04", "CVE-2025-23266"), ("v1.16.1-ubi8", "CVE-2024-0132"), ("1.17.3", "CVE-2025-23359")],
)
def test_a_toolkit_below_the_floor_is_found(cluster, tag, says):
    toolkit_image(cluster, f"mirror.example:5000/nvidia/container-toolkit:{tag}")

    (broken,) = cluster.verdict(ESCAPES).broken.values()

    assert says in broken


@pytest.mark.parametrize("tag", ["v1.17.8", "v1.20.0-ubuntu22.04", "v1.17.10"])
def test_a_toolkit_at_the_floor_or_above_passes(cluster, tag):
    toolkit_image(cluster, f"nvcr.io/nvidia/k8s/container-toolkit:{tag}")

    assert cluster.verdict(ESCAPES).passed


def test_a_digest_tells_no_version_and_the_operator_is_asked_instead(cluster):
    toolkit_image(cluster, "nvcr.io/nvidia/k8s/container-toolkit@sha256:abc")
    assert cluster.verdict(ESCAPES).subjects == ["deployment gpu-operator/gpu-operator (gpu-operator)"]

    containers = cluster.get("Deployment", OPERATOR)["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = "nvcr.io/nvidia/gpu-operator@sha256:abc"
    assert isinstance(cluster.verdict(ESCAPES).ended, CouldNotLook)

    cluster.get("Deployment", OPERATOR)["metadata"]["labels"]["olm.owner"] = "gpu-operator-certified.v25.3.0"
    assert cluster.verdict(ESCAPES).broken


def test_legacy_ways_to_hand_over_devices_break_under_cdi_and_not_without(cluster):
    name = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
    cluster.policy()["spec"]["toolkit"]["env"] = [{"name": name, "value": "false"}]
    assert "unresolvable CDI devices" in str(cluster.verdict(BREAKING).broken)

    cluster.policy()["spec"]["cdi"]["enabled"] = False
    assert cluster.verdict(BREAKING).passed


def test_the_toolkit_that_overwrites_containerd_s_imports_is_found(cluster):
    toolkit_image(cluster, "nvcr.io/nvidia/k8s/container-toolkit:v1.18.0-ubuntu20.04")

    assert "imports" in str(cluster.verdict(BREAKING).broken)


# --- OPER-10 to OPER-14: coverage --------------------------------------------------------------------------------

TOLERATIONS = coverage.test_every_component_tolerates_the_gpu_nodes
DISCOVERED = coverage.test_every_gpu_node_is_discovered
SWITCHED_OFF = coverage.test_no_component_is_switched_off_on_a_gpu_node
COVERAGE = coverage.test_every_component_runs_on_every_gpu_node
VALIDATED = coverage.test_the_validator_has_passed_on_every_gpu_node
A_NODE = "t4-inference-1"


def tolerations(cluster, name, tolerated):
    cluster.daemonset(name)["spec"]["template"]["spec"]["tolerations"] = tolerated


def test_the_default_toleration_is_too_little_for_a_second_taint(cluster):
    gpu_only = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    tolerations(cluster, "nvidia-device-plugin-daemonset", gpu_only)

    broken = cluster.verdict(TOLERATIONS).broken

    assert list(broken) == ["daemonset gpu-operator/nvidia-device-plugin-daemonset"]
    assert "dedicated=gpu:NoSchedule" in str(broken)
    assert "daemonsets.tolerations" in str(broken)
    assert "nvidia.com/gpu=present" not in str(broken).partition("|")[2]


def test_a_list_that_replaced_the_default_is_told_so(cluster):
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
    assert "maintenance:NoExecute of pool t4-inference" in str(cluster.verdict(TOLERATIONS).broken)


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
        driver.test_every_gpu_node_has_the_declared_driver,
    ):
        assert cluster.verdict(requirement).passed, requirement


def test_a_young_node_is_judged_for_what_time_does_not_mend(cluster):
    joined(cluster, A_NODE)
    cluster.node(A_NODE)["metadata"]["labels"]["nvidia.com/gpu.present"] = "true"
    cluster.node(A_NODE)["metadata"]["labels"]["feature.node.kubernetes.io/pci-10de.present"] = "true"
    tolerations(cluster, "nvidia-driver-daemonset", [])

    assert "not tolerated" in cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("nvidia.com/gpu.deploy.device-plugin", "paused-for-driver-upgrade"),
        ("nvidia.com/gpu.deploy.dcgm-exporter", "false"),
        ("nvidia.com/gpu.deploy.operands", "false"),
    ],
)
def test_a_label_that_keeps_a_component_away_is_found_unless_the_pool_declares_it(cluster, reference, label, value):
    cluster.label(A_NODE, {label: value})
    assert f"{label}={value}" in cluster.verdict(SWITCHED_OFF).broken[f"node {A_NODE}"]

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
    assert "nvidia-driver-daemonset-t4-inference-1 is there and not Ready" in broken[f"node {A_NODE}"]
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

    assert "no label nvidia.com/gpu.deploy.dcgm-exporter=true" in cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]


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


def test_a_validator_that_stands_is_named_with_its_step_and_green_says_what_it_proves(cluster):
    assert "neither the number of GPUs" in cluster.verdict(VALIDATED).judge.findings[0].expected

    unready(cluster.pod("nvidia-operator-validator", A_NODE), init="cuda-validation", reason="CrashLoopBackOff")
    assert "cuda-validation" in cluster.verdict(VALIDATED).broken[f"node {A_NODE}"]


# --- OPER-15 to OPER-19: drivers ---------------------------------------------------------------------------------

VERSION = driver.test_every_gpu_node_has_the_declared_driver
MAINTAINED = driver.test_every_driver_is_maintained
DEFECTS = driver.test_no_driver_has_a_defect_that_the_pool_meets
STILL = driver.test_no_driver_upgrade_stands_still
OBSTACLES = driver.test_nothing_would_make_a_driver_upgrade_fail
FULL = "nvidia.com/cuda.driver-version.full"
STATE = "nvidia.com/gpu-driver-upgrade-state"
SKIP = "nvidia.com/gpu-driver-upgrade.skip"


def test_another_driver_is_found_and_the_label_that_kept_it_named(cluster):
    cluster.label(A_NODE, {FULL: "570.172.08", SKIP: "true"})

    broken = cluster.verdict(VERSION).broken

    assert list(broken) == [f"node {A_NODE}"]
    assert SKIP in broken[f"node {A_NODE}"]


def test_a_pool_may_declare_a_driver_of_its_own(cluster, reference):
    gpu = msgspec.structs.replace(reference.pool("h100-training").gpu, driver="570.172.08")
    for node in ("h100-training-1", "h100-training-2"):
        cluster.label(node, {FULL: "570.172.08"})

    assert cluster.verdict(VERSION, with_pool(reference, "h100-training", gpu=gpu)).passed


def test_a_driver_that_no_label_tells_is_not_another_driver(cluster):
    cluster.label(A_NODE, {FULL: None})
    assert cluster.verdict(VERSION).passed

    for each in cluster.objects:
        if each["kind"] == "Node":
            each["metadata"]["labels"].pop(FULL, None)
    assert isinstance(cluster.verdict(VERSION).ended, CouldNotLook)


def test_a_branch_at_its_end_of_life_is_found_and_an_unknown_one_is_not_judged(cluster):
    cluster.label(A_NODE, {FULL: "535.183.01"})
    assert "end of life" in cluster.verdict(MAINTAINED).broken[f"node {A_NODE}"]

    cluster.label(A_NODE, {FULL: "999.10.01"})
    assert cluster.verdict(MAINTAINED).passed


def test_a_defect_counts_only_where_the_pool_meets_it(cluster, reference):
    for node in ("a100-mig-1", "a100-training-1"):
        cluster.label(node, {FULL: "570.133.20"})
    layouts = msgspec.structs.replace(
        reference.stack.mig_layouts, layouts={"inference-and-training": ({"devices": [0], "mig-enabled": True,
        "mig-devices": {"1g.5gb": 7}},)})  # fmt: skip

    assert cluster.verdict(DEFECTS).passed, "all GPUs of the pool have MIG, or none"
    assert list(cluster.verdict(DEFECTS, other(reference, mig_layouts=layouts)).broken) == ["node a100-mig-1"]


def test_a_failed_upgrade_is_found_and_one_under_way_is_not(cluster):
    cluster.label(A_NODE, {STATE: "pod-deletion-required"})
    assert cluster.verdict(STILL).passed

    cluster.label(A_NODE, {STATE: "upgrade-failed"})
    assert "failed" in cluster.verdict(STILL).broken[f"node {A_NODE}"]


def test_an_upgrade_that_cordoned_nodes_hold_up_is_told_the_sum(cluster, reference):
    cluster.label(A_NODE, {STATE: "upgrade-required"})
    assert cluster.verdict(STILL).passed, "it starts with the next look of the operator"

    for node in ("a100-training-1", "a100-training-2", "h100-training-1", "t4-shared-1"):
        cluster.node(node)["spec"]["unschedulable"] = True
    broken = cluster.verdict(STILL).broken
    assert list(broken) == [f"node {A_NODE}"]
    assert "4 of 16 nodes are cordoned" in broken[f"node {A_NODE}"]
    assert "maxUnavailable allows 4" in broken[f"node {A_NODE}"]


def test_a_node_that_failed_holds_up_the_others(cluster):
    cluster.label("a100-training-1", {STATE: "upgrade-failed"})
    cluster.label(A_NODE, {STATE: "upgrade-required"})

    assert "maxParallelUpgrades" in cluster.verdict(STILL).broken[f"node {A_NODE}"]


def test_a_wait_for_jobs_without_end_is_found_and_one_with_a_limit_is_not(cluster):
    wait = cluster.policy()["spec"]["driver"]["upgradePolicy"]["waitForCompletion"]
    wait["podSelector"] = "job=training"
    cluster.label(A_NODE, {STATE: "wait-for-jobs-required"})
    assert "job=training" in cluster.verdict(STILL).broken[f"node {A_NODE}"]

    wait["timeoutSeconds"] = 3600
    assert cluster.verdict(STILL).passed


def test_a_label_that_leaves_a_node_out_is_found_unless_the_owners_declare_it(cluster, reference):
    cluster.label(A_NODE, {STATE: "upgrade-required", SKIP: "true"})
    assert SKIP in cluster.verdict(STILL).broken[f"node {A_NODE}"]

    pool = reference.pool("t4-inference")
    assert cluster.verdict(STILL, with_pool(reference, "t4-inference", labels={**pool.labels, SKIP: "true"})).passed


def test_a_node_that_was_emptied_and_has_its_driver_for_long_stands_still(cluster):
    cluster.label(A_NODE, {STATE: "validation-required"})

    assert "has long been Ready" in cluster.verdict(STILL).broken[f"node {A_NODE}"]


def workload_pod(node=A_NODE, owner="ReplicaSet", gpus=True, name="trainer", **spec):
    owners = [{"apiVersion": "apps/v1", "kind": owner, "name": f"{name}-1", "controller": True}] if owner else []
    container = {"name": name, "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}} if gpus else {}}
    container |= spec.pop("container", {})
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return made(
        "v1", "Pod", f"{name}-x", "ml-training", owners=owners,
        spec={"nodeName": node, "containers": [container], **spec}, status=status,
    )  # fmt: skip


SHM = {"volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}]}
DEVICES = {"volumes": [{"name": "dev", "hostPath": {"path": "/dev"}}]}


@pytest.mark.parametrize(
    ("pod", "forbid", "says"),
    [
        (workload_pod(**SHM), "deleteEmptyDir", "podDeletion.deleteEmptyDir"),
        (workload_pod(owner=""), "force", "podDeletion.force"),
        (workload_pod(gpus=False, **DEVICES), "", "mounts /dev"),
        (workload_pod(gpus=False, container={"securityContext": {"privileged": True}}), "", "privileged"),
        (
            workload_pod(gpus=False, initContainers=[{"name": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]),
            "",
            "init container",
        ),
        (
            workload_pod(
                gpus=False,
                runtimeClassName="nvidia",
                container={"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]},
            ),
            "",
            "runtime class nvidia",
        ),
    ],
    ids=["empty-dir", "bare", "dev", "privileged", "init", "runtime-class"],
)
def test_a_pod_in_the_way_of_an_upgrade_is_found(cluster, pod, forbid, says):
    if forbid:
        cluster.policy()["spec"]["driver"]["upgradePolicy"]["podDeletion"][forbid] = False
    cluster.objects.append(copy.deepcopy(pod))

    broken = cluster.verdict(OBSTACLES).broken

    assert list(broken) == ["pod ml-training/trainer-x"]
    assert says in broken["pod ml-training/trainer-x"]


def test_draining_takes_what_deleting_may_not(cluster):
    policy = cluster.policy()["spec"]["driver"]["upgradePolicy"]
    policy["podDeletion"]["deleteEmptyDir"] = False
    cluster.objects.append(workload_pod(**SHM))
    assert cluster.verdict(OBSTACLES).broken

    policy["drain"] = {"enable": True, "deleteEmptyDir": True}
    assert cluster.verdict(OBSTACLES).passed


def test_what_runs_on_every_node_holds_no_gpu(cluster):
    for node in (A_NODE, "cpu-1"):
        pod = workload_pod(node, owner="DaemonSet", gpus=False, name="csi", **DEVICES)
        pod["metadata"]["name"] += node
        cluster.objects.append(pod)
    daemonset = made("apps/v1", "DaemonSet", "csi-1", "ml-training", spec={"template": {"spec": {"containers": []}}})
    cluster.objects.append(daemonset)
    assert cluster.verdict(OBSTACLES).passed

    cluster.remove(cluster.get("Pod", "csi-xcpu-1"))
    assert "nodeSelector" in str(cluster.verdict(OBSTACLES).broken)


def test_pods_are_in_nobody_s_way_where_the_operator_does_not_manage_the_driver(reference):
    declared = other(reference, driver_managed=False)
    cluster = Cluster(declared)
    cluster.objects.append(workload_pod(owner="", **SHM))

    assert isinstance(cluster.verdict(OBSTACLES).ended, NotApplicable)
    assert isinstance(cluster.verdict(STILL).ended, NotApplicable)


def test_a_budget_that_never_lets_a_pod_go_is_in_the_way(cluster):
    pod = workload_pod()
    pod["metadata"]["labels"] = {"app": "trainer"}
    cluster.objects += [
        pod,
        made(
            "policy/v1", "PodDisruptionBudget", "all", "ml-training",
            spec={"selector": {"matchLabels": {"app": "trainer"}}, "maxUnavailable": 0},
            status={"disruptionsAllowed": 0, "currentHealthy": 1, "expectedPods": 1},
        ),
    ]  # fmt: skip

    assert "disruption budget ml-training/all" in str(cluster.verdict(OBSTACLES).broken)

"""The rules of the simulated operator that need no cluster, against what NVIDIA documents or its sources say."""

import itertools
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.gpu.operator_stack import StackKind, detect
from conformance.gpu.stack_programs import PLUGIN_CONTAINERS
from conformance.simulator import drivers
from conformance.simulator.annotations import SIMULATED, SIMULATED_VALUE
from conformance.simulator.chart import gpu_operator
from conformance.simulator.clusterpolicy import ClusterPolicy, SpecError, oldest
from conformance.simulator.deployment import Deployment
from conformance.simulator.evacuation import Rules, selected, undeletable
from conformance.simulator.fleet import Fleet, Pool, Seen
from conformance.simulator.hardware import HARDWARE, Machine
from conformance.simulator.manifests import objects_of, operator_service, rolling, runtime_classes, stands_on
from conformance.simulator.nfd import PREFIX, NodeFeatureDiscovery
from conformance.simulator.nodelabels import (
    DriverObject,
    Situation,
    is_mig_capable,
    sees_to_upgrade_annotation,
    upgrade_annotation,
    wanted_changes,
    watched_labels,
)
from conformance.simulator.operands import (
    BY_APP,
    DRIVER,
    EXPORTER,
    MIG_MANAGER,
    OPERANDS,
    PLUGIN,
    TOOLKIT,
    VALIDATOR,
)
from conformance.simulator.podstatus import RESTARTS
from conformance.simulator.rollout import is_rolled_out
from conformance.simulator.upgrade_slots import Step, UpgradePolicy, UpgradingNode, free_slots, policy_of
from conformance.simulator.upgrade_steps import is_upgraded
from conformance.simulator.validator import PRE_INSTALLED, Validator
from conformance.simulator.world import World

Object = dict[str, Any]
NFD = "node-feature-discovery"
PCI = "feature.node.kubernetes.io/pci-10de.present"
DEPLOY = "nvidia.com/gpu.deploy."
OWNER = "nvidia.com/gpu-operator.driver.owner"
# gpu-operator v26.7.0, controllers/state_manager.go: the labels of a node whose GPUs are for containers.
NINE = {
    f"{DEPLOY}{end}": "true"
    for end in (
        "driver",
        "gpu-feature-discovery",
        "container-toolkit",
        "device-plugin",
        "dcgm",
        "dcgm-exporter",
        "node-status-exporter",
        "operator-validator",
        "client",
    )
}


def policy(**spec: Any) -> ClusterPolicy:
    """The chart's ClusterPolicy with parts of its spec replaced."""
    made = next(each for each in gpu_operator({}) if each["kind"] == "ClusterPolicy")
    metadata = {"name": "cluster-policy", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return ClusterPolicy({**made, "metadata": metadata, "spec": {**made["spec"], **spec}})


def daemon_set(operand: Any, asked: ClusterPolicy) -> Object:
    return objects_of(operand, asked, "gpu-operator", "ubuntu24.04")[-1]


def pod_of(operand: Any, asked: ClusterPolicy) -> Object:
    return daemon_set(operand, asked)["spec"]["template"]["spec"]


def variables(container: Object) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


# --- node labels --------------------------------------------------------------------------------------------------


def test_a_node_with_gpus_gets_gpu_present_and_nine_deploy_labels() -> None:
    changes = wanted_changes({PCI: "true"}, Situation(policy()))

    assert changes == {"nvidia.com/gpu.present": "true"} | NINE


@pytest.mark.parametrize("device", ["10de", "0302_10de", "0300_10de"])
def test_three_pci_labels_mean_a_gpu(device: str) -> None:
    labels = {f"feature.node.kubernetes.io/pci-{device}.present": "true"}

    assert wanted_changes(labels, Situation(policy()))["nvidia.com/gpu.present"] == "true"


def test_a_pci_label_with_more_fields_means_nothing() -> None:  # F6
    labels = {"feature.node.kubernetes.io/pci-0302_10de_20b0.present": "true"}

    assert wanted_changes(labels, Situation(policy())) == {}


def test_a_value_that_is_there_stays_and_an_empty_one_is_none() -> None:
    paused = {f"{DEPLOY}device-plugin": "paused-for-driver-upgrade", f"{DEPLOY}dcgm": ""}

    changes = wanted_changes({PCI: "true", **paused}, Situation(policy()))

    assert f"{DEPLOY}device-plugin" not in changes
    assert changes[f"{DEPLOY}dcgm"] == "true"


def test_when_the_pci_label_vanishes_present_is_false_and_the_deploy_labels_go() -> None:
    labels = {"nvidia.com/gpu.present": "true", f"{DEPLOY}mig-manager": "true", "mine": "x", **NINE}

    changes = wanted_changes(labels, Situation(policy()))

    assert changes.pop("nvidia.com/gpu.present") == "false"
    assert changes == dict.fromkeys([*NINE, f"{DEPLOY}mig-manager"])


def test_operands_false_takes_a_node_out() -> None:
    labels = {PCI: "true", "nvidia.com/gpu.present": "true", f"{DEPLOY}operands": "false", **NINE}

    assert wanted_changes(labels, Situation(policy())) == dict.fromkeys(NINE)


@pytest.mark.parametrize(
    ("labels", "capable"),
    [
        ({"nvidia.com/mig.capable": "true"}, True),
        ({"nvidia.com/mig.capable": "false", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}, False),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, True),
        ({"nvidia.com/gpu.product": "NVIDIA-A30"}, True),
        ({"nvidia.com/gpu.product": "NVIDIA-B200"}, False),
        ({"nvidia.com/mig.capable": "true", "nvidia.com/vgpu.host-driver-version": "580"}, False),
        ({}, False),
    ],
)
def test_mig_capability_is_told_by_gfd_and_before_that_by_the_product(labels: dict[str, str], capable: bool) -> None:
    assert is_mig_capable(labels) is capable
    changes = wanted_changes({PCI: "true", **labels}, Situation(policy()))
    assert (f"{DEPLOY}mig-manager" in changes) is capable
    assert changes.get("nvidia.com/mig.config") == ("all-disabled" if capable else None)


def test_nothing_is_labelled_without_a_stack_or_with_both() -> None:
    assert wanted_changes({PCI: "true"}, Situation()) == {}
    assert wanted_changes({PCI: "true"}, Situation(policy(), dra=True)) == {}


def test_the_upgrade_annotation_stays_without_gpus_without_a_stack_and_with_both() -> None:
    gpus, gone = {"nvidia.com/gpu.present": "true"}, {"nvidia.com/gpu.present": "false"}

    assert sees_to_upgrade_annotation(gpus, Situation(policy()))
    assert not sees_to_upgrade_annotation(gone, Situation(policy()))
    assert not sees_to_upgrade_annotation(gpus, Situation())
    assert not sees_to_upgrade_annotation(gpus, Situation(policy(), dra=True))


@pytest.mark.parametrize("upgrades", [True, False])
def test_of_driver_objects_the_upgrade_annotation_follows_the_one_that_a_node_belongs_to(upgrades: bool) -> None:
    situation = Situation(dra=True, drivers=(DriverObject("blue", upgrades=upgrades),))
    owned, unowned = ({"nvidia.com/gpu.present": "true", OWNER: name} for name in ("blue", "former"))

    assert sees_to_upgrade_annotation(owned, situation)
    assert upgrade_annotation(owned, situation) == ("true" if upgrades else None)
    assert not sees_to_upgrade_annotation(unowned, situation)


def test_a_deploy_label_is_not_watched_and_the_labels_of_a_drivers_selector_are() -> None:
    labels = {PCI: "true", "nvidia.com/gpu.present": "true", "pool": "blue", **NINE}
    watched = watched_labels(labels, ("pool",))

    assert watched_labels({**labels, f"{DEPLOY}dcgm": "", "mine": "x"}, ("pool",)) == watched
    assert watched_labels({**labels, "pool": "red"}, ("pool",)) != watched
    assert watched_labels({**labels, "nvidia.com/gpu.present": "false"}, ("pool",)) != watched
    assert watched_labels({**labels, f"{DEPLOY}operands": "false"}, ("pool",)) != watched


@pytest.mark.parametrize(("chosen", "end"), [("vm-vgpu", "vgpu-manager"), ("vm", "vfio-manager"), ("", "vfio-manager")])
def test_a_workload_that_does_not_exist_means_the_default_one(chosen: str, end: str) -> None:
    asked = policy(sandboxWorkloads={"enabled": True, "defaultWorkload": "vm-passthrough"})

    changes = wanted_changes({PCI: "true", "nvidia.com/gpu.workload.config": chosen}, Situation(asked))

    assert changes[f"{DEPLOY}{end}"] == "true"


def test_a_gpu_cluster_swaps_the_deploy_labels() -> None:
    labels = {PCI: "true", "nvidia.com/gpu.present": "true", f"{DEPLOY}mig-manager": "true", **NINE}

    changes = wanted_changes(labels, Situation(dra=True))

    added = {f"{DEPLOY}{end}" for end in ("dra-driver", "dra-validator", "dcgm-dra", "dcgm-exporter-dra")}
    assert {label for label, value in changes.items() if value == "true"} == added
    assert {label for label, value in changes.items() if value is None} == {
        *NINE,
        f"{DEPLOY}mig-manager",
    } - {f"{DEPLOY}driver"}


def test_a_node_belongs_to_the_driver_object_that_selects_it_else_to_the_default_one() -> None:
    drivers = (DriverObject("default", default=True), DriverObject("blue", {"pool": "blue"}))
    asked = Situation(policy(driver={"useNvidiaDriverCRD": True}), drivers=drivers)
    owner = "nvidia.com/gpu-operator.driver.owner"

    assert wanted_changes({PCI: "true"}, asked)[owner] == "default"
    assert wanted_changes({PCI: "true", "pool": "blue"}, asked)[owner] == "blue"


def test_a_node_that_two_driver_objects_claim_keeps_its_owner() -> None:
    drivers = (DriverObject("red", {"a": "1"}), DriverObject("blue", {"b": "1"}))
    asked = Situation(policy(driver={"useNvidiaDriverCRD": True}), drivers=drivers)

    assert "nvidia.com/gpu-operator.driver.owner" not in wanted_changes({PCI: "true", "a": "1", "b": "1"}, asked)


# --- the ClusterPolicy and its operands ---------------------------------------------------------------------------


def test_the_oldest_policy_is_followed_and_by_name_among_equals() -> None:
    def made(name: str, created: str) -> Object:
        return {"metadata": {"name": name, "creationTimestamp": created}}

    old, young = made("z", "2026-01-01T00:00:00Z"), made("a", "2026-01-02T00:00:00Z")
    assert oldest([young, old]) is old
    twin = made("b", "2026-01-01T00:00:00Z")
    assert oldest([old, twin]) is twin


def test_defaults_are_the_documented_ones() -> None:  # values.yaml of v26.7.0
    asked = ClusterPolicy({"metadata": {"name": "bare"}, "spec": {}})

    off = {each.component for each in OPERANDS if not asked.enabled(each.component)}
    assert off == {"dcgm", "nodeStatusExporter"}
    assert asked.image("driver") == "nvcr.io/nvidia/driver:595.91.07"
    assert asked.image("devicePlugin") == "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"
    assert asked.cdi
    assert not asked.nri
    assert not asked.upgrades  # a policy without upgradePolicy upgrades nothing; the chart writes one


def test_operands_tolerate_gpu_taints_and_the_list_of_the_policy_replaces_that() -> None:  # F4
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    own = [{"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]
    for operand in OPERANDS:
        assert pod_of(operand, policy())["tolerations"] == [gpu]
        assert pod_of(operand, policy(daemonsets={"tolerations": []}))["tolerations"] == [gpu]
        assert pod_of(operand, policy(daemonsets={"tolerations": own}))["tolerations"] == own


def test_every_operand_goes_where_its_deploy_label_is_true() -> None:
    for operand in OPERANDS:
        selector = pod_of(operand, policy())["nodeSelector"]
        assert selector[f"{DEPLOY}{operand.deploy}"] == "true"
    assert pod_of(BY_APP["nvidia-device-plugin-mps-control-daemon"], policy())["nodeSelector"] == {
        f"{DEPLOY}device-plugin": "true",
        "nvidia.com/mps.capable": "true",
    }


def test_operands_are_privileged_and_critical() -> None:  # F8, F9
    for operand in OPERANDS:
        pod = pod_of(operand, policy())
        assert pod["priorityClassName"] == "system-node-critical"
        assert pod["containers"][0]["securityContext"]["privileged"] is True


def test_what_needs_gpus_in_a_container_has_the_runtime_class_unless_nri_is_on() -> None:
    for operand in OPERANDS:
        expected = "nvidia" if operand.runs_with_gpus else None
        assert pod_of(operand, policy()).get("runtimeClassName") == expected
        assert "runtimeClassName" not in pod_of(operand, policy(cdi={"enabled": True, "nriPluginEnabled": True}))
    assert [each["metadata"]["name"] for each in runtime_classes(policy())] == ["nvidia", "nvidia-cdi", "nvidia-legacy"]
    assert runtime_classes(policy(cdi={"enabled": True, "nriPluginEnabled": True})) == []
    assert [each["metadata"]["name"] for each in runtime_classes(policy(cdi={"enabled": False}))] == ["nvidia"]


def test_the_device_plugin_is_told_of_its_config_map() -> None:  # object_controls.go handleDevicePluginConfig
    asked = policy(devicePlugin={"config": {"name": "sharing", "default": "sliced"}})
    for operand in (PLUGIN, BY_APP["gpu-feature-discovery"], BY_APP["nvidia-device-plugin-mps-control-daemon"]):
        pod = pod_of(operand, asked)
        managers = [pod["initContainers"][-1], pod["containers"][-1]]
        assert [each["name"] for each in managers] == ["config-manager-init", "config-manager"]
        assert variables(pod["containers"][0])["CONFIG_FILE"] == "/config/config.yaml"
        for manager in managers:
            told = variables(manager)
            assert told["DEFAULT_CONFIG"] == "sliced"
            assert told["FALLBACK_STRATEGIES"] == "empty"
            assert told["NODE_LABEL"] == "nvidia.com/device-plugin.config"
        assert {"name": "sharing", "configMap": {"name": "sharing"}} in pod["volumes"]


def test_without_a_config_map_there_are_no_config_managers() -> None:
    pod = pod_of(PLUGIN, policy())

    assert [each["name"] for each in pod["initContainers"]] == ["toolkit-validation"]
    assert [each["name"] for each in pod["containers"]] == ["nvidia-device-plugin"]
    assert "CONFIG_FILE" not in variables(pod["containers"][0])


def test_the_mig_strategy_reaches_plugin_and_gfd() -> None:
    for operand in (PLUGIN, BY_APP["gpu-feature-discovery"]):
        assert variables(pod_of(operand, policy(mig={"strategy": "mixed"}))["containers"][0])["MIG_STRATEGY"] == "mixed"
        told = variables(pod_of(operand, policy(mig={"strategy": "none"}))["containers"][0])
        assert "NVIDIA_MIG_MONITOR_DEVICES" not in told


def test_environment_of_the_policy_wins() -> None:
    env = [{"name": "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED", "value": "false"}]
    more = [{"name": "NVIDIA_RUNTIME_SET_AS_DEFAULT", "value": "true"}]

    told = variables(pod_of(TOOLKIT, policy(toolkit={"env": [*env, *more]}))["containers"][0])

    assert told["ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"] == "false"
    assert told["NVIDIA_RUNTIME_SET_AS_DEFAULT"] == "true"
    assert told["CDI_ENABLED"] == "true"


def test_environment_of_the_device_plugin_does_not_reach_the_mps_control_daemon() -> None:
    asked = policy(devicePlugin={**policy().block("devicePlugin"), "env": [{"name": "EXAMPLE", "value": "yes"}]})
    daemon = BY_APP["nvidia-device-plugin-mps-control-daemon"]

    assert variables(pod_of(PLUGIN, asked)["containers"][0])["EXAMPLE"] == "yes"
    assert "EXAMPLE" not in variables(pod_of(daemon, asked)["containers"][0])


def test_labels_of_the_policy_override_those_of_daemon_sets_and_not_those_of_their_pods() -> None:
    made = daemon_set(PLUGIN, policy(daemonsets={"labels": {"app": "other", "team": "platform"}}))

    assert made["metadata"]["labels"] == {"app": "other", "team": "platform"}
    assert made["spec"]["template"]["metadata"]["labels"] == {"app": PLUGIN.name, "team": "platform"}


def test_a_runtime_class_of_before_stays_and_those_of_cdi_go() -> None:
    asked = policy(operator={"runtimeClass": "others"}, cdi={"enabled": False})
    mine = [{"kind": "ClusterPolicy", "name": "cluster-policy", "uid": "u"}]
    there = {name: {"metadata": {"name": name, "ownerReferences": mine}} for name in ("nvidia", "nvidia-cdi")}
    deleted: list[str] = []
    client = SimpleNamespace(apply=lambda made, **_: made, delete=lambda where, **_: deleted.append(where))
    world: Any = SimpleNamespace(
        client=client, get=lambda kind, name, namespace="": there.get(name) if kind == "RuntimeClass" else None
    )
    asked.object["metadata"]["generation"] = 1

    Deployment(world).of_policy(asked, Seen(), "gpu-operator", rival=None)

    assert deleted == ["/apis/node.k8s.io/v1/runtimeclasses/nvidia-cdi"]


def test_drivers_are_exchanged_by_hand_and_the_rest_one_by_one() -> None:
    assert daemon_set(DRIVER, policy())["spec"]["updateStrategy"] == {"type": "OnDelete"}
    rolled = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    assert daemon_set(PLUGIN, policy())["spec"]["updateStrategy"] == rolled
    by_hand = policy(daemonsets={"updateStrategy": "OnDelete"})
    assert daemon_set(PLUGIN, by_hand)["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert rolling({"rollingUpdate": {"maxUnavailable": "20%"}})["rollingUpdate"] == {"maxUnavailable": "20%"}


def test_the_tag_of_a_driver_names_the_operating_system() -> None:
    assert pod_of(DRIVER, policy())["containers"][0]["image"] == "nvcr.io/nvidia/driver:595.91.07-ubuntu24.04"
    pinned = policy(driver={"version": "sha256:abc"})
    assert pod_of(DRIVER, pinned)["containers"][0]["image"] == "nvcr.io/nvidia/driver@sha256:abc"


def test_a_precompiled_driver_has_a_daemon_set_for_each_kernel() -> None:
    made = objects_of(DRIVER, policy(), "gpu-operator", "ubuntu24.04", "6.8.0-1035-aws")[-1]

    assert made["metadata"]["name"] == "nvidia-driver-daemonset-6.8.0-1035-aws-ubuntu24.04"
    # Seen of the program: the label app and the selector do not follow the name.
    assert made["metadata"]["labels"]["app"] == "nvidia-driver-daemonset"
    assert made["spec"]["selector"]["matchLabels"]["app"] == "nvidia-driver-daemonset"
    pod = made["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"].endswith(":595.91.07-6.8.0-1035-aws-ubuntu24.04")
    assert pod["nodeSelector"]["feature.node.kubernetes.io/kernel-version.full"] == "6.8.0-1035-aws"


def test_the_plugin_is_not_validated_where_it_is_not_deployed() -> None:
    names = [each["name"] for each in pod_of(VALIDATOR, policy())["initContainers"]]
    assert names == ["driver-validation", "toolkit-validation", "cuda-validation", "plugin-validation"]
    names = [each["name"] for each in pod_of(VALIDATOR, policy(devicePlugin={"enabled": False}))["initContainers"]]
    assert "plugin-validation" not in names


# What follows was seen of the program itself (bench/operator_comparison.py).
@pytest.mark.parametrize(("labels", "upgraded"), [({}, True), ({"team": "platform"}, True), ({"app": "other"}, False)])
def test_a_driver_whose_daemon_set_has_lost_its_name_is_not_upgraded(labels: dict[str, str], upgraded: bool) -> None:
    made = daemon_set(DRIVER, policy(daemonsets={"labels": labels}))
    made["metadata"]["uid"] = "u"
    world: Any = SimpleNamespace(get=lambda kind, name, namespace: made)
    owner = {"kind": "DaemonSet", "name": made["metadata"]["name"], "uid": "u"}
    pod = {"metadata": {"namespace": made["metadata"]["namespace"], "name": "driver-1", "ownerReferences": [owner]}}

    assert is_upgraded(world, pod) is upgraded


def test_the_validator_is_told_of_the_pods_that_it_starts() -> None:
    inits = {each["name"]: variables(each) for each in pod_of(VALIDATOR, policy())["initContainers"]}
    told = {"VALIDATOR_RUNTIME_CLASS": "nvidia", "VALIDATOR_IMAGE_PULL_POLICY": "IfNotPresent"}

    assert all(told.items() <= inits[name].items() for name in ("cuda-validation", "plugin-validation"))
    assert inits["toolkit-validation"]["NVIDIA_VISIBLE_DEVICES"] == "all"


def test_only_pods_that_validate_get_the_pull_secrets_of_the_validator() -> None:
    asked = policy(validator={"repository": "r", "image": "i", "version": "v1", "imagePullSecrets": ["theirs"]})

    assert pod_of(TOOLKIT, asked)["imagePullSecrets"] == [{"name": "theirs"}]
    assert "imagePullSecrets" not in pod_of(DRIVER, asked)


def test_the_hook_of_cdi_is_where_the_toolkit_puts_it() -> None:
    path = {"NVIDIA_CDI_HOOK_PATH": "/usr/local/nvidia/toolkit/nvidia-cdi-hook"}
    without = policy(toolkit={"enabled": False})

    for operand in (PLUGIN, MIG_MANAGER):
        assert path.items() <= variables(pod_of(operand, policy())["containers"][0]).items()
        assert not path.items() <= variables(pod_of(operand, without)["containers"][0]).items()


def test_with_nri_the_validator_gets_devices_where_it_looks_at_them() -> None:
    asked = policy(cdi={"enabled": True, "nriPluginEnabled": True})
    annotations = daemon_set(VALIDATOR, asked)["spec"]["template"]["metadata"]["annotations"]

    assert annotations["nvidia.cdi.k8s.io/container.toolkit-validation"] == "management.nvidia.com/gpu=all"
    assert "nvidia.cdi.k8s.io/container.nvidia-operator-validator" not in annotations
    assert variables(pod_of(TOOLKIT, asked)["containers"][0])["NRI_SOCKET"] == "/runtime/nri-sock-dir/nri.sock"


def test_without_gpu_nodes_there_is_all_but_daemon_sets() -> None:
    kinds = {each["kind"] for operand in OPERANDS for each in stands_on(operand, policy(), "n")}

    assert {"ServiceAccount", "Service"} <= kinds
    assert "DaemonSet" not in kinds


def test_the_driver_of_an_nvidia_driver_is_told_its_kernel_modules_and_keeps_off_other_drivers() -> None:
    image = {"repository": "r", "image": "driver", "version": "v1"}
    driver = {"metadata": {"name": "default", "uid": "u"}, "spec": image}
    made = drivers.daemon_set(driver, "n", Pool("ubuntu", "24.04", "6.8.0", "default"))
    pod = made["spec"]["template"]["spec"]
    told = variables(pod["containers"][0])
    rules = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]

    assert (told["KERNEL_MODULE_TYPE"], told["NVIDIA_VISIBLE_DEVICES"]) == ("auto", "void")
    assert rules[0]["labelSelector"]["matchExpressions"][0]["values"] == ["nvidia-driver", "nvidia-vgpu-manager"]
    assert made["metadata"]["labels"]["nvidia.com/gpu-operator.state"] == "state-driver"


WITH_MODULES: Object = {
    "driver": {"rdma": {"enabled": True, "useHostMofed": True}},
    "gds": {"enabled": True, "env": [{"name": "EXAMPLE", "value": "yes"}]},
    "gdrcopy": {"enabled": True},
}


def with_modules() -> ClusterPolicy:
    """A ClusterPolicy with GPUDirect RDMA, GPUDirect Storage and GDRCopy."""
    return policy(**{name: {**policy().block(name), **block} for name, block in WITH_MODULES.items()})


def test_each_kernel_module_beside_the_drivers_has_a_container() -> None:
    pod = pod_of(DRIVER, with_modules())
    images = {each["name"]: each["image"] for each in pod["containers"]}

    assert images == {
        "nvidia-driver-ctr": "nvcr.io/nvidia/driver:595.91.07-ubuntu24.04",
        "nvidia-peermem-ctr": "nvcr.io/nvidia/driver:595.91.07-ubuntu24.04",
        "nvidia-fs-ctr": "nvcr.io/nvidia/cloud-native/nvidia-fs:2.29.4-ubuntu24.04",
        "nvidia-gdrcopy-ctr": "nvcr.io/nvidia/cloud-native/gdrdrv:v2.6-ubuntu24.04",
    }
    driver, peermem, storage, _ = (variables(each) for each in pod["containers"])
    rdma = {"GPU_DIRECT_RDMA_ENABLED": "true", "USE_HOST_MOFED": "true"}
    assert ({**rdma, "GDS_ENABLED": "true", "GDRCOPY_ENABLED": "true"}).items() <= driver.items()
    assert (peermem, storage) == ({"USE_HOST_MOFED": "true"}, {"EXAMPLE": "yes"})
    assert rdma.items() <= variables(pod["initContainers"][0]).items()
    assert [each["name"] for each in pod_of(DRIVER, policy())["containers"]] == ["nvidia-driver-ctr"]


def test_the_plugin_is_told_of_kernel_modules_whose_devices_containers_get() -> None:
    told = variables(pod_of(PLUGIN, with_modules())["containers"][0])
    untold = variables(pod_of(PLUGIN, policy())["containers"][0])

    modules = {"GDS_ENABLED": "true", "MOFED_ENABLED": "true", "GDRCOPY_ENABLED": "true"}
    assert modules.items() <= told.items()
    assert not modules.keys() & untold.keys()


def test_precompiled_drivers_do_not_go_with_modules_that_are_built() -> None:
    with pytest.raises(SpecError, match="nvidia-fs"):
        objects_of(DRIVER, with_modules(), "gpu-operator", "ubuntu24.04", "6.8.0-1035-aws")


def test_an_nvidia_driver_asks_for_kernel_modules_in_the_same_words() -> None:
    image = {"repository": "r", "image": "driver", "version": "v1", "kernelModuleType": "open"}
    spec = {**image, "rdma": {"enabled": True}, "gdrcopy": {"enabled": True}}
    made = drivers.daemon_set(
        {"metadata": {"name": "d", "uid": "u"}, "spec": spec}, "n", Pool("ubuntu", "24.04", "", "d")
    )
    driver, peermem, copying = made["spec"]["template"]["spec"]["containers"]

    told = {"GPU_DIRECT_RDMA_ENABLED": "true", "GDRCOPY_ENABLED": "true", "OPEN_KERNEL_MODULES_ENABLED": "true"}
    assert told.items() <= variables(driver).items()
    assert (peermem["image"], variables(peermem)) == (driver["image"], {"NVIDIA_VISIBLE_DEVICES": "void"})
    assert copying["name"] == "nvidia-gdrcopy-ctr"


def test_accounts_and_services_are_those_of_the_program() -> None:
    made = [each for operand in OPERANDS for each in stands_on(operand, policy(), "n")]
    accounts = {each["metadata"]["name"] for each in made if each["kind"] == "ServiceAccount"}

    assert {"nvidia-device-plugin", "nvidia-device-plugin-mps-control-daemon"} <= accounts
    assert operator_service("n")["spec"]["ports"][0]["port"] == 8080


def test_services_and_config_maps_come_with_their_operands() -> None:
    kinds = [each["kind"] for each in objects_of(EXPORTER, policy(), "n", "")]
    assert kinds == ["ServiceAccount", "Service", "DaemonSet"]
    mounted = pod_of(MIG_MANAGER, policy(migManager={"config": {"name": "layouts"}}))["volumes"]
    assert {"name": "mig-parted-config", "configMap": {"name": "layouts"}} in mounted


def test_switches_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SpecError, match="cdi"):
        policy(cdi={"enabled": False, "nriPluginEnabled": True}).check()
    with pytest.raises(SpecError, match="toolkit"):
        policy(cdi={"nriPluginEnabled": True}, toolkit={"enabled": False}).check()
    with pytest.raises(SpecError, match="driver"):
        policy(driver={"image": ""}).image("driver")
    with pytest.raises(SpecError, match="maxUnavailable"):
        rolling({"rollingUpdate": {"maxUnavailable": "some"}})


def test_stack_detection_recognises_what_is_deployed() -> None:
    asked = policy()
    objects = [daemon_set(operand, asked) for operand in OPERANDS]
    found = detect([*gpu_operator({}), *objects])
    assert found.stack is StackKind.CLUSTER_POLICY
    assert found.device_plugins == ("gpu-operator/nvidia-device-plugin-daemonset",)
    assert PLUGIN.container in PLUGIN_CONTAINERS


# --- when a DaemonSet counts as ready -----------------------------------------------------------------------------


def rollout(desired: int, updated: int, available: int, *, generation: int = 2, observed: int = 2) -> Object:
    status = {
        "observedGeneration": observed,
        "desiredNumberScheduled": desired,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
    return {"metadata": {"generation": generation}, "status": status}


def test_a_daemon_set_that_wants_no_pods_is_ready() -> None:  # object_controls.go isDaemonSetReady
    assert is_rolled_out(rollout(0, 0, 0))
    assert is_rolled_out(rollout(3, 3, 3))


def test_a_daemon_set_with_old_or_unready_pods_is_not() -> None:
    assert not is_rolled_out(None)
    assert not is_rolled_out(rollout(3, 3, 2))
    assert not is_rolled_out(rollout(3, 2, 3))
    assert not is_rolled_out(rollout(3, 3, 3, observed=1))


# --- Node Feature Discovery ---------------------------------------------------------------------------------------


class Writes:
    """A client that only remembers what was written to nodes."""

    def __init__(self) -> None:
        self.labels: dict[str, str | None] = {}

    def patch(self, path: str, body: Object) -> Object:
        self.labels |= body["metadata"]["labels"]
        return {}


def discovered(
    config: str | None, labels: dict[str, str] | None = None, *, ready: bool = True
) -> dict[str, str | None]:
    """What a worker writes on a node with one GPU, beside kernel and system."""
    writes = Writes()
    world = World(writes, ("Node", "Pod", "ConfigMap"))  # type: ignore[arg-type]
    part = NodeFeatureDiscovery(world)
    machine = msgspec.json.encode(Machine("Tesla T4", 1, 15360, "7.5")).decode()
    node = {"metadata": {"name": "n", "labels": labels or {}, "annotations": {HARDWARE: machine}}}
    volume = {"name": "conf", "configMap": {"name": "conf"}}
    pod = {
        "metadata": {"name": "worker", "namespace": "nfd", "labels": {"app.kubernetes.io/name": NFD, "role": "worker"}},
        "spec": {"nodeName": "n", "containers": [], "volumes": [volume] if config is not None else []},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }
    conf = {"metadata": {"name": "conf", "namespace": "nfd"}, "data": {"nfd-worker.conf": config}}
    for kind, obj in (("Node", node), ("Pod", pod), *((("ConfigMap", conf),) if config is not None else ())):
        world._take_in(kind, obj, deleted=False)
        assert list(part.keys(kind, obj, False)) == ["n"]
    part.reconcile("n")
    return {label: value for label, value in writes.labels.items() if "pci" in label}


def fields(*names: str) -> str:
    return f"sources: {{pci: {{deviceLabelFields: [{', '.join(names)}]}}}}"


def test_pci_labels_are_named_by_the_fields_of_the_configuration() -> None:
    assert discovered(fields("vendor")) == {PCI: "true"}  # what the operator's chart configures
    assert discovered(fields("vendor", "class")) == {f"{PREFIX}pci-0302_10de.present": "true"}
    assert discovered(None) == {f"{PREFIX}pci-0302_10de.present": "true"}  # NFD's own default
    assert discovered("sources: [") == {f"{PREFIX}pci-0302_10de.present": "true"}


def test_another_field_renames_the_pci_label() -> None:  # F6
    changed = discovered(fields("class", "vendor", "device"), {PCI: "true"})

    assert changed.pop(PCI) is None
    assert list(changed) == [f"{PREFIX}pci-0302_10de_0000.present"]


def test_a_worker_that_is_not_ready_finds_nothing_and_takes_nothing_back() -> None:
    assert discovered(fields("vendor"), {f"{PREFIX}pci-0302_10de.present": "true"}, ready=False) == {}


# --- labels of the driver -----------------------------------------------------------------------------------------


def test_a_node_is_relabelled_only_as_it_was_looked_at() -> None:
    """Else a label that somebody set since would be overwritten by what was right before."""
    asked: list[Object] = []

    class Client:
        def patch(self, path: str, body: Object) -> Object:
            asked.append(body["metadata"])
            return {}

    world = World(Client(), ("Node", "Pod"))  # type: ignore[arg-type]
    machine = msgspec.json.encode(Machine("Tesla T4", 1, 15360, "7.5", driver="580.95.05")).decode()
    marks = {HARDWARE: machine, SIMULATED: SIMULATED_VALUE}
    node = {"metadata": {"name": "n", "resourceVersion": "7", "labels": {}, "annotations": marks}}
    driver = {
        "metadata": {"name": "d", "namespace": "gpu-operator", "uid": "u", "labels": {"app": DRIVER.name}},
        "spec": {"nodeName": "n", "containers": []},
    }
    world._take_in("Node", node, deleted=False)
    world._take_in("Pod", driver, deleted=False)

    Validator(world).reconcile("n")

    assert asked == [{"labels": {f"{DEPLOY}driver": PRE_INSTALLED}, "resourceVersion": "7"}]


# --- the fleet ----------------------------------------------------------------------------------------------------


def test_a_fleet_changes_when_a_pool_comes_or_goes_and_not_when_it_grows() -> None:
    def node(name: str, **labels: str) -> Object:
        return {"metadata": {"name": name, "labels": labels}}

    gpu = {"nvidia.com/gpu.present": "true", "feature.node.kubernetes.io/system-os_release.ID": "rhel"}
    version = {"feature.node.kubernetes.io/system-os_release.VERSION_ID": "9.4"}
    fleet = Fleet()
    assert not fleet.take_in(node("cpu"), deleted=False)
    assert fleet.take_in(node("a", **gpu, **version), deleted=False)
    assert not fleet.take_in(node("b", **gpu, **version), deleted=False)
    assert fleet.seen().pools == (Pool("rhel", "9.4", "", ""),)
    assert fleet.seen().pools[0].os_tag == "rhel9"
    assert not fleet.take_in(node("a", **gpu, **version), deleted=True)
    assert fleet.take_in(node("b"), deleted=False)
    assert fleet.seen().pools == ()


# --- upgrades -----------------------------------------------------------------------------------------------------


def test_an_upgrade_policy_has_the_documented_defaults() -> None:  # api/upgrade/v1alpha1/upgrade_spec.go
    assert policy_of({"autoUpgrade": True}) == UpgradePolicy(1, "25%", "", 0, Rules(False, False, 300.0), None)
    assert policy_of({}) is None
    assert policy_of({"autoUpgrade": True, "maxUnavailable": 3, "drain": {"enable": True}}) == UpgradePolicy(
        unavailable=3, drain=Rules()
    )


@pytest.mark.parametrize(
    ("unavailable", "total", "most"),
    [("25%", 4, 1), ("25%", 5, 2), ("25%", 1, 1), (3, 10, 3), ("100%", 7, 7), ("2", 9, 2)],
)
def test_a_part_of_a_node_counts_as_one(unavailable: int | str, total: int, most: int) -> None:
    assert UpgradePolicy(unavailable=unavailable).most_unavailable(total) == most


def nodes(*steps: str, cordoned: int = 0) -> list[UpgradingNode]:
    return [UpgradingNode(f"n{number}", step, number < cordoned) for number, step in enumerate(steps)]


def test_cordoned_nodes_use_up_what_may_be_unavailable() -> None:  # F53
    waiting = nodes(*[Step.UPGRADE_REQUIRED] * 4)
    assert free_slots(UpgradePolicy(), waiting) == 1
    assert free_slots(UpgradePolicy(), nodes(*[Step.UPGRADE_REQUIRED] * 4, cordoned=1)) == 0
    assert free_slots(UpgradePolicy(), nodes(*[Step.UPGRADE_REQUIRED] * 4, cordoned=3)) == 0
    everywhere = UpgradePolicy(parallel=0, unavailable="100%")
    assert free_slots(everywhere, nodes(*[Step.UPGRADE_REQUIRED] * 4, cordoned=4)) == 0


def test_a_failed_node_keeps_its_slot() -> None:  # F53
    standing = nodes(Step.FAILED, *[Step.UPGRADE_REQUIRED] * 7)

    assert free_slots(UpgradePolicy(), standing) == 0
    assert free_slots(UpgradePolicy(parallel=2), standing) == 1


def test_no_limit_means_as_many_as_may_be_unavailable() -> None:
    waiting = nodes(*[Step.UPGRADE_REQUIRED] * 8)

    assert free_slots(UpgradePolicy(parallel=0), waiting) == 2
    assert free_slots(UpgradePolicy(parallel=0, unavailable="100%"), waiting) == 8


@settings(deadline=None, database=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(Step)), st.booleans()), min_size=1, max_size=12),
    st.integers(0, 4),
    st.integers(1, 6),
)
def test_slots_never_exceed_either_limit(steps: list[tuple[Step, bool]], parallel: int, most: int) -> None:
    standing = [UpgradingNode(str(number), step, gone) for number, (step, gone) in enumerate(steps)]
    free = free_slots(UpgradePolicy(parallel=parallel, unavailable=most), standing)

    begun = sum(step not in ("", Step.UPGRADE_REQUIRED, Step.DONE) for step, _ in steps)
    gone = sum(gone for _, gone in steps)
    if free > 0:
        assert gone + free <= max(most, 0) or most >= len(steps)
        assert not parallel or begun + free <= parallel


def gpu_pod(*, owner: str = "ReplicaSet", volume: str = "", phase: str = "Running") -> Object:
    owners = [{"kind": owner, "name": "x", "controller": True}] if owner else []
    volumes = [{"name": "v", volume: {}}] if volume else []
    return {"metadata": {"ownerReferences": owners}, "spec": {"volumes": volumes}, "status": {"phase": phase}}


def test_rules_of_deletion_are_those_of_a_drain() -> None:  # F52; kubectl/pkg/drain/filters.go
    strict, free = Rules(), Rules(force=True, empty_dirs=True)
    bare, shm, daemon = gpu_pod(owner=""), gpu_pod(volume="emptyDir"), gpu_pod(owner="DaemonSet")
    assert undeletable([gpu_pod()], strict) == []
    assert undeletable([bare, shm, daemon], strict) == [bare, shm, daemon]
    assert undeletable([bare, shm, daemon], free) == [daemon]
    assert undeletable([bare], Rules(force=True)) == []
    assert undeletable([shm], Rules(force=True)) == [shm]
    assert undeletable([gpu_pod(owner="", volume="emptyDir", phase="Succeeded")], strict) == []


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("app=job", True),
        ("app=x", False),
        ("app!=x,tier", True),
        ("!tier", False),
        ("app==job,tier=a", True),
    ],
)
def test_label_selectors(selector: str, matches: bool) -> None:
    pod = {"metadata": {"labels": {"app": "job", "tier": "a"}}}

    assert selected(pod, selector) is matches


def test_a_driver_that_fails_has_restarted_often_enough_for_an_upgrade_to_give_up() -> None:
    assert RESTARTS > 10  # common_manager.go isDriverPodFailing


def test_operands_have_names_of_their_own() -> None:
    pairs = itertools.combinations(OPERANDS, 2)

    assert all(one.name != other.name and one.state != other.state for one, other in pairs)

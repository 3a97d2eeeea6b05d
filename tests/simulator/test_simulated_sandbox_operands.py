"""What the simulated operator deploys for virtual machines, against the assets and rules of gpu-operator v26.7.0."""

from typing import Any

import pytest

from conformance.simulator.chart import gpu_operator
from conformance.simulator.clusterpolicy import ClusterPolicy
from conformance.simulator.deployment import is_deployed
from conformance.simulator.manifests import objects_of
from conformance.simulator.operands import BY_APP, OPERANDS, Operand
from conformance.simulator.sandbox_operands import (
    CC_MANAGER,
    KATA_PLUGIN,
    SANDBOX_OPERANDS,
    SANDBOX_PLUGIN,
    SANDBOX_VALIDATOR,
    VFIO_MANAGER,
    VGPU_DEVICE_MANAGER,
    VGPU_MANAGER,
)

Object = dict[str, Any]
MACHINES = {"enabled": True, "defaultWorkload": "container", "mode": "kubevirt"}
VGPU = {"enabled": True, "repository": "registry.example.com/nvidia", "image": "vgpu-manager", "version": "580.65.05"}


def policy(**spec: Any) -> ClusterPolicy:
    """The chart's ClusterPolicy, virtual machines allowed, with parts of its spec replaced."""
    made = next(each for each in gpu_operator({}) if each["kind"] == "ClusterPolicy")
    metadata = {"name": "cluster-policy", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return ClusterPolicy({**made, "metadata": metadata, "spec": {**made["spec"], "sandboxWorkloads": MACHINES, **spec}})


def daemon_set(operand: Operand, asked: ClusterPolicy) -> Object:
    return objects_of(operand, asked, "gpu-operator", "ubuntu24.04")[-1]


def pod_of(operand: Operand, asked: ClusterPolicy) -> Object:
    pod: Object = daemon_set(operand, asked)["spec"]["template"]["spec"]
    return pod


def variables(container: Object) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container.get("env") or ()}


def deployed(asked: ClusterPolicy) -> set[str]:
    return {each.name for each in SANDBOX_OPERANDS if is_deployed(each, asked)}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"sandboxWorkloads": {"enabled": False}}, ()),
        ({}, (VGPU_DEVICE_MANAGER, SANDBOX_VALIDATOR, VFIO_MANAGER, SANDBOX_PLUGIN)),
        ({"vgpuManager": VGPU}, (VGPU_MANAGER, VGPU_DEVICE_MANAGER, SANDBOX_VALIDATOR, VFIO_MANAGER, SANDBOX_PLUGIN)),
        (
            {"sandboxWorkloads": MACHINES | {"mode": "kata"}},
            (VGPU_DEVICE_MANAGER, SANDBOX_VALIDATOR, VFIO_MANAGER, KATA_PLUGIN, CC_MANAGER),
        ),
        ({"vfioManager": {"enabled": False}}, (VGPU_DEVICE_MANAGER, SANDBOX_VALIDATOR, SANDBOX_PLUGIN)),
    ],
    ids=["not allowed", "kubevirt", "with a vGPU manager", "kata", "one turned off"],
)
def test_operands_of_virtual_machines_come_where_these_are_allowed(spec: Object, expected: tuple[Operand, ...]) -> None:
    assert deployed(policy(**spec)) == {each.name for each in expected}


def test_operands_of_containers_do_not_depend_on_virtual_machines() -> None:
    without = policy(sandboxWorkloads={"enabled": False})

    assert [is_deployed(each, policy()) for each in OPERANDS] == [is_deployed(each, without) for each in OPERANDS]


def test_they_go_where_their_deploy_label_is_true_and_need_no_runtime_class() -> None:
    for operand in SANDBOX_OPERANDS:
        pod = pod_of(operand, policy(vgpuManager=VGPU))
        assert pod["nodeSelector"] == {f"nvidia.com/gpu.deploy.{operand.deploy}": "true"}
        assert "runtimeClassName" not in pod
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert operand.name not in BY_APP  # nothing of a driver for containers holds them up


def test_two_of_them_select_their_pods_by_the_label_name() -> None:
    for operand in SANDBOX_OPERANDS:
        made = daemon_set(operand, policy(vgpuManager=VGPU))
        label = "name" if operand in (VFIO_MANAGER, CC_MANAGER) else "app"
        assert made["metadata"]["labels"]["app"] == operand.name
        assert made["spec"]["selector"]["matchLabels"][label] == operand.name
        assert made["spec"]["selector"]["matchLabels"].items() <= made["spec"]["template"]["metadata"]["labels"].items()


def test_the_validator_waits_for_each_kind_of_machine_and_knows_the_default() -> None:
    asked = policy(
        sandboxWorkloads=MACHINES | {"defaultWorkload": "vm-vgpu"},
        validator={"vfioPCI": {"env": [{"name": "EXAMPLE", "value": "yes"}]}},
    )
    looks = {each["name"]: variables(each) for each in pod_of(SANDBOX_VALIDATOR, asked)["initContainers"]}

    assert list(looks) == [
        "cc-manager-validation",
        "vfio-pci-validation",
        "vgpu-manager-validation",
        "vgpu-devices-validation",
    ]
    assert looks["vfio-pci-validation"] == {
        "NODE_NAME": "",
        "COMPONENT": "vfio-pci",
        "WITH_WAIT": "true",
        "DEFAULT_GPU_WORKLOAD_CONFIG": "vm-vgpu",
        "EXAMPLE": "yes",
    }
    assert "DEFAULT_GPU_WORKLOAD_CONFIG" not in looks["cc-manager-validation"]


def test_without_confidential_computing_nobody_waits_for_it() -> None:
    pod = pod_of(SANDBOX_VALIDATOR, policy(ccManager={"enabled": False}))

    assert "cc-manager-validation" not in [each["name"] for each in pod["initContainers"]]


@pytest.mark.parametrize("chosen", ["", "virtual-machine"])
def test_a_default_workload_that_nobody_knows_means_containers(chosen: str) -> None:
    asked = policy(sandboxWorkloads=MACHINES | {"defaultWorkload": chosen})

    assert asked.default_workload == "container"


def test_vfio_manager_clears_its_node_without_evicting_anybody_and_has_small_resources_unless_told_others() -> None:
    pod = pod_of(VFIO_MANAGER, policy())
    told = variables(pod["initContainers"][0])

    assert (told["ENABLE_GPU_POD_EVICTION"], told["ENABLE_AUTO_DRAIN"]) == ("false", "false")
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "200Mi"}
    own = {"limits": {"memory": "50Mi"}}
    changed = pod_of(VFIO_MANAGER, policy(vfioManager={"enabled": True, "resources": own}))
    assert [each["resources"] for each in (*changed["containers"], *changed["initContainers"])] == [own, own]


def test_vgpu_operands_have_the_image_of_their_operating_system_and_the_chosen_layout() -> None:
    asked = policy(
        vgpuManager=VGPU, vgpuDeviceManager={"enabled": True, "config": {"name": "vgpus", "default": "A16-2Q"}}
    )
    manager, devices = pod_of(VGPU_MANAGER, asked), pod_of(VGPU_DEVICE_MANAGER, asked)

    assert manager["containers"][0]["image"] == "registry.example.com/nvidia/vgpu-manager:580.65.05-ubuntu24.04"
    assert variables(devices["containers"][0])["DEFAULT_VGPU_CONFIG"] == "A16-2Q"
    assert {"name": "vgpu-config", "configMap": {"name": "vgpus"}} in devices["volumes"]
    kinds = [each["kind"] for each in objects_of(VGPU_DEVICE_MANAGER, asked, "n", "")]
    assert kinds == ["ServiceAccount", "DaemonSet"]  # with a list of one's own the operator brings none along
    assert "ConfigMap" in [each["kind"] for each in objects_of(VGPU_DEVICE_MANAGER, policy(), "n", "")]


def test_resources_of_the_validator_and_of_an_operand_reach_the_init_containers() -> None:
    own, validators = {"limits": {"memory": "300Mi"}}, {"limits": {"cpu": "50m"}}
    plugin = next(each for each in OPERANDS if each.component == "devicePlugin")
    asked = policy(
        devicePlugin={"enabled": True, "resources": own, "config": {"name": "sharing"}},
        validator={"resources": validators},
    )
    pod = pod_of(plugin, asked)

    found = {each["name"]: each.get("resources") for each in (*pod["initContainers"], *pod["containers"])}
    assert found == {
        "toolkit-validation": validators,
        "config-manager-init": own,
        "nvidia-device-plugin": own,
        "config-manager": own,
    }

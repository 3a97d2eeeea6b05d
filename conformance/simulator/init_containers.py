"""The init containers of operands: who clears a node for a driver, who looks whether the next may start.

config-manager, of which one runs as an init container and one beside the program, is made here, too.
Source: NVIDIA/gpu-operator v26.7.0, assets/ and controllers/object_controls.go.
"""

from collections.abc import Mapping
from typing import Any

from conformance.simulator.chart.objects import config_manager_environment, environment_of, fields_of, given
from conformance.simulator.clusterpolicy import ClusterPolicy, given_variables, image_of, mapping
from conformance.simulator.driver_modules import Modules
from conformance.simulator.operand_env import kernel_modules
from conformance.simulator.operand_volumes import config_mounts
from conformance.simulator.operands import (
    CONFIG_MANAGER_INIT,
    CUDA_VALIDATION,
    DRIVER,
    DRIVER_VALIDATION,
    MANAGER,
    MPS_MOUNTS,
    NODE_NAME,
    OPERATOR_NAMESPACE,
    PLUGIN_VALIDATION,
    TOOLKIT_VALIDATION,
    Operand,
)
from conformance.simulator.sandbox_operands import (
    CC_VALIDATION,
    SANDBOX_VALIDATOR,
    VFIO_VALIDATION,
    VGPU_DEVICE_MANAGER,
    VGPU_DEVICES_VALIDATION,
    VGPU_VALIDATION,
)
from conformance.simulator.world import Object

_PRIVILEGED = {"privileged": True}

# What each validation looks at, whether it waits until that is there, and what it is told of its pod.
_LOOKS_AT: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    DRIVER_VALIDATION: ("driver", "true", OPERATOR_NAMESPACE),
    TOOLKIT_VALIDATION: ("toolkit", "false", {}),
    CUDA_VALIDATION: ("cuda", "false", {**NODE_NAME, **OPERATOR_NAMESPACE}),
    PLUGIN_VALIDATION: ("plugin", "false", {**NODE_NAME, **OPERATOR_NAMESPACE}),
    CC_VALIDATION: ("cc-manager", "true", NODE_NAME),
    VFIO_VALIDATION: ("vfio-pci", "true", NODE_NAME),
    VGPU_VALIDATION: ("vgpu-manager", "true", NODE_NAME),
    VGPU_DEVICES_VALIDATION: ("vgpu-devices", "true", NODE_NAME),
}
# The validator's blocks with variables that are not named as the component is.
_BLOCKS = {"vfio-pci": "vfioPCI", "vgpu-manager": "vgpuManager", "vgpu-devices": "vgpuDevices"}
_STARTS_A_POD = (CUDA_VALIDATION, PLUGIN_VALIDATION)
_TOLD_THE_DEFAULT = (VFIO_VALIDATION, VGPU_VALIDATION, VGPU_DEVICES_VALIDATION)


def init_container(operand: Operand, name: str, policy: ClusterPolicy) -> Object:
    """One init container of an operand, by name. Raises SpecError for a block that names no image."""
    own = policy.block(operand.component)
    if name == CONFIG_MANAGER_INIT:
        return config_manager(operand, name, "", policy)
    if name == MANAGER:
        made = _manager_of(operand, policy)
    elif name == MPS_MOUNTS:
        made = {"name": name, "image": policy.image(operand.component), "securityContext": dict(_PRIVILEGED)}
    else:
        made, own = _validation(operand, name, policy), policy.block("validator")
    return made | given(own, "resources")


def validates(name: str) -> bool:
    """Whether an init container is the validator's, whose image and pull secrets it then has."""
    return name in _LOOKS_AT


def driver_manager(block: Mapping[str, Any], modules: Modules) -> Object:
    """The init container that clears a node before a driver is loaded."""
    env = {
        "NVIDIA_VISIBLE_DEVICES": "void",
        "ENABLE_GPU_POD_EVICTION": "true",
        "ENABLE_AUTO_DRAIN": "false",
        "DRAIN_USE_FORCE": "false",
        "DRAIN_POD_SELECTOR_LABEL": "",
        "DRAIN_TIMEOUT_SECONDS": "0s",
        "DRAIN_DELETE_EMPTYDIR_DATA": "false",
        **modules.manager_env(),
    }
    return _manager(block, env)


def config_manager(operand: Operand, name: str, process: str, policy: ClusterPolicy) -> Object:
    """What chooses a node's configuration: once before the program starts, then beside it, signalling ``process``."""
    made: Object = {
        "name": name,
        "image": policy.image("devicePlugin"),
        "command": ["config-manager"],
        "env": config_manager_environment(str(policy.plugin_config.get("default") or ""), "empty", process),
        "volumeMounts": config_mounts(policy),
        **given(policy.block(operand.component), "resources"),
    }
    return made | ({"securityContext": dict(_PRIVILEGED)} if process else {})


def _manager_of(operand: Operand, policy: ClusterPolicy) -> Object:
    block = policy.block(operand.component)
    if operand is DRIVER:
        return driver_manager(mapping(block.get("manager")), kernel_modules(policy))
    # Before a virtual machine gets the GPUs of a node, no pod there has any: nobody is evicted.
    nobody = dict.fromkeys(("ENABLE_GPU_POD_EVICTION", "ENABLE_AUTO_DRAIN"), "false")
    return _manager(mapping(block.get("driverManager")), {"NVIDIA_VISIBLE_DEVICES": "void", **nobody})


def _manager(block: Mapping[str, Any], env: Mapping[str, str]) -> Object:
    return {
        "name": MANAGER,
        "image": image_of(MANAGER, block),
        "args": ["uninstall_driver"],
        "env": [
            *fields_of({**NODE_NAME, **OPERATOR_NAMESPACE}),
            *environment_of({**env, **given_variables(block)}),
        ],
        "securityContext": dict(_PRIVILEGED),
    }


def _validation(operand: Operand, name: str, policy: ClusterPolicy) -> Object:
    made: Object = {"name": name, "image": policy.image("validator"), "securityContext": dict(_PRIVILEGED)}
    if operand.for_virtual_machines and operand is not SANDBOX_VALIDATOR:
        # They only look for the files that the validator of their node has written.
        told = {} if operand is VGPU_DEVICE_MANAGER else {"NVIDIA_VISIBLE_DEVICES": "void"}
        return made | ({"env": environment_of(told)} if told else {})
    if operand.component != "validator" and name == TOOLKIT_VALIDATION:
        return made
    component, waits, fields = _LOOKS_AT[name]
    env = {"COMPONENT": component, "WITH_WAIT": waits}
    if name == TOOLKIT_VALIDATION:
        env["NVIDIA_VISIBLE_DEVICES"] = "all"
    if name in _STARTS_A_POD:
        env |= _of_started_pods(policy)
    if name == PLUGIN_VALIDATION:
        env |= {"WITH_WORKLOAD": "false", "MIG_STRATEGY": policy.mig_strategy}
    if name in _TOLD_THE_DEFAULT:
        env["DEFAULT_GPU_WORKLOAD_CONFIG"] = policy.default_workload
    env |= given_variables(mapping(policy.block("validator").get(_BLOCKS.get(component, component))))
    return made | {"env": [*fields_of(fields), *environment_of(env)]}


def _of_started_pods(policy: ClusterPolicy) -> dict[str, str]:
    """What the validator is told of the pods that it starts itself."""
    block = policy.block("validator")
    env = {
        "VALIDATOR_IMAGE": policy.image("validator"),
        "VALIDATOR_IMAGE_PULL_POLICY": str(block.get("imagePullPolicy") or ""),
    }
    if secrets := block.get("imagePullSecrets"):
        env["VALIDATOR_IMAGE_PULL_SECRETS"] = ",".join(secrets)
    return env | ({"VALIDATOR_RUNTIME_CLASS": policy.runtime_class} if policy.runtime_class else {})

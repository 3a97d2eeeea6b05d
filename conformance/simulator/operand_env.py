"""What an operand's container gets as environment variables, beside what it always gets and what a user adds.

Source: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go.
"""

from collections.abc import Callable, Mapping
from typing import Any

from conformance.simulator.clusterpolicy import ClusterPolicy, mapping
from conformance.simulator.driver_modules import Modules, modules_of
from conformance.simulator.operand_volumes import METRICS
from conformance.simulator.operands import DRIVER, EXPORTER, GFD, MIG_MANAGER, MPS_DAEMON, PLUGIN, TOOLKIT, Operand
from conformance.simulator.sandbox_operands import CC_MANAGER, VGPU_DEVICE_MANAGER

Env = dict[str, str]


def operand_env(operand: Operand, policy: ClusterPolicy) -> Env:
    """The variables that the policy's settings give an operand's container."""
    of_kind = _ENV.get(operand.name)
    return of_kind(policy) if of_kind else {}


def kernel_modules(policy: ClusterPolicy) -> Modules:
    """The kernel modules that a ClusterPolicy asks for beside the driver's own."""
    return modules_of(policy.block("driver").get("rdma"), policy.block("gds"), policy.block("gdrcopy"))


def module_type(block: Mapping[str, Any]) -> Env:
    """Which of NVIDIA's two kinds of kernel modules a driver's container is to load, as older ones read it, too."""
    kind = block.get("kernelModuleType")
    env = {"KERNEL_MODULE_TYPE": str(kind)} if kind else {}
    return env | ({"OPEN_KERNEL_MODULES_ENABLED": "true"} if kind == "open" else {})


def _driver_env(policy: ClusterPolicy) -> Env:
    return module_type(policy.block("driver")) | kernel_modules(policy).driver_env()


def _toolkit_env(policy: ClusterPolicy) -> Env:
    env = {"RUNTIME": "containerd"}
    if policy.cdi:
        env |= {
            "CDI_ENABLED": "true",
            "NVIDIA_RUNTIME_SET_AS_DEFAULT": "false",
            "NVIDIA_CONTAINER_RUNTIME_MODE": "cdi",
            "CRIO_CONFIG_MODE": "config",
        }
    if policy.nri:
        return env | {"ENABLE_NRI_PLUGIN": "true", "NRI_SOCKET": "/runtime/nri-sock-dir/nri.sock"}
    return env | {
        "CONTAINERD_RUNTIME_CLASS": policy.runtime_class,
        **dict.fromkeys(("RUNTIME_CONFIG", "CONTAINERD_CONFIG"), "/runtime/config-dir/config.toml"),
        **dict.fromkeys(("RUNTIME_SOCKET", "CONTAINERD_SOCKET"), "/runtime/sock-dir/containerd.sock"),
        "RUNTIME_DROP_IN_CONFIG": "/runtime/config-dir.d/99-nvidia.toml",
        "RUNTIME_DROP_IN_CONFIG_HOST_PATH": "/etc/containerd/conf.d/99-nvidia.toml",
    }


def _plugin_env(policy: ClusterPolicy) -> Env:
    cdi = {
        "CDI_ENABLED": "true",
        "DEVICE_LIST_STRATEGY": "cdi-annotations,cdi-cri",
        "CDI_ANNOTATION_PREFIX": "cdi.k8s.io/",
    }
    env = _mig_env(policy) | kernel_modules(policy).plugin_env()
    return env | ({**cdi, **_cdi_hook(policy)} if policy.cdi else {})


def _cdi_hook(policy: ClusterPolicy) -> Env:
    """Where the hook is that CDI calls, which comes with the toolkit."""
    if not policy.enabled("toolkit"):
        return {}
    return {"NVIDIA_CDI_HOOK_PATH": f"{policy.block('toolkit').get('installDir')}/toolkit/nvidia-cdi-hook"}


def _mig_env(policy: ClusterPolicy) -> Env:
    env = {"MIG_STRATEGY": policy.mig_strategy} if policy.mig_strategy else {}
    return env if policy.mig_strategy == "none" else env | {"NVIDIA_MIG_MONITOR_DEVICES": "all"}


def _mig_manager_env(policy: ClusterPolicy) -> Env:
    chosen = mapping(policy.block("migManager").get("config")).get("name")
    env = (
        {"CONFIG_FILE": "/mig-parted-config/config.yaml"}
        if chosen
        else {"DEFAULT_CONFIG_FILE": "/mig-parted-config/config-default.yaml"}
    )
    return env | ({"CDI_ENABLED": "true", **_cdi_hook(policy)} if policy.cdi else {})


def exporter_settings(block: Mapping[str, Any]) -> Env:
    """What the switches of a dcgmExporter block add to the exporter's variables, in both operator resources."""
    env = {}
    if block.get("enablePodLabels") is True:
        env["DCGM_EXPORTER_KUBERNETES_ENABLE_POD_LABELS"] = "true"
    if block.get("enablePodUID") is True:
        env["DCGM_EXPORTER_KUBERNETES_ENABLE_POD_UID"] = "true"
    return env | ({"DCGM_EXPORTER_COLLECTORS": METRICS} if mapping(block.get("config")).get("name") else {})


def _exporter_env(policy: ClusterPolicy) -> Env:
    env = {"DCGM_REMOTE_HOSTENGINE_INFO": "nvidia-dcgm:5555"} if policy.enabled("dcgm") else {}
    return env | exporter_settings(policy.block("dcgmExporter"))


def _vgpu_device_manager_env(policy: ClusterPolicy) -> Env:
    layouts = mapping(policy.block("vgpuDeviceManager").get("config"))
    return {"DEFAULT_VGPU_CONFIG": str(layouts.get("default") or "default")}


def _cc_manager_env(policy: ClusterPolicy) -> Env:
    mode = policy.block("ccManager").get("defaultMode")
    return {"DEFAULT_CC_MODE": str(mode)} if mode else {}


_ENV: Mapping[str, Callable[[ClusterPolicy], Env]] = {
    DRIVER.name: _driver_env,
    TOOLKIT.name: _toolkit_env,
    PLUGIN.name: _plugin_env,
    GFD.name: _mig_env,
    MPS_DAEMON.name: _mig_env,
    MIG_MANAGER.name: _mig_manager_env,
    EXPORTER.name: _exporter_env,
    VGPU_DEVICE_MANAGER.name: _vgpu_device_manager_env,
    CC_MANAGER.name: _cc_manager_env,
}

"""Why a device plugin that is there has no GPU to register: the driver's installer failed, or its container has none.

Neither is the plugin's own fault, and its log says no more than that NVML or a library was not found.
Sources: NVIDIA/k8s-device-plugin issues 406, 479, 604 and 652, siderolabs/talos issue 12103 (a plugin without
runtimeClassName where nvidia is not the default runtime: k3s, RKE2, Talos).
"""

from contextlib import suppress

from conformance.facts import Facts, Node, Pod
from conformance.gpu.operator_stack import CUSTOM_KINDS
from conformance.gpu.stack_programs import brings_driver, is_driver_installer, is_nvidia_handler
from conformance.verdict import Inconclusive, Waits
from suites._shared.device_plugin_configs import plugin_pods
from suites._shared.pod_status import what_to_do, why_not_ready


def installer_failure(node: Node, facts: Facts) -> tuple[str, str] | None:
    """The pod on a node that installs its driver and does not get done, and what to do; None where none fails."""
    for pod in facts.pods_on(node.name):
        if pod.ready or pod.finished or pod.deleting:
            continue
        if any(is_driver_installer(each.name) for each in (*pod.init_containers, *pod.containers)):
            return f"{pod} has not installed the driver ({why_not_ready(pod)})", what_to_do(pod, facts)
    return None


def runtime_class_missing(plugin: Pod, facts: Facts) -> str:
    """The RuntimeClass of NVIDIA that a plugin's pod does not name; empty where it needs none.

    Operands get theirs from the operator, and a plugin that mounts the driver of its node needs no runtime for it.
    """
    owner = facts.workload("DaemonSet", plugin.namespace, plugin.owner_name)
    own = owner is not None and owner.owner_kind in CUSTOM_KINDS
    mounted = any(brings_driver(each.host_path) for each in plugin.volumes)
    if own or mounted or plugin.runtime_class:
        return ""
    with suppress(Inconclusive):
        return next((each.name for each in facts.runtime_classes if is_nvidia_handler(each.body.get("handler"))), "")
    return ""


def awaits_devices(node: Node, facts: Facts) -> Waits | None:
    """That the device plugin of a node is Ready and the kubelet knows no GPU, which POOL-04 judges; else None.

    What finds no GPU for the plugin finds none for GPU Feature Discovery either, which is Ready then and sets no label.
    """
    if node.gpu_resources or not any(pod.ready for pod in plugin_pods(facts, node)):
        return None
    return Waits("no device plugin has found a GPU on it", on="POOL-04")

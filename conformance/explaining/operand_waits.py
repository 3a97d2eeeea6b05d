"""What the pods of NVIDIA's GPU Operator wait for on their node: the work of another pod there.

Their init containers look for a file that the validator writes once driver, toolkit or plugin work on the node.
Sources: NVIDIA/gpu-operator v26.7.0, assets/state-device-plugin/0500_daemonset.yaml and its neighbours (which init
containers there are), cmd/nvidia-validator/main.go (what each of them asks for), api/nvidia/v1alpha1 (NVIDIADriver);
https://github.com/NVIDIA/k8s-driver-manager (what the driver manager does before a driver starts).
"""

from collections.abc import Mapping
from typing import NamedTuple

from conformance.explaining.seen import Seen, condition, has_condition
from conformance.gpu.labels import DEPLOY, DEPLOY_DRIVER, DRIVER_OWNER, UPGRADE_STATE
from conformance.gpu.operator_stack import CUSTOM_KINDS
from conformance.gpu.placement import Manifest
from conformance.gpu.stack_programs import (
    brings_driver,
    is_driver_installer,
    is_nvidia_handler,
    names_of_device_plugins,
)


class Work(NamedTuple):
    """What an init container waits for: its name in words, the container that does it, and the node's deploy label."""

    words: str
    container: str
    label: str


_PRE_INSTALLED = "pre-installed"
_DRIVER_MANAGER = "k8s-driver-manager"
_PLUGIN = "nvidia-device-plugin"
_WAITS_FOR = {
    "driver-validation": Work("the driver", "nvidia-driver-ctr", DEPLOY_DRIVER),
    "toolkit-validation": Work("the container toolkit", "nvidia-container-toolkit-ctr", f"{DEPLOY}container-toolkit"),
    "plugin-validation": Work("GPUs of the device plugin", _PLUGIN, f"{DEPLOY}device-plugin"),
}


def work_before(init_container: str) -> Work | None:
    """What an operand's init container waits for; None for one that is not known."""
    return _WAITS_FOR.get(init_container)


def worker_on(seen: Seen, node: str, work: Work) -> Manifest | None:
    """The pod on a node that does the work, one that is ready last; None where there is none."""
    pods = [pod for pod in seen.bound.get(node, ()) if _does(pod, work)]
    return min(pods, key=lambda pod: has_condition(pod, "Ready"), default=None)


def device_plugin_on(seen: Seen, node: str) -> Manifest | None:
    """The pod of NVIDIA's device plugin on a node, whoever deployed it; None without one."""
    pods = [pod for pod in seen.bound.get(node, ()) if _has_plugin(pod)]
    return min(pods, key=lambda pod: has_condition(pod, "Ready"), default=None)


def driver_installer_on(seen: Seen, node: str) -> Manifest | None:
    """The pod on a node that installs its driver and is not Ready, as GKE's DaemonSets do; None where none is."""
    return next(
        (pod for pod in seen.bound.get(node, ()) if installs_driver(pod) and not has_condition(pod, "Ready")), None
    )


def installs_driver(pod: Manifest) -> bool:
    """Whether a container of a pod is a platform's installer of the driver."""
    named = (each.get("name") for key in ("initContainers", "containers") for each in pod["spec"].get(key) or ())
    return any(is_driver_installer(str(name)) for name in named)


def runtime_class_missing(seen: Seen, plugin: Manifest) -> str:
    """The RuntimeClass of NVIDIA that a device plugin does not name; empty where it needs none.

    Operands get theirs from the operator, and a plugin that mounts the driver of its node needs no runtime for it.
    """
    spec, owners = plugin["spec"], plugin["metadata"].get("ownerReferences") or ()
    name, namespace = next((str(each.get("name")) for each in owners), ""), str(plugin["metadata"].get("namespace"))
    daemon_set = seen.find("DaemonSet", namespace, name) or {}
    made_by = ((daemon_set.get("metadata") or {}).get("ownerReferences")) or ()
    if spec.get("runtimeClassName") or any(each.get("kind") in CUSTOM_KINDS for each in made_by):
        return ""
    paths = [str((each.get("hostPath") or {}).get("path") or "") for each in spec.get("volumes") or ()]
    if any(brings_driver(path) for path in paths):
        return ""
    named = (each for each in seen.of("RuntimeClass") if is_nvidia_handler(each.get("handler")))
    return next((str(each["metadata"]["name"]) for each in named), "")


def upgrade_by(seen: Seen, node: str, init_container: str) -> tuple[str, str]:
    """What the driver manager does before a driver starts on a node, and what to do; empty for other containers."""
    if init_container != _DRIVER_MANAGER:
        return "", ""
    labels = ((seen.nodes.get(node) or {}).get("metadata") or {}).get("labels") or {}
    state = labels.get(UPGRADE_STATE)
    stands = f"; the upgrade of node {node} is at {state}" if state else ""
    return (
        f"it sends away the pods that hold GPUs of node {node} and unloads the driver that was there{stands}",
        "An upgrade of a node takes minutes. If it stands still, the log names the pods or modules that it waits for.",
    )


def _does(pod: Manifest, work: Work) -> bool:
    """Whether a pod, or the pods of a template, do the work of which others wait for the end."""
    return _has_plugin(pod) if work.container == _PLUGIN else _has_container(pod, work.container)


def _has_plugin(pod: Manifest) -> bool:
    metadata = pod.get("metadata") or {}
    labels = (f"{key}={value}" for key, value in (metadata.get("labels") or {}).items())
    return bool(names_of_device_plugins(pod["spec"], " ".join([str(metadata.get("name") or ""), *labels])))


def _has_container(pod: Manifest, name: str) -> bool:
    return any(each.get("name") == name for each in pod["spec"].get("containers") or ())


def nobody_works(seen: Seen, node: str, work: Work) -> tuple[str, str]:
    """Why nothing on a node does the work, and what to do."""
    labels = ((seen.nodes.get(node) or {}).get("metadata") or {}).get("labels") or {}
    value = labels.get(work.label)
    if work.label == DEPLOY_DRIVER and value == _PRE_INSTALLED:
        return (
            f"{work.label}={value} says that the machine's own driver is used, and it does not answer",
            f"Run nvidia-smi on node {node}: its driver has to work before anything else does.",
        )
    if work.label == DEPLOY_DRIVER and (refused := _refused_driver(seen, labels)):
        return refused
    if work.label == DEPLOY_DRIVER and (unselected := _unselected(seen, labels)):
        return unselected
    if value not in (None, "true"):
        return (
            f"no pod there brings it, and the node's label {work.label} is {value}",
            "The operator deploys it where that label is true; what is paused comes back when the driver is upgraded.",
        )
    deployed = seen.of("DaemonSet")
    if deployed and not any(_does(each["spec"]["template"], work) for each in deployed):
        missing = (
            f"no DaemonSet of the cluster brings it (container {work.container}), so it has to come with the machine"
        )
        if work.label == DEPLOY_DRIVER:
            return (
                missing,
                f"Run nvidia-smi on node {node}: where the driver works, the validator has to be told where it is "
                "(hostPaths.driverInstallDir, validator.driver.env); else let the operator deploy one.",
            )
        return (
            missing,
            f"See on node {node} whether it is installed and the container runtime uses it (nvidia-ctk), or let the "
            "operator deploy it.",
        )
    return (
        f"no pod there brings it (container {work.container})",
        "See whether the set-up has it come with the machine, and why its DaemonSet has no pod on this node.",
    )


def _unselected(seen: Seen, labels: Mapping[str, str]) -> tuple[str, str] | None:
    """That there are NVIDIADrivers and none of them selects a node of these labels, and what to do."""
    drivers = seen.of("NVIDIADriver")
    selectors = {each["metadata"]["name"]: (each.get("spec") or {}).get("nodeSelector") or {} for each in drivers}
    if not drivers or DRIVER_OWNER in labels or any(each.items() <= labels.items() for each in selectors.values()):
        return None
    wanted = "; ".join(
        f"{name}: {', '.join(f'{key}={value}' for key, value in each.items())}" for name, each in selectors.items()
    )
    return (
        f"no pod there brings it, for no NVIDIADriver selects the node ({wanted})",
        "Give the node the labels that one of them selects, or widen its nodeSelector.",
    )


def _refused_driver(seen: Seen, labels: Mapping[str, str]) -> tuple[str, str] | None:
    """The NVIDIADriver for a node that the operator does not act on, and why, as its condition Error says."""
    for driver in seen.of("NVIDIADriver"):
        error, wanted = condition(driver, "Error"), (driver.get("spec") or {}).get("nodeSelector") or {}
        if error.get("status") == "True" and wanted.items() <= labels.items():
            name, words = driver["metadata"]["name"], str(error.get("message") or "it does not say why").strip()
            refused = f"the operator refuses NVIDIADriver {name} ({error.get('reason')}): {words}"
            return (
                f"no pod there brings it, for {refused}",
                "Correct the NVIDIADriver as its condition says: where selectors conflict, each node may match one.",
            )
    return None

"""Who may use the GPUs of a node unseen by the operator, so that a driver upgrade leaves it running.

The operator evicts pods that ask for GPUs, and takes its own operands off a node by labels. Whatever else has a device
open keeps the old kernel modules from being unloaded: the init container k8s-driver-manager of the new driver's pod
then ends with an error again and again, until the node is upgrade-failed and stays cordoned.
Sources: NVIDIA/gpu-operator v26.7.0, cmd/gpu-operator/main.go, gpuPodSpecFilter, and issues 367, 2166, 2509;
NVIDIA/k8s-driver-manager v0.12.0, cmd/driver-manager/main.go (the labels gpu.deploy.*, of which gpu.deploy.client is
new there; NODE_LABEL_FOR_GPU_POD_EVICTION, which older ones have, too); read on 2026-11-29.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from conformance.facts import Container, Facts, Node, Pod
from conformance.gpu.labels import DEPLOY
from conformance.gpu.operator_stack import DRA_DOMAIN_CONTAINER, DRA_GPU_CONTAINER, is_dra_plugin
from conformance.reference.model import Reference
from conformance.upgrading.policy import eviction_label_of
from suites._shared.operand_versions import operator_version
from suites._shared.pod_owners import platform_of
from suites._shared.upgrade_obstacles import asks_for_gpus, gpu_results, is_known

_CLIENT = f"{DEPLOY}client"
_KNOWS_CLIENTS = (26, 7, 0)
"""The first operator whose driver manager takes pods off by that label (v26.7.0 ships k8s-driver-manager v0.12.0)."""

_DEVICES = "NVIDIA_VISIBLE_DEVICES"
_NO_DEVICES = ("", "void", "none")
_ALL_DEVICE_FILES = "/dev"
_OF_THE_SYSTEM = ("kube-", "openshift-")
_MPS_DAEMON = re.compile(r"mps[-_]?(control|daemon|server)|nvidia-cuda-mps", re.IGNORECASE)
"""Containers and images of MPS daemons, such as mps-control-daemon-ctr of the device plugin's chart."""


class UnseenUser(NamedTuple):
    """A pod that may use GPUs unseen, why, and what to do; ``sure`` is false where only its owner can tell."""

    pod: Pod
    why: str
    remedy: str
    sure: bool = True


class _Held(NamedTuple):
    """How a pod may hold GPUs; ``everywhere`` where pods that have nothing to do with GPUs look the same."""

    how: str
    everywhere: bool = False
    privileged: bool = False


def unseen_users(
    nodes: Iterable[Node], facts: Facts, reference: Reference, stack: Collection[str]
) -> Iterator[UnseenUser]:
    """The pods of nodes that may use their GPUs without requesting them, so that the upgrade leaves them running.

    ``stack`` are the namespaces of the GPU stack, of which only daemons of MPS and plugins of DRA are looked at. A
    DaemonSet that also runs on nodes without GPUs uses what every node has: CSI drivers mount all of /dev, for example.
    """
    alike: dict[tuple[str, str], bool] = {}
    version = operator_version(tuple(each for each in facts.workloads if each.kind == "Deployment"))
    knows_clients = version is None or version >= _KNOWS_CLIENTS
    for node in nodes:
        removing = eviction_label_of(node, facts)
        for pod in facts.pods_on(node.name):
            if pod.finished or pod.deleting or _is_taken_off(pod, removing, knows_clients):
                continue
            held = _held_by(pod, facts, in_stack=pod.namespace in stack)
            if held is None:
                continue
            if held.everywhere and pod.owner_kind == "DaemonSet":
                owner = (pod.namespace, pod.owner_name)
                if owner not in alike:
                    alike[owner] = _runs_without_gpus(*owner, facts)
                if alike[owner]:
                    continue
            user = _judged(pod, held, knows_clients, reference, facts)
            if user is not None:
                yield user


def _is_taken_off(pod: Pod, removing: str, knows_clients: bool) -> bool:
    """Whether a label that the driver manager changes takes a pod off its node."""
    return any(
        key == removing or (key.startswith(DEPLOY) and (knows_clients or key != _CLIENT)) for key in pod.node_selector
    )


def _held_by(pod: Pod, facts: Facts, *, in_stack: bool) -> _Held | None:
    """How a pod may hold GPUs that it did not ask for; None where nothing speaks for that."""
    for container in pod.containers:
        named = f"{container.name} {_program_of(container.image)} {container.program}"
        if _MPS_DAEMON.search(named):
            return _Held(f"its container {container.name} is an MPS daemon, whose server has the GPUs of its node open")
    if _serves_dra(pod):
        return _Held("it is the kubelet plugin of the DRA driver, of which the driver manager does not know")
    if _serves_domains(pod):
        return None
    if in_stack or pod.namespace.startswith(_OF_THE_SYSTEM) or is_known(pod, facts):
        return None
    if any(each.get("adminAccess") for each in gpu_results(pod, facts)):
        return _Held("it has GPUs by a ResourceClaim with adminAccess, which the operator does not count as a use")
    return _held_by_its_spec(pod)


def _held_by_its_spec(pod: Pod) -> _Held | None:
    if any(asks_for_gpus(container) for container in pod.init_containers):
        return _Held("only an init container of it requests GPUs", everywhere=True)
    mounted = [volume.host_path for volume in pod.volumes if volume.kind == "hostPath" and _has_gpus(volume.host_path)]
    if mounted:
        return _Held(f"it mounts {mounted[0]} of its node, which has the GPU device files", everywhere=True)
    if pod.runtime_class.startswith("nvidia") and any(_wants_devices(each) for each in pod.containers):
        return _Held(f"it has runtimeClassName {pod.runtime_class} with {_DEVICES} set", everywhere=True)
    if any(container.privileged for container in pod.containers):
        how = "it is privileged, and a privileged container can open every device of its node"
        return _Held(how, everywhere=True, privileged=True)
    return None


def _judged(pod: Pod, held: _Held, knows_clients: bool, reference: Reference, facts: Facts) -> UnseenUser | None:
    """What to make of a pod that may hold GPUs; None where it is the platform's, whose pods must be as they are."""
    why, remedy = held.how, _remedy_for(pod, knows_clients)
    if pod.owner_kind != "DaemonSet" or not held.privileged:
        return UnseenUser(pod, why, remedy)
    if platform_of(pod, reference, facts):
        return None
    # Agents of networks and storage have to be privileged, too; a team's DaemonSet has no such reason.
    return UnseenUser(pod, why, remedy, sure=reference.team(pod.namespace) is not None)


def what_becomes_of(pod: Pod) -> str:
    """What an upgrade does about a pod that it does not see, in words."""
    agent = pod.owner_kind == "DaemonSet"
    kept = "pods of a DaemonSet are neither deleted nor drained" if agent else "nobody evicts it"
    return (
        f"it stays, because {kept}; while it has a device open, the old driver of {pod.node} cannot be unloaded, and "
        "the node ends with upgrade-failed"
    )


def _serves_dra(pod: Pod) -> bool:
    """Whether a pod prepares GPUs for claims. Source: NVIDIA GPU Operator, DRA Driver for NVIDIA GPUs: Known Issues."""
    return _is_dra_plugin(pod) and any(each.name == DRA_GPU_CONTAINER for each in pod.containers)


def _serves_domains(pod: Pod) -> bool:
    """Whether a pod is the DRA driver's plugin without GPUs: it has NVML open for a moment only, and is never evicted.

    Sources: kubernetes-sigs/dra-driver-nvidia-gpu, cmd/compute-domain-kubelet-plugin/nvlib.go (alwaysShutdown); NVIDIA
    GPU Operator, DRA Driver: only for the allocation of GPUs is the driver manager told of the plugin's nodes.
    """
    return _is_dra_plugin(pod) and {each.name for each in pod.containers} == {DRA_DOMAIN_CONTAINER}


def _is_dra_plugin(pod: Pod) -> bool:
    return pod.owner_kind == "DaemonSet" and is_dra_plugin(pod.owner_name)


def _program_of(image: str) -> str:
    """The last part of an image's name, without tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _has_gpus(path: str) -> bool:
    return path.rstrip("/") == _ALL_DEVICE_FILES or path.startswith("/dev/nvidia")


def _wants_devices(container: Container) -> bool:
    return container.env.get(_DEVICES, "") not in _NO_DEVICES


def _runs_without_gpus(namespace: str, name: str, facts: Facts) -> bool:
    """Whether a DaemonSet also runs on nodes that have no GPU."""
    owner = facts.workload("DaemonSet", namespace, name)
    pods = facts.pods_of(owner) if owner is not None else ()
    nodes = (facts.node(node) for node in {pod.node for pod in pods})
    return any(node is not None and not any(node.gpu_capacity(name) for name in node.gpu_resources) for node in nodes)


def _remedy_for(pod: Pod, knows_clients: bool) -> str:
    if pod.owner_kind != "DaemonSet":
        return "Stop it before the upgrade, or let it request the GPUs that it uses."
    if knows_clients:
        return f"Give the DaemonSet the nodeSelector {_CLIENT}: 'true', so that it is removed with the operands."
    return (
        "Give the DaemonSet a nodeSelector with a label of your own, and name that label in driver.manager.env as "
        f"NODE_LABEL_FOR_GPU_POD_EVICTION: before v26.7.0 the operator does not know {_CLIENT}."
    )

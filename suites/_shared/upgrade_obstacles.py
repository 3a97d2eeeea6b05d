"""What on a GPU node would make a driver upgrade fail: pods that it may not delete, and users of GPUs it does not know.

Sources: NVIDIA/k8s-operator-libs, pkg/upgrade/pod_manager.go (kubectl's drain filters decide which pods go, and a node
on which one of those with GPUs does not go fails, whoever owns the pod);
NVIDIA/gpu-operator, cmd/gpu-operator/main.go, gpuPodSpecFilter, and issues 367, 2166, 2509.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from conformance.facts import Container, Facts, Node, Pod
from conformance.gpu.labels import DEPLOY
from conformance.gpu.resources import DRA_DRIVER, GPU, MIG_PREFIX
from conformance.upgrading.policy import PodRemoval, UpgradePolicy

_GPU_RESOURCES = (GPU, MIG_PREFIX)
_GPU_DRIVERS = (DRA_DRIVER,)
_CLIENT = f"{DEPLOY}client"
_DEVICES = "NVIDIA_VISIBLE_DEVICES"
_NO_DEVICES = ("", "void", "none")
_ALL_DEVICE_FILES = "/dev"
_OF_THE_SYSTEM = ("kube-", "openshift-")


class Obstacle(NamedTuple):
    """A pod that would make an upgrade fail, why, and what to do about it."""

    pod: Pod
    why: str
    remedy: str


def undeletable(pods: tuple[Pod, ...], policy: UpgradePolicy, facts: Facts) -> Iterator[Obstacle]:
    """The GPU pods of a node that the upgrade has to delete and that neither deletion nor drain may."""
    for pod in pods:
        if pod.deleting or not is_known(pod, facts):
            continue
        if pod.static or pod.owner_kind == "DaemonSet":
            yield _that_stays(pod)
            continue
        refusals = [refusal_of(pod, removal) for removal in policy.pod_removals]
        budget = forbidding_budget(pod, facts)
        if all(refusals):
            how, setting = refusals[0] or ("", "")
            remedy = f"Set {setting} of {policy.source} to true if that data may be lost, or move the pod beforehand."
            yield Obstacle(pod, how, remedy)
        elif budget:
            remedy = f"Let {budget} allow a disruption: its disruptionsAllowed is 0."
            yield Obstacle(pod, f"{budget} allows no disruption although all of its pods are healthy", remedy)


def _that_stays(pod: Pod) -> Obstacle:
    """A pod with GPUs that no way of removal takes: both pass over what would be on the node again at once."""
    if pod.static:
        why = "it has GPUs and is a static pod of the node, which is neither deleted nor drained"
        return Obstacle(pod, why, "Take its manifest off the node for the upgrade.")
    owner = f"DaemonSet {pod.namespace}/{pod.owner_name}"
    return Obstacle(
        pod,
        f"it has GPUs and is of {owner}, whose pods are neither deleted nor drained",
        f"Take {owner} off the nodes for the upgrade: by a nodeSelector whose label you remove from each beforehand.",
    )


def unknown_users(nodes: Iterable[Node], facts: Facts, stack: Collection[str]) -> Iterator[Obstacle]:
    """The pods of nodes that may use their GPUs without requesting them, so that the upgrade leaves them running.

    ``stack`` are the namespaces of the GPU stack, whose pods the operator removes by node labels. A DaemonSet that also
    runs on nodes without GPUs uses what every node has: CSI drivers, for example, mount all of /dev.
    """
    everywhere: dict[tuple[str, str], bool] = {}
    for pod in (pod for node in nodes for pod in facts.pods_on(node.name)):
        if pod.finished or pod.deleting or pod.namespace in stack or pod.namespace.startswith(_OF_THE_SYSTEM):
            continue
        how = "" if is_known(pod, facts) or _CLIENT in pod.node_selector else _held_by(pod)
        if how and pod.owner_kind == "DaemonSet":
            owner = (pod.namespace, pod.owner_name)
            if owner not in everywhere:
                everywhere[owner] = _runs_without_gpus(*owner, facts)
            how = "" if everywhere[owner] else how
        if how:
            yield Obstacle(pod, how, _remedy_for(pod))


def is_known(pod: Pod, facts: Facts) -> bool:
    """Whether the operator knows that a pod uses GPUs: by a container, not an init container, or by a ResourceClaim."""
    if pod.phase not in ("Running", "Pending"):
        return False
    return any(_asks(container) for container in pod.containers) or _claims_gpus(pod, facts)


def _asks(container: Container) -> bool:
    return any(name.startswith(_GPU_RESOURCES) for name in (*container.limits, *container.requests))


def _claims_gpus(pod: Pod, facts: Facts) -> bool:
    names = {each.claim for each in pod.claims if each.claim}
    return bool(names) and any(
        claim.namespace == pod.namespace and claim.name in names and _is_of_gpus(claim.status)
        for claim in facts.resource_claims
    )


def _is_of_gpus(status: dict[str, object]) -> bool:
    allocation = status.get("allocation")
    devices = allocation.get("devices") if isinstance(allocation, dict) else None
    results = devices.get("results") if isinstance(devices, dict) else None
    return isinstance(results, list) and any(
        isinstance(each, dict) and each.get("driver") in _GPU_DRIVERS and not each.get("adminAccess")
        for each in results
    )


def refusal_of(pod: Pod, removal: PodRemoval) -> tuple[str, str] | None:
    """Why one way of removal refuses a pod and which setting would change that; None when it does not."""
    empty_dirs = [volume.name for volume in pod.volumes if volume.kind == "emptyDir"]
    if empty_dirs and not removal.delete_empty_dir:
        setting = f"{removal.block}.deleteEmptyDir"
        return f"it has the emptyDir {empty_dirs[0]}, and {setting} is false", setting
    if not pod.owner_kind and not removal.force:
        return f"no controller would create it again, and {removal.block}.force is false", f"{removal.block}.force"
    return None


def forbidding_budget(pod: Pod, facts: Facts) -> str:
    """A PodDisruptionBudget that allows no disruption of the pod while all of its pods are healthy."""
    return next(
        (
            str(budget)
            for budget in facts.disruption_budgets_of(pod)
            if budget.guards(pod) and not budget.disruptions_allowed and budget.healthy >= budget.expected > 0
        ),
        "",
    )


def _held_by(pod: Pod) -> str:
    """How a pod without GPU request may use a GPU; empty when it may not."""
    if any(_asks(container) for container in pod.init_containers):
        return "only an init container of it requests GPUs"
    mounted = [volume.host_path for volume in pod.volumes if volume.kind == "hostPath" and _has_gpus(volume.host_path)]
    if mounted:
        return f"it mounts {mounted[0]} of its node, which has the GPU device files"
    if pod.runtime_class.startswith("nvidia") and any(_wants_devices(each) for each in pod.containers):
        return f"it has runtimeClassName {pod.runtime_class} with {_DEVICES} set"
    if pod.owner_kind != "DaemonSet" and any(container.privileged for container in pod.containers):
        return "it is privileged, and a privileged container can open every device of its node"
    return ""


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


def _remedy_for(pod: Pod) -> str:
    if pod.owner_kind == "DaemonSet":
        return f"Give the DaemonSet the nodeSelector {_CLIENT}: 'true', so that it is removed with the operands."
    return "Stop it before the upgrade, or let it request the GPUs that it uses."

"""What on a GPU node would make a driver upgrade fail: pods with GPUs that it has to delete, and may not.

Sources: NVIDIA/k8s-operator-libs, pkg/upgrade/pod_manager.go (kubectl's drain filters decide which pods go, and a node
on which one of those with GPUs does not go fails, whoever owns the pod);
NVIDIA/gpu-operator, cmd/gpu-operator/main.go, gpuPodSpecFilter.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from conformance.facts import Container, Facts, Pod
from conformance.gpu.resources import DRA_DRIVER, GPU, MIG_PREFIX
from conformance.upgrading.policy import PodRemoval, UpgradePolicy

_GPU_RESOURCES = (GPU, MIG_PREFIX)
_GPU_DRIVERS = (DRA_DRIVER,)


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


def is_known(pod: Pod, facts: Facts) -> bool:
    """Whether the operator knows that a pod uses GPUs: by a container, not an init container, or by a ResourceClaim."""
    if pod.phase not in ("Running", "Pending"):
        return False
    if any(asks_for_gpus(container) for container in pod.containers):
        return True
    return any(not each.get("adminAccess") for each in gpu_results(pod, facts))


# The pods of one workload have the same containers.
@lru_cache(maxsize=4096)
def asks_for_gpus(container: Container) -> bool:
    """Whether a container names GPUs, or MIG devices, among its limits or requests."""
    return any(name.startswith(_GPU_RESOURCES) for name in (*container.limits, *container.requests))


def gpu_results(pod: Pod, facts: Facts) -> Iterator[Mapping[str, Any]]:
    """The GPUs that were allocated to the ResourceClaims of a pod, those for admin access included."""
    names = {each.claim for each in pod.claims if each.claim}
    for claim in facts.resource_claims if names else ():
        if claim.namespace == pod.namespace and claim.name in names:
            yield from (each for each in _results(claim.status) if each.get("driver") in _GPU_DRIVERS)


def _results(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    allocation = status.get("allocation")
    devices = allocation.get("devices") if isinstance(allocation, dict) else None
    results = devices.get("results") if isinstance(devices, dict) else None
    return (each for each in results if isinstance(each, dict)) if isinstance(results, list) else iter(())


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

"""Which pods an upgrade sends away from a node, which of them it may not, and sending them away.

Sources: NVIDIA/gpu-operator v26.7.0, cmd/gpu-operator/main.go (gpuPodSpecFilter); k8s-operator-libs, pkg/upgrade
(pod_manager.go, drain_manager.go); kubernetes/kubectl, pkg/drain/filters.go.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conformance.kube.errors import ApiError, NotFound, TooManyRequests
from conformance.kube.paths import path
from conformance.simulator.agents import phase_of
from conformance.simulator.clusterpolicy import mapping
from conformance.simulator.world import Object, World

SKIP_DRAIN = "nvidia.com/gpu-driver-upgrade-drain.skip"
_GPU_DRIVER = "gpu.nvidia.com"
_MIRROR = "kubernetes.io/config.mirror"
_TWO_BUDGETS = "more than one PodDisruptionBudget"
_PREFIXES = ("nvidia.com/gpu", "nvidia.com/mig-")


class Rules(msgspec.Struct, frozen=True):
    """What may be deleted: pods without a controller with ``force``, pods with an emptyDir with ``empty_dirs``.

    ``seconds`` is how long it may take.
    """

    force: bool = False
    empty_dirs: bool = False
    seconds: float = 300.0


def rules_of(block: Mapping[str, Any]) -> Rules:
    """The rules in ``podDeletion`` or ``drain`` of an upgrade policy."""
    seconds = block.get("timeoutSeconds", 300)
    return Rules(
        block.get("force") is True,
        block.get("deleteEmptyDir") is True,
        float(seconds) if isinstance(seconds, int) else 300.0,
    )


def gpu_pods(world: World, node: str) -> list[Object]:
    """The pods on a node that the operator takes for users of GPUs, by what main containers ask for, or a claim."""
    return [pod for pod in world.pods_on(node) if uses_gpus(world, pod)]


def uses_gpus(world: World, pod: Object) -> bool:
    """Whether a running or pending pod counts. Init containers, environment variables and host paths are not seen."""
    if phase_of(pod) not in ("Running", "Pending"):
        return False
    asked = (each.get("resources") or {} for each in pod["spec"]["containers"])
    names = (name for each in asked for block in ("limits", "requests") for name in each.get(block) or {})
    return any(name.startswith(_PREFIXES) for name in names) or _has_claim(world, pod)


def selected(pod: Object, selector: str) -> bool:
    """Whether a label selector of equalities (``a=b,c!=d``, ``e``) matches a pod; an empty one matches all."""
    labels = pod["metadata"].get("labels") or {}
    return all(_term(term.strip(), labels) for term in selector.split(",") if term.strip())


def drained_pods(world: World, node: str, selector: str) -> list[Object]:
    """The pods that a drain takes from a node: all but those of DaemonSets and of the node itself."""
    return [
        pod
        for pod in world.pods_on(node)
        if selected(pod, selector)
        and (pod["metadata"].get("labels") or {}).get(SKIP_DRAIN) != "true"
        and not _stays(pod)
    ]


def undeletable(pods: Iterable[Object], rules: Rules) -> list[Object]:
    """Those of the pods that the rules do not let go; one of them keeps an upgrade from going on."""
    return [pod for pod in pods if _stays(pod) or not _allowed(pod, rules)]


def send_away(world: World, pods: Iterable[Object]) -> bool:
    """Evict the pods that are not going yet; False where one is refused for good.

    One whose disruption budget says no is left for the next time. That two budgets count it is an internal error of the
    API server, told as a Status (pkg/registry/core/pod/storage/eviction.go), and ends a drain (kubernetes/kubectl,
    pkg/drain/drain.go).
    """
    refused = False
    for pod in pods:
        metadata = pod["metadata"]
        if metadata.get("deletionTimestamp"):
            continue
        where = path("Pod", namespace=metadata["namespace"], name=metadata["name"], subresource="eviction")
        name = {"name": metadata["name"], "namespace": metadata["namespace"]}
        try:
            # A 429 is an answer here, not a wish to be asked again.
            world.client.create(where, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name})
        except (TooManyRequests, NotFound):
            continue
        except ApiError as error:
            if _TWO_BUDGETS not in error.message:
                raise
            refused = True
    return not refused


def _stays(pod: Object) -> bool:
    if _MIRROR in (pod["metadata"].get("annotations") or {}):
        return True
    controller = _controller(pod)
    return controller is not None and controller["kind"] == "DaemonSet"


def _allowed(pod: Object, rules: Rules) -> bool:
    ended = phase_of(pod) in ("Succeeded", "Failed")
    local = any("emptyDir" in volume for volume in pod["spec"].get("volumes") or ())
    if local and not rules.empty_dirs and not ended:
        return False
    return ended or rules.force or _controller(pod) is not None


def _controller(pod: Object) -> Mapping[str, Any] | None:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((each for each in owners if each.get("controller")), None)


def _term(term: str, labels: Mapping[str, str]) -> bool:
    for operator, wanted in (("!=", False), ("==", True), ("=", True)):
        key, found, value = term.partition(operator)
        if found:
            return (labels.get(key.strip()) == value.strip()) is wanted
    return (term.removeprefix("!") in labels) is not term.startswith("!")


def _has_claim(world: World, pod: Object) -> bool:
    """Whether a claim of the pod has a device of the DRA driver that others cannot have, too."""
    named = {each["name"]: each.get("resourceClaimName") for each in pod["spec"].get("resourceClaims") or ()}
    for status in (pod.get("status") or {}).get("resourceClaimStatuses") or ():
        named[status["name"]] = named.get(status["name"]) or status.get("resourceClaimName")
    claims = (world.get("ResourceClaim", name, pod["metadata"]["namespace"]) for name in named.values() if name)
    return any(_is_of_gpus(claim) for claim in claims if claim is not None)


def _is_of_gpus(claim: Object) -> bool:
    allocation = mapping(mapping(claim.get("status")).get("allocation"))
    results = mapping(allocation.get("devices")).get("results") or ()
    return any(each["driver"] == _GPU_DRIVER and not each.get("adminAccess") for each in results)

"""Preparing pods with claims: what the kubelet asks of the DRA driver before the containers of a pod may start.

The scheduler allocates and reserves claims and then binds the pod. A pod starts once all its claims are prepared, and
waits for ever where the plugin of a claim's driver does not run.
Source: kubernetes/kubernetes, pkg/kubelet/cm/dra/manager.go (PrepareResources, GetResources).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from conformance.simulator.allocation import asks
from conformance.simulator.annotations import ADMITTED, DEVICES, PREPARED, Allocation, allocation_of, annotation
from conformance.simulator.dra_devices import DRIVER
from conformance.simulator.world import Object, World

DOMAIN_DRIVER = "compute-domain.nvidia.com"
_FINISHED = ("Succeeded", "Failed")
_EXTENDED = "extendedResourceClaimStatus"
_ANY_REQUEST = ""


class _Use(NamedTuple):
    """That a container uses the devices of a claim, of one request if it names one."""

    container: str
    claim: str
    request: str


def has_claims(pod: Object) -> bool:
    """Whether a pod has claims, of its own or made for the extended resources that it asks for."""
    return bool(pod["spec"].get("resourceClaims") or (pod.get("status") or {}).get(_EXTENDED))


def waits(pod: Object) -> bool:
    """Whether a bound pod has claims that are not prepared, and nothing else comes first."""
    metadata = pod["metadata"]
    if not has_claims(pod) or metadata.get("deletionTimestamp") or annotation(pod, PREPARED) == "true":
        return False
    admitted = not asks(pod) or annotation(pod, ADMITTED) == "true"
    return admitted and (pod.get("status") or {}).get("phase") not in _FINISHED


def prepared(world: World, pod: Object, devices: Mapping[str, str], drivers: Collection[str]) -> Allocation | None:
    """What the containers of a pod get, those devices included that it has already; None while it has to wait.

    ``devices`` are the UUIDs of the node's devices by name, ``drivers`` those of NVIDIA that run on the node.
    """
    results: dict[str, list[Mapping[str, Any]]] = {}
    for used, claim in _claims(world, pod):
        allocation = (claim.get("status") or {}).get("allocation")
        if allocation is None or not _is_reserved(claim, pod):
            return None
        results[used] = (allocation.get("devices") or {}).get("results") or []
    every = [each for found in results.values() for each in found]
    if len(results) < len(_names(pod)) or any(each["driver"] not in drivers for each in every if _is_ours(each)):
        return None
    if any(each["driver"] == DRIVER and each["device"] not in devices for each in every):
        return None
    before = allocation_of(pod)
    ids = {container: list(given) for container, given in before.devices.items()}
    seen = {container: list(given) for container, given in before.uuids.items()}
    for use in _uses(pod):
        for result in results.get(use.claim, ()):
            if result["driver"] == DRIVER and use.request in (_ANY_REQUEST, result["request"].partition("/")[0]):
                _append(ids, use.container, f"{result['pool']}/{result['device']}")
                _append(seen, use.container, devices[result["device"]])
    return Allocation(ids, seen)


def as_annotations(text: str) -> dict[str, str]:
    """The annotations of a pod that may start; ``text`` is its Allocation as JSON."""
    return {DEVICES: text, PREPARED: "true"}


def pools_of(claim: Object) -> set[str]:
    """The pools from which a claim has devices; with NVIDIA's drivers a pool is called like its node."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return {each["pool"] for each in (allocation.get("devices") or {}).get("results") or () if _is_ours(each)}


def users_of(claim: Object) -> list[str]:
    """The names of the pods that a claim is reserved for; they are in its namespace."""
    reserved = (claim.get("status") or {}).get("reservedFor") or ()
    return [each["name"] for each in reserved if each["resource"] == "pods"]


def _is_ours(result: Mapping[str, Any]) -> bool:
    """Whether a device is of a driver that is simulated; others are taken for prepared."""
    return result["driver"] in (DRIVER, DOMAIN_DRIVER)


def _names(pod: Object) -> dict[str, str]:
    """The claims of a pod by the name that its containers use; empty for one that has not been made yet."""
    status = pod.get("status") or {}
    made = {each["name"]: each.get("resourceClaimName") for each in status.get("resourceClaimStatuses") or ()}
    claims = pod["spec"].get("resourceClaims") or ()
    # A template can turn out to need no claim: then its status has an entry without a name.
    names = {each["name"]: each.get("resourceClaimName") or made.get(each["name"], "") for each in claims}
    names = {name: claim for name, claim in names.items() if claim is not None}
    extended = status.get(_EXTENDED)
    return {**names, _EXTENDED: extended["resourceClaimName"]} if extended else names


def _claims(world: World, pod: Object) -> Iterator[tuple[str, Object]]:
    for used, name in _names(pod).items():
        claim = world.get("ResourceClaim", name, pod["metadata"]["namespace"]) if name else None
        if claim is not None:
            yield used, claim


def _is_reserved(claim: Object, pod: Object) -> bool:
    reserved = (claim.get("status") or {}).get("reservedFor") or ()
    return any(each["uid"] == pod["metadata"]["uid"] for each in reserved)


def _uses(pod: Object) -> Iterator[_Use]:
    spec = pod["spec"]
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for each in (container.get("resources") or {}).get("claims") or ():
            yield _Use(container["name"], each["name"], each.get("request") or _ANY_REQUEST)
    extended = (pod.get("status") or {}).get(_EXTENDED) or {}
    for mapping in extended.get("requestMappings") or ():
        yield _Use(mapping["containerName"], _EXTENDED, mapping["requestName"])


def _append(lists: dict[str, list[str]], container: str, value: str) -> None:
    known = lists.setdefault(container, [])
    if value not in known:
        known.append(value)

"""Devices that have to be made ready before kube-scheduler binds their pod, such as ones that are attached by a fabric.

A driver names conditions in its ResourceSlice; the scheduler copies them into the allocation, and waits until all
bindingConditions are true in the claim's status, for 600 seconds by default. When that time has passed, or one of the
bindingFailureConditions is true, it takes the allocation back and looks anew.
Sources: KEP-5007; kubernetes.io, Dynamic Resource Allocation (device binding conditions), on since Kubernetes 1.36;
kubernetes/kubernetes, pkg/scheduler/framework/plugins/dynamicresources.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.explaining.seen import Seen
from conformance.gpu.placement import Manifest


def awaited(seen: Seen, pod: Manifest) -> tuple[str, str]:
    """For which conditions of its devices the scheduler waits, and what to do about it; empty for none."""
    told = [each for claim in _claims_of(seen, pod) for each in _told_of(claim)]
    failed = next((each for each in told if each[2]), None)
    words, driver, _ = failed or next(iter(told), ("", "", False))
    if not words:
        return "", ""
    log = f"the controller of {driver} sets them: its log says how far it is"
    if failed:
        return words, f"The scheduler takes the devices back and looks anew. If it fails again, see why: {log}."
    return words, f"The scheduler waits for 600 seconds by default, then it looks anew. If that repeats, {log}."


def _claims_of(seen: Seen, pod: Manifest) -> Iterator[Manifest]:
    made = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    stated = (pod.get("spec") or {}).get("resourceClaims") or ()
    names = dict.fromkeys(str(each.get("resourceClaimName") or "") for each in (*stated, *made))
    found = (seen.find("ResourceClaim", str(pod["metadata"].get("namespace") or ""), name) for name in names)
    return (each for each in found if each is not None)


def _told_of(claim: Manifest) -> Iterator[tuple[str, str, bool]]:
    """Of each device that is not ready: what is awaited or has failed, the driver, and whether it has failed."""
    status = claim.get("status") or {}
    results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or ()
    for each in results:
        true = _true_of(each, status)
        device = f"claim {claim['metadata']['name']} has device {each.get('device')} of pool {each.get('pool')}"
        failed = [kind for kind in each.get("bindingFailureConditions") or () if kind in true]
        missing = [kind for kind in each.get("bindingConditions") or () if kind not in true]
        driver = str(each.get("driver"))
        if failed:
            message = f" ({true[failed[0]]})" if true[failed[0]] else ""
            yield f"{device}, which cannot be made ready: {failed[0]}{message}", driver, True
        elif missing:
            yield f"{device}, and is bound when {' and '.join(missing)} of it is true", driver, False


def _true_of(result: Mapping[str, Any], status: Mapping[str, Any]) -> Mapping[str, str]:
    """The conditions of a device that are true, with their messages."""
    place = [result.get(each) for each in ("driver", "pool", "device")]
    there = (
        each
        for each in status.get("devices") or ()
        if [each.get(member) for member in ("driver", "pool", "device")] == place
    )
    conditions = (condition for each in there for condition in each.get("conditions") or ())
    return {
        str(each.get("type")): str(each.get("message") or "") for each in conditions if each.get("status") == "True"
    }

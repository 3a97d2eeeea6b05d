"""Waiting until the workloads of a set-up run, or until it is plain that they will not."""

from typing import Any

from conformance.kube.client import Client
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.reference.model import Reference, Workload


def settle(client: Client, reference: Reference, limit: float) -> tuple[str, ...]:
    """Wait up to ``limit`` seconds, all together, for the deployed workloads; return in words those that do not run."""
    waiting = [workload for workload in reference.workloads if workload.manifest is not None]
    if not waiting:
        return ()
    try:
        wait_for(
            lambda: _unsettled(client, waiting),
            lambda unsettled: not unsettled,
            what=f"the workloads of {reference} run",
            timeout=limit,
            give_up=lambda unsettled: "every one left is refused" if all(map(_refused, unsettled.values())) else None,
        )
    except WaitTimeout:
        unsettled = _unsettled(client, waiting)
        return tuple(
            f"{workload}: {_in_words(unsettled[str(workload)])}" for workload in waiting if str(workload) in unsettled
        )
    return ()


def _unsettled(client: Client, workloads: list[Workload]) -> dict[str, dict[str, Any]]:
    found = {str(workload): _read(client, workload) for workload in workloads}
    return {name: seen for name, seen in found.items() if not _runs(seen)}


def _read(client: Client, workload: Workload) -> dict[str, Any]:
    try:
        return client.get(path(workload.kind, namespace=workload.namespace, name=workload.name))
    except NotFound:
        return {}


def _runs(seen: dict[str, Any]) -> bool:
    spec, status = seen.get("spec") or {}, seen.get("status") or {}
    match seen.get("kind"):
        case "Deployment":
            wanted = spec.get("replicas", 1)
            return _observed(seen) and int(status.get("availableReplicas") or 0) >= wanted
        case "StatefulSet":
            return _observed(seen) and int(status.get("readyReplicas") or 0) >= spec.get("replicas", 1)
        case "DaemonSet":
            wanted = int(status.get("desiredNumberScheduled") or 0)
            return _observed(seen) and int(status.get("numberAvailable") or 0) >= wanted
        case "Job":
            return bool(status.get("ready") or status.get("succeeded"))
    return False


def _observed(seen: dict[str, Any]) -> bool:
    return int((seen.get("status") or {}).get("observedGeneration") or 0) >= int(
        seen["metadata"].get("generation") or 0
    )


def _refused(seen: dict[str, Any]) -> bool:
    """Whether the API server refuses the workload's pods, for a quota or an admission rule, or the Job has failed."""
    conditions = (seen.get("status") or {}).get("conditions") or ()
    return any(
        condition.get("type") in ("ReplicaFailure", "Failed") and condition.get("status") == "True"
        for condition in conditions
    )


def _in_words(seen: dict[str, Any]) -> str:
    if not seen:
        return "is not there"
    conditions = (seen.get("status") or {}).get("conditions") or ()
    said = [str(each["message"]) for each in conditions if each.get("message") and _tells(each)]
    return "; ".join(said) or "its pods are not ready"


def _tells(condition: dict[str, Any]) -> bool:
    bad_when_true = condition.get("type") in ("ReplicaFailure", "Failed", "FailureTarget")
    return (condition.get("status") == "True") == bad_when_true

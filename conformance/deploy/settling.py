"""Waiting until quotas are counted and the workloads of a set-up run, or until it is plain that they will not."""

from typing import Any, NamedTuple

from conformance.kube.client import Client
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.reference.model import Reference


class _Awaited(NamedTuple):
    """An object that is deployed and has to come to something."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}"


def settle(client: Client, reference: Reference, limit: float) -> tuple[str, ...]:
    """Wait up to ``limit`` seconds, all together, for what was deployed; return in words what does not settle.

    Workloads have to run. A quota has to be counted once: until then it limits nothing, and kube-controller-manager
    takes seconds to look at quotas after its own start and after every new resource type
    (kubernetes: pkg/controller/resourcequota/resource_quota_controller.go, Sync).
    """
    quotas = [
        _Awaited("ResourceQuota", team.namespace, quota.name) for team in reference.teams for quota in team.quotas
    ]
    workloads = [_Awaited(each.kind, each.namespace, each.name) for each in reference.workloads if each.manifest]
    waiting = [*quotas, *workloads]
    if not waiting:
        return ()
    try:
        wait_for(
            lambda: _unsettled(client, waiting),
            lambda unsettled: not unsettled,
            what=f"quotas and workloads of {reference} are settled",
            timeout=limit,
            give_up=lambda unsettled: "every one left is refused" if all(map(_refused, unsettled.values())) else None,
        )
    except WaitTimeout:
        return tuple(f"{each}: {_in_words(seen)}" for each, seen in _unsettled(client, waiting).items())
    return ()


def _unsettled(client: Client, waiting: list[_Awaited]) -> dict[_Awaited, dict[str, Any]]:
    found = {each: _read(client, each) for each in waiting}
    return {each: seen for each, seen in found.items() if not _is_settled(seen)}


def _read(client: Client, awaited: _Awaited) -> dict[str, Any]:
    try:
        return client.get(path(awaited.kind, namespace=awaited.namespace, name=awaited.name))
    except NotFound:
        return {}


def _is_settled(seen: dict[str, Any]) -> bool:
    spec, status = seen.get("spec") or {}, seen.get("status") or {}
    match seen.get("kind"):
        case "ResourceQuota":
            return bool(status.get("hard") == spec.get("hard"))
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
    if seen.get("kind") == "ResourceQuota":
        return "it has not been counted, and so limits nothing yet"
    conditions = (seen.get("status") or {}).get("conditions") or ()
    said = [str(each["message"]) for each in conditions if each.get("message") and _tells(each)]
    return "; ".join(said) or "its pods are not ready"


def _tells(condition: dict[str, Any]) -> bool:
    bad_when_true = condition.get("type") in ("ReplicaFailure", "Failed", "FailureTarget")
    return (condition.get("status") == "True") == bad_when_true

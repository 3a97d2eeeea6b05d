"""Removing the objects that carry a run's label: workloads first, namespaces last, and never more than that."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from conformance.deploy.withdrawing import hasten
from conformance.kube.client import Client
from conformance.kube.errors import Conflict, Forbidden, KubeError, NotFound, WaitTimeout
from conformance.kube.keeping import kept_by_others
from conformance.kube.names import HOME_NAMESPACE, RUN_LABEL, own_prefix
from conformance.kube.paths import PLACES, path, path_of
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.lab.pods import at_once
from conformance.remains import Left

__all__ = ["KINDS", "Deletion", "Labelled", "delete_all", "labelled", "named", "wait_until_gone"]

_NAMESPACES = ("Namespace",)
# Stage after stage; within a stage the order does not matter. Pods' owners go before pods, bindings before what they
# bind, namespaces after what is in them, so that what is in them is deleted by us and not merely along with them.
STAGES: tuple[tuple[str, ...], ...] = (
    ("Deployment", "StatefulSet", "DaemonSet", "Job"),
    ("ReplicaSet", "Pod", "PodDisruptionBudget", "Service"),
    ("ResourceClaim", "ResourceClaimTemplate", "ConfigMap", "Secret", "ResourceQuota", "LimitRange"),
    ("RoleBinding", "ClusterRoleBinding"),
    ("Role", "ClusterRole", "ServiceAccount"),
    ("ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicyBinding"),
    ("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"),
    ("RuntimeClass", "DeviceClass", "PriorityClass"),
    _NAMESPACES,
    ("CustomResourceDefinition",),
)
# Not looked for everywhere: to read the Secrets of a whole cluster is a right that few accounts ought to have.
KINDS = tuple(kind for stage in STAGES for kind in stage if kind != "Secret")
# Their pods have to be gone, not only they themselves, before nodes are put back.
_OWNERS_OF_PODS = STAGES[0]


class Labelled(msgspec.Struct, frozen=True):
    """Objects with a run's label, by run id, and in words which kinds could not be looked at."""

    by_run: dict[str, list[dict[str, Any]]]
    unseen: tuple[Left, ...] = ()


class Deletion(msgspec.Struct, frozen=True):
    """What was deleted, and what was left and why, both in words."""

    deleted: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    going: tuple[Mapping[str, Any], ...] = ()
    """Namespaces that are deleted and not gone yet."""


def labelled(client: Client, run_id: str | None = None, kinds: Sequence[str] = KINDS) -> Labelled:
    """Everything that carries the label of the run, or of any run; the owner records themselves left out."""
    selector = f"{RUN_LABEL}={run_id}" if run_id else RUN_LABEL
    by_run: dict[str, list[dict[str, Any]]] = {}
    unseen = []
    for kind, found in zip(kinds, at_once(lambda kind: _list(client, kind, selector), list(kinds)), strict=True):
        if isinstance(found, str):
            unseen.append(Left(kind, found))
            continue
        for obj in found:
            if obj["metadata"].get("namespace") != HOME_NAMESPACE:
                by_run.setdefault(str(obj["metadata"]["labels"][RUN_LABEL]), []).append(obj)
    return Labelled(by_run, tuple(unseen))


def delete_all(client: Client, objects: Iterable[Mapping[str, Any]], timeouts: Timeouts) -> Deletion:
    """Delete these objects of one run, stage after stage, each when the one before is gone.

    Namespaces, which take Kubernetes five seconds and more, are not waited for: ``wait_until_gone`` does, when
    everything else is done. What cannot be deleted is left and named, and so is a namespace that is not one of the
    run's own when others keep something in it.
    """
    remaining = list(objects)
    deleted: list[str] = []
    left: list[Left] = []
    going: list[Mapping[str, Any]] = []
    for stage in STAGES:
        members = [obj for obj in remaining if obj["kind"] in stage]
        gone = []
        for obj, why in zip(members, at_once(lambda obj: _delete(client, obj), members), strict=True):
            if why:
                left.append(Left(named(obj), why))
            else:
                gone.append(obj)
        deleted += [named(obj) for obj in gone]
        if stage == _NAMESPACES:
            going = gone
        else:
            left += wait_until_gone(client, gone, timeouts.deleted)
    return Deletion(tuple(deleted), tuple(left), tuple(going))


def named(obj: Mapping[str, Any]) -> str:
    """An object by kind and name: ``Pod ns/name``, ``Namespace name``."""
    metadata = obj["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{obj['kind']} {place}{metadata['name']}"


def _list(client: Client, kind: str, selector: str) -> list[dict[str, Any]] | str:
    """The objects of a kind; a sentence when they could not be read; nothing where the server lacks the kind."""
    try:
        return client.list(PLACES[kind].path(), label_selector=selector)
    except NotFound:
        return []
    except Forbidden as error:
        return f"could not be looked for: {error.message}"


def _delete(client: Client, obj: Mapping[str, Any]) -> str:
    """Delete one object; why not, empty when it went."""
    metadata = obj["metadata"]
    if obj["kind"] == "Namespace" and not _is_the_runs_own(obj):
        run_id = metadata["labels"][RUN_LABEL]
        strangers = kept_by_others(
            client, metadata["name"], lambda each: (each["metadata"].get("labels") or {}).get(RUN_LABEL) == run_id
        )
        if strangers:
            return f"others keep things in it: {', '.join(strangers)}"
    propagation = "Foreground" if obj["kind"] in _OWNERS_OF_PODS else "Background"
    grace = 1 if obj["kind"] == "Pod" and obj["spec"].get("nodeName") else 0 if obj["kind"] == "Pod" else None
    try:
        if obj["kind"] == "Pod" and metadata.get("finalizers"):
            client.patch(path_of(obj), {"metadata": {"uid": metadata["uid"], "finalizers": None}})
        client.delete(path_of(obj), propagation=propagation, grace_seconds=grace, uid=metadata["uid"])
    except NotFound:
        return ""
    except Conflict:
        return "somebody replaced it meanwhile"
    except KubeError as error:
        return str(error)
    return ""


def wait_until_gone(client: Client, objects: Sequence[Mapping[str, Any]], timeout: float) -> list[Left]:
    """Wait until these are gone, at most ``timeout`` seconds; in words what is still there after that.

    Pods of workloads that a run brought need not end gracefully: nobody used them.
    """
    still_there = list(objects)

    def look() -> list[Mapping[str, Any]]:
        for obj in still_there:
            if obj["kind"] in _OWNERS_OF_PODS:
                hasten(client, obj)
        still_there[:] = _there(client, still_there)
        return still_there

    try:
        wait_for(look, lambda there: not there, what="deleted objects are gone", timeout=timeout)
    except WaitTimeout:
        return [Left(named(obj), f"still there {timeout:g} s after it was deleted") for obj in still_there]
    return []


def _there(client: Client, objects: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of a run's objects that are there.

    A run makes dozens of namespaces, which take seconds to go: one list tells of those that are left. One that the list
    lacks is asked for by name, lest somebody has taken its label.
    """
    namespaces = [obj for obj in objects if obj["kind"] == "Namespace"]
    listed: set[str] = set()
    if len(namespaces) > 1:
        selector = f"{RUN_LABEL}={namespaces[0]['metadata']['labels'][RUN_LABEL]}"
        listed = {str(each["metadata"]["uid"]) for each in client.list(path("Namespace"), label_selector=selector)}
    unlisted = [obj for obj in objects if obj["metadata"]["uid"] not in listed]
    found = at_once(lambda obj: _is_there(client, obj), unlisted)
    gone = [obj for obj, there in zip(unlisted, found, strict=True) if not there]
    return [obj for obj in objects if obj not in gone]


def _is_there(client: Client, obj: Mapping[str, Any]) -> bool:
    try:
        found = client.get(path_of(obj))
    except NotFound:
        return False
    return bool(found["metadata"]["uid"] == obj["metadata"]["uid"])


def _is_the_runs_own(namespace: Mapping[str, Any]) -> bool:
    return str(namespace["metadata"]["name"]).startswith(own_prefix(namespace["metadata"]["labels"][RUN_LABEL]))

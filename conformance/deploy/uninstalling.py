"""Taking a GPU stack away: only releases that are ours, and what charts leave, unless another stack is there.

Whatever somebody else has installed meanwhile keeps its release, its CRDs, and what it wrote on nodes.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from conformance.deploy import stale_labels
from conformance.deploy.helm.releases import Installed
from conformance.deploy.installing import Installer, InstallError, NotOurs, definitions
from conformance.deploy.preflight import Present, discovery_masters, in_the_way, listed
from conformance.kube.client import Client
from conformance.kube.errors import KubeError, WaitTimeout
from conformance.kube.nodechange import NodeChange
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.remains import Left

__all__ = ["Outcome", "uninstalled"]

# What the operator makes outside its namespace and leaves to the garbage collector (NVIDIA/gpu-operator:
# controllers/object_controls.go). Once the CRD of its owner is gone, the collector cannot look the owner up any more,
# and retries for ever (kubernetes: pkg/controller/garbagecollector/garbagecollector.go, attemptToDeleteWorker).
_OWNED = ("RuntimeClass", "DeviceClass", "ClusterRoleBinding", "ClusterRole")


class Outcome(msgspec.Struct, frozen=True):
    """What became of a release. ``words`` say what was left and why; None when the release is gone.

    A release that is ``settled`` may be forgotten: nothing is left that is ours, whatever ``words`` say.
    """

    installed: Installed
    words: Left | None = None
    settled: bool = True


def uninstalled(
    client: Client,
    installed: Sequence[Installed],
    installer: Installer | None,
    changes: Sequence[NodeChange],
    timeouts: Timeouts,
) -> Iterator[Outcome]:
    """Take releases away, the last one first, and what charts leave.

    That are their CRDs, what the operator made outside its namespace, and what was written on nodes. ``changes`` are
    our own changes of nodes, which have a record of their own. A release of somebody else under a name of ours stays,
    and with it all that charts leave.
    """
    remaining = list(installed)
    strangers = stuck = False
    while remaining:
        each = remaining.pop()
        try:
            _uninstall(client, each, installer, timeouts)
            outcome = Outcome(each) if remaining or strangers else _tidied(client, each, changes, timeouts, stuck)
        except NotOurs as error:
            strangers, outcome = True, Outcome(each, Left(each, error))
        except (InstallError, KubeError) as error:
            outcome = Outcome(each, Left(each, error), settled=False)
        stuck = stuck or not outcome.settled
        yield outcome


def _uninstall(client: Client, each: Installed, installer: Installer | None, timeouts: Timeouts) -> None:
    if installer is None:
        raise InstallError(f"run: helm uninstall {each.name} --namespace {each.namespace}{each.proof}")
    installer.uninstall(client, each, timeouts)


def _tidied(
    client: Client, first: Installed, changes: Sequence[NodeChange], timeouts: Timeouts, stuck: bool
) -> Outcome:
    """Remove what the charts of all our releases left, the last of which is gone now."""
    if stuck:
        return Outcome(first, Left(first, "its CRDs and labels of nodes stay until the other releases are gone"), False)
    if present := _still_present(client, timeouts):
        mine = all((each.kind, each.namespace) == ("DaemonSet", first.namespace) for each in present)
        why = "still there" if mine else "the cluster has another GPU stack"
        words = f"{why} ({', '.join(map(str, present))}): CRDs, and labels and annotations of nodes, were left alone"
        return Outcome(first, Left(first, words), settled=not mine)
    if left := list(_without_definitions(client, first)):
        return Outcome(first, Left(first, "; ".join(left)), settled=False)
    if not first.marked:
        stale_labels.unmark(client, changes, first.marks)
    return Outcome(first)


def _still_present(client: Client, timeouts: Timeouts) -> tuple[Present, ...]:
    """What is there of a stack, or of Node Feature Discovery, once the garbage collector has had its time."""
    last: tuple[Present, ...] = ()

    def look() -> tuple[Present, ...]:
        nonlocal last
        last = (*in_the_way(client, up=True), *discovery_masters(client))
        return last

    with suppress(WaitTimeout):
        wait_for(look, lambda found: not found, what="nothing of the stack is left", timeout=timeouts.deleted)
    return last


def _without_definitions(client: Client, first: Installed) -> Iterator[str]:
    """Remove the CRDs that were not there before the first of our releases, if nobody has objects of them.

    What is left of such a kind in the release's own namespace goes along with it; anywhere else it is somebody's.
    """
    for definition in definitions(client):
        if definition["metadata"]["name"] in first.definitions:
            continue
        collection, namespaced = _collection(definition)
        for obj in listed(client, collection):
            if namespaced and obj["metadata"].get("namespace") == first.namespace:
                client.delete(f"{_in_namespace(collection, first.namespace)}/{obj['metadata']['name']}")
        remaining = [obj for obj in listed(client, collection) if not obj["metadata"].get("deletionTimestamp")]
        if remaining:
            yield f"CRD {definition['metadata']['name']}: {len(remaining)} objects of it are left"
        else:
            _delete_owned(client, definition)
            client.delete(path("CustomResourceDefinition", name=definition["metadata"]["name"]))


def _delete_owned(client: Client, definition: dict[str, Any]) -> None:
    """Delete what objects of a kind, none of which is left, owned outside namespaces."""
    spec = definition["spec"]
    kind, group = spec["names"]["kind"], spec["group"]
    for each in _OWNED:
        for obj in listed(client, path(each)):
            owners = obj["metadata"].get("ownerReferences") or ()
            if any(owner["kind"] == kind and owner["apiVersion"].startswith(f"{group}/") for owner in owners):
                client.delete(path(each, name=obj["metadata"]["name"]))


def _in_namespace(collection: str, namespace: str) -> str:
    """The collection of a kind in one namespace, from that of all namespaces."""
    root, _, plural = collection.rpartition("/")
    return f"{root}/namespaces/{namespace}/{plural}"


def _collection(definition: dict[str, Any]) -> tuple[str, bool]:
    spec = definition["spec"]
    version = next(each["name"] for each in spec["versions"] if each.get("served"))
    return f"/apis/{spec['group']}/{version}/{spec['names']['plural']}", spec.get("scope") == "Namespaced"

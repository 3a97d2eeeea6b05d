"""Bringing the operator's objects in order, and whether a DaemonSet counts as ready for it.

Source: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go: DaemonSet, isDaemonSetReady.
"""

from collections.abc import Collection, Iterable

from conformance.kube.paths import path, place
from conformance.simulator.manifests import digest
from conformance.simulator.world import Object, World

HASH = "nvidia.com/last-applied-hash"
"""On what the operator wrote: a digest of what it wanted. It compares nothing else, so that an edit by hand stays."""

MANAGER = "gpu-operator"


def owned_by(kind: str, obj: Object) -> Object:
    """The owner reference of what the controller of an object creates: it goes when the object goes."""
    return {
        "apiVersion": place(kind).group_version,
        "kind": kind,
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def marked(wanted: Object, owner: Object) -> Object:
    """An object as the operator writes it: with its owner reference, and a digest of what it is to be."""
    metadata = {**wanted["metadata"], "ownerReferences": [owner]}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), HASH: digest([wanted, owner])}
    return {**wanted, "metadata": metadata}


def bring(world: World, made: Object) -> bool:
    """Write a marked object, unless the one that is there has the same mark; whether it was written.

    Raises KubeError: Invalid or Forbidden when the API server wants none of it.
    """
    metadata = made["metadata"]
    found = world.get(made["kind"], metadata["name"], metadata.get("namespace") or "")
    if found is not None and (found["metadata"].get("annotations") or {}).get(HASH) == metadata["annotations"][HASH]:
        return False
    world.client.apply(made, manager=MANAGER, force=True)
    return True


def remove(world: World, kind: str, name: str, namespace: str = "", *, keeps_pods: bool = False) -> bool:
    """Delete an object if there is one, with what it owns or without; whether there was one. Raises KubeError."""
    found = world.get(kind, name, namespace)
    if found is None or found["metadata"].get("deletionTimestamp"):
        return False
    propagation = "Orphan" if keeps_pods else "Background"
    return world.client.delete(path(kind, name=name, namespace=namespace or None), propagation=propagation)


def is_rolled_out(daemon_set: Object | None) -> bool:
    """Whether the operator takes a DaemonSet for ready: all of its pods are up to date and available, or it wants none.

    A DaemonSet that was never looked at by its controller is not ready yet; the real operator can take it for one that
    wants no pods in that moment.
    """
    if daemon_set is None:
        return False
    status = daemon_set.get("status") or {}
    if int(status.get("observedGeneration") or 0) < daemon_set["metadata"]["generation"]:
        return False
    wanted = int(status.get("desiredNumberScheduled") or 0)
    return wanted == 0 or (
        not status.get("numberUnavailable")
        and status.get("updatedNumberScheduled") == wanted
        and status.get("numberAvailable") == wanted
    )


def not_rolled_out(world: World, namespace: str, names: Iterable[str]) -> Collection[str]:
    """Those of the DaemonSets that do not count as ready."""
    return [name for name in names if not is_rolled_out(world.get("DaemonSet", name, namespace))]

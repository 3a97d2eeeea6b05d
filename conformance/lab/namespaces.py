"""Namespaces of the lab: ready for pods as soon as they exist, and emptied of pods as soon as they are done with."""

from collections.abc import Mapping
from typing import Any

from conformance.kube.client import Client
from conformance.kube.errors import AlreadyExists, NotFound, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.lab.pods import at_once

__all__ = ["delete_pods", "delete_pods_of", "empty_namespace", "make_namespace"]


def make_namespace(
    client: Client, name: str, labels: Mapping[str, str], pull_secret: Mapping[str, Any] | None = None
) -> None:
    """Create a namespace, the service account that its pods need, and a copy of the pull secret. Safe to repeat.

    The default service account is made here and not waited for: admission refuses pods until it exists.
    """
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": name},
        "automountServiceAccountToken": False,
    }
    _create(client, path("Namespace"), namespace)
    _create(client, path("ServiceAccount", namespace=name), account)
    if pull_secret is not None:
        metadata = {**pull_secret["metadata"], "namespace": name, "labels": dict(labels)}
        _create(client, path("Secret", namespace=name), {**pull_secret, "metadata": metadata})


def empty_namespace(client: Client, name: str, timeouts: Timeouts) -> None:
    """Let a namespace go, and wait only until no pod of it holds a device any more.

    Once the namespace is terminating no controller can make new pods in it. The rest of it goes in its own time.
    """
    client.delete(path("Namespace", name=name))
    delete_pods_of(name, client, timeouts)


def delete_pods_of(namespace: str, client: Client, timeouts: Timeouts) -> None:
    """Delete all pods of a namespace and wait until they are gone; see delete_pods."""
    delete_pods(client, path("Pod", namespace=namespace), timeouts, what=f"pods in namespace {namespace}")


def delete_pods(
    client: Client, collection: str, timeouts: Timeouts, *, what: str, selector: str = "", field_selector: str = ""
) -> None:
    """Delete the pods of a collection and wait until they are gone, in the end by force.

    Bound pods get one second of grace: with none the API server forgets a pod while its node still runs it, and the
    device that it holds would seem free. Raises WaitTimeout when not even force helps.
    """

    def remaining(grace: int) -> list[dict[str, Any]]:
        # Looked for anew each time: a controller that is going itself may still make one.
        pods = client.list(collection, label_selector=selector, field_selector=field_selector)
        at_once(lambda pod: _delete(client, pod, grace), [pod for pod in pods if grace == 0 or not _is_going(pod)])
        return pods

    for last, grace in ((False, 1), (True, 0)):
        try:
            wait_for(
                lambda grace=grace: remaining(grace),  # type: ignore[misc]
                lambda pods: not pods,
                what=f"{what} are gone",
                timeout=timeouts.deleted,
                format_seen=_names,
            )
        except WaitTimeout:
            if last:
                raise
            continue
        return


def _is_going(pod: Mapping[str, Any]) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp")) and not pod["metadata"].get("finalizers")


def _delete(client: Client, pod: Mapping[str, Any], grace: int) -> None:
    metadata = pod["metadata"]
    target = path("Pod", namespace=metadata["namespace"], name=metadata["name"])
    if metadata.get("finalizers"):
        # Only the lab's own hold keeps its pods; a controller's finalizer (Job tracking) has nothing to wait for here.
        try:
            client.patch(target, {"metadata": {"finalizers": None}})
        except NotFound:
            return
    client.delete(target, grace_seconds=grace if pod["spec"].get("nodeName") else 0)


def _names(pods: list[dict[str, Any]]) -> str:
    return ", ".join(str(pod["metadata"]["name"]) for pod in pods)


def _create(client: Client, collection: str, obj: Mapping[str, Any]) -> None:
    try:
        client.create(collection, obj)
    except AlreadyExists:
        # The controller was quicker with the account, or an attempt whose answer was lost got through.
        return

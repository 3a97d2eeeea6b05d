"""The namespace where owner records and Leases live, and who uses it.

Every run enters itself in an annotation of the namespace before it puts anything in, and leaves again at its end.
The last one to leave removes the namespace, on the condition that nobody entered while it looked.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from conformance.kube.client import Client
from conformance.kube.errors import AlreadyExists, Conflict, Forbidden, NotFound, WaitTimeout
from conformance.kube.names import DOMAIN, HOME_NAMESPACE, MANAGED_BY, MANAGED_BY_US
from conformance.kube.paths import path
from conformance.kube.waits import wait_for

__all__ = ["enter", "entered_at", "leave", "remove_if_abandoned", "server_now", "wait_until_gone"]

_ENTRY = f"{DOMAIN}/run-"
# Marks a namespace that a run made. One that an administrator made stays, whoever leaves it last.
_MADE = f"{DOMAIN}/made-by-a-run"
_AGAIN = 0.1
# What Kubernetes itself puts into every namespace.
_OF_KUBERNETES = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
_LOOKED_AT = ("ConfigMap", "Secret", "ServiceAccount", "Lease", "Pod", "Role", "RoleBinding")


def enter(client: Client, run_id: str, *, timeout: float) -> None:
    """Enter the run, making the namespace when it is not there; one that is going is waited for and made anew.

    Raises WaitTimeout after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    entry = {_ENTRY + run_id: server_now(client).isoformat(timespec="seconds")}
    while True:
        namespace = _annotate(client, entry) or _make(client, entry)
        if namespace and not namespace["metadata"].get("deletionTimestamp"):
            return
        if time.monotonic() > deadline:
            raise WaitTimeout(f"namespace {HOME_NAMESPACE} can be used", timeout, "it is being deleted")
        time.sleep(_AGAIN)


def leave(client: Client, run_id: str) -> bool:
    """Take the run's entry out; True when the namespace is going because nobody else uses it."""
    _annotate(client, {_ENTRY + run_id: None})
    return remove_if_abandoned(client)


def remove_if_abandoned(client: Client) -> bool:
    """Delete the namespace if a run made it and nobody uses it any more; True when it is going.

    A run can be killed after it took its entry out and before it removed the namespace: nothing then tells of it.
    """
    while True:
        namespace = _read(client)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return namespace is not None
        annotations = namespace["metadata"].get("annotations") or {}
        if _MADE not in annotations or any(key.startswith(_ENTRY) for key in annotations) or _holds_something(client):
            return False
        try:
            _delete(client, namespace)
        except Conflict:
            # Somebody wrote the namespace, perhaps a run that enters: look again.
            continue
        return True


def wait_until_gone(client: Client, *, timeout: float) -> None:
    """Wait until the namespace is gone, or somebody has made a new one. Raises WaitTimeout."""

    def is_going() -> bool:
        namespace = _read(client)
        return namespace is not None and "deletionTimestamp" in namespace["metadata"]

    wait_for(is_going, lambda going: not going, what=f"namespace {HOME_NAMESPACE} is gone", timeout=timeout)


def entered_at(client: Client) -> dict[str, datetime]:
    """The runs that have entered and not left, and when, by the API server's clock."""
    namespace = _read(client)
    annotations = namespace["metadata"].get("annotations") or {} if namespace is not None else {}
    return {key.removeprefix(_ENTRY): _when(value) for key, value in annotations.items() if key.startswith(_ENTRY)}


def server_now(client: Client) -> datetime:
    """The API server's clock, to about a second, by its answer to a question that changes nothing."""
    with suppress(Forbidden):
        _read(client)
    return client.server_time()


def _read(client: Client) -> dict[str, Any] | None:
    try:
        return client.get(path("Namespace", name=HOME_NAMESPACE))
    except NotFound:
        return None


def _annotate(client: Client, annotations: Mapping[str, str | None]) -> dict[str, Any] | None:
    try:
        return client.patch(path("Namespace", name=HOME_NAMESPACE), {"metadata": {"annotations": annotations}})
    except NotFound:
        return None


def _make(client: Client, entry: dict[str, str]) -> dict[str, Any] | None:
    metadata = {
        "name": HOME_NAMESPACE,
        "labels": {MANAGED_BY: MANAGED_BY_US},
        "annotations": {_MADE: "true", **entry},
    }
    try:
        return client.create(path("Namespace"), {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    except AlreadyExists:
        return None


def _delete(client: Client, namespace: dict[str, Any]) -> None:
    version, uid = namespace["metadata"]["resourceVersion"], namespace["metadata"]["uid"]
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": uid, "resourceVersion": version},
    }
    try:
        client.request("DELETE", path("Namespace", name=HOME_NAMESPACE), body=options)
    except NotFound:
        return


def _holds_something(client: Client) -> bool:
    """Whether anything lies in the namespace that Kubernetes did not put there."""
    for kind in _LOOKED_AT:
        for obj in client.list(path(kind, namespace=HOME_NAMESPACE)):
            if (kind, obj["metadata"]["name"]) not in _OF_KUBERNETES:
                return True
    return False


def _when(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)

"""Waiting for a cluster that was just made, through its API server."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from conformance.kube.errors import KubeError

from .errors import ContainerClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.kube.client import Client
    from conformance.progress import Progress

_LOOK_EVERY = 0.3  # seconds


@contextlib.contextmanager
def client_of(kubeconfig: Path) -> Iterator[Client]:
    """A client that may do everything, for the administrator of a new cluster."""
    from conformance.kube.client import Client
    from conformance.kube.effects import Effect
    from conformance.kube.guard import Guard
    from conformance.kube.kubeconfig import connect

    with connect(kubeconfig, None) as connection:
        yield Client(connection, Guard(Effect.DISRUPTIVE, None))


def wait_usable(client: Client, nodes: int, progress: Progress, *, what: str, timeout: float) -> None:
    """Wait until so many nodes are ready and pods can be created. ContainerClusterError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while missing := _missing(client, nodes):
        progress.step(f"Waiting for {what}: {missing}")
        if time.monotonic() > deadline:
            raise ContainerClusterError(f"{what} was not ready within {timeout:.0f} s: {missing}")
        time.sleep(_LOOK_EVERY)


def _missing(client: Client, nodes: int) -> str:
    try:
        found = list(client.list("/api/v1/nodes"))
        ready = [node for node in found if _is_ready(node)]
        if len(ready) < nodes:
            return f"{len(ready)} of {nodes} nodes are ready"
        client.get("/api/v1/namespaces/default/serviceaccounts/default")
    except KubeError as error:
        return str(error)
    return ""


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", ())
    taints = node["spec"].get("taints", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not any(taint["key"] == "node.kubernetes.io/not-ready" for taint in taints)

"""Simulated nodes in a running cluster: create them, wait for them, break and repair one of them."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from conformance.kube.errors import AlreadyExists

from .annotations import NOT_READY, UNREACHABLE
from .errors import EmbeddedError
from .topologies import Topology, nodes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from conformance.kube.client import Client
    from conformance.progress import Progress

_NODES = "/api/v1/nodes"
_WRITERS = 16
_FEW = 200
_HOLDING_BACK = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


class FleetNotReady(EmbeddedError):
    """Simulated nodes did not become ready in time."""


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Taint(msgspec.Struct):
    key: str


class _Spec(msgspec.Struct):
    taints: list[_Taint] = []


class _Status(msgspec.Struct):
    conditions: list[_Condition] = []


class _Metadata(msgspec.Struct):
    name: str


class _Node(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def ready(self) -> bool:
        """Whether its kubelet says so."""
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions)

    @property
    def held_back(self) -> bool:
        """Whether it still has the taint with which every node starts, or that of one that was silent."""
        return any(taint.key in _HOLDING_BACK for taint in self.spec.taints)


class _Nodes(msgspec.Struct):
    items: list[_Node]


def populate(client: Client, topology: Topology, progress: Progress, *, kubelet: str, timeout: float) -> None:
    """Create the nodes of a topology and wait until they can be used: create() and wait_usable() in one."""
    create(client, topology, progress, kubelet=kubelet)
    wait_usable(client, topology, progress, timeout=timeout)


def create(
    client: Client,
    topology: Topology,
    progress: Progress,
    *,
    kubelet: str,
    instead: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Create the nodes of a topology, several at a time, and what its platform brings along, in its order.

    ``kubelet`` is the version that the nodes claim. ``instead`` are objects for nodes that somebody else runs.
    """
    others = instead or {}
    wanted = [others.get(node["metadata"]["name"], node) for node in nodes(topology, kubelet=kubelet)]
    with ThreadPoolExecutor(_WRITERS) as writers:
        created = writers.map(lambda node: _create(client, node), wanted)
        for done, _ in enumerate(created, start=1):
            if done % 100 == 0 or done == len(wanted):
                progress.step("Creating simulated nodes", done, len(wanted))
    for obj in topology.objects:
        client.apply(obj, manager="platform")


def _create(client: Client, node: Mapping[str, Any]) -> None:
    try:
        client.create(_NODES, node)
    except AlreadyExists:  # its kubelet was faster
        change = {"metadata": dict(node["metadata"]), "spec": dict(node["spec"])}
        client.patch(f"{_NODES}/{node['metadata']['name']}", change)


def wait_usable(
    client: Client, topology: Topology, progress: Progress, *, timeout: float, besides: Collection[str] = ()
) -> None:
    """Wait until every node that is not meant to be broken is ready and has lost its not-ready taint.

    ``timeout`` (seconds) is how long no further node may become ready, so that a large fleet on a slow machine gets
    the time it needs. Nobody waits for those named ``besides``. Raises FleetNotReady with the names of those that are
    missing.
    """
    healthy = {node["metadata"]["name"] for node in nodes(topology) if NOT_READY not in node["metadata"]["annotations"]}
    healthy -= set(besides)
    _wait_usable(client, healthy, progress, timeout)


def break_node(client: Client, name: str, message: str) -> None:
    """Make a simulated node report that it is not ready; the message ``unreachable`` makes it fall silent instead.

    The controller-manager taints it accordingly. Pods of a node that nobody hears from also lose their readiness,
    which it would see to after its grace period; a node that still reports keeps its pods ready.
    """
    client.patch(f"{_NODES}/{name}", {"metadata": {"annotations": {NOT_READY: message}}})
    if message == UNREACHABLE:
        _set_pods_ready(client, name, "False")


def repair_node(client: Client, name: str, *, timeout: float = 30.0) -> None:
    """Undo break_node, and make the node's pods ready again, which a kubelet does and KWOK does not.

    Raises FleetNotReady when the node does not come back within ``timeout`` seconds.
    """
    client.patch(f"{_NODES}/{name}", {"metadata": {"annotations": {NOT_READY: None}}})
    _wait_usable(client, {name}, None, timeout)
    _set_pods_ready(client, name, "True")


def _set_pods_ready(client: Client, node: str, status: str) -> None:
    for pod in client.list("/api/v1/pods", field_selector=f"spec.nodeName={node},status.phase=Running"):
        if all(each.get("ready") for each in pod["status"].get("containerStatuses", [])):
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
            client.patch(path, {"status": {"conditions": [{"type": "Ready", "status": status}]}}, kind="strategic")


def _wait_usable(client: Client, names: set[str], progress: Progress | None, timeout: float) -> None:
    fewest, since = len(names), time.monotonic()
    while missing := names - usable(client, hasten=len(names) <= _FEW):
        if progress is not None:
            progress.step("Waiting until the nodes are ready", len(names) - len(missing), len(names))
        if len(missing) < fewest:
            fewest, since = len(missing), time.monotonic()
        if time.monotonic() - since > timeout:
            raise FleetNotReady(_words(missing, timeout))
        # A list of thousands takes the API server a while: leave it most of the time for its work.
        time.sleep(min(5.0, max(0.02, len(names) / 500)))


def usable(client: Client, *, hasten: bool) -> set[str]:
    """The nodes that pods can go to; with ``hasten`` the taint of those that have become ready is taken away here.

    The controller-manager would do it too, but that starts its controllers a second after the API server is ready.
    """
    found = set()
    for node in _read(client):
        if node.ready and node.held_back and hasten:
            _untaint(client, node)
        elif node.ready and not node.held_back:
            found.add(node.metadata.name)
    return found


def _untaint(client: Client, node: _Node) -> None:
    from conformance.kube.errors import ApiError

    index, key = next((i, taint.key) for i, taint in enumerate(node.spec.taints) if taint.key in _HOLDING_BACK)
    place = f"/spec/taints/{index}"
    change = [{"op": "test", "path": f"{place}/key", "value": key}, {"op": "remove", "path": place}]
    with contextlib.suppress(ApiError):  # somebody changed the taints since: look again
        client.patch(f"{_NODES}/{node.metadata.name}", change, kind="json")


def _read(client: Client) -> Iterator[_Node]:
    for page in client.pages(_NODES):
        yield from msgspec.json.decode(page, type=_Nodes).items


def _words(missing: set[str], timeout: float) -> str:
    some = ", ".join(sorted(missing)[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    return f"{len(missing)} simulated nodes are not ready, and none became so for {timeout:.0f} s: {some}"

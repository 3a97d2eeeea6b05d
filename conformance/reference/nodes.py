"""The labels and taints that a set-up's owners put on their nodes, planned, recorded, made, and taken back."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from conformance.gpu.taints import Taint
from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.names import DOMAIN
from conformance.kube.nodechange import NodeChange, plan
from conformance.kube.paths import path
from conformance.reference.model import Pool, Reference
from conformance.reference.objects import Object

RECORD = f"{DOMAIN}/reference-changes"
"""The annotation by which a node says what deploying changed on it, when no run keeps a journal."""


class Journal(Protocol):
    """Where changes are recorded before they are made, so that they can be undone after a crash. Thread-safe."""

    def will_create(self, obj: Object) -> None:
        """Record that the object is about to be created."""

    def will_change_node(self, change: NodeChange) -> None:
        """Record that the change is about to be made."""

    @property
    def outstanding(self) -> Sequence[NodeChange]:
        """The recorded changes of nodes that have not been taken back, in the order in which they were made."""

    def took_back(self, change: NodeChange) -> None:
        """Take the record of a change out, because the change has been undone."""


class NodeRecords:
    """The journal of a set-up that is deployed to stay: each node carries its own record, objects carry labels."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def will_create(self, obj: Object) -> None:
        """Record nothing: the labels of an object say whose it is from the moment it exists."""

    def will_change_node(self, change: NodeChange) -> None:
        """Append the change to the node's record."""
        self._write(change.node, [*self._read(change.node), change])

    @property
    def outstanding(self) -> Sequence[NodeChange]:
        """Every change that a node of the cluster still has on record."""
        return [change for node in self._client.list(path("Node")) for change in _record(node)]

    def took_back(self, change: NodeChange) -> None:
        """Take the change out of the node's record; a node that is gone has none."""
        try:
            self._write(change.node, [kept for kept in self._read(change.node) if kept != change])
        except NotFound:
            return

    def _read(self, node: str) -> list[NodeChange]:
        return _record(self._client.get(path("Node", name=node)))

    def _write(self, node: str, changes: list[NodeChange]) -> None:
        text = msgspec.json.encode(changes).decode() if changes else None
        self._client.patch(path("Node", name=node), {"metadata": {"annotations": {RECORD: text}}})


# Made before any thread needs it; see kube/client.py.
_CHANGES = msgspec.json.Decoder(list[NodeChange])


def _record(node: Object) -> list[NodeChange]:
    text = (node["metadata"].get("annotations") or {}).get(RECORD)
    return _CHANGES.decode(text) if text else []


def planned(reference: Reference, nodes: Sequence[Object]) -> list[NodeChange]:
    """The changes that give every node of every pool its declared labels and taints; empty ones are left out."""
    changes = []
    for node in nodes:
        pool = reference.pool_of(node["metadata"].get("labels") or {})
        if pool is not None:
            changes.append(plan(node, labels=pool.labels, add_taints=_taints(pool)))
    return [change for change in changes if change]


def _taints(pool: Pool) -> list[Taint]:
    return [Taint(taint.key, taint.value, taint.effect) for taint in pool.taints]

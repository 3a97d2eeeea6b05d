"""The labels and taints that a set-up's owners put on their nodes, planned, recorded, made, and undone."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from conformance.deploy.helm.releases import Installed
from conformance.gpu.taints import Taint, toleration_from
from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.names import DOMAIN, MANAGED_BY, MANAGED_BY_US, SIMULATED_GPUS
from conformance.kube.nodechange import NodeChange, plan
from conformance.kube.paths import path
from conformance.reference.model import Pool, Reference
from conformance.reference.objects import Object
from conformance.reference.simulated_plugin import is_simulated

RECORD = f"{DOMAIN}/reference-changes"
"""The annotation by which a node says what deploying changed on it, when no run keeps a journal."""
RELEASE_LABEL = f"{DOMAIN}/release"
"""The label of a ConfigMap that is the record of an installed release, when no run keeps a journal."""
_RELEASE = "release.json"
_EVICTING = "NoExecute"
# Pods of a node that a conflict names.
_NAMED = 3


class Journal(Protocol):
    """Where changes are recorded before they are made, so that they can be undone after a crash. Thread-safe."""

    def will_create(self, obj: Object) -> None:
        """Record that the object is about to be created."""

    def will_change_node(self, change: NodeChange) -> None:
        """Record that the change is about to be made."""

    @property
    def outstanding(self) -> Sequence[NodeChange]:
        """The recorded changes of nodes that have not been undone, in the order in which they were made."""

    def took_back(self, change: NodeChange) -> None:
        """Take the record of a change out, because the change has been undone."""

    def will_install(self, installed: Installed) -> None:
        """Record that the release is about to be installed."""

    def uninstalled(self, installed: Installed) -> None:
        """Take the record of a release out, because the release is gone."""

    @property
    def installed(self) -> Sequence[Installed]:
        """The recorded releases that have not been taken away, in the order in which they were installed."""


class NodeRecords:
    """The journal of a set-up that is deployed to stay: nodes and releases have a record each, objects carry labels.

    The record of a release is a ConfigMap in the namespace of the release.
    """

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

    def will_install(self, installed: Installed) -> None:
        """Write the record of the release into its namespace."""
        labels = {MANAGED_BY: MANAGED_BY_US, RELEASE_LABEL: installed.name}
        metadata = {"name": _record_name(installed), "namespace": installed.namespace, "labels": labels}
        text = msgspec.json.encode(installed).decode()
        self._client.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {_RELEASE: text}})

    def uninstalled(self, installed: Installed) -> None:
        """Remove the record of the release."""
        self._client.delete(path("ConfigMap", namespace=installed.namespace, name=_record_name(installed)))

    @property
    def installed(self) -> Sequence[Installed]:
        """Every release of which the cluster has a record, oldest record first."""
        found = self._client.list(path("ConfigMap"), label_selector=RELEASE_LABEL)
        found.sort(key=lambda each: (each["metadata"].get("creationTimestamp") or "", each["metadata"]["name"]))
        return [_RELEASES.decode(each["data"][_RELEASE]) for each in found]

    def _read(self, node: str) -> list[NodeChange]:
        return _record(self._client.get(path("Node", name=node)))

    def _write(self, node: str, changes: list[NodeChange]) -> None:
        text = msgspec.json.encode(changes).decode() if changes else None
        self._client.patch(path("Node", name=node), {"metadata": {"annotations": {RECORD: text}}})


# Made before any thread needs them; see kube/client.py.
_CHANGES = msgspec.json.Decoder(list[NodeChange])
_RELEASES = msgspec.json.Decoder(Installed)


def _record_name(installed: Installed) -> str:
    return f"gpu-conformance-release-{installed.name}"


def _record(node: Object) -> list[NodeChange]:
    text = (node["metadata"].get("annotations") or {}).get(RECORD)
    return _CHANGES.decode(text) if text else []


def planned(reference: Reference, nodes: Sequence[Object]) -> list[NodeChange]:
    """The changes that give every node of every pool its declared labels and taints; empty ones are left out.

    Nodes that are to get simulated GPUs get the label by which everybody sees that.
    """
    changes = []
    for node in nodes:
        pool = reference.pool_of(node["metadata"].get("labels") or {})
        if pool is not None:
            changes.append(plan(node, labels={**pool.labels, **_said_of(pool, reference)}, add_taints=_taints(pool)))
    return [change for change in changes if change]


def evictions(client: Client, changes: Sequence[NodeChange]) -> list[str]:
    """Which pods the planned taints would evict: for each node and taint one conflict, and what to do about it.

    NoExecute evicts whatever does not tolerate it, pods of DaemonSets too. Pods are listed once, and only when such a
    taint is planned. Those that have ended or are being deleted anyway do not count.
    """
    evicting = {change.node: taints for change in changes if (taints := _evicting(change))}
    pods: dict[str, list[Object]] = {node: [] for node in evicting}
    for pod in client.list(path("Pod")) if evicting else ():
        node = pod["spec"].get("nodeName")
        if node in pods and _stays_by_itself(pod):
            pods[node].append(pod)
    return [
        _in_the_way(node, taint, names)
        for node, taints in evicting.items()
        for taint in taints
        if (names := sorted(_full_name(pod) for pod in pods[node] if _is_evicted(pod, taint)))
    ]


def _evicting(change: NodeChange) -> list[Taint]:
    return [taint for taint in change.taints_added if taint.effect == _EVICTING]


def _stays_by_itself(pod: Mapping[str, Any]) -> bool:
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def _is_evicted(pod: Mapping[str, Any], taint: Taint) -> bool:
    """Whether the taint evicts the pod, at once or after the tolerationSeconds of the first toleration that covers it.

    Source: kubernetes, pkg/controller/tainteviction (processPodOnNode) and GetMatchingTolerations.
    """
    tolerations = (toleration_from(each) for each in pod["spec"].get("tolerations") or ())
    covering = next((each for each in tolerations if each.tolerates(taint)), None)
    return covering is None or covering.toleration_seconds is not None


def _in_the_way(node: str, taint: Taint, pods: Sequence[str]) -> str:
    more = f" and {len(pods) - _NAMED} more" if len(pods) > _NAMED else ""
    return (
        f"node {node}: taint {taint} would evict pods that do not tolerate it for good: "
        f"{', '.join(pods[:_NAMED])}{more}; drain the node, give them the toleration, or declare NoSchedule"
    )


def _full_name(pod: Mapping[str, Any]) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _said_of(pool: Pool, reference: Reference) -> dict[str, str]:
    return {SIMULATED_GPUS: "true"} if pool.gpu is not None and is_simulated(reference) else {}


def _taints(pool: Pool) -> list[Taint]:
    return [Taint(taint.key, taint.value, taint.effect) for taint in pool.taints]

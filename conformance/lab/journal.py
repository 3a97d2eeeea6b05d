"""The owner record: who runs, since when, and what it is about to change, written before it changes anything.

It lives in ConfigMaps of the records namespace: ``gpuc-<run id>`` says who, ``gpuc-<run id>-journal-<n>`` hold the
entries, one key each, so that an entry costs one small write and thousands of nodes fit under the limit of 1 MiB
for one object.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conformance.deploy.helm.releases import Installed
from conformance.kube.client import Client
from conformance.kube.errors import AlreadyExists
from conformance.kube.names import DOMAIN, HOME_NAMESPACE, MANAGED_BY, MANAGED_BY_US, RUN_LABEL
from conformance.kube.nodechange import NodeChange
from conformance.kube.paths import path

__all__ = ["Entry", "Journal", "ObjectRef", "OwnerRecord", "owner_records", "record_name"]

RECORD_LABEL = f"{DOMAIN}/record"
_OWNER, _JOURNAL = "owner", "journal"
_OWNER_KEY = "owner.json"
# A ConfigMap may hold 1 MiB; keys and JSON escapes in the request need room as well.
SHARD_BYTES = 700_000


class ObjectRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which object a run was about to create."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> "ObjectRef":
        """The reference to a Kubernetes object."""
        metadata = obj["metadata"]
        return cls(
            str(obj["apiVersion"]), str(obj["kind"]), str(metadata["name"]), str(metadata.get("namespace") or "")
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Owner(msgspec.Struct, frozen=True):
    """Who runs."""

    holder: str
    mode: str
    started_at: str


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that a run was about to do: change a node, create an object, or install a release."""

    node: NodeChange | None = None
    created: ObjectRef | None = None
    helm_release: Installed | None = None


class OwnerRecord(msgspec.Struct, frozen=True):
    """What the cluster says about one run. A run that was killed while it began may lack its ``owner``."""

    run_id: str
    owner: Owner | None = None
    entries: tuple[Entry, ...] = ()
    config_maps: tuple[str, ...] = ()

    @property
    def node_changes(self) -> tuple[NodeChange, ...]:
        """The node changes that were not undone, in the order in which they were made."""
        return tuple(entry.node for entry in self.entries if entry.node)

    @property
    def created(self) -> tuple[ObjectRef, ...]:
        """The objects that were about to be created, in that order."""
        return tuple(entry.created for entry in self.entries if entry.created)

    @property
    def releases(self) -> tuple[Installed, ...]:
        """The releases that were about to be installed and were not taken away, in that order."""
        return tuple(entry.helm_release for entry in self.entries if entry.helm_release)


def record_name(run_id: str) -> str:
    """The name of a run's owner record."""
    return f"gpuc-{run_id}"


class Journal:
    """Writes a run's record. May be used by several threads: their entries then travel in one write."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._filing = threading.Lock()
        self._writing = threading.Lock()
        self._sequence = 0
        self._pending: dict[str, str] = {}
        self._shards: dict[str, int] = {}
        self._shard = -1
        self._room = 0
        self._node_keys: list[tuple[str, NodeChange]] = []
        self._release_keys: list[tuple[str, Installed]] = []
        self._kinds: dict[str, None] = {}

    def open(self, *, holder: str, mode: str) -> None:
        """Write who runs. Safe to repeat."""
        owner = Owner(holder, mode, self._client.server_time().isoformat(timespec="seconds"))
        self._create(record_name(self._run_id), _OWNER, {_OWNER_KEY: msgspec.json.encode(owner).decode()})

    def will_create(self, obj: Mapping[str, Any]) -> None:
        """Record an object that is about to be created. Returns when the record is written."""
        reference = ObjectRef.of(obj)
        with self._filing:
            self._kinds[reference.kind] = None
        self._record(Entry(created=reference))

    def will_change_node(self, change: NodeChange) -> None:
        """Record a node change that is about to be made. Returns when the record is written."""
        self._record(Entry(node=change))

    def took_back(self, change: NodeChange) -> None:
        """Take the newest record of a node change out, because the change has been undone."""
        with self._filing:
            found = [each for each in self._node_keys if each[1] == change]
        if not found:
            return
        self._take_out(found[-1][0])
        with self._filing:
            self._node_keys.remove(found[-1])

    def will_install(self, installed: Installed) -> None:
        """Record a release that is about to be installed. Returns when the record is written."""
        self._record(Entry(helm_release=installed))

    def uninstalled(self, installed: Installed) -> None:
        """Take the record of a release out, because the release is gone."""
        with self._filing:
            found = [each for each in self._release_keys if each[1] == installed]
        for each in found:
            self._take_out(each[0])
            with self._filing:
                self._release_keys.remove(each)

    @property
    def installed(self) -> tuple[Installed, ...]:
        """The recorded releases that have not been taken away, in the order in which they were installed."""
        with self._filing:
            return tuple(installed for _, installed in self._release_keys)

    @property
    def outstanding(self) -> tuple[NodeChange, ...]:
        """The recorded node changes that have not been undone, in the order in which they were made."""
        with self._filing:
            return tuple(change for _, change in self._node_keys)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the recorded objects, in the order in which they were first created."""
        with self._filing:
            return tuple(self._kinds)

    def _take_out(self, key: str) -> None:
        if key in self._shards:
            self._client.patch(self._path(self._shards[key]), {"data": {key: None}})

    def _record(self, entry: Entry) -> None:
        with self._filing:
            self._sequence += 1
            key = f"{self._sequence:06d}"
            self._pending[key] = msgspec.json.encode(entry).decode()
            if entry.node:
                self._node_keys.append((key, entry.node))
            if entry.helm_release:
                self._release_keys.append((key, entry.helm_release))
        # Whoever writes takes along what others have filed meanwhile; they find their entry written when they come.
        with self._writing:
            with self._filing:
                if key not in self._pending:
                    return
                batch, self._pending = self._pending, {}
            try:
                self._write(batch)
            except BaseException:
                with self._filing:
                    self._pending = batch | self._pending
                raise

    def _write(self, batch: dict[str, str]) -> None:
        size = sum(len(key) + len(text.encode()) for key, text in batch.items())
        if size > self._room:
            self._create(self._shard_name(self._shard + 1), _JOURNAL, {})
            self._shard += 1
            self._room = SHARD_BYTES
        self._client.patch(self._path(self._shard), {"data": batch})
        self._room -= size
        self._shards |= dict.fromkeys(batch, self._shard)

    def _create(self, name: str, role: str, data: dict[str, str]) -> None:
        labels = {RUN_LABEL: self._run_id, MANAGED_BY: MANAGED_BY_US, RECORD_LABEL: role}
        record = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": HOME_NAMESPACE, "labels": labels},
            "data": data,
        }
        try:
            self._client.create(path("ConfigMap", namespace=HOME_NAMESPACE), record)
        except AlreadyExists:
            # An interrupted attempt of this run got further than it knew.
            return

    def _shard_name(self, number: int) -> str:
        return f"{record_name(self._run_id)}-{_JOURNAL}-{number}"

    def _path(self, shard: int) -> str:
        return path("ConfigMap", namespace=HOME_NAMESPACE, name=self._shard_name(shard))


def owner_records(client: Client) -> dict[str, OwnerRecord]:
    """The records of all runs that left or still have one, by run id."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for config_map in client.list(
        path("ConfigMap", namespace=HOME_NAMESPACE), label_selector=f"{RUN_LABEL},{RECORD_LABEL}"
    ):
        by_run.setdefault(str(config_map["metadata"]["labels"][RUN_LABEL]), []).append(config_map)
    return {run_id: _record(run_id, config_maps) for run_id, config_maps in by_run.items()}


def _record(run_id: str, config_maps: Iterable[Mapping[str, Any]]) -> OwnerRecord:
    owner: Owner | None = None
    entries: dict[str, str] = {}
    names = []
    for config_map in config_maps:
        names.append(str(config_map["metadata"]["name"]))
        contents = config_map.get("data") or {}
        if config_map["metadata"]["labels"][RECORD_LABEL] == _OWNER:
            owner = msgspec.json.decode(contents[_OWNER_KEY], type=Owner)
        else:
            entries |= contents
    decoded = tuple(msgspec.json.decode(entries[key], type=Entry) for key in sorted(entries))
    return OwnerRecord(run_id, owner, decoded, tuple(sorted(names)))

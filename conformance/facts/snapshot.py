"""A cluster saved to a file: the objects as the API server sent them, to be judged later without the cluster.

A snapshot never holds the data of Secrets: they are not read, and an object of that kind that gets in loses it.
Of ConfigMaps it holds those of the GPU stack's namespaces, of CustomResourceDefinitions no schema, of events warnings
and why an autoscaler adds no node.
Environment values, arguments, annotations, messages and entries of ConfigMaps that could be credentials are hidden
(conformance.facts.hiding). The format is documented in docs/snapshots.md.
"""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from conformance.facts.collection import Facts
from conformance.facts.decoding import Harvest
from conformance.facts.hiding import presentable
from conformance.facts.kinds import BESIDES, EVENTS, EVERYWHERE, KINDS, by_plural, kind_of, undefined
from conformance.facts.reading import (
    CONFIG_MAP,
    Missing,
    gather,
    gather_config_maps,
    gather_queues_of_yunikorn,
    in_served_version,
    server_version,
)
from conformance.facts.resources import DEFINITION, WORDS, definition
from conformance.facts.stack import STACK_WORKLOADS, namespaces_of, yunikorn_namespaces
from conformance.gpu.labels import YUNIKORN_SCHEDULER
from conformance.gpu.operator_stack import detect
from conformance.kube.client import Client
from conformance.kube.errors import KubeError, NotFound
from conformance.kube.paths import PLACES, kind_in_api, name_in_places, resource_of

FORMAT = 1
_NOT_SAVED = "the snapshot does not hold them; take it again with this version of gpu-conformance"


class SnapshotError(Exception):
    """A snapshot file cannot be used. The text says which one, why and what to do."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot file holds: ``objects`` as JSON by kind, and why what is ``unreadable`` (``pods``) is missing.

    ``unserved`` are the kinds that the API server did not know, ``config_namespaces`` the namespaces whose ConfigMaps
    were read, None when none was left out. ``without`` says why kinds that only `explain-pod` looks at are not there.
    """

    format: int = FORMAT
    server_version: str = ""
    taken_at: datetime
    unreadable: dict[str, str] = {}
    unserved: tuple[str, ...] = ()
    config_namespaces: tuple[str, ...] | None = None
    without: dict[str, str] = {}
    objects: dict[str, list[msgspec.Raw]] = {}

    @classmethod
    def of(cls, objects: Iterable[Mapping[str, Any]], *, unreadable: Mapping[str, str] | None = None) -> "Snapshot":
        """A snapshot of plain objects, each with its kind. Kinds of which there is none count as read and empty.

        Custom kinds that the objects neither are of nor define count as not served.
        """
        shelves = {name: _Shelf(name) for name in KINDS}
        plain = tuple(objects)
        for obj in plain:
            kind = kind_of(obj)
            name = kind.name if kind else _name_of_unread(obj)
            shelves.setdefault(name, _Shelf(name)).add(obj)
        missing = Missing(by_plural(unreadable or {}), undefined(plain))
        return cls(taken_at=datetime.now(UTC), **_kept(shelves, missing))

    def facts(self) -> Facts:
        """The facts that reading the cluster then would have given."""
        harvests = {name: Harvest(kind) for name, kind in KINDS.items()}
        for name, harvest in harvests.items():
            for raw in self.objects.get(name, ()):
                harvest.add_raw(raw)
        missing = {kind.resource: _NOT_SAVED for name, kind in KINDS.items() if name not in self.objects}
        return Facts.from_harvests(
            harvests.values(),
            unreadable=missing | self.unreadable,
            unserved=self.unserved,
            config_namespaces=self.config_namespaces,
            server_version=self.server_version,
            taken_at=self.taken_at,
        )

    def plain_objects(self) -> Iterator[dict[str, Any]]:
        """Every object as a new plain dict with apiVersion and kind, for whoever wants to change it."""
        for raws in self.objects.values():
            for raw in raws:
                yield msgspec.json.decode(raw)


def take(client: Client, config_namespaces: Iterable[str] = ()) -> Snapshot:
    """Read the kinds of the facts into a snapshot, ConfigMaps as ``read`` does.

    Raises Unreachable when there is no server to talk to.
    """
    version = server_version(client)
    taken_at = client.server_time()
    shelves = {name: _Shelf(name) for name in KINDS}
    missing = gather(client, {name: shelves[name] for name in EVERYWHERE})
    namespaces = tuple(sorted({*_stack_namespaces(shelves), *config_namespaces}))
    failed = gather_config_maps(client, shelves[CONFIG_MAP], namespaces)
    of_yunikorn = _namespaces_of_yunikorn(shelves["Deployment"])
    gather_queues_of_yunikorn(client, shelves[CONFIG_MAP], of_yunikorn - {*namespaces})
    kept = _kept(shelves, Missing(missing.unreadable | failed, missing.unserved))
    besides, without = _besides(client)
    kept["objects"] |= besides
    return Snapshot(server_version=version, taken_at=taken_at, config_namespaces=namespaces, without=without, **kept)


def _besides(client: Client) -> tuple[dict[str, list[msgspec.Raw]], dict[str, str]]:
    """The kinds that only explanations look at, as far as they may be read, and why the others are missing."""
    found: dict[str, list[msgspec.Raw]] = {}
    without: dict[str, str] = {}
    for kind in BESIDES:
        shelf = _Shelf(kind)
        try:
            _fill(client, shelf)
        except (KubeError, msgspec.DecodeError) as error:
            without[resource_of(kind)] = str(error)
        else:
            found[kind] = shelf.objects
    return found, without


def _fill(client: Client, shelf: "_Shelf") -> None:
    """Add the objects of a kind, none where it is not served; of events those that tell of failure."""
    selectors = EVENTS if shelf.kind == "Event" else (None,)

    def add_pages(version: str) -> None:
        for selector in selectors:
            part = _Shelf(shelf.kind)
            for page in client.pages(version, field_selector=selector, restarted=part.clear):
                part.add_page(page)
            shelf.objects += part.objects

    with suppress(NotFound):
        in_served_version(shelf.kind, add_pages)


def save(snapshot: Snapshot, path: Path | str) -> None:
    """Write a snapshot file (gzip, JSON) at once or not at all, readable by its owner only. Raises OSError."""
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(gzip.compress(msgspec.json.encode(snapshot), compresslevel=6))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def open_file(path: Path | str) -> Snapshot:
    """The snapshot in a file. Raises SnapshotError when there is none, or none that this version can read."""
    try:
        content = gzip.decompress(Path(path).read_bytes())
    except FileNotFoundError:
        raise SnapshotError(f"there is no snapshot {path}: make one with `gpu-conformance snapshot`") from None
    except (OSError, EOFError, zlib.error) as error:
        raise SnapshotError(f"the snapshot {path} cannot be read: {error}") from error
    return _decoded(content, path)


def load(path: Path | str) -> Facts:
    """The facts in a snapshot file. Raises SnapshotError as ``open_file`` does."""
    return open_file(path).facts()


def _decoded(content: bytes, path: Path | str) -> Snapshot:
    try:
        written = msgspec.json.decode(content, type=_Format).format
        if written != FORMAT:
            raise SnapshotError(f"the snapshot {path} has format {written}, this version reads {FORMAT}: take it again")
        return msgspec.json.decode(content, type=Snapshot)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"the snapshot {path} is damaged or no snapshot: {error}") from error


class _Format(msgspec.Struct):
    format: int


class _Page(msgspec.Struct):
    items: list[dict[str, Any]] | None = None


class _RawPage(msgspec.Struct):
    items: list[msgspec.Raw] | None = None


# Made before any thread needs them; see decoding.py.
_PAGES = msgspec.json.Decoder(_Page)
_RAW_PAGES = msgspec.json.Decoder(_RawPage)


class _Shelf:
    """The objects of one kind as they go into the file."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.objects: list[msgspec.Raw] = []

    def clear(self) -> None:
        """Forget what was gathered."""
        self.objects.clear()

    def add_page(self, page: bytes) -> None:
        """Keep the objects of one page of a list. Raises msgspec.DecodeError when the page is no list."""
        if self.kind == DEFINITION:
            for raw in _RAW_PAGES.decode(page).items or ():
                self._add_definition(raw)
            return
        for item in _PAGES.decode(page).items or ():
            self.add(item)

    def add(self, obj: Mapping[str, Any]) -> None:
        """Keep one object, presentable, with the apiVersion and kind that a list leaves out."""
        if self.kind == DEFINITION:
            self._add_definition(msgspec.Raw(msgspec.json.encode(obj)))
        else:
            self._keep(obj)

    def _add_definition(self, raw: msgspec.Raw) -> None:
        try:
            self._keep(definition(raw).body)
        except msgspec.ValidationError:
            self._keep(msgspec.json.decode(raw))  # odd, and as odd for whoever makes facts of it

    def _keep(self, obj: Mapping[str, Any]) -> None:
        named = {"apiVersion": PLACES[self.kind].group_version} if self.kind in PLACES else {}
        whole = {**named, "kind": kind_in_api(self.kind), **obj}
        kept = presentable(whole, keeps_change=self.kind in WORDS)
        self.objects.append(msgspec.Raw(msgspec.json.encode(kept)))


def _stack_namespaces(shelves: Mapping[str, _Shelf]) -> tuple[str, ...]:
    """The namespaces of the GPU stack, told from its workloads before the snapshot is complete."""
    workloads = [msgspec.json.decode(raw) for kind in STACK_WORKLOADS for raw in shelves[kind].objects]
    return namespaces_of(detect(workloads))


def _namespaces_of_yunikorn(deployments: _Shelf) -> set[str]:
    """The namespaces of YuniKorn's scheduler, told from its Deployment before the snapshot is complete."""
    named = Facts.from_objects(
        msgspec.json.decode(raw) for raw in deployments.objects if YUNIKORN_SCHEDULER.encode() in bytes(raw)
    )
    return set(yunikorn_namespaces(named.workloads))


def _name_of_unread(obj: Mapping[str, Any]) -> str:
    """The name of a shelf for a kind that is not read, apart from a kind of the same name in another API group."""
    version, kind = str(obj.get("apiVersion")), str(obj.get("kind"))
    if (named := name_in_places(version, kind)) != kind:
        return named
    return f"{kind} of {version}" if kind in KINDS else kind


def _kept(shelves: Mapping[str, _Shelf], missing: Missing) -> dict[str, Any]:
    """What was gathered as members of a Snapshot; an unreadable kind has no objects, which is not the same as none."""
    reasons = by_plural(missing.unreadable)
    unread = {name for name, kind in KINDS.items() if kind.resource in reasons}
    objects = {name: shelf.objects for name, shelf in shelves.items() if name not in unread}
    return {"unreadable": reasons, "unserved": missing.unserved, "objects": objects}

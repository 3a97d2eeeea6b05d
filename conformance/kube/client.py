"""Requests to an API server: reading, listing page by page, writing, server-side apply; each one past the guard."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeAlias

import msgspec

from conformance import __version__
from conformance.kube import paths
from conformance.kube.connection import Connection
from conformance.kube.discovery import Discovery
from conformance.kube.effects import Effect
from conformance.kube.errors import Gone, NotFound
from conformance.kube.guard import Guard
from conformance.kube.names import FIELD_MANAGER
from conformance.kube.pieces import PIECE, pieces
from conformance.kube.sending import Request, Sender
from conformance.kube.timeouts import Timeouts
from conformance.kube.watching import Event, Watch

__all__ = ["Client", "Event"]

Object: TypeAlias = dict[str, Any]
Objects: TypeAlias = list[Object]
Pages: TypeAlias = list[bytes]
Query: TypeAlias = Mapping[str, str]

AGENT = f"gpu-conformance/{__version__}"
PAGE = 500
_MANY_PAGES = 10_000
# Kind, apiVersion and metadata of a list, the continue token among it; bytes.
_HEAD = 4096

_JSON = "application/json"
_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_APPLY = "application/apply-patch+yaml"


class _ListMeta(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(default="", name="continue")
    resource_version: str = ""


class _Page(msgspec.Struct):
    """The part of a list that paging needs; the items are skipped, not built."""

    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class _Head(msgspec.Struct):
    """The same of a page that is cut off before its items: without ``metadata`` it stands behind them."""

    metadata: _ListMeta


# Made here and not where it is used: msgspec builds what it knows of a type on first use, and two threads that do so at
# once can crash the interpreter (seen with msgspec 0.22).
_PAGES = msgspec.json.Decoder(_Page)
_HEADS = msgspec.json.Decoder(_Head)


class Client:
    """One way to an API server, with one guard. Cheap to derive and safe to share between threads.

    Whoever opened the connection closes it. Every method raises ApiError (by status), Unreachable,
    EffectRefused for what the guard refuses, and UnclearPath for a path with more than one reading.
    """

    def __init__(
        self,
        connection: Connection,
        guard: Guard,
        timeouts: Timeouts | None = None,
        agent: str = AGENT,
        stopped: threading.Event | None = None,
    ) -> None:
        self.connection = connection
        self.guard = guard
        self.timeouts = timeouts or Timeouts()
        self.agent = agent
        self._stopped = stopped
        self._sender = Sender(connection, self.timeouts, agent)
        self._discovery = Discovery(self.get)

    def for_requirement(self, requirement_id: str, effect: Effect, stopped: threading.Event | None = None) -> "Client":
        """Return the client of one requirement: its id in the User-Agent, its effect as the limit.

        While ``stopped`` is set it sends nothing and raises KeyboardInterrupt, as in the main thread Ctrl-C does.
        """
        agent = f"{AGENT} requirement/{requirement_id}"
        guard = self.guard.narrowed(effect, requirement_id)
        return Client(self.connection, guard, self.timeouts, agent, stopped)

    def with_token(self, token: str) -> "Client":
        """Return a client that is whoever ``token`` says, with the same guard and without our own credentials."""
        return Client(self.connection.with_token(token), self.guard, self.timeouts, self.agent, self._stopped)

    def server_time(self) -> datetime:
        """The API server's time (UTC), to about a second, by its newest answer; our own before the first one."""
        return self.connection.clock.now()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        content_type: str = _JSON,
        timeout: float | None = None,
    ) -> bytes:
        """Send one request and return the body of the answer.

        ``body`` is encoded as JSON, ``timeout`` replaces the read timeout (seconds). 429, 503 and connection
        errors are tried again within the retry time, as far as that cannot do a thing twice.
        """
        return self._sender.send(self._checked(method, path, query, body, content_type), timeout)

    def get(self, path: str, query: Query | None = None) -> Object:
        """Read one object, or whatever JSON object the path answers with."""
        return _object(self.request("GET", path, query=query))

    def pages(
        self,
        path: str,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE,
        restarted: Callable[[], None] | None = None,
    ) -> Iterator[bytes]:
        """Read a list as raw JSON pages of up to ``limit`` items, all of one resource version.

        A continue token can expire (410) before the last page; the list then starts again from its beginning.
        With ``restarted`` pages are handed out as they come, and it is called when those so far are void.
        Without it they are held back until the list is complete, so that none is ever seen twice.
        """
        query = _selectors(label_selector, field_selector) | {"limit": str(limit)}
        if restarted is not None:
            yield from self._pages(path, query, restarted)
            return
        held: Pages = []
        for page in self._pages(path, query, held.clear):
            held.append(page)
        yield from held

    def pieces(self, path: str) -> Iterator[bytes]:
        """Read a list in one answer, handed out as lists of some of its items while it comes.

        For servers that write such an answer item by item (facts.reading says which). Raises BrokenOff in the middle,
        after which the pieces so far are void and ``pages`` is the way.
        """
        request = self._checked("GET", path, None, None, _JSON)
        return pieces(self._sender.parts(request, PIECE), path)

    def list(
        self, path: str, *, label_selector: str | None = None, field_selector: str | None = None, limit: int = PAGE
    ) -> Objects:
        """Read a list's items, each with the apiVersion and kind that the server leaves to the list."""
        return self._list(path, _selectors(label_selector, field_selector) | {"limit": str(limit)})[0]

    def create(self, path: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """POST an object to its collection (or a question to a review, or a subresource) and return the answer."""
        return _object(self.request("POST", path, query=_writing(dry_run), body=body))

    def replace(self, path: str, body: Mapping[str, Any]) -> Object:
        """PUT an object. Raises Conflict when it carries a resourceVersion that is not the newest."""
        return _object(self.request("PUT", path, query=_writing(False), body=body))

    def patch(
        self,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        kind: Literal["merge", "json", "strategic"] = "merge",
        dry_run: bool = False,
    ) -> Object:
        """PATCH an object: a partial object, or a list of operations for ``kind="json"``."""
        return _object(self.request("PATCH", path, query=_writing(dry_run), body=body, content_type=_PATCHES[kind]))

    def apply(
        self, obj: Mapping[str, Any], *, manager: str = FIELD_MANAGER, force: bool = False, dry_run: bool = False
    ) -> Object:
        """Server-side apply an object at its own path. Kinds outside the table are found by discovery.

        Raises Conflict when another manager owns a field with another value, unless ``force``.
        """
        query = {"fieldManager": manager} | ({"force": "true"} if force else {}) | _dry(dry_run)
        return _object(self.request("PATCH", self.path_of(obj), query=query, body=obj, content_type=_APPLY))

    def delete(
        self,
        path: str,
        *,
        grace_seconds: int | None = None,
        propagation: str = "Background",
        uid: str | None = None,
    ) -> bool:
        """DELETE one object. False when it was not there; Conflict when it is not the one with ``uid``."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", path, body=options)
        except NotFound:
            return False
        return True

    def watch(
        self,
        path: str,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        timeout: float,
    ) -> Iterator[Event]:
        """Tell what happens to the objects of a collection during ``timeout`` seconds.

        Without ``resource_version`` the objects that are there come first, as ADDED. The watch survives
        disconnects, bookmarks, and an expired version: it then lists again and yields as events whatever changed
        meanwhile, including DELETED with the last known object (for objects that the watch has seen).
        """
        watch = Watch(
            open_stream=lambda query, read: self._sender.stream(self._checked("GET", path, query, None, _JSON), read),
            relist=lambda query: self._list(path, {**query, "limit": str(PAGE)}),
            selectors=_selectors(label_selector, field_selector),
            silence=self.timeouts.read,
            path=path,
        )
        return watch.events(resource_version, timeout)

    def path_of(self, obj: Mapping[str, Any]) -> str:
        """Return an object's path; kinds outside the table are looked up at the server. Raises paths.UnknownKind."""
        try:
            return paths.path_of(obj)
        except paths.UnknownKind:
            return paths.path_at(self._discovery.place(obj), obj)

    def _checked(self, method: str, path: str, query: Query | None, body: Any, content_type: str) -> Request:
        if self._stopped is not None and self._stopped.is_set():
            raise KeyboardInterrupt("the run was interrupted")
        method = method.upper()
        self.guard.check(method, path, query, body)
        content = None if body is None else msgspec.json.encode(body)
        return Request(method, path, dict(query or {}), content, content_type)

    def _list(self, path: str, query: Query) -> tuple[Objects, str]:
        items: Objects = []
        version = ""
        for page in self._pages(path, query, items.clear):
            found = _object(page)
            version = str((found.get("metadata") or {}).get("resourceVersion") or "")
            items.extend(_with_kind(item, found) for item in found.get("items") or ())
        return items, version

    def _pages(self, path: str, query: Query, restarted: Callable[[], None]) -> Iterator[bytes]:
        """The pages. Each is asked for before the one before is handed out: the server writes while we decode.

        A thread would do that, too; but it takes the interpreter from the decoding thousands of times.
        """
        first: Callable[[], bytes] = partial(self.request, "GET", path, query=query)
        answer = first
        with ExitStack() as held:
            for _ in range(_MANY_PAGES):
                try:
                    page = answer()
                except Gone:
                    if answer is first:
                        raise
                    answer = first
                    restarted()
                    continue
                finally:
                    held.close()
                token = _continue_token(page)
                if token:
                    request = self._checked("GET", path, {**query, "continue": token}, None, _JSON)
                    answer = held.enter_context(self._sender.ahead(request))
                yield page
                if not token:
                    return


def _continue_token(page: bytes) -> str:
    """What a list page has for the next one. Most have it at their head: then megabytes of items are not looked at."""
    head, items, _ = page[:_HEAD].partition(b',"items":[')
    if items:
        with suppress(msgspec.DecodeError):
            return _HEADS.decode(head + b"}").metadata.continue_
    return _PAGES.decode(page).metadata.continue_


def _object(raw: bytes) -> Object:
    answer = msgspec.json.decode(raw) if raw else {}
    return answer if isinstance(answer, dict) else {"items": answer}


def _with_kind(item: Object, found: Object) -> Object:
    kind = str(found.get("kind") or "").removesuffix("List")
    return {"apiVersion": found.get("apiVersion"), "kind": kind, **item}


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: selector for name, selector in chosen.items() if selector}


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _writing(dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER} | _dry(dry_run)

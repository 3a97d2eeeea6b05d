"""Watching a collection through disconnects, bookmarks, error events and expired resource versions."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from conformance.kube.errors import ApiError, Gone, Unreachable

Object: TypeAlias = dict[str, Any]
Stream: TypeAlias = AbstractContextManager[urllib3.BaseHTTPResponse]

_CHUNK = 1 << 16
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
# Errors inside a watch that say "later", not "never".
_PASSING = frozenset({429, 500, 503, 504})


class Event(msgspec.Struct, frozen=True):
    """What happened to one object, and the object after it (before it, for DELETED)."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


class _Line(msgspec.Struct):
    type: str
    object: Object


# Made before any thread needs it; see client.py.
_LINES = msgspec.json.Decoder(_Line)


class _Key(msgspec.Struct, frozen=True):
    namespace: str
    name: str


class Watch:
    """One watch of one collection.

    ``open_stream(query, silence)`` starts a stream, ``relist(query)`` gives the items and the resource version of
    a fresh list. ``silence`` is how many seconds a stream may say nothing before it counts as dead: a connection
    that a firewall has forgotten looks just like a quiet cluster.
    """

    def __init__(
        self,
        *,
        open_stream: Callable[[Mapping[str, str], float], Stream],
        relist: Callable[[Mapping[str, str]], tuple[list[Object], str]],
        selectors: Mapping[str, str],
        silence: float,
        path: str,
    ) -> None:
        self._open_stream = open_stream
        self._relist = relist
        self._selectors = selectors
        self._silence = silence
        self._path = path
        self._known: dict[_Key, Object] = {}
        self._version: str | None = None
        self._pause = _FIRST_PAUSE
        self._connected = False
        self._failure: Exception | None = None

    def events(self, resource_version: str | None, timeout: float) -> Iterator[Event]:
        """Yield the events of ``timeout`` seconds, from ``resource_version`` or from a list of what is there.

        Raises ApiError and Unreachable when the first contact fails, when a later error cannot pass, and at the
        end if the server could not be watched any more: silence must not look like a quiet cluster.
        """
        deadline = time.monotonic() + timeout
        self._version = resource_version
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self._version is None:
                    yield from self._catch_up()
                else:
                    yield from self._stream(left, deadline)
                continue
            except Gone:
                self._version = None
            except (HTTPError, Unreachable, ApiError) as error:
                self._bear(error)
            self._rest(deadline)
        if self._failure is not None:
            raise self._failure

    def _bear(self, error: Exception) -> None:
        if isinstance(error, ApiError) and error.status not in _PASSING:
            raise error
        if not isinstance(error, HTTPError):  # Those come from a stream that was open.
            if not self._connected:
                raise error
            self._failure = error

    def _in_contact(self) -> None:
        self._connected, self._failure = True, None

    def _stream(self, left: float, deadline: float) -> Iterator[Event]:
        query = {
            **self._selectors,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(max(1, int(left))),
        }
        began = time.monotonic()
        with self._open_stream(query, min(left, self._silence)) as response:
            self._in_contact()
            for line in _lines(response):
                event = self._take(line)
                if event is not None:
                    yield event
                if time.monotonic() >= deadline:
                    return
        # Servers end watches as they like. One that does so at once must not be asked in a tight loop.
        if time.monotonic() - began < _LONGEST_PAUSE:
            self._rest(deadline)

    def _take(self, line: bytes) -> Event | None:
        try:
            event = _LINES.decode(line)
        except msgspec.DecodeError as error:
            raise urllib3.exceptions.ProtocolError("a line of the watch is no event") from error
        if event.type == "ERROR":
            raise ApiError.from_status(event.object, "WATCH", self._path)
        self._pause = _FIRST_PAUSE
        self._version = _version(event.object) or self._version
        if event.type == "BOOKMARK":
            return None
        return self._remember(event.type, event.object)

    def _remember(self, kind: str, obj: Object) -> Event:
        key = _key(obj)
        if kind == "DELETED":
            self._known.pop(key, None)
            return Event("DELETED", obj)
        self._known[key] = obj
        return Event("ADDED" if kind == "ADDED" else "MODIFIED", obj)

    def _catch_up(self) -> Iterator[Event]:
        """List again, and say as events how what is there differs from what was known."""
        items, self._version = self._relist(self._selectors)
        self._in_contact()
        present = {_key(obj): obj for obj in items}
        for key, old in list(self._known.items()):
            if key not in present or _uid(present[key]) != _uid(old):
                del self._known[key]
                yield Event("DELETED", old)
        for key, obj in present.items():
            known = self._known.get(key)
            if known is None or _version(known) != _version(obj):
                yield self._remember("ADDED" if known is None else "MODIFIED", obj)

    def _rest(self, deadline: float) -> None:
        time.sleep(max(0.0, min(self._pause, deadline - time.monotonic())))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Split a stream into lines as it comes; an unfinished last one is dropped, it will come again."""
    rest = b""
    while chunk := response.read1(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


def _key(obj: Object) -> _Key:
    metadata = obj.get("metadata") or {}
    return _Key(str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))


def _uid(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("uid") or "")


def _version(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("resourceVersion") or "")

"""What the simulator knows of the cluster: the newest state of every object of the kinds that its parts watch."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from conformance.kube.client import Client
from conformance.kube.errors import KubeError, NotFound
from conformance.kube.paths import PLACES, path

Object = dict[str, Any]
Notify = Callable[[str, Object, bool], None]
Key = tuple[str, str]

_LONG = 10**9
_SOON, _AGAIN = 0.025, 0.5
_DEFINITION = "CustomResourceDefinition"
_log = logging.getLogger(__name__)


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Page(msgspec.Struct):
    metadata: _Meta
    items: list[Object] | None = None


# Made before any thread needs it; see kube/client.py.
_PAGES = msgspec.json.Decoder(_Page)


class World:
    """A cache of objects by kind, kept by one watching thread for each kind.

    Custom kinds are watched from the moment their definition is established. Objects that are handed out are the
    cache's own: whoever changes one copies it first.
    """

    def __init__(self, client: Client, kinds: Iterable[str] = ()) -> None:
        self.client = client
        self._kinds: tuple[str, ...] = ()
        self._objects: dict[str, dict[Key, Object]] = {}
        self._pods_by_node: dict[str, dict[Key, Object]] = {}
        self._lock = threading.Lock()
        self._watched: set[str] = set()
        self._synced: dict[str, threading.Event] = {}
        self._notify: Notify = lambda kind, obj, deleted: None
        self.add((*kinds, _DEFINITION))

    def add(self, kinds: Iterable[str]) -> None:
        """Look after more kinds; before start()."""
        self._kinds = tuple(dict.fromkeys((*self._kinds, *kinds)))
        for kind in self._kinds:
            self._objects.setdefault(kind, {})
            self._synced.setdefault(kind, threading.Event())

    def start(self, notify: Notify, *, timeout: float = 60.0) -> None:
        """Read everything that is there, then tell ``notify(kind, object, deleted)`` of every change for ever.

        Objects that are there at the start are told, too. Returns once all kinds that are served have been read;
        raises TimeoutError when that takes longer than ``timeout`` seconds.
        """
        self._notify = notify
        served = [kind for kind in self._kinds if not _is_custom(kind)]
        for kind in served:
            self._watch(kind)
        deadline = time.monotonic() + timeout
        for kind in served:
            if not self._synced[kind].wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{PLACES[kind].plural} could not be read within {timeout:.0f} s")

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """One object as it was last heard of."""
        with self._lock:
            return self._objects[kind].get((namespace, name))

    def all(self, kind: str, namespace: str | None = None) -> list[Object]:
        """All objects of a kind, of one namespace if it is given."""
        with self._lock:
            found = self._objects[kind]
            return [obj for (home, _), obj in found.items() if namespace is None or home == namespace]

    def pods_on(self, node: str) -> list[Object]:
        """The pods that are bound to a node."""
        with self._lock:
            return list(self._pods_by_node.get(node, {}).values())

    def _watch(self, kind: str) -> None:
        if kind in self._watched:
            return
        self._watched.add(kind)
        threading.Thread(target=self._follow, args=(kind,), name=f"watch {kind}", daemon=True).start()

    def _follow(self, kind: str) -> None:
        waited = _SOON
        while True:
            pause = _AGAIN
            try:
                version = self._read(kind)
                self._synced[kind].set()
                for event in self.client.watch(path(kind), resource_version=version, timeout=_LONG):
                    self._take_in(kind, event.object, deleted=event.type == "DELETED")
            except NotFound:
                # The definition is there, and not every API server serves it yet, which takes little; or it is gone.
                pause = waited = min(2 * waited, _AGAIN)
            except KubeError as error:
                _log.warning("watching %s: %s", PLACES[kind].plural, error)
            except Exception:  # a thread that ended would leave its kind unwatched for ever, and nobody would see it
                _log.exception("watching %s", PLACES[kind].plural)
            time.sleep(pause)

    def _read(self, kind: str) -> str:
        version = ""
        found: list[Object] = []
        for raw in self.client.pages(path(kind)):
            page = _PAGES.decode(raw)
            version = page.metadata.resource_version
            found += page.items or []
        keys = {_key(obj) for obj in found}
        with self._lock:
            gone = [obj for key, obj in self._objects[kind].items() if key not in keys]
        for obj in gone:
            self._take_in(kind, obj, deleted=True)
        for obj in found:
            self._take_in(kind, obj, deleted=False)
        return version

    def _take_in(self, kind: str, obj: Object, *, deleted: bool) -> None:
        key = _key(obj)
        with self._lock:
            before = self._objects[kind].get(key)
            if deleted:
                self._objects[kind].pop(key, None)
            else:
                self._objects[kind][key] = obj
            if kind == "Pod":
                self._index(key, before, None if deleted else obj)
        if kind == _DEFINITION and not deleted:
            self._watch_if_ours(obj)
        self._notify(kind, obj, deleted)

    def _index(self, key: Key, before: Object | None, now: Object | None) -> None:
        was, is_now = _node_of(before), _node_of(now)
        if was and was != is_now:
            self._pods_by_node.get(was, {}).pop(key, None)
        if is_now and now is not None:
            self._pods_by_node.setdefault(is_now, {})[key] = now

    def _watch_if_ours(self, definition: Mapping[str, Any]) -> None:
        conditions = (definition.get("status") or {}).get("conditions") or ()
        established = any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
        spec = definition["spec"]
        for kind in self._kinds:
            group, _, _ = PLACES[kind].group_version.rpartition("/")
            if established and (spec["group"], spec["names"]["plural"]) == (group, PLACES[kind].plural):
                self._watch(kind)


def _is_custom(kind: str) -> bool:
    """Whether a kind comes from a definition. Groups of Kubernetes itself end in k8s.io or have no dot."""
    group, _, _ = PLACES[kind].group_version.rpartition("/")
    return "." in group and (not group.endswith("k8s.io") or group.startswith("nfd."))


def _key(obj: Object) -> Key:
    metadata = obj["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])


def _node_of(pod: Object | None) -> str:
    return "" if pod is None else str(pod["spec"].get("nodeName") or "")

"""A cluster made of plain objects, served page by page to whoever reads facts."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from conformance.facts.kinds import KINDS
from conformance.kube.errors import Unreachable
from conformance.kube.paths import PLACES

Object = dict[str, Any]


class PagedServer:
    """Stands where a Client stands: answers lists in pages of ``limit`` and fails where it was told to."""

    def __init__(self, objects: list[Object], limit: int = 2) -> None:
        self.objects = objects
        self.limit = limit
        self.failures: dict[str, Exception] = {}
        self.raw: dict[str, list[bytes]] = {}
        self.restarts: set[str] = set()
        self.down = False
        self.listed: list[str] = []

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        if self.down:
            raise Unreachable("https://127.0.0.1:1", "connection refused")
        assert path == "/version"
        return {"gitVersion": "v1.36.3"}

    def pages(self, path: str, *, restarted: Callable[[], None], **_: Any) -> Iterator[bytes]:
        kind = next(name for name in KINDS if PLACES[name].path() == path)
        self.listed.append(kind)
        if kind in self.raw:
            yield from self.raw[kind]
            return
        pages = self._pages_of(kind)
        if kind in self.restarts:
            yield pages[0]
            restarted()
        for number, page in enumerate(pages):
            if kind in self.failures and number == len(pages) - 1:
                raise self.failures[kind]
            yield page

    def _pages_of(self, kind: str) -> list[bytes]:
        items = [_as_listed(each) for each in self.objects if each["kind"] == kind]
        chunks = [items[start : start + self.limit] for start in range(0, len(items), self.limit)] or [[]]
        return [msgspec.json.encode({"kind": f"{kind}List", "metadata": {}, "items": chunk}) for chunk in chunks]


def _as_listed(obj: Object) -> Object:
    """An object as it stands in a list: without its kind."""
    return {key: copy.deepcopy(value) for key, value in obj.items() if key not in ("kind", "apiVersion")}


def node(name: str, gpus: int = 0, **spec: Any) -> Object:
    offered = {"cpu": "16", "nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "16"}
    status = {"capacity": offered, "allocatable": offered, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"kind": "Node", "metadata": {"name": name}, "spec": spec, "status": status}


def pod(name: str, namespace: str = "ml-training", *, gpus: int = 0, on: str = "", **more: Any) -> Object:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container = {"name": "main", "image": "app", "resources": {"limits": limits}}
    spec = {"containers": [container], "nodeName": on, **more.pop("spec", {})}
    phase = more.pop("phase", "Running" if on else "Pending")
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **more},
        "spec": spec,
        "status": {"phase": phase},
    }

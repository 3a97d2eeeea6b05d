"""A cluster made of plain objects, served page by page to whoever reads facts."""

import copy
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from conformance.facts.kinds import BESIDES, KINDS, paths_of
from conformance.kube.errors import Forbidden, NotFound, Unreachable

Object = dict[str, Any]


class PagedServer:
    """Stands where a Client stands: answers lists in pages of ``limit`` and fails where it was told to."""

    def __init__(self, objects: list[Object], limit: int = 2) -> None:
        self.objects = objects
        self.limit = limit
        self.failures: dict[str, Exception] = {}
        self.raw: dict[str, list[bytes]] = {}
        self.restarts: set[str] = set()
        self.broken: dict[str, Exception] = {}
        self.in_one_answer: list[str] = []
        self.version = "v1.36.3"
        self.down = False
        self.clock = lambda: datetime.now(UTC)
        self.unserved: set[str] = set()
        self.unserved_paths: set[str] = set()
        self.listed: list[str] = []
        self.config_namespaces: list[str] = []
        self.refused_namespaces: set[str] = set()

    def server_time(self) -> datetime:
        return self.clock()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        if self.down:
            raise Unreachable("https://127.0.0.1:1", "connection refused")
        assert path == "/version"
        return {"gitVersion": self.version}

    def pieces(self, path: str) -> Iterator[bytes]:
        """As ``pages``, for a list that comes in one answer; it ends early where ``broken`` says so."""
        kind, _ = _place(path)
        self.in_one_answer.append(kind)
        pieces = list(self.pages(path))
        if kind in self.broken:
            yield pieces[0]
            raise self.broken[kind]
        yield from pieces

    def pages(
        self, path: str, *, restarted: Callable[[], None] | None = None, field_selector: str | None = None, **_: Any
    ) -> Iterator[bytes]:
        kind, namespace = _place(path)
        self.listed.append(kind)
        if kind in self.unserved or path in self.unserved_paths:
            raise NotFound(404, "NotFound", "the server could not find the requested resource", "GET", path)
        if namespace in self.refused_namespaces:
            raise Forbidden(403, "Forbidden", "ann may not", "GET", path)
        if namespace:
            self.config_namespaces.append(namespace)
        if kind in self.raw:
            yield from self.raw[kind]
            return
        _, named, name = (field_selector or "").partition("metadata.name=")
        pages = self._pages_of(kind, namespace, name if named else "")
        if kind in self.restarts and restarted is not None:
            yield pages[0]
            restarted()
        for number, page in enumerate(pages):
            if kind in self.failures and number == len(pages) - 1:
                raise self.failures[kind]
            yield page

    def _pages_of(self, kind: str, namespace: str, name: str = "") -> list[bytes]:
        items = [
            _as_listed(each)
            for each in self.objects
            if each["kind"] == kind
            and namespace in ("", each["metadata"].get("namespace"))
            and name in ("", each["metadata"].get("name"))
        ]
        chunks = [items[start : start + self.limit] for start in range(0, len(items), self.limit)] or [[]]
        return [msgspec.json.encode({"kind": f"{kind}List", "metadata": {}, "items": chunk}) for chunk in chunks]


def _place(path: str) -> tuple[str, str]:
    """The kind whose objects a path lists, and the namespace if it is that of one: only ConfigMaps are listed so."""
    for kind in KINDS:
        if path in KINDS[kind].paths:
            assert kind != "ConfigMap", "ConfigMaps of all namespaces are nobody's business"
            return kind, ""
    for kind in BESIDES:
        if path in paths_of(kind):
            return kind, ""
    head, namespaces, rest = path.partition("/namespaces/")
    assert (head, namespaces, rest.partition("/")[2]) == ("/api/v1", "/namespaces/", "configmaps"), path
    return "ConfigMap", rest.partition("/")[0]


def _as_listed(obj: Object) -> Object:
    """An object as it stands in a list: without its kind."""
    return {key: copy.deepcopy(value) for key, value in obj.items() if key not in ("kind", "apiVersion")}


def config_map(name: str, namespace: str, **data: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def operator(namespace: str = "gpu-operator", available: int = 1) -> Object:
    """The Deployment of the GPU Operator."""
    return {
        "kind": "Deployment",
        "metadata": {"name": "gpu-operator", "namespace": namespace, "labels": {"app": "gpu-operator"}},
        "spec": {"template": {"spec": {"containers": [{"name": "gpu-operator"}]}}},
        "status": {"observedGeneration": 1, **({"availableReplicas": available} if available else {})},
    }


def plugin(namespace: str, name: str = "nvidia-device-plugin-daemonset", owner: str = "") -> Object:
    """The DaemonSet of a device plugin, owned by an object of kind ``owner``."""
    owners = [{"kind": owner, "name": "cluster-policy", "controller": True}] if owner else []
    return {
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners},
        "spec": {
            "updateStrategy": {"type": "OnDelete"},
            "template": {"spec": {"containers": [{"name": "nvidia-device-plugin"}]}},
        },
        "status": {
            "desiredNumberScheduled": 3,
            "currentNumberScheduled": 2,
            "updatedNumberScheduled": 1,
            "numberAvailable": 1,
        },
    }


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

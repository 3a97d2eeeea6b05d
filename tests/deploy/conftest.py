"""A cluster in memory: just enough of an API server for deploying and withdrawing, with every request on record."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from copies import copied

from conformance.kube import paths
from conformance.kube.errors import ApiError, Conflict, NotFound
from conformance.kube.timeouts import Timeouts


def _merge(target: dict[str, Any], change: Mapping[str, Any]) -> None:
    for key, value in change.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = copied(value)


class ClusterInMemory:
    """Objects by path. ``requests`` lists every write, ``errors`` by path are raised one by one by the next applies."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.errors: dict[str, list[ApiError]] = {}
        self.workloads_run = True
        self.quotas_count = True
        self.timeouts = Timeouts(running=0.1, namespace_deleted=0.2)
        self._versions = itertools.count(1)

    def add(self, obj: dict[str, Any]) -> dict[str, Any]:
        return self._store(paths.path_of(obj), copied(obj))

    def node(self, name: str, pool: str, **metadata: Any) -> dict[str, Any]:
        labels = {"eks.amazonaws.com/nodegroup": pool, **metadata.pop("labels", {})}
        spec = {"taints": metadata.pop("taints", [])}
        return self.add(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels, **metadata}, "spec": spec}
        )

    def writes(self, verb: str) -> list[str]:
        return [path for made, path in self.requests if made == verb]

    def path_of(self, obj: Mapping[str, Any]) -> str:
        return paths.path_of(obj)

    def get(self, path: str, query: Any = None) -> dict[str, Any]:
        if path not in self.objects:
            raise NotFound(404, "NotFound", "not found", "GET", path)
        return copied(self.objects[path])

    def list(self, path: str, **selectors: Any) -> list[dict[str, Any]]:
        return [copied(obj) for place, obj in sorted(self.objects.items()) if place.rpartition("/")[0] == path]

    def apply(self, obj: dict[str, Any], *, force: bool = False, **options: Any) -> dict[str, Any]:
        path = paths.path_of(obj)
        self.requests.append(("apply, forced" if force else "apply", path))
        if self.errors.get(path):
            raise self.errors[path].pop(0)
        before = self.objects.get(path)
        after = copied(before or {})
        _merge(after, obj)
        if obj["kind"] == "ResourceQuota":
            after["status"] = {"hard": obj["spec"]["hard"]} if self.quotas_count else {}
        elif self.workloads_run:
            after["status"] = {"observedGeneration": 1, "availableReplicas": 9, "ready": 1}
        after["metadata"].setdefault("generation", 1)
        return self._store(path, after) if after != before else after

    def patch(self, path: str, body: Any, **options: Any) -> dict[str, Any]:
        self.requests.append(("patch", path))
        after = self.get(path)
        version = body.get("metadata", {}).get("resourceVersion")
        if version not in (None, after["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", "changed meanwhile", "PATCH", path)
        _merge(after, body)
        return self._store(path, after)

    def delete(self, path: str, *, uid: str | None = None, **options: Any) -> bool:
        self.requests.append(("delete", path))
        found = self.objects.pop(path, None)
        if path.startswith("/api/v1/namespaces/") and path.count("/") == 4:
            for inside in [place for place in self.objects if f"{path.rpartition('/')[2]}/" in place]:
                del self.objects[inside]
        return found is not None

    def _store(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        version = str(next(self._versions))
        obj["metadata"].setdefault("uid", f"uid-{version}")
        obj["metadata"]["resourceVersion"] = version
        self.objects[path] = obj
        return copied(obj)


@pytest.fixture
def memory() -> ClusterInMemory:
    """An empty cluster in memory."""
    return ClusterInMemory()


@pytest.fixture
def fleet(memory: ClusterInMemory) -> ClusterInMemory:
    """A cluster in memory with one node of every pool of the shipped set-ups."""
    for pool in ("t4-inference", "a100-training", "h100-training", "t4-notebook", "cpu"):
        memory.node(f"{pool}-1", pool)
    return memory

"""Short ways to the pods of a test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from patience import PATIENCE

from conformance.kube.client import Client
from conformance.kube.waits import wait_for

Object = dict[str, Any]


@dataclass
class Pods:
    """Pods of one namespace: create, look, wait."""

    client: Client
    namespace: str
    names: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def create(self, name: str, annotations: Mapping[str, str] | None = None, **spec: Any) -> Object:
        container = {"name": "main", "image": "registry.k8s.io/pause:3.10"}
        metadata = {"name": name, "annotations": dict(annotations or {})}
        body = {"metadata": metadata, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec}}
        return self.client.create(self.path, body)

    def read(self, name: str) -> Object:
        return self.client.get(f"{self.path}/{name}")

    def present(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.client.list(self.path)}

    def delete(self, name: str, grace_seconds: int | None = None) -> None:
        self.client.delete(f"{self.path}/{name}", grace_seconds=grace_seconds)

    def wait(self, name: str, until: Callable[[Object], bool], what: str, timeout: float = PATIENCE) -> Object:
        return wait_for(lambda: self.read(name), until, what=f"pod {name} {what}", timeout=timeout)

    def wait_phase(self, name: str, phase: str) -> Object:
        return self.wait(name, lambda pod: pod["status"]["phase"] == phase, f"is {phase}")

    def wait_gone(self, name: str, timeout: float = PATIENCE) -> None:
        wait_for(self.present, lambda there: name not in there, what=f"pod {name} is gone", timeout=timeout)


def condition(thing: Object, kind: str) -> str:
    """The status of a condition, or '' without it."""
    return next((each["status"] for each in thing["status"].get("conditions", []) if each["type"] == kind), "")

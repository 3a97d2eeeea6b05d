"""Small clusters as plain objects, and the set-up that is drafted from them."""

from typing import Any

import yaml

from conformance.drafting import draft, write
from conformance.facts import Facts
from conformance.reference import load

Object = dict[str, Any]

T4 = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "Tesla-T4",
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.memory": "15360",
    "nvidia.com/cuda.driver-version.full": "580.95.05",
}
L4 = {**T4, "nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def node(name: str, labels: dict[str, str] | None = None, gpus: dict[str, int] | None = None, taints=()) -> Object:
    """A Ready node. It offers ``gpus`` by resource name."""
    amounts = {"cpu": "16", "memory": "64Gi", **{key: str(count) for key, count in (gpus or {}).items()}}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": list(taints)},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def gpu_nodes(prefix: str, count: int, labels: dict[str, str], gpus: dict[str, int] | None = None, taints=()) -> list:
    """Some nodes that are alike."""
    offered = {"nvidia.com/gpu": 4} if gpus is None else gpus
    return [node(f"{prefix}-{number}", labels, offered, taints) for number in range(1, count + 1)]


def pod_template(gpus: int = 1, resource: str = "nvidia.com/gpu", **spec: Any) -> Object:
    """A pod template that asks for GPUs."""
    container = {"name": "main", "image": "app", "resources": {"limits": {resource: str(gpus)}}}
    return {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [container], **spec}}


def workload(kind: str, namespace: str, name: str, template: Object | None = None, **metadata: Any) -> Object:
    """A controller of GPU pods."""
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"template": template or pod_template()},
    }


def pod(namespace: str, name: str, owner: tuple[str, str] | None = None, **spec: Any) -> Object:
    """A running GPU pod."""
    owners = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners},
        "spec": {**pod_template()["spec"], **spec},
        "status": {"phase": "Running"},
    }


def quota(namespace: str, name: str, hard: dict[str, str], **spec: Any) -> Object:
    """A ResourceQuota."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard, **spec}}


def named(kind: str, name: str, namespace: str = "", **members: Any) -> Object:
    """Any other object."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **members.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata, **members}


class Drafted:
    """A draft of some objects: as it was written, and as it loads."""

    def __init__(self, folder, *objects: Object | list[Object]) -> None:
        flat = [each for group in objects for each in (group if isinstance(group, list) else [group])]
        self.draft = draft(Facts.from_objects(flat), "shop")
        self.files = write(self.draft, folder)
        self.text = "\n".join(file.read_text(encoding="utf-8") for file in self.files)
        self.reference = load(folder)

    @property
    def read_back(self) -> dict[str, Any]:
        """What the files hold together."""
        found: dict[str, Any] = {}
        for file in self.files:
            found |= yaml.safe_load(file.read_text(encoding="utf-8"))
        return found

    @property
    def comments(self) -> str:
        """All comments in one line, so that a test does not depend on where they were broken."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip().startswith("#")]
        return " ".join(line.lstrip("# ") for line in lines)

    def pool(self, name: str):
        """A drafted pool; None when there is none of the name."""
        return self.reference.pool(name)

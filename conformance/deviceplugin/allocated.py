"""Who has which devices, asked of the kubelet and not of the plugin: its pod-resources API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .services import pod_resources

SOCKET = Path("pod-resources/kubelet.sock")
"""Below the kubelet's root folder (``--root-dir``)."""


@dataclass(frozen=True)
class Container:
    """A container of a pod."""

    namespace: str
    pod: str
    name: str


def allocated(socket: Path) -> dict[Container, dict[str, list[str]]]:
    """The ids of the devices of each container that has any, by resource. Raises grpc.RpcError."""
    found: dict[Container, dict[str, list[str]]] = {}
    for pod in pod_resources(socket).pod_resources:
        for container in pod.containers:
            devices: dict[str, list[str]] = {}
            for each in container.devices:
                devices.setdefault(each.resource_name, []).extend(each.device_ids)
            if devices:
                found[Container(pod.namespace, pod.name, container.name)] = devices
    return found

"""A real node with eight GPUs, and pods that look at what they are given there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from real_containers import PODS, Containers

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.real import images
from conformance.deviceplugin.allocated import SOCKET, Container, allocated
from conformance.deviceplugin.services import pod_resources
from conformance.kube.waits import wait_for
from conformance.progress import TerminalProgress
from conformance.simulator.hardware import HARDWARE, gpu_uuid

NODE, GPU = "a100-1", "nvidia.com/gpu"
SEES = """
import json, os, subprocess, sys, time
def smi():
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        return None
mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
print(json.dumps({
    "visible": os.environ.get("NVIDIA_VISIBLE_DEVICES"),
    "files": sorted(name for name in os.listdir("/dev") if name.startswith("nvidia")),
    "smi": smi(),
    "mounts": sorted(mount for mount in mounts if "nvidia" in mount),
    "mps": sorted(value for name, value in os.environ.items() if name.startswith("CUDA_MPS_")),
}), flush=True)
if "hold" in sys.argv:
    time.sleep(600)
"""


class GpuNode:
    """The node, and pods on it."""

    def __init__(self, containers: Containers) -> None:
        self.containers, self.client = containers, containers.client
        self.folder = containers.cluster.folder / "real-nodes" / NODE
        self._number = 0

    def object(self) -> dict[str, Any]:
        return self.client.get(f"/api/v1/nodes/{NODE}")

    def wait_allocatable(self, count: str, resource: str = GPU) -> None:
        wait_for(
            lambda: self.object()["status"]["allocatable"].get(resource),
            lambda found: found == count,
            what=f"node {NODE} has {count} {resource} allocatable",
            timeout=90,
        )

    def breaks(self, **changes: Any) -> None:
        """Change the hardware, as its annotation says it; without changes all is well again."""
        known = json.loads(self.object()["metadata"]["annotations"][HARDWARE])
        whole = {key: value for key, value in known.items() if key not in ("unhealthy", "missing", "broken")}
        change = {"metadata": {"annotations": {HARDWARE: json.dumps({**whole, **changes})}}}
        self.client.patch(f"/api/v1/nodes/{NODE}", change)

    def create(self, gpus: int, *, hold: bool = False, resource: str = GPU) -> str:
        self._number += 1
        name = f"asks-{self._number}"
        command = ["python3", "-c", SEES, *(["hold"] if hold else [])]
        container: dict[str, Any] = {"name": "main", "image": images.PROBE, "command": command}
        container["resources"] = {"limits": {resource: str(gpus)}} if gpus else {}
        self.containers.create(name, node=NODE, containers=[container], terminationGracePeriodSeconds=0)
        return name

    def sees(self, gpus: int, resource: str = GPU) -> dict[str, Any]:
        """What a container with so many GPUs sees."""
        name = self.create(gpus, resource=resource)
        said = self.containers.said(name)
        self.delete(name)
        return said

    def delete(self, name: str) -> None:
        self.client.delete(f"{PODS}/{name}", grace_seconds=0)

    def allocated(self) -> dict[Container, dict[str, list[str]]]:
        return allocated(self.folder / "kubelet" / SOCKET)

    def numa_nodes(self) -> dict[str, set[int]]:
        """The NUMA nodes that the kubelet knows of each device that a container holds."""
        found: dict[str, set[int]] = {}
        for pod in pod_resources(self.folder / "kubelet" / SOCKET).pod_resources:
            for each in (each for container in pod.containers for each in container.devices):
                for device in each.device_ids:
                    found.setdefault(device, set()).update(numa.ID for numa in each.topology.nodes)
        return found

    def held(self, gpus: int, resource: str = GPU) -> tuple[str, list[str]]:
        """A pod that keeps its GPUs, and the UUIDs that it sees."""
        name = self.create(gpus, hold=True, resource=resource)
        log = f"{PODS}/{name}/log"
        self.containers.wait_phase(name, "Running")
        said = wait_for(lambda: self.client.request("GET", log), bool, what=f"pod {name} has looked", timeout=90)
        return name, listed(json.loads(said))


def uuids(*indices: int) -> list[str]:
    return [gpu_uuid(NODE, index) for index in indices]


def listed(said: dict[str, Any]) -> list[str]:
    """The UUIDs that nvidia-smi has listed in a container."""
    return [line.partition("UUID: ")[2].rstrip(")") for line in said["smi"]]


@contextmanager
def gpu_node(config: pytest.Config, **spec: Any) -> Iterator[GpuNode]:
    """The node of a cluster of its own, which offers its GPUs."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        running = start(EmbeddedSpec(topology="single", real_nodes=1, real_gpus=True, **spec), TerminalProgress())
    with running, running.client() as client:
        node = GpuNode(Containers(running, client))
        node.wait_allocatable("8")
        yield node

"""A real node in the place of one of the topology with GPUs: its pods get devices, and the kubelet says the same."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from real_containers import PODS, Containers, kubelet_of

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.real import images
from conformance.deviceplugin.allocated import SOCKET, Container, allocated
from conformance.kube.waits import wait_for
from conformance.progress import TerminalProgress
from conformance.simulator.hardware import HARDWARE, gpu_uuid

pytestmark = pytest.mark.cluster

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
}), flush=True)
if "hold" in sys.argv:
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def node(gpu_machine: None, request: pytest.FixtureRequest) -> Iterator["GpuNode"]:
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        running = start(EmbeddedSpec(topology="single", real_nodes=1, real_gpus=True), TerminalProgress())
    with running, running.client() as client:
        gpus = GpuNode(Containers(running, client))
        gpus.wait_allocatable("8")
        yield gpus


class GpuNode:
    """The node, and pods on it."""

    def __init__(self, containers: Containers) -> None:
        self.containers, self.client = containers, containers.client
        self.folder = containers.cluster.folder / "real-nodes" / NODE
        self._number = 0

    def object(self) -> dict[str, Any]:
        return self.client.get(f"/api/v1/nodes/{NODE}")

    def wait_allocatable(self, count: str) -> None:
        wait_for(
            lambda: self.object()["status"]["allocatable"].get(GPU),
            lambda found: found == count,
            what=f"node {NODE} has {count} GPUs allocatable",
            timeout=90,
        )

    def breaks(self, **changes: Any) -> None:
        """Change the hardware, as its annotation says it; without changes all is well again."""
        known = json.loads(self.object()["metadata"]["annotations"][HARDWARE])
        whole = {key: value for key, value in known.items() if key not in ("unhealthy", "missing", "broken")}
        change = {"metadata": {"annotations": {HARDWARE: json.dumps({**whole, **changes})}}}
        self.client.patch(f"/api/v1/nodes/{NODE}", change)

    def create(self, gpus: int, *, hold: bool = False) -> str:
        self._number += 1
        name = f"asks-{self._number}"
        command = ["python3", "-c", SEES, *(["hold"] if hold else [])]
        container: dict[str, Any] = {"name": "main", "image": images.PROBE, "command": command}
        container["resources"] = {"limits": {GPU: str(gpus)}} if gpus else {}
        self.containers.create(name, node=NODE, containers=[container], terminationGracePeriodSeconds=0)
        return name

    def sees(self, gpus: int) -> dict[str, Any]:
        """What a container with so many GPUs sees."""
        name = self.create(gpus)
        said = self.containers.said(name)
        self.delete(name)
        return said

    def delete(self, name: str) -> None:
        self.client.delete(f"{PODS}/{name}", grace_seconds=0)

    def allocated(self) -> dict[Container, dict[str, list[str]]]:
        return allocated(self.folder / "kubelet" / SOCKET)


def uuids(*indices: int) -> list[str]:
    return [gpu_uuid(NODE, index) for index in indices]


def listed(said: dict[str, Any]) -> list[str]:
    """The UUIDs that nvidia-smi has listed in a container."""
    return [line.partition("UUID: ")[2].rstrip(")") for line in said["smi"]]


def test_the_node_is_the_one_of_the_topology(node: GpuNode) -> None:
    found = node.object()

    assert found["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] == "a100"
    assert found["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    assert (found["status"]["capacity"]["cpu"], found["status"]["capacity"]["memory"]) == ("96", "1152Gi")
    assert "taints" not in found["spec"]


def test_a_container_sees_the_gpus_that_it_was_given_and_no_others(node: GpuNode) -> None:
    said = node.sees(2)

    given = listed(said)
    assert len(given) == 2
    # By CDI each device has its specification, and none says what all of them are.
    by_variable = said["visible"].split(",")
    assert by_variable == ["void"] or sorted(by_variable) == sorted(given)
    indices = sorted(uuids(*range(8)).index(each) for each in given)
    assert [name for name in said["files"] if name[-1].isdecimal()] == [f"nvidia{index}" for index in indices]


def test_a_container_without_gpus_sees_nothing_of_them(node: GpuNode) -> None:
    assert node.sees(0) == {"visible": None, "files": [], "smi": None, "mounts": []}


def test_the_kubelet_says_of_each_container_what_the_container_saw(node: GpuNode) -> None:
    names = [node.create(3, hold=True), node.create(2, hold=True)]
    for name in names:
        node.containers.wait_phase(name, "Running")
        log = f"{PODS}/{name}/log"
        wait_for(lambda log=log: node.client.request("GET", log), bool, what="it has looked", timeout=90)

    found = {container.pod: devices for container, devices in node.allocated().items()}

    assert set(found) == set(names)
    saw = {name: listed(json.loads(node.client.request("GET", f"{PODS}/{name}/log"))) for name in names}
    for name in names:
        assert sorted(found[name][GPU]) == sorted(saw[name]), name
        node.delete(name)
    assert not set(saw[names[0]]) & set(saw[names[1]])
    wait_for(node.allocated, lambda left: not left, what="the devices are given back", timeout=90)


def test_a_gpu_that_falls_ill_leaves_and_a_running_pod_keeps_its_own(node: GpuNode) -> None:
    holder = node.create(8, hold=True)
    node.containers.wait_phase(holder, "Running")

    node.breaks(unhealthy=[3])
    try:
        node.wait_allocatable("7")
        assert node.client.get(f"{PODS}/{holder}")["status"]["phase"] == "Running"
    finally:
        node.delete(holder)
        node.breaks()
        node.wait_allocatable("8")


def test_a_pod_that_the_plugin_refuses_fails_with_the_kubelets_words(node: GpuNode) -> None:
    node.breaks(broken={"allocate-fails": "the driver does not answer"})
    try:

        def failed() -> dict[str, Any]:
            name = node.create(1)
            pod = node.containers.wait(name, lambda pod: pod["status"]["phase"] in ("Failed", "Succeeded"), "has ended")
            node.delete(name)
            return pod["status"]

        status = wait_for(failed, lambda status: status["phase"] == "Failed", what="a pod is refused", timeout=90)
        assert status["reason"] == "UnexpectedAdmissionError"
        assert "Allocate failed due to rpc error: code = Unknown desc = the driver does not answer" in status["message"]
    finally:
        node.breaks()


def test_a_plugin_that_crashes_again_and_again_takes_the_gpus_away_at_times(node: GpuNode) -> None:
    node.breaks(broken={"plugin-crashes": True})
    try:
        node.wait_allocatable("0")
        node.containers.cluster.check()
    finally:
        node.breaks()
        node.wait_allocatable("8")


def _in_order(devices: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same without the order, which another kubelet need not keep."""
    return {resource: sorted(each) for resource, each in devices.items()}


def test_another_kubelet_hears_of_the_devices_again(node: GpuNode) -> None:
    holder = node.create(2, hold=True)
    node.containers.wait_phase(holder, "Running")
    before = node.allocated()
    kubelet = kubelet_of(NODE)

    os.kill(kubelet, signal.SIGKILL)

    wait_for(lambda: kubelet_of(NODE), lambda pid: pid not in (0, kubelet), what="a new kubelet", timeout=90)
    # The kubelet that was killed has left its last word in the node's status: a pod that starts is the proof.
    after = node.create(6)
    assert len(listed(node.containers.said(after))) == 6
    found = {container.pod: devices for container, devices in node.allocated().items()}
    assert [_in_order(found[holder])] == [_in_order(devices) for devices in before.values()]
    for name in (holder, after):
        node.delete(name)
    node.wait_allocatable("8")

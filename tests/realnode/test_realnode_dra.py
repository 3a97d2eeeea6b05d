"""DRA on a real node: the scheduler allocates, the real kubelet has claims prepared and unprepared by our driver."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from real_containers import PODS, Containers, kubelet_of

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.real import images
from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
from conformance.deploy import deploy
from conformance.deviceplugin.dra.runtimes import injection
from conformance.deviceplugin.dra.slices import NOT_INJECTED
from conformance.kube.names import SIMULATED_GPUS
from conformance.kube.timeouts import EMBEDDED
from conformance.kube.waits import wait_for
from conformance.progress import TerminalProgress
from conformance.reference import load

pytestmark = pytest.mark.cluster

NODE, CLASS = "h100-1", "gpu.nvidia.com"
API = "/apis/resource.k8s.io/v1"
CLAIMS, SLICES = f"{API}/namespaces/default/resourceclaims", f"{API}/resourceslices"
TOPOLOGY = """
name: claimed-gpus
description: one node with a driver and GPUs that a DRA driver gives out, and one for everything else
pools:
  - name: h100
    count: 1
    cpu: "96"
    memory: 1024Gi
    labels: {example.com/pool: h100, nvidia.com/gpu.present: "true"}
    gpu: {product: NVIDIA-H100-80GB-HBM3, name: NVIDIA H100 80GB HBM3, family: hopper, compute: "9.0", count: 2,
          memory_mib: 81559, driver: 580.95.05, brought_by: stack}
  - name: plain
    count: 1
    cpu: "16"
    memory: 64Gi
    labels: {example.com/pool: plain}
"""
REFERENCE = """
name: claimed-gpus
stack: {kind: dra-driver, namespace: nvidia-dra-driver-gpu, version: v0.4.1, driver: 580.95.05, driver_managed: false,
        toolkit: false, gpu_feature_discovery: false, dcgm_exporter: false, mig_manager: false, mig_strategy: ""}
pools:
  - name: h100
    selector: {example.com/pool: h100}
    nodes: 1
    labels: {nvidia.com/gpu.present: "true"}
    taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]
    gpu: {model: h100, product: NVIDIA-H100-80GB-HBM3, count: 2, memory_mib: 81559, allocated_by: dra}
  - name: plain
    selector: {example.com/pool: plain}
    nodes: 1
"""


class DraNode:
    """The real node, claims of its devices, and pods that use them."""

    def __init__(self, containers: Containers) -> None:
        self.containers, self.client = containers, containers.client
        self.folder = containers.cluster.folder / "real-nodes" / NODE

    def slices(self) -> list[dict[str, Any]]:
        return [each for each in self.client.list(SLICES) if each["spec"]["nodeName"] == NODE]

    def wait_published(self) -> dict[str, Any]:
        return wait_for(self.slices, bool, what=f"{NODE} publishes devices", timeout=PATIENCE)[0]

    def pod_with_claim(self, name: str) -> None:
        request = {"name": "gpu", "exactly": {"deviceClassName": CLASS}}
        claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}}
        self.client.create(CLAIMS, {**claim, "spec": {"devices": {"requests": [request]}}})
        container = {"name": "main", "image": images.PAUSE, "resources": {"claims": [{"name": "gpu"}]}}
        claims = [{"name": "gpu", "resourceClaimName": name}]
        self.containers.create(
            name, node=NODE, resourceClaims=claims, containers=[container], terminationGracePeriodSeconds=0
        )
        self.containers.wait_phase(name, "Running")

    def claim(self, name: str) -> dict[str, Any]:
        return self.client.get(f"{CLAIMS}/{name}")

    def prepared(self) -> dict[str, str]:
        """The CDI specification of each claim that is prepared, by the claim's name."""
        found = []
        for file in (self.folder / "cdi").glob("*claim*.json"):
            with contextlib.suppress(FileNotFoundError):  # it was unprepared meanwhile
                found.append(json.loads(file.read_text()))
        return {each["annotations"]["gpu-conformance.io/claim"].partition("/")[2]: each["kind"] for each in found}

    def logged(self, text: str) -> bool:
        return text in (self.folder / "device-plugin.log").read_text()


@pytest.fixture(scope="module")
def node(
    gpu_machine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DraNode]:
    folder = tmp_path_factory.mktemp("claimed-gpus")
    (folder / "topology.yaml").write_text(TOPOLOGY)
    (folder / "reference").mkdir()
    (folder / "reference" / "reference.yaml").write_text(REFERENCE)
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        running = start(
            EmbeddedSpec(topology=folder / "topology.yaml", real_nodes=1, real_gpus=True), TerminalProgress()
        )
    with running, running.client() as client:
        result = deploy(client, load(folder / "reference"), timeouts=EMBEDDED, installer=SimulatedInstaller())
        assert not result.not_ready
        yield DraNode(Containers(running, client))


def eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_deployed_driver_publishes_the_real_nodes_gpus(node: DraNode) -> None:
    published = node.wait_published()

    assert [each["name"] for each in published["spec"]["devices"]] == ["gpu-0", "gpu-1"]
    assert published["metadata"]["labels"][SIMULATED_GPUS] == "true"
    runtime = node.client.get(f"/api/v1/nodes/{NODE}")["status"]["nodeInfo"]["containerRuntimeVersion"]
    said = published["metadata"].get("annotations", {}).get(NOT_INJECTED, "")
    assert said == injection(runtime).why


def test_claims_are_prepared_while_their_pods_run_and_a_kubelet_restarts(node: DraNode) -> None:
    node.wait_published()
    node.pod_with_claim("before")
    (result,) = node.claim("before")["status"]["allocation"]["devices"]["results"]
    assert (result["driver"], result["pool"]) == (CLASS, NODE)
    assert set(node.prepared()) == {"before"}
    assert node.logged(f"prepared claim default/before: {result['device']}")
    kubelet = kubelet_of(NODE)
    registrations = Path(node.folder / "device-plugin.log").read_text().count("has registered gpu.nvidia.com")

    os.kill(kubelet, signal.SIGKILL)

    wait_for(lambda: kubelet_of(NODE), lambda pid: pid not in (0, kubelet), what="a new kubelet", timeout=PATIENCE)
    log = node.folder / "device-plugin.log"
    eventually(lambda: log.read_text().count("has registered gpu.nvidia.com") > registrations)
    node.wait_published()
    node.pod_with_claim("after")
    assert node.client.get(f"{PODS}/before")["status"]["phase"] == "Running"
    assert set(node.prepared()) == {"before", "after"}

    for name in ("before", "after"):
        node.client.delete(f"{PODS}/{name}", grace_seconds=0)

    eventually(lambda: not node.prepared())
    assert node.logged("unprepared claim default/before")
    assert node.logged("unprepared claim default/after")
    for name in ("before", "after"):
        wait_for(
            lambda name=name: node.claim(name)["status"], lambda status: "allocation" not in (status or {}),
            what="the device is free again", timeout=PATIENCE,
        )  # fmt: skip
        node.client.delete(f"{CLAIMS}/{name}")

"""Devices by CDI: what containers of claims and of the device plugin see where containerd gives them devices by name.

The containerd is the machine's where it is new enough, else the pinned one where somebody has made it:
``gpu-conformance binaries containerd containerd-shim-runc-v2 ctr``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from real_containers import PODS, Containers

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.real import images
from conformance.clusters.embedded.simulated_installer import SimulatedInstaller
from conformance.deploy import deploy
from conformance.deviceplugin.allocated import SOCKET, allocated
from conformance.deviceplugin.cdi import FILE as DEVICES
from conformance.deviceplugin.dra.slices import NOT_INJECTED
from conformance.explaining import Explanation, Stage
from conformance.kube.errors import ApiError
from conformance.kube.timeouts import EMBEDDED
from conformance.kube.waits import wait_for
from conformance.progress import TerminalProgress
from conformance.reference import load
from conformance.session.explaining_pods import explained_by
from conformance.simulator.hardware import gpu_uuid

pytestmark = pytest.mark.cluster

CLAIMED, COUNTED = "h100-1", "t4-1"
GPU, CLASS = "nvidia.com/gpu", "gpu.nvidia.com"
API = "/apis/resource.k8s.io/v1"
CLAIMS, SLICES = f"{API}/namespaces/default/resourceclaims", f"{API}/resourceslices"
CLAIMS_ONLY = """
name: claimed-gpus
description: one node with a driver on its host and GPUs that a DRA driver gives out, and one for everything else
pools:
  - name: h100
    count: 1
    cpu: "96"
    memory: 1024Gi
    labels: {example.com/pool: h100, nvidia.com/gpu.present: "true"}
    gpu: {product: NVIDIA-H100-80GB-HBM3, name: NVIDIA H100 80GB HBM3, family: hopper, compute: "9.0", count: 3,
          memory_mib: 81559, driver: 580.95.05, brought_by: stack}
  - name: plain
    count: 1
    cpu: "16"
    memory: 64Gi
    labels: {example.com/pool: plain}
"""
COUNTS_ONLY = """
name: counted-gpus
description: one node whose image brings driver and device plugin
pools:
  - name: t4
    count: 1
    cpu: "8"
    memory: 32Gi
    labels: {example.com/pool: t4}
    gpu: {product: Tesla-T4, family: turing, compute: "7.5", count: 4, memory_mib: 15360, driver: 580.95.05}
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
    gpu: {model: h100, product: NVIDIA-H100-80GB-HBM3, count: 3, memory_mib: 81559, allocated_by: dra}
  - name: plain
    selector: {example.com/pool: plain}
    nodes: 1
"""
SEES = """
import json, os, subprocess, time
def smi():
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
        return [line.partition("UUID: ")[2].rstrip(")") for line in said]
    except FileNotFoundError:
        return None
mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
print(json.dumps({
    "visible": os.environ.get("NVIDIA_VISIBLE_DEVICES"),
    "gpus": sorted(name for name in os.listdir("/dev") if name.startswith("nvidia") and name[-1].isdecimal()),
    "smi": smi(),
    "mounts": sorted(mount for mount in mounts if "nvidia" in mount),
}), flush=True)
time.sleep(600)
"""
NOTHING = {"visible": None, "gpus": [], "smi": None, "mounts": []}
WAITS = "import os, time\nwhile not os.path.exists('/shared/go'): time.sleep(0.1)\n"


class Nodes:
    """The node of a cluster: pods with claims on it, or pods that ask for a number of GPUs."""

    def __init__(self, containers: Containers) -> None:
        self.containers, self.client = containers, containers.client

    def folder(self, node: str) -> Path:
        return self.containers.cluster.folder / "real-nodes" / node

    def claim(self, name: str, count: int = 1) -> None:
        request = {"name": "gpu", "exactly": {"deviceClassName": CLASS, "count": count}}
        claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}}
        self.client.create(CLAIMS, {**claim, "spec": {"devices": {"requests": [request]}}})

    def results(self, name: str) -> list[str]:
        """The devices that the scheduler has allocated to a claim."""
        return sorted(
            each["device"] for each in self.client.get(f"{CLAIMS}/{name}")["status"]["allocation"]["devices"]["results"]
        )

    def create(self, name: str, *, claim: str = "", gpus: int = 0, **spec: Any) -> None:
        resources: dict[str, Any] = {"limits": {GPU: str(gpus)}} if gpus else {}
        if claim:
            resources["claims"] = [{"name": "gpu"}]
            spec["resourceClaims"] = [{"name": "gpu", "resourceClaimName": claim}]
        command = ["python3", "-c", SEES]
        main = {"name": "main", "image": images.PROBE, "command": command, "resources": resources}
        beside = {"name": "beside", "image": images.PROBE, "command": command}
        node = COUNTED if gpus else CLAIMED
        self.containers.create(name, node=node, containers=[main, beside], terminationGracePeriodSeconds=0, **spec)

    def said(self, name: str) -> tuple[Any, Any]:
        """What the container that was given devices saw, and what the one beside it saw. Both run on: a claim whose pod
        has ended is allocated no longer."""
        logs = [self._log(name, each) for each in ("main", "beside")]
        return json.loads(logs[0]), json.loads(logs[1])

    def _log(self, name: str, container: str) -> bytes:
        def read() -> bytes:
            try:
                return self.client.request("GET", f"{PODS}/{name}/log", query={"container": container})
            except ApiError:  # it has not started
                return b""

        what = f"container {container} of pod {name} has looked"
        return wait_for(read, lambda said: said.endswith(b"\n"), what=what, timeout=PATIENCE, format_seen=str)

    def specification(self, claim: str) -> Path | None:
        """The file that says what the devices of a claim are."""
        for file in (self.folder(CLAIMED) / "cdi").glob("*claim*.json"):
            with suppress(FileNotFoundError):  # another one was unprepared meanwhile
                if json.loads(file.read_text())["annotations"]["gpu-conformance.io/claim"] == f"default/{claim}":
                    return file
        return None

    def told(self, name: str) -> Explanation:
        """Why a pod's container is not made, once its kubelet has come to that."""
        return wait_for(
            lambda: explained_by(self.client, "Pod", "default", name)[0],
            lambda each: each.stage is Stage.STARTING and "CDI" in each.cause,
            what=f"the trouble of pod {name} is told",
            timeout=PATIENCE,
            format_seen=lambda each: f"{each.stage}: {each.cause}",
        )

    def never_started(self, name: str) -> bool:
        statuses = self.client.get(f"{PODS}/{name}")["status"]["containerStatuses"]
        main = next(each for each in statuses if each["name"] == "main")
        return "waiting" in main["state"] and not main.get("lastState") and not main.get("containerID")

    def delete(self, pod: str, claim: str = "") -> None:
        self.client.delete(f"{PODS}/{pod}", grace_seconds=0)
        if claim:
            self.client.delete(f"{CLAIMS}/{claim}")


@contextmanager
def one_node(topology: str, assets: Path | None, folder: Path, config: pytest.Config) -> Iterator[Nodes]:
    """A cluster of one real node with GPUs, on a containerd that gives devices by CDI."""
    (folder / "topology.yaml").write_text(topology)
    spec = EmbeddedSpec(topology=folder / "topology.yaml", real_nodes=1, real_gpus=True, assets=assets)
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        running = start(spec, TerminalProgress())
    with running, running.client() as client:
        yield Nodes(Containers(running, client))


@pytest.fixture(scope="module")
def claimed(
    cdi_assets: Path | None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("claimed-gpus")
    (folder / "reference").mkdir()
    (folder / "reference" / "reference.yaml").write_text(REFERENCE)
    with one_node(CLAIMS_ONLY, cdi_assets, folder, request.config) as found:
        deployed = deploy(found.client, load(folder / "reference"), timeouts=EMBEDDED, installer=SimulatedInstaller())
        assert not deployed.not_ready
        wait_for(lambda: found.client.list(SLICES), bool, what="devices are published", timeout=PATIENCE)
        yield found


@pytest.fixture(scope="module")
def counted(
    cdi_assets: Path | None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    with one_node(COUNTS_ONLY, cdi_assets, tmp_path_factory.mktemp("counted-gpus"), request.config) as found:
        wait_for(
            lambda: found.client.get(f"/api/v1/nodes/{COUNTED}")["status"]["allocatable"].get(GPU),
            lambda count: count == "4",
            what="GPUs are offered",
            timeout=PATIENCE,
        )
        yield found


def test_nobody_says_that_containers_see_nothing(claimed: Nodes) -> None:
    (published,) = claimed.client.list(SLICES)

    assert published["spec"]["nodeName"] == CLAIMED
    assert NOT_INJECTED not in published["metadata"].get("annotations", {})


def test_a_container_sees_the_devices_of_its_claim_and_the_one_beside_it_sees_none(claimed: Nodes) -> None:
    for name, count in (("one", 1), ("two", 2)):
        claimed.claim(name, count)
        claimed.create(name, claim=name)

    for name, count in (("one", 1), ("two", 2)):
        saw, beside = claimed.said(name)
        given = [int(each.removeprefix("gpu-")) for each in claimed.results(name)]
        assert len(given) == count
        assert saw["gpus"] == [f"nvidia{index}" for index in given], name
        assert saw["smi"] == [gpu_uuid(CLAIMED, index) for index in given], name
        assert saw["visible"] == "void"
        assert beside == NOTHING
    for name in ("one", "two"):
        claimed.delete(name, name)


def test_a_container_sees_the_gpus_that_the_plugin_gave_it_and_no_others(counted: Nodes) -> None:
    counted.create("counted", gpus=2, initContainers=[_waiting()], volumes=[_SHARED])
    counted.containers.wait("counted", lambda pod: bool(pod["status"].get("initContainerStatuses")), "is on its node")
    known = wait_for(
        lambda: allocated(counted.folder(COUNTED) / "kubelet" / SOCKET),
        bool,
        what="it is given devices",
        timeout=PATIENCE,
    )
    (devices,) = known.values()
    _let_go(counted, COUNTED, "counted")

    saw, beside = counted.said("counted")

    uuids = [gpu_uuid(COUNTED, index) for index in range(4)]
    given = sorted(uuids.index(each) for each in devices[GPU])
    assert len(given) == 2
    assert saw["gpus"] == [f"nvidia{index}" for index in given]
    assert saw["smi"] == [uuids[index] for index in given]
    # Each device's specification brings the same files, and they are mounted once.
    assert len(saw["mounts"]) == len(set(saw["mounts"]))
    assert beside == NOTHING
    counted.delete("counted")


def test_without_the_plugins_specification_nothing_is_injected_and_the_cause_is_told(counted: Nodes) -> None:
    specification = counted.folder(COUNTED) / "cdi" / DEVICES
    away = specification.with_name("away")
    specification.rename(away)
    try:
        counted.create("unspecified", gpus=1)
        told = counted.told("unspecified")
        assert counted.never_started("unspecified")
    finally:
        away.rename(specification)

    assert f"{GPU}=GPU-" in told.cause
    assert "the CDI specification of the node does not have the device" in told.cause
    assert "nvidia-ctk cdi generate" in told.remedy
    saw, _ = counted.said("unspecified")  # the kubelet tries again, and now it is there
    assert len(saw["gpus"]) == 1
    counted.delete("unspecified")


def test_without_the_claims_specification_nothing_is_injected_and_the_cause_is_told(claimed: Nodes) -> None:
    """The driver has answered the kubelet when the specification goes, as when somebody empties the folder."""
    claimed.claim("lost")
    claimed.create("lost", claim="lost", initContainers=[_waiting()], volumes=[_SHARED])
    specification = wait_for(
        lambda: claimed.specification("lost"), lambda found: found is not None, what="it is prepared", timeout=PATIENCE
    )
    assert specification is not None
    away = specification.with_name("away")
    claimed.containers.wait("lost", lambda pod: bool(pod["status"].get("initContainerStatuses")), "is on its node")
    specification.rename(away)
    try:
        _let_go(claimed, CLAIMED, "lost")
        told = claimed.told("lost")
        assert claimed.never_started("lost")
    finally:
        away.rename(specification)

    assert "the CDI specification of the node does not have the device" in told.cause
    saw, _ = claimed.said("lost")
    assert saw["gpus"] == [f"nvidia{each.removeprefix('gpu-')}" for each in claimed.results("lost")]
    claimed.delete("lost", "lost")


_SHARED = {"name": "shared", "emptyDir": {}}


def _waiting() -> dict[str, Any]:
    """An init container that ends when it is let go."""
    mount = {"name": "shared", "mountPath": "/shared"}
    return {"name": "waits", "image": images.PROBE, "command": ["python3", "-c", WAITS], "volumeMounts": [mount]}


def _let_go(nodes: Nodes, node: str, pod: str) -> None:
    """Let a pod's init container end, through the folder of the node in which its volume is."""
    uid = nodes.client.get(f"{PODS}/{pod}")["metadata"]["uid"]
    volume = nodes.folder(node) / "kubelet" / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "shared"
    wait_for(volume.is_dir, bool, what="its volume is there", timeout=PATIENCE)
    (volume / "go").touch()

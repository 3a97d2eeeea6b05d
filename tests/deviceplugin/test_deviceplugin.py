"""The simulated device plugin before a kubelet of our own making: what it registers, lists, prefers and gives."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from fake_kubelet import FakeKubelet, kubelet

from conformance.deviceplugin.hostfiles import HostFiles
from conformance.deviceplugin.inventory import Inventory, inventory_of
from conformance.deviceplugin.plugin import _LOOK, Plugin, PluginCrash
from conformance.simulator.annotations import OFFERED
from conformance.simulator.devices import Device, Offer
from conformance.simulator.hardware import HARDWARE, Machine, gpu_uuid, machine_of
from conformance.simulator.plugin import offers
from conformance.simulator.plugin_settings import ReplicatedResource, Settings, Sharing

GPU = "nvidia.com/gpu"
PATIENCE = 90.0


def a_node(annotations: dict[str, str] | None = None, **machine: Any) -> dict[str, Any]:
    known = {
        "product": "NVIDIA A100-SXM4-40GB", "gpus": 4, "memory_mib": 40960, "compute": "8.0",
        "driver": "580.95.05", "mig_capable": True, "offered_as": GPU, **machine,
    }  # fmt: skip
    text = msgspec.json.encode(known).decode()
    return {"metadata": {"name": "a100-1", "annotations": {HARDWARE: text, **(annotations or {})}}}


def uuids(*indices: int) -> list[str]:
    return [gpu_uuid("a100-1", index) for index in indices]


def eventually(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Running:
    """A plugin that runs in a thread beside a fake kubelet."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder / "plugins"
        self.files = HostFiles(folder / "files")
        self.plugin = Plugin(self.folder, self.files, **options)
        self.ended = threading.Event()
        self.crashed: list[str] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.plugin.run(self.ended)
        except PluginCrash as crash:
            self.crashed.append(str(crash))

    def start(self, node: dict[str, Any]) -> None:
        self.plugin.tell(inventory_of(node))
        self.thread.start()

    def stop(self) -> None:
        self.ended.set()
        if self.thread.is_alive():
            self.thread.join(30)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose sockets have paths of less than 108 bytes, which is all that a kernel takes."""
    with tempfile.TemporaryDirectory(prefix="gpc-") as folder:
        yield Path(folder)


@pytest.fixture
def running(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr("os.mknod", lambda path, *_: Path(path).touch())  # for whoever is not root
    plugin = Running(short_folder)
    yield plugin
    plugin.stop()


@pytest.fixture
def node_kubelet(running: Running) -> Iterator[FakeKubelet]:
    with kubelet(running.folder) as there:
        yield there


def listed(node_kubelet: FakeKubelet, resource: str = GPU) -> list[dict[str, Any]]:
    assert eventually(lambda: resource in node_kubelet.listed)
    return node_kubelet.listed[resource]


def test_the_gpus_of_a_node_are_registered_with_their_identities(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(a_node())

    found = listed(node_kubelet)

    assert [each["id"] for each in found] == uuids(0, 1, 2, 3)
    assert [each["numa"] for each in found] == [0, 0, 1, 1]
    assert {each["health"] for each in found} == {"Healthy"}
    assert node_kubelet.registered == [GPU]


def test_a_gpu_that_falls_ill_is_unhealthy_and_one_that_is_lost_is_not_listed(
    running: Running, node_kubelet: FakeKubelet
) -> None:
    running.start(a_node())
    listed(node_kubelet)

    running.plugin.tell(inventory_of(a_node(unhealthy=[1], missing=[3])))

    assert eventually(lambda: len(node_kubelet.listed[GPU]) == 3)
    assert [each["health"] for each in listed(node_kubelet)] == ["Healthy", "Unhealthy", "Healthy"]
    assert node_kubelet.registered == [GPU]


def test_a_container_gets_environment_programs_and_device_files(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(a_node())
    listed(node_kubelet)

    answer = node_kubelet.allocate(GPU, *uuids(1, 2))

    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == ",".join(uuids(1, 2))
    mounts = {each.container_path: each for each in answer.mounts}
    assert mounts["/usr/bin/nvidia-smi"].read_only
    assert Path(mounts["/usr/bin/nvidia-smi"].host_path).stat().st_mode & 0o111
    inside = [each.container_path for each in answer.devices]
    assert [path for path in inside if path[-1].isdecimal()] == ["/dev/nvidia1", "/dev/nvidia2"]
    assert all(Path(each.host_path).exists() for each in answer.devices)


def test_with_cdi_the_devices_have_names_that_the_specification_knows(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.mknod", lambda path, *_: Path(path).touch())
    running = Running(short_folder, cdi_folder=short_folder / "cdi")
    with kubelet(running.folder) as node_kubelet:
        running.start(a_node())
        listed(node_kubelet)

        answer = node_kubelet.allocate(GPU, *uuids(3))
        running.stop()

    assert [each.name for each in answer.cdi_devices] == [f"nvidia.com/gpu={uuids(3)[0]}"]
    assert not answer.envs
    assert not answer.mounts
    (file,) = (short_folder / "cdi").glob("*.json")
    specified = json.loads(file.read_text())
    assert (specified["kind"], [each["name"] for each in specified["devices"]]) == (GPU, uuids(0, 1, 2, 3))
    edits = specified["devices"][3]["containerEdits"]
    assert "/dev/nvidia3" in [each["path"] for each in edits["deviceNodes"]]


def test_with_cdi_too_a_client_of_mps_is_told_where_its_daemon_is(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It depends on the offer, not on the device, so the answer says it and not the specification."""
    monkeypatch.setattr("os.mknod", lambda path, *_: Path(path).touch())
    running = Running(short_folder, cdi_folder=short_folder / "cdi")
    with kubelet(running.folder) as node_kubelet:
        running.start(shared_node("mps"))
        ids = [each["id"] for each in listed(node_kubelet, f"{GPU}.shared")]

        answer = node_kubelet.allocate(f"{GPU}.shared", ids[0])
        running.stop()

    assert [each.name for each in answer.cdi_devices] == [f"nvidia.com/gpu={uuids(0)[0]}"]
    assert dict(answer.envs) == {"CUDA_MPS_PIPE_DIRECTORY": "/mps/pipe", "CUDA_MPS_LOG_DIRECTORY": "/mps/log"}


def test_whole_gpus_are_preferred_from_one_numa_node(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(a_node())
    listed(node_kubelet)

    assert node_kubelet.preferred(GPU, uuids(0, 2, 3), 2) == uuids(2, 3)
    assert node_kubelet.preferred(GPU, uuids(0, 2, 3), 1) == uuids(0)
    assert node_kubelet.preferred(GPU, uuids(0, 1, 2, 3), 2, uuids(3)) == uuids(3, 2)


def shared_node(strategy: str = "time-slicing", **settings: Any) -> dict[str, Any]:
    node = a_node(offered_as="")
    sharing = Sharing(strategy, (ReplicatedResource(GPU, 2),), renames=True, **settings)
    offered = {"driver": "580.95.05", "offers": offers("a100-1", _machine(node), {}, Settings(sharing=sharing))}
    node["metadata"]["annotations"][OFFERED] = msgspec.json.encode(offered).decode()
    return node


def _machine(node: dict[str, Any]) -> Machine:
    machine = machine_of(node)
    assert machine is not None
    return machine


def test_replicas_have_the_name_of_the_configuration_and_are_spread(
    running: Running, node_kubelet: FakeKubelet
) -> None:
    running.start(shared_node(refuses_many=True))

    ids = [each["id"] for each in listed(node_kubelet, f"{GPU}.shared")]

    assert len(ids) == 8
    chosen = node_kubelet.preferred(f"{GPU}.shared", ids, 3)
    assert len({each.partition("::")[0] for each in chosen}) == 3
    with pytest.raises(grpc.RpcError, match="maximum request size for shared resources is 1; found 2"):
        node_kubelet.allocate(f"{GPU}.shared", *ids[:2])
    answer = node_kubelet.allocate(f"{GPU}.shared", ids[0])
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == uuids(0)[0]


def test_a_client_of_mps_is_told_where_its_daemon_is(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(shared_node("mps"))
    ids = [each["id"] for each in listed(node_kubelet, f"{GPU}.shared")]

    answer = node_kubelet.allocate(f"{GPU}.shared", ids[0])

    assert answer.envs["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/pipe"


def test_mig_devices_are_offered_by_profile_and_seen_by_their_own_uuid(
    running: Running, node_kubelet: FakeKubelet
) -> None:
    node = a_node(offered_as="")
    node["metadata"]["annotations"]["gpu-conformance.io/mig-geometry"] = '{"0": {"1g.5gb": 2}}'
    found = offers("a100-1", _machine(node), {0: {"1g.5gb": 2}}, Settings("mixed"))
    node["metadata"]["annotations"][OFFERED] = msgspec.json.encode({"offers": found}).decode()
    running.start(node)

    ids = [each["id"] for each in listed(node_kubelet, "nvidia.com/mig-1g.5gb")]
    answer = node_kubelet.allocate("nvidia.com/mig-1g.5gb", ids[1])

    assert len(ids) == 2
    assert len(listed(node_kubelet)) == 3
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == ids[1]
    assert {"/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap1"} <= {each.container_path for each in answer.devices}


def test_a_resource_that_is_no_longer_offered_is_taken_back(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(a_node())
    listed(node_kubelet)

    running.plugin.tell(inventory_of(a_node(offered_as="")))

    assert eventually(lambda: node_kubelet.lost == [GPU])
    assert not list(running.folder.glob("gpu-conformance-*.sock"))


def test_a_kubelet_that_starts_again_hears_of_everything_again(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(a_node())
    listed(node_kubelet)

    with kubelet(running.folder) as next_kubelet:
        assert [each["id"] for each in listed(next_kubelet)] == uuids(0, 1, 2, 3)
        assert next_kubelet.allocate(GPU, *uuids(0)).envs


def test_a_plugin_that_registers_once_is_not_heard_by_the_next_kubelet(
    running: Running, node_kubelet: FakeKubelet
) -> None:
    running.start(a_node(broken={"plugin-registers-once": True}))
    listed(node_kubelet)

    with kubelet(running.folder) as next_kubelet:
        time.sleep(5 * _LOOK)
        assert next_kubelet.registered == []
        running.plugin.tell(inventory_of(a_node()))
        assert [each["id"] for each in listed(next_kubelet)] == uuids(0, 1, 2, 3)


def test_without_a_kubelet_the_plugin_waits_for_one(running: Running) -> None:
    running.folder.mkdir()
    running.start(a_node())

    with kubelet(running.folder) as late:
        assert len(listed(late)) == 4


def test_what_is_broken_about_the_plugin_shows_as_it_would(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(a_node(broken={"allocate-fails": "the driver does not answer"}))
    listed(node_kubelet)
    with pytest.raises(grpc.RpcError) as failed:
        node_kubelet.allocate(GPU, *uuids(0))
    assert failed.value.code() is grpc.StatusCode.UNKNOWN
    assert failed.value.details() == "the driver does not answer"

    running.plugin.tell(inventory_of(a_node(broken={"plugin-miscounts": 2})))
    assert eventually(lambda: len(node_kubelet.listed[GPU]) == 6)
    running.plugin.tell(inventory_of(a_node(broken={"plugin-miscounts": -1})))
    assert eventually(lambda: len(node_kubelet.listed[GPU]) == 3)

    running.plugin.tell(inventory_of(a_node(broken={"stale-allocation": True})))
    assert eventually(lambda: len(node_kubelet.listed[GPU]) == 4)
    assert node_kubelet.allocate(GPU, *uuids(2)).envs["NVIDIA_VISIBLE_DEVICES"] == uuids(0)[0]

    running.plugin.tell(inventory_of(a_node(broken={"plugin-crashes": True})))
    assert eventually(lambda: bool(running.crashed))
    assert eventually(lambda: GPU in node_kubelet.lost)


def test_ids_that_nobody_offers_are_refused(running: Running, node_kubelet: FakeKubelet) -> None:
    running.start(a_node())
    listed(node_kubelet)

    with pytest.raises(grpc.RpcError, match="unknown device: GPU-other"):
        node_kubelet.allocate(GPU, "GPU-other")


def test_a_node_without_gpus_has_no_inventory() -> None:
    assert inventory_of({"metadata": {"name": "cpu-1"}}) is None


def test_devices_are_no_more_than_what_an_offer_says() -> None:
    offer = Offer((Device("GPU-x", "GPU-x", 0),))

    assert Inventory("n", Machine("T4", 1, 1, "7.5"), offers={GPU: offer}).broken("allocate-fails") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_a_machine_that_is_told_needs_no_api_server(short_folder: Path) -> None:
    """As a DaemonSet on nodes without GPUs it gets neither a kubeconfig nor a token."""
    machine = json.loads(a_node(gpus=2)["metadata"]["annotations"][HARDWARE])
    folder = short_folder / "plugins"
    with kubelet(folder) as there:
        process = a_process(short_folder, "--folder", str(folder), "--machine", json.dumps(machine))
        try:
            assert [each["id"] for each in listed(there)] == uuids(0, 1)
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_a_machine_that_cannot_be_read_is_told_in_one_line(short_folder: Path) -> None:
    process = a_process(short_folder, "--machine", '{"gpus": "two"}')

    said = process.communicate(timeout=PATIENCE)[1]

    assert (process.returncode, said.count("\n")) == (1, 1)
    assert said.startswith("the device plugin cannot go on: ")


def a_process(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    named = ["--node", "a100-1", "--files", str(folder / "files")]
    command = [sys.executable, "-m", "conformance.deviceplugin", *named, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

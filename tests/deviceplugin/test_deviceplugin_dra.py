"""The simulated DRA driver before a kubelet of our own making: what it registers, publishes, prepares, takes back."""

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dra_kubelet import SLICES, DraKubelet, FewObjects, Object

from conformance.deviceplugin.dra.driver import Driver
from conformance.deviceplugin.dra.runtimes import injection
from conformance.deviceplugin.dra.slices import NOT_INJECTED
from conformance.deviceplugin.hostfiles import HostFiles
from conformance.deviceplugin.inventory import inventory_of
from conformance.kube.names import SIMULATED_GPUS
from conformance.simulator.annotations import CLAIMED, MIG_GEOMETRY
from conformance.simulator.hardware import HARDWARE, gpu_uuid

NODE, DRIVER = "a100-1", "gpu.nvidia.com"
WITH_CDI, WITHOUT_CDI = "containerd://2.1.4", "containerd://1.6.20"
PATIENCE = 90.0


def a_node(*, runtime: str = WITH_CDI, geometry: Any = None, claimed: bool = True, **machine: Any) -> Object:
    known = {
        "product": "NVIDIA A100-SXM4-40GB", "gpus": 2, "memory_mib": 40960, "compute": "8.0",
        "driver": "580.95.05", "mig_capable": True, **machine,
    }  # fmt: skip
    annotations = {HARDWARE: msgspec.json.encode(known).decode()}
    if claimed:
        annotations[CLAIMED] = json.dumps({"driver": "580.95.05", "health": True})
    if geometry:
        annotations[MIG_GEOMETRY] = json.dumps(geometry)
    metadata = {"name": NODE, "uid": "uid-of-the-node", "annotations": annotations}
    return {"metadata": metadata, "status": {"nodeInfo": {"containerRuntimeVersion": runtime}}}


class Running:
    """A driver that runs in a thread beside a kubelet and an API server of our own making."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.api, self.options = folder, FewObjects(), options
        self.kubelet = DraKubelet(folder)
        self._start()

    def _start(self) -> None:
        client: Any = self.api
        files = HostFiles(self.folder / "files")
        self.driver = Driver(client, NODE, self.folder, self.folder / "cdi", files, **self.options)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.driver.run, args=(self.ended,))
        self.thread.start()

    def tell(self, node: Object) -> None:
        self.driver.tell(inventory_of(node))

    def again(self) -> None:
        """End the driver, and start it anew."""
        self.stop()
        self._start()

    def stop(self) -> None:
        self.ended.set()
        self.thread.join(60)

    def serves(self, node: Object) -> DraKubelet:
        self.tell(node)
        eventually(lambda: bool(self.kubelet.sockets()))
        self.kubelet.register()
        eventually(lambda: bool(self.api.slices))
        return self.kubelet

    def claim(self, *devices: str, request: str = "gpu", name: str = "one", pool: str = NODE) -> Object:
        results = [{"request": request, "driver": DRIVER, "pool": pool, "device": each} for each in devices]
        claim = {
            "metadata": {"namespace": "team", "name": name, "uid": f"uid-of-{name}"},
            "status": {
                "allocation": {"devices": {"results": results}},
                "reservedFor": [{"resource": "pods", "name": "trains", "uid": "uid-of-trains"}],
            },
        }
        self.api.objects[f"/apis/resource.k8s.io/v1/namespaces/team/resourceclaims/{name}"] = claim
        return claim

    def specifications(self) -> dict[str, Any]:
        return {each.name: json.loads(each.read_text()) for each in (self.folder / "cdi").glob("*.json")}


def eventually(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr("os.mknod", lambda path, *_: Path(path).touch())  # for whoever is not root
    monkeypatch.setattr("conformance.deviceplugin.dra.slices._AGAIN", 0.01)
    monkeypatch.setattr("conformance.deviceplugin.dra.driver._LOOK", 0.05)
    # A folder whose sockets have paths of less than 108 bytes, which is all that a kernel takes.
    with tempfile.TemporaryDirectory(prefix="gpc-") as folder:
        plugin = Running(Path(folder))
        yield plugin
        plugin.stop()


def test_the_driver_says_who_it_is_and_where_its_service_is(running: Running) -> None:
    info = running.serves(a_node()).register()

    assert (info.type, info.name, list(info.supported_versions)) == ("DRAPlugin", DRIVER, ["v1.DRAPlugin"])
    assert Path(info.endpoint).is_socket()
    assert running.driver.registered.is_set()


def test_nothing_is_published_before_the_kubelet_has_registered_the_driver(running: Running) -> None:
    """A pod that is bound to the node earlier is refused, and tried again after more than a minute."""
    running.tell(a_node())
    eventually(lambda: bool(running.kubelet.sockets()))
    running.driver.turn()
    assert not running.api.slices

    running.kubelet.register()

    eventually(lambda: bool(running.api.slices))


def test_the_gpus_of_the_node_are_published_and_marked_as_simulated(running: Running) -> None:
    running.serves(a_node())

    (published,) = running.api.slices
    metadata, spec = published["metadata"], published["spec"]
    assert (metadata["name"], metadata["labels"]) == (f"{NODE}-{DRIVER}", {SIMULATED_GPUS: "true"})
    assert [each["uid"] for each in metadata["ownerReferences"]] == ["uid-of-the-node"]
    assert "annotations" not in metadata
    assert (spec["driver"], spec["nodeName"], spec["pool"]["name"]) == (DRIVER, NODE, NODE)
    found = {each["name"]: each["attributes"]["uuid"]["string"] for each in spec["devices"]}
    assert found == {f"gpu-{index}": gpu_uuid(NODE, index) for index in range(2)}


def test_what_falls_ill_is_tainted_in_a_newer_generation(running: Running) -> None:
    running.serves(a_node())

    running.tell(a_node(unhealthy=[1]))

    eventually(lambda: "taints" in running.api.slices[0]["spec"]["devices"][1])
    assert running.api.slices[0]["spec"]["pool"]["generation"] == 2


def test_a_slice_that_a_kubelet_has_deleted_is_published_again(running: Running) -> None:
    running.serves(a_node())

    running.api.delete(f"{SLICES}/{NODE}-{DRIVER}")

    eventually(lambda: bool(running.api.slices))


def test_a_slice_that_an_earlier_driver_has_left_is_taken_over(running: Running) -> None:
    running.serves(a_node())

    running.again()
    running.serves(a_node(gpus=1))

    eventually(lambda: len(running.api.slices[0]["spec"]["devices"]) == 1)


def test_without_a_stack_that_has_the_driver_there_are_neither_sockets_nor_slices(running: Running) -> None:
    running.serves(a_node())

    running.tell(a_node(claimed=False))

    eventually(lambda: not running.kubelet.sockets() and not running.api.slices)


def test_a_claim_is_prepared_with_a_specification_of_its_devices_and_taken_back(running: Running) -> None:
    kubelet, claim = running.serves(a_node()), running.claim("gpu-1")

    answer = kubelet.prepare(claim)["uid-of-one"]

    (device,) = answer.devices
    assert (answer.error, list(device.request_names), device.pool_name, device.device_name) == (
        "",
        ["gpu"],
        NODE,
        "gpu-1",
    )
    ((file, specified),) = running.specifications().items()
    assert file == "gpu-conformance-claim-uid-of-one.json"
    (described,) = specified["devices"]
    assert list(device.cdi_device_ids) == [f"{specified['kind']}={described['name']}"]
    assert specified["annotations"][SIMULATED_GPUS] == "true"
    paths = [each["path"] for each in described["containerEdits"]["deviceNodes"]]
    assert [each for each in paths if each[-1].isdecimal()] == ["/dev/nvidia1"]
    assert running.driver.prepared == ["uid-of-one"]

    assert kubelet.unprepare(claim)["uid-of-one"].error == ""
    assert not running.specifications()
    assert running.driver.prepared == []
    assert kubelet.unprepare(claim)["uid-of-one"].error == ""  # a kubelet may ask twice


def test_asked_again_after_a_restart_the_driver_answers_the_same_of_a_claim_that_has_gone(running: Running) -> None:
    kubelet, claim = running.serves(a_node()), running.claim("gpu-0")
    before = kubelet.prepare(claim)
    running.api.objects.clear()

    running.again()
    kubelet = running.serves(a_node())

    assert kubelet.prepare(claim) == before
    assert running.driver.prepared == ["uid-of-one"]


def test_a_mig_device_is_given_with_the_files_of_its_gpu(running: Running) -> None:
    kubelet = running.serves(a_node(geometry={"0": {"1g.5gb": 2}}))
    parts = [each["name"] for each in running.api.slices[0]["spec"]["devices"] if each["name"].startswith("gpu-0-mig")]

    answer = kubelet.prepare(running.claim(parts[1]))["uid-of-one"]

    assert answer.error == ""
    (specified,) = running.specifications().values()
    paths = [each["path"] for each in specified["devices"][0]["containerEdits"]["deviceNodes"]]
    assert "/dev/nvidia0" in paths
    assert any("nvidia-caps" in each for each in paths)


def test_alternatives_are_answered_by_the_name_of_their_request_and_other_nodes_devices_not_at_all(
    running: Running,
) -> None:
    kubelet = running.serves(a_node())
    alternative = running.claim("gpu-0", request="any/large", name="alternative")
    elsewhere = running.claim("gpu-0", name="elsewhere", pool="a100-2")

    found = kubelet.prepare(alternative, elsewhere)

    assert [list(each.request_names) for each in found["uid-of-alternative"].devices] == [["any"]]
    assert (found["uid-of-elsewhere"].error, list(found["uid-of-elsewhere"].devices)) == ("", [])


def test_what_cannot_be_prepared_is_said_of_that_claim_alone(running: Running) -> None:
    kubelet = running.serves(a_node())
    good, lost = running.claim("gpu-0", name="good"), running.claim("gpu-7", name="lost")
    unallocated, unknown = running.claim(name="unallocated"), running.claim("gpu-0", name="unknown")
    del unallocated["status"]["allocation"]
    other = {"metadata": {**good["metadata"], "uid": "uid-of-other"}}
    running.api.objects = {path: each for path, each in running.api.objects.items() if not path.endswith("unknown")}

    found = kubelet.prepare(good, lost, unallocated, unknown, other)

    assert found["uid-of-good"].error == ""
    assert "has no device gpu-7" in found["uid-of-lost"].error
    assert "is allocated no device" in found["uid-of-unallocated"].error
    assert "cannot be read" in found["uid-of-unknown"].error
    assert "is another one" in found["uid-of-other"].error
    assert running.driver.prepared == ["uid-of-good"]


def test_a_machine_that_gives_nothing_prepares_nothing(running: Running) -> None:
    kubelet = running.serves(a_node(broken={"allocate-fails": "the driver does not answer"}))

    assert kubelet.prepare(running.claim("gpu-0"))["uid-of-one"].error == "the driver does not answer"
    assert not running.specifications()


def test_where_the_runtime_has_no_cdi_claims_are_prepared_and_everybody_is_told(running: Running) -> None:
    kubelet, claim = running.serves(a_node(runtime=WITHOUT_CDI)), running.claim("gpu-0")

    (device,) = kubelet.prepare(claim)["uid-of-one"].devices

    assert list(device.cdi_device_ids) == []
    assert running.driver.prepared == ["uid-of-one"]
    why = "containerd 1.6.20 has no CDI: claims are prepared, and containers see no device of them"
    assert running.api.slices[0]["metadata"]["annotations"] == {NOT_INJECTED: why}
    (event,) = running.api.events
    assert (event["involvedObject"]["name"], event["reason"], event["message"]) == ("trains", "DevicesNotInjected", why)
    assert event["metadata"]["labels"] == {SIMULATED_GPUS: "true"}


def test_a_runtime_that_is_known_to_read_specifications_is_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.mknod", lambda path, *_: Path(path).touch())
    with tempfile.TemporaryDirectory(prefix="gpc-") as folder:
        known = Running(Path(folder), injects=True)
        try:
            known.serves(a_node(runtime="containerd://1.7.27"))
            assert "annotations" not in known.api.slices[0]["metadata"]
        finally:
            known.stop()


@pytest.mark.parametrize(
    ("runtime", "names", "says"),
    [
        ("containerd://1.6.20", False, "no CDI"),
        ("containerd://1.7.27", True, "enable_cdi"),
        ("containerd://2.1.4", True, ""),
        ("cri-o://1.27.3", False, "no CDI"),
        ("cri-o://1.33.0", True, ""),
        ("docker://27.0.1", False, "no CDI"),
        ("another://1.0.0", True, ""),
        ("", True, ""),
    ],
)
def test_what_a_runtime_does_with_cdi_is_known_by_its_version(runtime: str, names: bool, says: str) -> None:
    found = injection(runtime)

    assert found.names is names
    assert says in found.why
    assert bool(found.why) == bool(says)

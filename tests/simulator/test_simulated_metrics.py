"""The simulated exporter: what it says of GPUs and MIG devices, held against the reader of real pages."""

import urllib.error
import urllib.request
from typing import Any

import pytest
from patience import PATIENCE

from conformance.gpu import dcgm
from conformance.simulator.annotations import SIMULATED, SIMULATED_VALUE
from conformance.simulator.exporter_page import Holder, page
from conformance.simulator.hardware import Machine, gpu_uuid, mig_uuid
from conformance.simulator.metrics import Metrics
from conformance.simulator.metrics_ports import MetricsPorts

A100 = Machine(
    product="NVIDIA A100-SXM4-40GB", gpus=2, memory_mib=40960, compute="8.0", mig_capable=True, driver="580.95.05"
)
WHOLE, PART = gpu_uuid("node-1", 0), mig_uuid("node-1", 1, "1g.5gb", 0)
# A week of November 2026, so that counters are as large as those of machines that have run for years.
NOW = 1_795_000_000.0


def told(machine: Machine = A100, now: float = NOW, **more: object) -> dcgm.Page:
    named = {WHOLE: Holder("serving", "llm-0", "server"), PART: Holder("serving", "small-0", "server")}
    text = page("node-1", machine, "580.95.05", {1: {"1g.5gb": 7}}, more.get("holders", named), {WHOLE}, now)  # type: ignore[arg-type]
    return dcgm.parse(text)


def test_a_page_is_read_without_an_odd_line_and_is_plausible() -> None:
    found = told()

    assert found.odd == ()
    assert found.gpus == tuple(sorted(gpu_uuid("node-1", index) for index in (0, 1)))
    assert len(found.devices) == 1 + 7
    assert dcgm.implausible(found, 40960) == ()
    assert {sample.labels[dcgm.DRIVER_LABEL] for sample in found.samples} == {"580.95.05"}


def test_devices_are_those_of_their_pods() -> None:
    assert told().holders() == {
        dcgm.DeviceKey(WHOLE): "serving/llm-0",
        dcgm.DeviceKey(gpu_uuid("node-1", 1), "1"): "serving/small-0",
    }
    assert told(holders={}).holders() == {}


def test_a_mig_device_has_no_utilisation_of_its_own() -> None:
    # DCGM gives GPU_UTIL of whole GPUs only; under MIG the PROF metrics stand for it.
    assert {sample.labels["UUID"] for sample in told().of(dcgm.UTILISATION)} == {WHOLE}


def test_counters_grow_and_never_go_back() -> None:
    before, after = told(now=NOW), told(now=NOW + 1)

    assert dcgm.went_down(before, after) == ()
    assert dcgm.went_down(after, before)


@pytest.mark.parametrize("what", ["exporter-implausible"])
def test_a_broken_exporter_says_what_no_gpu_can(what: str) -> None:
    assert dcgm.implausible(told(Machine(**{**_members(A100), "broken": {what: True}})), 40960)


@pytest.mark.parametrize(("what", "devices", "with_memory"), [("first-device", 1 + 7, 1 + 1), ("whole-gpus", 2, 2)])
def test_an_exporter_may_be_blind_to_mig_devices(what: str, devices: int, with_memory: int) -> None:
    found = told(Machine(**{**_members(A100), "broken": {"exporter-mig": what}}))

    assert len(found.devices) == devices
    assert len({sample.device for sample in found.of("DCGM_FI_DEV_FB_USED")}) == with_memory


def test_an_unhealthy_gpu_remembers_its_xid() -> None:
    found = told(Machine(**{**_members(A100), "unhealthy": (0,)}))

    assert {sample.value for sample in found.of(dcgm.XID) if sample.labels["gpu"] == "0"} == {48}
    assert {sample.value for sample in found.of(dcgm.XID) if sample.labels["gpu"] == "1"} == {0}


def _members(machine: Machine) -> dict[str, object]:
    return {name: getattr(machine, name) for name in machine.__struct_fields__}


def test_each_door_says_its_own_text_until_it_is_closed() -> None:
    servers = MetricsPorts()
    ports = {name: servers.open(lambda name=name: f"up_{name} 1\n") for name in ("a", "b")}
    silent = servers.open(lambda: None)

    for name, port in ports.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            assert answer.read().decode() == f"up_{name} 1\n"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{ports['a']}/other", timeout=PATIENCE)
    refused.value.close()
    assert refused.value.code == 404
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        urllib.request.urlopen(f"http://127.0.0.1:{silent}/metrics", timeout=5)
    servers.close(ports["a"])
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        urllib.request.urlopen(f"http://127.0.0.1:{ports['a']}/metrics", timeout=5)
    for port in (*ports.values(), silent):
        servers.close(port)


class Exporters:
    """Exporter pods that are ready on a node of KWOK's. World and client in one; ``told`` are the rules, in order."""

    def __init__(self) -> None:
        self.client = self
        self.told: list[tuple[str, str]] = []

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        if kind == "Node":
            return {"metadata": {"name": name, "annotations": {SIMULATED: SIMULATED_VALUE}}}
        ready = [{"type": "Ready", "status": "True"}]
        return {
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": "node-1", "containers": [{"name": "nvidia-dcgm-exporter"}]},
            "status": {"phase": "Running", "conditions": ready},
        }

    def apply(self, obj: dict[str, Any], **_: Any) -> None:
        self.told.append((obj["metadata"]["name"], str(obj)))


def test_the_last_forwarded_port_of_several_is_told_again_by_changes() -> None:
    cluster = Exporters()
    part = Metrics(cluster)  # type: ignore[arg-type]

    assert all(part.reconcile(f"gpu-operator/{name}") for name in ("first", "last"))
    assert part.reconcile("gpu-operator/first") is None  # KWOK has heard of another one since
    while part.reconcile("gpu-operator/last") is not None:
        pass

    assert [name for name, _ in cluster.told] == ["first", "last", "last", "last"]
    assert len(set(cluster.told)) == 4

"""The exporter's page of a real node: figures of the simulator, pods as the kubelet names them."""

from pathlib import Path

import pytest

from conformance.deviceplugin import metrics
from conformance.deviceplugin.allocated import Container
from conformance.deviceplugin.inventory import Inventory
from conformance.simulator.devices import Device, Offer
from conformance.simulator.hardware import Machine, gpu_uuid

GPU = "nvidia.com/gpu"


def inventory(shared: bool = False, **broken: object) -> Inventory:
    machine = Machine("Tesla T4", 2, 15360, "7.5", driver="580.95.05", broken=dict(broken))
    uuids = [gpu_uuid("n", index) for index in range(2)]
    devices = tuple(Device(f"{uuid}::0" if shared else uuid, uuid, at) for at, uuid in enumerate(uuids))
    return Inventory("n", machine, "580.95.05", {}, {GPU: Offer(devices, shared)})


@pytest.fixture(autouse=True)
def kubelet(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [gpu_uuid("n", 1), f"{gpu_uuid('n', 1)}::0"]
    monkeypatch.setattr(metrics, "allocated", lambda socket: {Container("team", "asks", "main"): {GPU: ids}})


def test_a_gpu_is_attributed_to_the_container_that_the_kubelet_names() -> None:
    lines = [line for line in metrics.text(inventory(), Path("sock")).splitlines() if 'pod="asks"' in line]

    assert lines
    assert all(gpu_uuid("n", 1) in line and 'namespace="team"' in line for line in lines)


def test_nobody_is_named_of_a_shared_gpu_nor_by_an_exporter_that_names_no_pods() -> None:
    for each in (inventory(shared=True), inventory(**{"exporter-unattributed": True})):
        assert 'pod="asks"' not in metrics.text(each, Path("sock"))

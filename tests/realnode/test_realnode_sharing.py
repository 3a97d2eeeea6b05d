"""Shared GPUs and MIG devices on a real kubelet: it gives out replicas and parts as the plugin offers and prefers them.

What is offered is written where the simulator writes what the plugin of a deployed stack would offer.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from gpu_node import GPU, NODE, GpuNode, gpu_node, listed, uuids
from real_containers import PODS

from conformance.kube.waits import wait_for
from conformance.simulator.annotations import MIG_GEOMETRY, OFFERED
from conformance.simulator.devices import Offered
from conformance.simulator.geometry import Geometry
from conformance.simulator.hardware import HARDWARE, machine_of
from conformance.simulator.plugin import offers
from conformance.simulator.plugin_settings import MPS, TIME_SLICING, ReplicatedResource, Settings, Sharing

pytestmark = pytest.mark.cluster

SHARED, PART = f"{GPU}.shared", "nvidia.com/mig-1g.5gb"


@pytest.fixture(scope="module")
def node(gpu_machine: None, request: pytest.FixtureRequest) -> Iterator[GpuNode]:
    with gpu_node(request.config, simulator=False) as node:
        yield node


@pytest.fixture
def emptied(node: GpuNode) -> Iterator[GpuNode]:
    yield node
    for pod in node.client.list(PODS):
        node.delete(pod["metadata"]["name"])
    wait_for(node.allocated, lambda left: not left, what="the devices are given back", timeout=90)


def offer(node: GpuNode, settings: Settings, geometry: Geometry | None = None) -> None:
    """Have the plugin of a stack with these settings offer the node's GPUs, and the one of the node's image none."""
    found = node.object()
    machine = machine_of(found)
    assert machine is not None
    machine = msgspec.structs.replace(machine, offered_as="")
    offered = Offered(machine.driver, offers(NODE, machine, geometry or {}, settings))
    annotations = {HARDWARE: machine, MIG_GEOMETRY: geometry or {}, OFFERED: offered}
    texts = {name: msgspec.json.encode(value).decode() for name, value in annotations.items()}
    node.client.patch(f"/api/v1/nodes/{NODE}", {"metadata": {"annotations": texts}})


def sharing(strategy: str, replicas: int = 2) -> Settings:
    return Settings(sharing=Sharing(strategy, (ReplicatedResource(GPU, replicas),), renames=True, refuses_many=True))


def test_replicas_are_given_one_for_each_pod_from_as_many_gpus_as_can_be(emptied: GpuNode) -> None:
    offer(emptied, sharing(TIME_SLICING))
    emptied.wait_allocatable("16", SHARED)
    emptied.wait_allocatable("0")

    saw = dict(emptied.held(1, resource=SHARED) for _ in range(3))

    assert all(len(seen) == 1 for seen in saw.values())
    assert len({seen[0] for seen in saw.values()}) == 3
    given = {container.pod: devices[SHARED] for container, devices in emptied.allocated().items()}
    assert {name: [each.partition("::")[0] for each in ids] for name, ids in given.items()} == saw


def test_a_pod_that_asks_for_two_replicas_is_refused_by_the_kubelet(emptied: GpuNode) -> None:
    offer(emptied, sharing(TIME_SLICING))
    emptied.wait_allocatable("16", SHARED)

    name = emptied.create(2, resource=SHARED)

    status = emptied.containers.wait(name, lambda pod: pod["status"]["phase"] == "Failed", "has failed")["status"]
    assert status["reason"] == "UnexpectedAdmissionError"
    assert "maximum request size for shared resources is 1; found 2" in status["message"]


def test_clients_of_mps_get_the_folders_of_its_daemon(emptied: GpuNode) -> None:
    # Another number than time-slicing makes of them above: what is waited for must not be there already.
    offer(emptied, sharing(MPS, replicas=3))
    emptied.wait_allocatable("24", SHARED)

    said = emptied.sees(1, resource=SHARED)

    assert said["mps"] == ["/mps/log", "/mps/pipe"]
    assert len(listed(said)) == 1


def test_a_container_sees_the_mig_device_that_it_was_given_and_no_other(emptied: GpuNode) -> None:
    offer(emptied, Settings("mixed"), {0: {"1g.5gb": 2}})
    emptied.wait_allocatable("2", PART)
    emptied.wait_allocatable("7")

    one, other = (emptied.held(1, resource=PART) for _ in range(2))

    for name, seen in (one, other):
        said = json.loads(emptied.client.request("GET", f"{PODS}/{name}/log"))
        assert [line.split()[0] for line in said["smi"]] == ["GPU", "MIG"]
        assert "nvidia-caps" in said["files"]
        assert seen[0] == uuids(0)[0]
    parts = {name: seen[1] for name, seen in (one, other)}
    given: dict[str, Any] = {container.pod: devices[PART] for container, devices in emptied.allocated().items()}
    assert {name: [part] for name, part in parts.items()} == given
    assert len(set(parts.values())) == 2

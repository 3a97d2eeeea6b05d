"""A real node in the place of one of the topology with GPUs: its pods get devices, and the kubelet says the same."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from gpu_node import GPU, NODE, GpuNode, gpu_node, listed, uuids
from real_containers import PODS, kubelet_of

from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def node(gpu_machine: None, request: pytest.FixtureRequest) -> Iterator[GpuNode]:
    with gpu_node(request.config) as node:
        yield node


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
    assert node.sees(0) == {"visible": None, "files": [], "smi": None, "mounts": [], "mps": []}


def test_the_kubelet_says_of_each_container_what_the_container_saw(node: GpuNode) -> None:
    saw = dict(node.held(gpus) for gpus in (3, 2))

    found = {container.pod: devices for container, devices in node.allocated().items()}

    assert set(found) == set(saw)
    for name, seen in saw.items():
        assert sorted(found[name][GPU]) == sorted(seen), name
        node.delete(name)
    assert len({uuid for seen in saw.values() for uuid in seen}) == 5
    wait_for(node.allocated, lambda left: not left, what="the devices are given back", timeout=90)


def test_the_kubelet_takes_the_gpus_that_the_plugin_prefers(node: GpuNode) -> None:
    """GPUs 0 to 3 hang on one NUMA node, 4 to 7 on the other; no pod is given some of each that need not be."""
    saw = dict(node.held(gpus) for gpus in (3, 2, 1, 2))

    places = [sorted(uuids(*range(8)).index(each) for each in seen) for seen in saw.values()]

    assert [[gpu // 4 for gpu in place] for place in places] == [[0, 0, 0], [1, 1], [0], [1, 1]], places
    # Where a device is, the plugin has told the kubelet, and that tells it on.
    told = node.numa_nodes()
    for uuid in (uuid for seen in saw.values() for uuid in seen):
        assert uuids(*range(8)).index(uuid) // 4 in told[uuid]
    for name in saw:
        node.delete(name)
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

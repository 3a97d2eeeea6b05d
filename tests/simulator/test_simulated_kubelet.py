"""The simulated kubelets: what nodes offer, who gets which device, and who is turned away."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from patience import PATIENCE

from conformance.clusters.embedded import ComponentDied, EmbeddedCluster, EmbeddedSpec, start
from conformance.kube.client import Client
from conformance.kube.waits import wait_for
from conformance.simulator.allocation import Allocator, Refused
from conformance.simulator.annotations import ADMITTED, DEVICES, Allocation, allocation_of, annotation
from conformance.simulator.devices import Device, Offer, Registrations
from conformance.simulator.hardware import HARDWARE, Machine, gpu_uuid
from conformance.simulator.kubelet import Kubelet
from conformance.simulator.process import main
from conformance.simulator.world import World

GPU = "nvidia.com/gpu"
PODS = "/api/v1/namespaces/default/pods"

FLEET = """
name: many
description: 25 nodes of 8 GPUs
pools:
  - name: a100
    count: 25
    cpu: "96"
    memory: 1152Gi
    gpu: {product: NVIDIA-A100-SXM4-40GB, compute: "8.0", count: 8, memory_mib: 40960, driver: 580.95.05}
"""


def whole(count: int, unhealthy: tuple[int, ...] = ()) -> Offer:
    return Offer(tuple(Device(f"GPU-{n}", f"GPU-{n}", n, healthy=n not in unhealthy) for n in range(count)))


def replicas(gpus: int, each: int, *, refuses_many: bool = False) -> Offer:
    devices = [Device(f"GPU-{n}::{share}", f"GPU-{n}", n) for n in range(gpus) for share in range(each)]
    return Offer(tuple(devices), shared=True, refuses_many=refuses_many)


def container(name: str, count: int, resource: str = GPU, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "i", "resources": {"limits": {resource: str(count)}}, **more}


def pod(name: str, *containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "creationTimestamp": f"t-{name}"},
        "spec": {"containers": list(containers), "initContainers": list(init), **spec},
        "status": {"phase": "Pending"},
    }


def allocate(offer: Offer, wanting: dict[str, Any], held: tuple[str, ...] = ()) -> Allocation:
    return Allocator({GPU: offer}, held, {GPU}).allocate(wanting)


# --- which devices ------------------------------------------------------------------------------------------------


def test_each_container_gets_as_many_devices_as_it_wants() -> None:
    given = allocate(whole(8), pod("p", container("a", 2), container("b", 1)), held=("GPU-0",))

    assert given.devices == given.uuids == {"a": ["GPU-1", "GPU-2"], "b": ["GPU-3"]}


def test_two_replicas_of_one_gpu_are_two_devices_and_one_uuid() -> None:
    first = allocate(replicas(1, 4), pod("one", container("a", 1)))
    second = allocate(replicas(1, 4), pod("two", container("a", 1)), held=tuple(first.ids))
    both = allocate(replicas(1, 4), pod("three", container("a", 2)))

    assert first.ids.isdisjoint(second.ids)
    assert first.uuids == second.uuids == both.uuids == {"a": ["GPU-0"]}
    assert len(both.ids) == 2


def test_replicas_are_spread_over_gpus() -> None:
    given = allocate(replicas(3, 4), pod("p", container("a", 2)), held=("GPU-0::0",))

    assert given.uuids == {"a": ["GPU-1", "GPU-2"]}


def test_containers_get_what_an_init_container_had() -> None:
    wanting = pod("p", container("a", 1), container("b", 1), init=(container("prepare", 1),))

    given = allocate(whole(2), wanting)

    assert given.devices == {"prepare": ["GPU-0"], "a": ["GPU-0"], "b": ["GPU-1"]}


def test_a_sidecar_keeps_its_devices() -> None:
    wanting = pod("p", container("a", 1), init=(container("sidecar", 1, restartPolicy="Always"),))

    assert allocate(whole(2), wanting).devices == {"sidecar": ["GPU-0"], "a": ["GPU-1"]}


@pytest.mark.parametrize(
    ("offer", "count", "held", "says"),
    [
        (whole(2), 3, (), "requested number of devices unavailable for nvidia.com/gpu. Requested: 3, Available: 2"),
        (whole(2), 1, ("GPU-0", "GPU-1"), "Requested: 1, Available: 0"),
        (whole(2, unhealthy=(0,)), 2, (), "Requested: 2, Available: 1"),
        (
            whole(1, unhealthy=(0,)),
            1,
            (),
            "no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu",
        ),
        (replicas(2, 4, refuses_many=True), 2, (), "maximum request size for shared resources is 1; found 2"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(offer: Offer, count: int, held: tuple[str, ...], says: str) -> None:
    with pytest.raises(Refused, match=r"^Pod was rejected: Allocate failed due to ") as refused:
        allocate(offer, pod("p", container("a", count)), held)

    assert says in str(refused.value)


def test_resources_that_no_plugin_ever_registered_are_let_in_without_devices() -> None:
    assert Allocator({}, (), ()).allocate(pod("p", container("a", 2))) == Allocation()


# --- one node's kubelet, without a cluster ------------------------------------------------------------------------


class Recorder:
    """A client that only keeps what it is told to patch."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, dict[str, Any]]] = []

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self.patches.append((path, body))

    def of(self, ending: str) -> list[dict[str, Any]]:
        return [body for path, body in self.patches if path.endswith(ending)]


class Node:
    """One simulated node and its kubelet; the cache changes only when a test says so."""

    def __init__(self, machine: Machine | None, capacity: dict[str, str] | None = None) -> None:
        self.client = Recorder()
        self.world = World(self.client, ("Node", "Pod"))  # type: ignore[arg-type]
        self.registrations = Registrations()
        self.kubelet = Kubelet(self.world, self.registrations)
        self.show(machine, capacity or {})

    def show(
        self, machine: Machine | None, capacity: dict[str, str], allocatable: dict[str, str] | None = None
    ) -> None:
        annotations = {"kwok.x-k8s.io/node": "fake"}
        if machine is not None:
            annotations[HARDWARE] = msgspec.json.encode(machine).decode()
        status = {"capacity": capacity, "allocatable": capacity if allocatable is None else allocatable}
        node = {"metadata": {"name": "n", "annotations": annotations}, "spec": {}, "status": status}
        self.world._take_in("Node", node, deleted=False)

    def bind(self, wanting: dict[str, Any], **status: str) -> None:
        wanting["spec"]["nodeName"] = "n"
        wanting["status"] |= status
        self.world._take_in("Pod", wanting, deleted=False)

    def delete(self, wanting: dict[str, Any]) -> None:
        self.world._take_in("Pod", wanting, deleted=True)

    def look(self) -> list[tuple[str, dict[str, Any]]]:
        """What the kubelet writes when it looks at the node."""
        self.client.patches.clear()
        self.kubelet.reconcile("n")
        return self.client.patches

    def given(self) -> dict[str, Allocation]:
        """What the last look gave, by pod."""
        found = {}
        for path, body in self.client.patches:
            notes = body.get("metadata", {}).get("annotations", {})
            if ADMITTED in notes:
                found[path.rpartition("/")[2]] = msgspec.json.decode(notes.get(DEVICES, "{}"), type=Allocation)
        return found


def machine(**more: Any) -> Machine:
    return Machine("NVIDIA A100-SXM4-40GB", 2, 40960, "8.0", **more)


def test_capacity_counts_all_devices_and_allocatable_the_healthy_ones() -> None:
    node = Node(machine())
    node.registrations.register("n", {GPU: whole(4, unhealthy=(1,))})

    assert node.look() == [("/api/v1/nodes/n/status", {"status": {"capacity": {GPU: "4"}, "allocatable": {GPU: "3"}}})]

    node.show(machine(), {GPU: "4"}, {GPU: "3"})
    assert node.look() == []


def test_a_withdrawn_resource_keeps_its_name_with_nothing_behind_it() -> None:
    node = Node(machine(), {"cpu": "8", GPU: "4"})
    node.registrations.register("n", {f"{GPU}.shared": replicas(2, 4)})

    ((_, change),) = node.look()

    assert change["status"]["capacity"] == {f"{GPU}.shared": "8", GPU: "0"}
    assert change["status"]["allocatable"] == {f"{GPU}.shared": "8", GPU: "0"}


def test_a_node_image_offers_what_its_driver_lists() -> None:
    node = Node(machine(offered_as=GPU, missing=(0,)))

    node.look()

    (device,) = node.registrations.on("n")[GPU].devices
    assert (device.uuid, device.gpu) == (gpu_uuid("n", 1), 1)


def test_what_the_cache_does_not_show_yet_is_not_given_twice() -> None:
    node = Node(machine(offered_as=GPU))
    node.bind(pod("one", container("a", 1)))
    node.look()
    first = node.given()["one"]

    node.bind(pod("two", container("a", 1)))
    node.look()

    assert set(node.given()) == {"two"}  # the cache still shows pod one without devices
    assert node.given()["two"].ids.isdisjoint(first.ids)


def test_finished_and_deleted_pods_give_their_devices_back() -> None:
    node = Node(machine(offered_as=GPU))
    old = [pod("one", container("a", 1)), pod("two", container("a", 1))]
    for each in old:
        node.bind(each)
    node.look()
    node.bind(old[0], phase="Succeeded")
    node.delete(old[1])

    node.bind(pod("three", container("a", 2)))
    node.look()

    assert len(node.given()["three"].ids) == 2


def test_a_pod_that_is_being_deleted_keeps_its_devices_and_gets_none() -> None:
    node = Node(machine(offered_as=GPU), {GPU: "2"})
    holder = pod("one", container("a", 2))
    node.bind(holder)
    node.look()
    holder["metadata"]["deletionTimestamp"] = "now"
    leaving = pod("two", container("a", 1))
    leaving["metadata"]["deletionTimestamp"] = "now"
    holder["metadata"]["annotations"] = {ADMITTED: "true", DEVICES: msgspec.json.encode(node.given()["one"]).decode()}
    node.bind(holder)
    node.bind(leaving)

    node.bind(pod("three", container("a", 1)))
    written = node.look()

    assert [path for path, _ in written] == ["/api/v1/namespaces/default/pods/three/status"]


def test_a_refused_pod_has_failed_and_is_not_looked_at_again() -> None:
    node = Node(machine(offered_as=GPU))
    node.bind(pod("p", container("a", 3)))
    node.look()

    (change,) = node.client.of("/pods/p/status")
    assert change["status"]["phase"] == "Failed"
    assert change["status"]["reason"] == "UnexpectedAdmissionError"
    assert "Requested: 3, Available: 2" in change["status"]["message"]
    node.look()
    assert node.client.of("/pods/p/status") == []


def test_wrong_books_refuse_what_is_free() -> None:
    node = Node(machine(offered_as=GPU, broken={"stale-accounting": 1}))
    node.bind(pod("one", container("a", 1)))
    node.bind(pod("two", container("a", 1)))

    node.look()

    assert set(node.given()) == {"one"}
    assert "Available: 0" in node.client.of("/pods/two/status")[0]["status"]["message"]


def test_a_node_without_hardware_lets_pods_in_and_offers_what_it_did() -> None:
    node = Node(None, {GPU: "4"})
    node.bind(pod("p", container("a", 1)))

    written = node.look()

    assert written == [
        ("/api/v1/namespaces/default/pods/p", {"metadata": {"uid": "uid-p", "annotations": {ADMITTED: "true"}}})
    ]


# --- the process --------------------------------------------------------------------------------------------------


@pytest.fixture
def handlers_put_back() -> Iterator[None]:
    """The program sets its own handlers of signals, and tests that follow in this process need the usual ones."""
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers_put_back")
def test_an_api_server_that_is_not_there_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k").write_text("{}")

    assert main(["--kubeconfig", str(tmp_path / "k"), "--logs", str(tmp_path / "logs")]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the simulator cannot work: ")
    assert str(tmp_path / "k") in line


# --- on a real control plane --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """25 nodes with 8 GPUs each, whose image offers them."""
    fleet = tmp_path_factory.mktemp("fleet") / "many.yaml"
    fleet.write_text(FLEET)
    with start(EmbeddedSpec(topology=fleet)) as running:
        yield running


@pytest.fixture
def client(many: EmbeddedCluster) -> Iterator[Client]:
    """A client of that cluster, from which a test's pods are gone when it ends."""
    with many.client() as client:
        yield client
        with ThreadPoolExecutor(8) as pool:
            names = [each["metadata"]["name"] for each in client.list(PODS)]
            list(pool.map(lambda name: client.delete(f"{PODS}/{name}", grace_seconds=0), names))
        many.check()


def create(client: Client, name: str, count: int, annotations: dict[str, str] | None = None, **spec: Any) -> None:
    body = {
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"containers": [container("main", count)], "terminationGracePeriodSeconds": 0, **spec},
    }
    client.create(PODS, body)


def wait(client: Client, name: str, until: Callable[[str], bool], what: str) -> dict[str, Any]:
    """The pod, once its phase is right; what is said otherwise is short enough to be read."""
    path = f"{PODS}/{name}"
    wait_for(lambda: _brief(client.get(path)), lambda seen: until(str(seen["phase"])), what=what, timeout=PATIENCE)
    return client.get(path)


def _brief(pod: dict[str, Any]) -> dict[str, Any]:
    conditions = [each.get("message", each["type"]) for each in pod["status"].get("conditions", [])]
    return {
        "phase": pod["status"]["phase"],
        "node": pod["spec"].get("nodeName"),
        "annotations": pod["metadata"].get("annotations"),
        "conditions": conditions,
    }


@pytest.mark.cluster
def test_a_pod_runs_and_carries_a_device_of_its_node(client: Client) -> None:
    create(client, "one", 1)

    running = wait(client, "one", lambda phase: phase == "Running", "pod one runs")

    node = running["spec"]["nodeName"]
    assert allocation_of(running).uuids == {"main": [gpu_uuid(node, 0)]}
    assert annotation(running, ADMITTED) == "true"


@pytest.mark.cluster
def test_a_pod_that_asks_for_more_than_there_is_fails(client: Client) -> None:
    create(client, "greedy", 9, nodeName="a100-3")

    failed = wait(client, "greedy", lambda phase: phase != "Pending", "pod greedy is decided on")

    assert (failed["status"]["phase"], failed["status"]["reason"]) == ("Failed", "UnexpectedAdmissionError")
    assert "Requested: 9, Available: 8, which is unexpected" in failed["status"]["message"]
    assert DEVICES not in failed["metadata"].get("annotations", {})


@pytest.mark.cluster
def test_a_finished_pod_makes_room(client: Client) -> None:
    where = {"nodeSelector": {"kubernetes.io/hostname": "a100-5"}, "restartPolicy": "Never"}
    create(client, "ends", 8, {"gpu-conformance.io/exit-code": "0"}, **where)
    wait(client, "ends", lambda phase: phase == "Succeeded", "pod ends has ended")

    create(client, "next", 8, **where)

    wait(client, "next", lambda phase: phase == "Running", "pod next runs")


@pytest.mark.cluster
def test_two_hundred_pods_at_once_never_share_a_device(client: Client) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: create(client, f"p{number}", 1), range(200)))

    pods = wait_for(
        lambda: client.list(PODS),
        lambda pods: all(pod["status"]["phase"] != "Pending" for pod in pods),
        what="200 pods are decided on",
        timeout=60,
    )

    assert {pod["status"]["phase"] for pod in pods} == {"Running"}
    given = Counter(device for pod in pods for device in allocation_of(pod).ids)
    assert (len(given), set(given.values())) == (200, {1})


@pytest.mark.cluster
def test_what_a_kubelet_has_given_survives_a_restart_of_the_simulator(many: EmbeddedCluster, client: Client) -> None:
    where = {"nodeSelector": {"kubernetes.io/hostname": "a100-7"}}
    create(client, "before", 7, **where)
    before = wait(client, "before", lambda phase: phase == "Running", "pod before runs")
    assert many.processes is not None
    component = many.processes.components["simulator"]

    many.processes.stop("simulator")
    many.processes.start(component)
    create(client, "after", 1, **where)

    after = wait(client, "after", lambda phase: phase == "Running", "pod after runs")
    assert allocation_of(after).ids.isdisjoint(allocation_of(before).ids)


@pytest.mark.cluster
def test_a_simulator_that_dies_is_told_by_check() -> None:
    with start(EmbeddedSpec(topology="empty")) as cluster:
        assert cluster.processes is not None
        wait_for(
            lambda: dict(_pids(cluster)), lambda pids: "simulator" in pids, what="it has started", timeout=PATIENCE
        )
        os.kill(cluster.processes.pids["simulator"], signal.SIGKILL)

        with pytest.raises(ComponentDied, match="simulator ended \\(killed by SIGKILL\\)"):
            while True:
                cluster.check()
                time.sleep(0.02)


@pytest.mark.cluster
def test_without_a_simulator_pods_start_without_devices() -> None:
    with start(EmbeddedSpec(topology="single", simulator=False)) as cluster, cluster.client() as client:
        create(client, "one", 1)

        running = wait(client, "one", lambda phase: phase == "Running", "pod one runs")

        assert allocation_of(running) == Allocation()
        assert cluster.processes is not None
        assert "simulator" not in cluster.processes.components


def _pids(cluster: EmbeddedCluster) -> dict[str, int]:
    cluster.check()
    return cluster.processes.pids if cluster.processes else {}

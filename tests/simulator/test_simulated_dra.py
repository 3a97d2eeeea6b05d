"""NVIDIA's DRA driver, simulated: what nodes publish, which pods may start, and what becomes of slices and claims."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedCluster, EmbeddedSpec, start
from conformance.kube.client import Client
from conformance.kube.errors import ApiError
from conformance.kube.waits import holds, wait_for
from conformance.simulator.annotations import MIG_GEOMETRY, PREPARED, allocation_of, annotation
from conformance.simulator.chart import dra_driver
from conformance.simulator.dra_claims import prepared, waits
from conformance.simulator.dra_devices import DRIVER, devices, quantity, semantic, uuids
from conformance.simulator.hardware import HARDWARE, Machine, gpu_uuid, machine_of, mig_uuid

Object = dict[str, Any]

A100 = Machine("NVIDIA A100-SXM4-40GB", 2, 40960, "8.0", driver="580.95.05", mig_capable=True)
T4 = Machine("Tesla T4", 1, 15360, "7.5", driver="580.95.05")

FLEET = """
name: dra
description: two machines with a driver on the host, one that waits for an operator's driver
pools:
  - name: h100
    count: 2
    cpu: "96"
    memory: 1152Gi
    labels: {nvidia.com/gpu.present: "true"}
    gpu: {product: NVIDIA-H100-80GB-HBM3, name: NVIDIA H100 80GB HBM3, compute: "9.0", count: 2, memory_mib: 81559,
          driver: 580.95.05, mig_capable: true, brought_by: stack}
  - name: bare
    count: 1
    cpu: "16"
    memory: 64Gi
    labels: {nvidia.com/gpu.present: "true"}
    gpu: {product: Tesla-T4, compute: "7.5", count: 1, memory_mib: 15360, brought_by: stack}
"""


# --- devices ------------------------------------------------------------------------------------------------------


def test_a_gpu_is_published_with_what_the_driver_documents() -> None:
    [first, second] = devices("n", A100, {}, "580.95.05")

    assert [first["name"], second["name"]] == ["gpu-0", "gpu-1"]
    assert first["attributes"] == {
        "type": {"string": "gpu"},
        "uuid": {"string": gpu_uuid("n", 0)},
        "productName": {"string": "NVIDIA A100-SXM4-40GB"},
        "brand": {"string": "Nvidia"},
        "architecture": {"string": "Ampere"},
        "cudaComputeCapability": {"version": "8.0.0"},
        "cudaDriverVersion": {"version": "13.0.0"},
        "driverVersion": {"version": "580.95.5"},
        "resource.kubernetes.io/pciBusID": {"string": "0000:01:00.0"},
    }
    assert first["capacity"] == {"memory": {"value": "40Gi"}}
    assert devices("n", T4, {}, "580.95.05")[0]["attributes"]["brand"] == {"string": "Tesla"}


def test_mig_devices_take_the_place_of_their_gpu() -> None:
    found = devices("n", A100, {1: {"3g.20gb": 1, "1g.5gb": 2}}, "580.95.05")

    assert [each["name"] for each in found] == [
        "gpu-0", "gpu-1-mig-3g20gb-9-0", "gpu-1-mig-1g5gb-19-4", "gpu-1-mig-1g5gb-19-5",
    ]  # fmt: skip
    three = found[1]
    assert three["attributes"]["type"] == {"string": "mig"}
    assert three["attributes"]["parentUUID"] == {"string": gpu_uuid("n", 1)}
    assert three["attributes"]["profile"] == {"string": "3g.20gb"}
    assert uuids(found)["gpu-1-mig-1g5gb-19-5"] == mig_uuid("n", 1, "1g.5gb", 1)
    assert [name for name in three["capacity"] if name.startswith("memorySlice")] == [
        "memorySlice0", "memorySlice1", "memorySlice2", "memorySlice3",
    ]  # fmt: skip
    assert found[2]["capacity"]["memory"] == {"value": "4864Mi"}


def test_an_ill_gpu_stays_and_carries_a_taint_only_where_health_is_watched() -> None:
    ill = msgspec.structs.replace(A100, unhealthy=(0,))

    assert [each.get("taints") for each in devices("n", ill, {}, "580.95.05")] == [None, None]
    [first, second] = devices("n", ill, {}, "580.95.05", health=True)
    assert first["taints"] == [{"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}]
    assert "taints" not in second


def test_a_lost_gpu_is_not_published() -> None:
    lost = msgspec.structs.replace(A100, missing=(0,))

    assert [each["name"] for each in devices("n", lost, {}, "580.95.05")] == ["gpu-1"]


@pytest.mark.parametrize(
    ("amount", "text"), [(40 * 1024**3, "40Gi"), (81559 * 1024**2, "81559Mi"), (1500, "1500"), (0, "0")]
)
def test_memory_is_written_as_the_api_server_writes_it(amount: int, text: str) -> None:
    assert quantity(amount) == text


@pytest.mark.parametrize(
    ("version", "text"), [("580.95.05", "580.95.5"), ("9.0", "9.0.0"), ("570.172.08", "570.172.8")]
)
def test_versions_are_semantic(version: str, text: str) -> None:
    assert semantic(version) == text


# --- which pods may start -----------------------------------------------------------------------------------------


class Known:
    """A world with these claims."""

    def __init__(self, *claims: Object) -> None:
        self.claims = {each["metadata"]["name"]: each for each in claims}

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        return self.claims.get(name)


def claim(name: str, *chosen: str, driver: str = DRIVER, user: str = "uid-p", request: str = "gpu") -> Object:
    results = [{"request": request, "driver": driver, "pool": "n", "device": each} for each in chosen]
    reserved = [{"resource": "pods", "name": "p", "uid": user}]
    status = {"allocation": {"devices": {"results": results}}, "reservedFor": reserved} if chosen else {}
    return {"metadata": {"name": name, "namespace": "default"}, "status": status}


def pod(*used: Object, limits: Object | None = None, **status: Any) -> Object:
    container = {"name": "main", "resources": {"claims": list(used), "limits": limits or {}}}
    claims = [{"name": each["name"], "resourceClaimName": each["name"]} for each in used]
    spec = {"nodeName": "n", "containers": [container], **({"resourceClaims": claims} if claims else {})}
    metadata = {"name": "p", "namespace": "default", "uid": "uid-p"}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Pending", **status}}


DEVICES = {"gpu-0": "GPU-a", "gpu-1": "GPU-b"}


def test_a_pod_gets_the_devices_of_its_claims() -> None:
    given = prepared(Known(claim("one", "gpu-1")), pod({"name": "one"}), DEVICES, {DRIVER})  # type: ignore[arg-type]

    assert given is not None
    assert given.devices == {"main": ["n/gpu-1"]}
    assert given.uuids == {"main": ["GPU-b"]}


@pytest.mark.parametrize(
    ("known", "devices_there", "drivers"),
    [
        (Known(), DEVICES, {DRIVER}),
        (Known(claim("one")), DEVICES, {DRIVER}),
        (Known(claim("one", "gpu-1", user="another")), DEVICES, {DRIVER}),
        (Known(claim("one", "gpu-7")), DEVICES, {DRIVER}),
        (Known(claim("one", "gpu-1")), DEVICES, set()),
        (Known(claim("one", "channel-0", driver="compute-domain.nvidia.com")), DEVICES, {DRIVER}),
    ],
    ids=["no claim yet", "not allocated", "reserved for another", "device is gone", "no plugin", "other plugin"],
)
def test_a_pod_waits_until_all_of_its_claims_can_be_prepared(known: Known, devices_there: Any, drivers: Any) -> None:
    assert prepared(known, pod({"name": "one"}), devices_there, drivers) is None  # type: ignore[arg-type]


def test_devices_of_drivers_that_nobody_simulates_hold_no_pod_up() -> None:
    given = prepared(Known(claim("one", "eth0", driver="dra.net")), pod({"name": "one"}), {}, set())  # type: ignore[arg-type]

    assert given is not None
    assert not given.uuids


def test_a_container_may_use_one_request_of_a_claim() -> None:
    first, second = claim("two", "gpu-0", request="small"), claim("two", "gpu-1", request="large/big")
    first["status"]["allocation"]["devices"]["results"] += second["status"]["allocation"]["devices"]["results"]

    given = prepared(Known(first), pod({"name": "two", "request": "large"}), DEVICES, {DRIVER})  # type: ignore[arg-type]

    assert given is not None
    assert given.uuids == {"main": ["GPU-b"]}


def test_a_claim_made_for_an_extended_resource_counts_as_well() -> None:
    mappings = [{"containerName": "main", "resourceName": "nvidia.com/gpu", "requestName": "container-0-request-0"}]
    extended = {"resourceClaimName": "made", "requestMappings": mappings}
    wanting = pod(extendedResourceClaimStatus=extended)
    made = claim("made", "gpu-0", request="container-0-request-0")

    given = prepared(Known(made), wanting, DEVICES, {DRIVER})  # type: ignore[arg-type]

    assert given is not None
    assert given.uuids == {"main": ["GPU-a"]}


def test_a_pod_that_also_asks_a_device_plugin_is_admitted_first() -> None:
    mixed = pod({"name": "one"}, limits={"nvidia.com/gpu": "1"})

    assert not waits(mixed)
    assert waits(pod({"name": "one"}))
    assert not waits(pod())


# --- on a cluster -------------------------------------------------------------------------------------------------

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
PODS = "/api/v1/namespaces/default/pods"
PLUGIN = "/apis/apps/v1/namespaces/nvidia-dra-driver-gpu/daemonsets/dra-driver-nvidia-gpu-kubelet-plugin"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    fleet = tmp_path_factory.mktemp("fleet") / "dra.yaml"
    fleet.write_text(FLEET)
    with start(EmbeddedSpec(topology=str(fleet))) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(running: EmbeddedCluster) -> Iterator[Client]:
    values = {"gpuResourcesEnabledOverride": True, "resources": {"computeDomains": {"enabled": False}}}
    with running.client() as client:
        for obj in dra_driver(values):
            _patiently(lambda obj=obj: client.apply(obj, manager="helm", force=True))  # type: ignore[misc]
        template = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": "one", "namespace": "default"},
            "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": DRIVER}}]}}},
        }
        client.apply(template)
        _patiently(lambda: client.get("/api/v1/namespaces/default/serviceaccounts/default"))
        wait_for(lambda: published(client), lambda found: len(found) == 2, what="two slices", timeout=PATIENCE)
        yield client


def _patiently(do: Callable[[], Any]) -> None:
    def done() -> bool:
        try:
            do()
        except ApiError:
            return False
        return True

    wait_for(done, bool, what="the API server takes it", timeout=PATIENCE)


def published(client: Client) -> dict[str, list[str]]:
    """The devices by node."""
    return {each["spec"]["nodeName"]: [one["name"] for one in each["spec"]["devices"]] for each in client.list(SLICES)}


def create(client: Client, name: str, **more: Any) -> None:
    container = {"name": "main", "image": "i", **more}
    spec: Object = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
    if "resources" not in more:
        container["resources"] = {"claims": [{"name": "gpu"}]}
        spec["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "one"}]
    client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def phase(client: Client, name: str, wanted: str) -> Object:
    return wait_for(
        lambda: client.get(f"{PODS}/{name}"),
        lambda found: found["status"].get("phase") == wanted,
        what=f"pod {name} is {wanted}",
        timeout=PATIENCE,
    )


def delete(client: Client, *names: str) -> None:
    for name in names:
        client.delete(f"{PODS}/{name}", grace_seconds=0)
    wait_for(lambda: client.list(CLAIMS), lambda found: not found, what="no claim is left", timeout=PATIENCE)


@pytest.mark.cluster
def test_nodes_publish_where_the_plugin_finds_a_driver(client: Client) -> None:
    [first] = [each for each in client.list(SLICES) if each["spec"]["nodeName"] == "h100-1"]

    assert published(client) == {"h100-1": ["gpu-0", "gpu-1"], "h100-2": ["gpu-0", "gpu-1"]}
    assert first["spec"]["pool"] == {"name": "h100-1", "generation": 1, "resourceSliceCount": 1}
    assert [each["kind"] for each in first["metadata"]["ownerReferences"]] == ["Node"]
    [waiting] = [
        each
        for each in client.list("/api/v1/namespaces/nvidia-dra-driver-gpu/pods")
        if each["spec"].get("nodeName") == "bare-1"
    ]
    assert waiting["status"]["phase"] == "Pending"


@pytest.mark.cluster
def test_two_pods_get_a_device_each_and_their_programs_see_it(client: Client) -> None:
    create(client, "looking", command=["nvidia-smi", "-L"])
    create(client, "holding")

    looking, holding = phase(client, "looking", "Succeeded"), phase(client, "holding", "Running")

    one, other = (allocation_of(each).uuids["main"] for each in (looking, holding))
    assert len(one) == len(other) == 1
    assert one != other
    log = client.request("GET", f"{PODS}/looking/log", query={"container": "main"}).decode()
    assert one[0] in log
    assert log.count("UUID: GPU-") == 1
    delete(client, "looking", "holding")


@pytest.mark.cluster
def test_a_pod_that_asks_by_count_gets_a_device_of_the_class(client: Client) -> None:
    create(client, "counting", resources={"limits": {"nvidia.com/gpu": "1"}})

    counting = phase(client, "counting", "Running")
    counting = wait_for(
        lambda: client.get(f"{PODS}/counting"),
        lambda found: annotation(found, PREPARED),
        what="prepared",
        timeout=PATIENCE,
    )

    assert counting["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
    assert len(allocation_of(counting).uuids["main"]) == 1
    delete(client, "counting")


@pytest.mark.cluster
def test_mig_devices_are_published_once_a_gpu_is_cut(client: Client) -> None:
    geometry = json.dumps({"1": {"1g.10gb": 2}})
    client.patch("/api/v1/nodes/h100-2", {"metadata": {"annotations": {MIG_GEOMETRY: geometry}}})
    wanted = ["gpu-0", "gpu-1-mig-1g10gb-19-0", "gpu-1-mig-1g10gb-19-1"]
    wait_for(lambda: published(client)["h100-2"], lambda found: found == wanted, what="MIG devices", timeout=PATIENCE)

    client.patch("/api/v1/nodes/h100-2", {"metadata": {"annotations": {MIG_GEOMETRY: None}}})
    wait_for(lambda: published(client)["h100-2"], lambda found: len(found) == 2, what="whole GPUs", timeout=PATIENCE)


@pytest.mark.cluster
def test_a_gpu_that_falls_off_the_bus_leaves_the_slice(client: Client) -> None:
    node = client.get("/api/v1/nodes/h100-1")
    machine = machine_of(node)
    assert machine is not None

    def is_now(new: Machine) -> None:
        text = msgspec.json.encode(new).decode()
        client.patch("/api/v1/nodes/h100-1", {"metadata": {"annotations": {HARDWARE: text}}})

    is_now(msgspec.structs.replace(machine, missing=(0,)))
    wait_for(lambda: published(client)["h100-1"], lambda found: found == ["gpu-1"], what="one GPU", timeout=PATIENCE)
    is_now(machine)
    wait_for(lambda: published(client)["h100-1"], lambda found: len(found) == 2, what="both GPUs", timeout=PATIENCE)


@pytest.mark.cluster
def test_a_slice_that_somebody_deletes_comes_back(client: Client) -> None:
    client.delete(f"{SLICES}/h100-1-{DRIVER}")

    wait_for(lambda: published(client), lambda found: len(found) == 2, what="both slices", timeout=PATIENCE)


@pytest.mark.cluster
def test_slices_outlive_a_restart_of_the_plugin_and_go_when_it_is_gone(client: Client) -> None:
    before = {each["metadata"]["uid"] for each in client.list(SLICES)}
    plugins = "/api/v1/namespaces/nvidia-dra-driver-gpu/pods"
    for each in client.list(plugins):
        client.delete(f"{plugins}/{each['metadata']['name']}", grace_seconds=0)
    gone = holds(
        lambda: {each["metadata"]["uid"] for each in client.list(SLICES)},
        lambda found: found == before,
        window=1.0,
        what="slices stay",
    )
    assert gone is None

    client.delete(PLUGIN, propagation="Foreground")
    wait_for(lambda: published(client), lambda found: not found, what="no slice is left", timeout=60)

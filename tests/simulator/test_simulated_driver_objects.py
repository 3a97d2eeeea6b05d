"""NVIDIADriver and GPUCluster objects as the simulated operator follows them.

Expected values: NVIDIA/gpu-operator v26.7.0, internal/state/driver.go, internal/nvidiadriver, manifests/.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from operated import DAEMON_SETS, DEPLOY, NAMESPACE, POLICY, Operated, is_ready, operated
from patience import PATIENCE

from conformance.kube.waits import wait_for

pytestmark = pytest.mark.cluster

DRIVERS = "/apis/nvidia.com/v1alpha1/nvidiadrivers"
CLUSTERS = "/apis/nvidia.com/v1alpha1/gpuclusters"
OWNER = "nvidia.com/gpu-operator.driver.owner"
STATE = "nvidia.com/gpu-driver-upgrade-state"
COMPONENT = "app.kubernetes.io/component=nvidia-driver"


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    driver = {"nvidiaDriverCRD": {"enabled": True, "deployDefaultCR": True}}
    with operated(tmp_path_factory.mktemp("fleet"), gpu_nodes=2, driver=driver) as cluster:
        cluster.says("ready", "Reconciled", timeout=120)
        yield cluster


def driver_images(gpus: Operated) -> dict[str, str]:
    """The image of the driver's pod on each node."""
    pods = gpus.client.list(f"/api/v1/namespaces/{NAMESPACE}/pods", label_selector=COMPONENT)
    return {
        pod["spec"]["nodeName"]: pod["spec"]["containers"][0]["image"]
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp") and is_ready(pod)
    }


def change_of_drivers(gpus: Operated) -> dict[str, list[str]]:
    """Of each node the state of its upgrade, and its drivers' pods with whose they are."""
    nodes = ("a100-1", "a100-2")
    pods = gpus.client.list(f"/api/v1/namespaces/{NAMESPACE}/pods", label_selector=COMPONENT)
    return {
        node: [
            gpus.labels(node).get(STATE, "no state"),
            *(_in_short(pod["metadata"], pod["spec"]) for pod in pods if pod["spec"].get("nodeName") == node),
        ]
        for node in nodes
    }


def _in_short(metadata: dict[str, Any], spec: dict[str, Any]) -> str:
    owners = [owner["name"] for owner in metadata.get("ownerReferences") or ()]
    return f"{spec['containers'][0]['image'].rpartition(':')[2]} of {owners or 'nobody'}"


def test_the_default_driver_object_gets_every_node(gpus: Operated) -> None:
    gpus.says("ready", "Reconciled", f"{DRIVERS}/default")
    assert gpus.labels("a100-1")[OWNER] == "default"
    assert driver_images(gpus) == dict.fromkeys(("a100-1", "a100-2"), "nvcr.io/nvidia/driver:595.91.07-ubuntu24.04")
    assert gpus.daemon_set("nvidia-driver-daemonset") is None
    (deployed,) = gpus.client.list(DAEMON_SETS, label_selector=COMPONENT)
    assert deployed["metadata"]["name"].startswith("nvidia-gpu-driver-ubuntu24.04-")
    assert deployed["spec"]["updateStrategy"]["type"] == "OnDelete"


def test_another_driver_object_takes_the_nodes_that_it_selects(gpus: Operated) -> None:  # F58
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": "a100-2"},
        "driverType": "gpu",
        "repository": "nvcr.io/nvidia",
        "image": "driver",
        "version": "580.95.05",
    }
    body = {"apiVersion": "nvidia.com/v1alpha1", "kind": "NVIDIADriver", "metadata": {"name": "older"}, "spec": spec}
    gpus.client.create(DRIVERS, body)

    wait_for(
        lambda: driver_images(gpus).get("a100-2", ""),
        lambda image: "580.95.05" in image,
        what="older driver",
        timeout=180,
    )
    assert gpus.labels("a100-2")[OWNER] == "older"
    assert "595.91.07" in driver_images(gpus)["a100-1"]
    gpus.says("ready", "Reconciled", f"{DRIVERS}/older")
    gpus.says("ready", "Reconciled")


def test_two_driver_objects_that_want_one_node_are_told_so(gpus: Operated) -> None:
    spec = {"nodeSelector": {"kubernetes.io/hostname": "a100-2"}, "driverType": "gpu"}
    body = {"apiVersion": "nvidia.com/v1alpha1", "kind": "NVIDIADriver", "metadata": {"name": "rival"}, "spec": spec}
    gpus.client.create(DRIVERS, body)

    gpus.says("notReady", "ConflictingNodeSelector", f"{DRIVERS}/rival")
    for told in ("older", "default"):  # every object is, also one that selects other nodes
        gpus.says("notReady", "ConflictingNodeSelector", f"{DRIVERS}/{told}")
    assert gpus.labels("a100-2")[OWNER] == "older"

    gpus.client.delete(f"{DRIVERS}/rival")


def test_a_driver_object_is_upgraded_by_its_own_policy_and_the_cluster_policy_waits(gpus: Operated) -> None:
    wait_for(
        lambda: gpus.labels("a100-2").get(STATE),
        lambda state: state == "upgrade-done",
        what="a100-2 is done",
        timeout=180,
    )
    gpus.client.patch(f"{DRIVERS}/older", {"spec": {"version": "580.105.08"}})

    gpus.says("notReady", "OperandNotReady")
    wait_for(
        lambda: driver_images(gpus).get("a100-2", ""),
        lambda image: "580.105.08" in image,
        what="new driver",
        timeout=180,
    )
    assert "595.91.07" in driver_images(gpus)["a100-1"]
    gpus.says("ready", "Reconciled")
    assert gpus.labels("a100-2")[STATE] == "upgrade-done"


def test_driver_objects_have_no_effect_where_the_policy_does_not_use_them(gpus: Operated) -> None:
    gpus.ask(driver={"useNvidiaDriverCRD": False})

    gpus.says("disabled", "Reconciled", f"{DRIVERS}/older")

    gpus.ask(driver={"useNvidiaDriverCRD": True})
    gpus.says("ready", "Reconciled", f"{DRIVERS}/older")


def test_drivers_of_the_policy_run_on_until_the_upgrade_of_their_node(gpus: Operated) -> None:
    app, skip = "nvidia-driver-daemonset", {"nvidia.com/gpu-driver-upgrade.skip": "true"}
    spec = gpus.client.get(f"{DRIVERS}/default")["spec"]
    for name in ("default", "older"):
        gpus.client.delete(f"{DRIVERS}/{name}")
    gpus.ask(driver={"useNvidiaDriverCRD": False})
    wait_for(
        lambda: [is_ready(pod) for pod in gpus.pods(app)],
        lambda found: found == [True, True],
        what="the policy's drivers are there",
        timeout=180,
    )
    gpus.says("ready", "Reconciled")
    gpus.label("a100-1", **skip)

    body = {"apiVersion": "nvidia.com/v1alpha1", "kind": "NVIDIADriver", "metadata": {"name": "default"}}
    gpus.client.create(DRIVERS, {**body, "spec": {**spec, "version": "580.105.08"}})
    gpus.ask(driver={"useNvidiaDriverCRD": True})

    wait_for(
        lambda: (driver_images(gpus).get("a100-2", ""), change_of_drivers(gpus)),
        lambda found: "580.105.08" in found[0],
        what="the driver of the driver object",
        timeout=180,
    )
    assert gpus.daemon_set(app) is None
    (old,) = gpus.pods(app, "a100-1")
    assert is_ready(old)
    assert "ownerReferences" not in old["metadata"]
    assert gpus.labels("a100-1")[STATE] == "upgrade-required"
    assert gpus.status(f"{DRIVERS}/default")[0] == "notReady"

    gpus.label("a100-1", **dict.fromkeys(skip))
    gpus.gone(app, "a100-1")
    gpus.says("ready", "Reconciled", f"{DRIVERS}/default")
    gpus.says("ready", "Reconciled")


def test_a_gpu_cluster_has_operands_of_its_own(gpus: Operated) -> None:
    gpus.client.delete(POLICY)
    wait_for(
        lambda: gpus.client.list(DAEMON_SETS, label_selector="app=nvidia-device-plugin-daemonset"),
        lambda found: not found,
        what="the operands of the policy go",
        timeout=180,
    )

    spec = {"draDriver": {}, "dcgmExporter": {}}
    body = {
        "apiVersion": "nvidia.com/v1alpha1",
        "kind": "GPUCluster",
        "metadata": {"name": "gpu-cluster"},
        "spec": spec,
    }
    gpus.client.create(CLUSTERS, body)

    for node in ("a100-1", "a100-2"):
        gpus.pod("nvidia-dra-driver-kubelet-plugin", node, is_ready, "is ready")
        deploy = {label.removeprefix(DEPLOY) for label in gpus.labels(node) if label.startswith(DEPLOY)} - {"nvsm"}
        assert deploy == {"driver", "dra-driver", "dra-validator", "dcgm-dra", "dcgm-exporter-dra"}
    plugin = gpus.client.get(f"{DAEMON_SETS}/nvidia-dra-driver-kubelet-plugin")
    containers = [each["name"] for each in plugin["spec"]["template"]["spec"]["containers"]]
    assert containers == ["gpus", "compute-domains"]
    namespace = gpus.client.get(f"/api/v1/namespaces/{NAMESPACE}")
    assert namespace["metadata"]["labels"]["resource.kubernetes.io/admin-access"] == "true"
    device_class = gpus.client.get("/apis/resource.k8s.io/v1/deviceclasses/gpu.nvidia.com")
    assert "extendedResourceName" not in device_class["spec"]
    names = wait_for(
        lambda: set(gpus.desired()),
        lambda found: {"nvidia-dra-validator", "nvidia-dcgm-exporter-dra"} <= found,
        what="validator and exporter are there",
        timeout=PATIENCE,
    )
    assert not names & {"gpu-feature-discovery", "nvidia-container-toolkit-daemonset", "nvidia-mig-manager"}
    gpus.says("ready", "Reconciled", f"{CLUSTERS}/gpu-cluster", timeout=90)

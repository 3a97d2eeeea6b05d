"""Device plugins that are Ready and have no GPU to register: the cause is told before their log is pointed at."""

from typing import Any

import pytest
from operated_cluster import Cluster, unready
from operator_chapters import A_NODE, COVERAGE

from conformance.facts import Facts
from conformance.gpu.sharing import Offer
from conformance.reference.model import Gpu, Pool
from suites._shared.unseen_gpus import awaits_devices, installer_failure, runtime_class_missing
from suites.pools.gpu_amounts import GpuAmounts

Object = dict[str, Any]
NVIDIA = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gpus"}, "handler": "nvidia"}
GVISOR = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"}


@pytest.fixture
def cluster(reference):
    return Cluster(reference)


def node(**capacity: str) -> Object:
    amounts = {name.replace("_", "/", 1): count for name, count in capacity.items()}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "gpu-1"},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def pod(name: str, ready: bool = True, status: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-x",
            "namespace": "kube-system",
            "ownerReferences": [{"kind": "DaemonSet", "name": name, "controller": True}],
        },
        "spec": {"nodeName": "gpu-1", **spec},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            **(status or {}),
        },
    }


def plugin(path: str = "/var/lib/kubelet/device-plugins", ready: bool = True, **spec: Any) -> Object:
    volumes = [{"name": "sockets", "hostPath": {"path": path}}]
    return pod("plugin", ready, volumes=volumes, containers=[{"name": "nvidia-device-plugin-ctr"}], **spec)


def daemonset(name: str, owner: str) -> Object:
    metadata = {
        "name": name,
        "namespace": "kube-system",
        "ownerReferences": [{"kind": owner, "name": "cluster-policy"}],
    }
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {}}


@pytest.mark.parametrize(
    ("objects", "missing"),
    [
        ([plugin(), NVIDIA], "gpus"),
        ([plugin(), GVISOR], ""),
        ([plugin()], ""),
        ([plugin(runtimeClassName="gpus"), NVIDIA], ""),
        ([plugin("/home/kubernetes/bin/nvidia"), NVIDIA], ""),
        ([plugin("/run/nvidia/mps"), NVIDIA], "gpus"),
        ([plugin(), daemonset("plugin", "ClusterPolicy"), NVIDIA], ""),
    ],
    ids=["none", "of another", "no class", "named", "mounts the driver", "mounts only MPS", "operand"],
)
def test_a_plugin_that_names_no_runtime_class_is_told(objects: list[Object], missing: str) -> None:
    facts = Facts.from_objects(objects)

    assert runtime_class_missing(facts.pods[0], facts) == missing


def test_classes_that_cannot_be_read_are_not_missed() -> None:
    facts = Facts.from_objects([plugin()], {"RuntimeClass": "Forbidden: no"})

    assert runtime_class_missing(facts.pods[0], facts) == ""


def installer(ready: bool) -> Object:
    waiting = {"name": "nvidia-driver-installer", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    return pod(
        "nvidia-driver-installer",
        ready,
        {} if ready else {"phase": "Pending", "initContainerStatuses": [waiting]},
        initContainers=[{"name": "nvidia-driver-installer", "image": "cos-nvidia-installer:fixed"}],
        containers=[{"name": "pause", "image": "pause"}],
    )


def test_an_installer_that_fails_is_why_there_is_no_gpu() -> None:
    facts = Facts.from_objects([node(), installer(ready=False), plugin(ready=False)])

    found = installer_failure(facts.nodes[0], facts)

    assert found is not None
    assert "pod kube-system/nvidia-driver-installer-x has not installed the driver" in found[0]
    assert "nvidia-driver-installer: CrashLoopBackOff" in found[0]


def test_an_installer_that_is_done_is_none() -> None:
    facts = Facts.from_objects([node(), installer(ready=True), plugin(ready=False)])

    assert installer_failure(facts.nodes[0], facts) is None


def test_a_validator_that_waits_for_an_installer_says_so(cluster) -> None:
    for name in ("nvidia-container-toolkit-daemonset", "nvidia-operator-validator"):
        unready(cluster.pod(name, A_NODE), init="driver-validation", reason="")
    failing = installer(ready=False)
    failing["spec"]["nodeName"] = A_NODE
    cluster.label(A_NODE, {"nvidia.com/gpu.deploy.driver": "pre-installed"})
    cluster.objects.append(failing)

    [found] = cluster.verdict(COVERAGE).judge.broken

    assert (
        "waits for the driver, and pod kube-system/nvidia-driver-installer-x has not installed the driver"
        in found.cause
    )


@pytest.mark.parametrize(("release", "told"), [("416.94.202407030122-0", True), ("416.94.202408260940-0", False)])
def test_a_driver_for_another_release_of_rhel_coreos_is_told(cluster, release: str, told: bool) -> None:
    # NVIDIA/gpu-operator issue 990: Node Feature Discovery had not labelled the upgraded node anew.
    key = "feature.node.kubernetes.io/system-os_release.OSTREE_VERSION"
    cluster.label(A_NODE, {key: release})
    node_info = cluster.node(A_NODE)["status"].setdefault("nodeInfo", {})
    node_info["osImage"] = "Red Hat Enterprise Linux CoreOS 416.94.202408260940-0"
    unready(cluster.pod("nvidia-driver-daemonset", A_NODE), reason="CrashLoopBackOff", restarts=9)

    [found] = cluster.verdict(COVERAGE).judge.broken

    assert (f"label {key}={release} is of another release" in found.cause) is told
    assert ("Restart the worker of Node Feature Discovery" in found.remedy) is told


def test_gpus_of_virtual_machines_are_looked_for_at_whoever_offers_them(reference) -> None:
    # Harvester's pcidevices controller offers vGPUs by the names of their profiles.
    resource = "nvidia.com/NVIDIA_A2-4Q"
    pool = Pool(name="hv", selector={"pool": "hv"}, nodes=1, gpu=Gpu(model="a2", count=4, resource=resource))
    amounts = {resource: "0"}
    offering = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "gpu-1", "labels": {"pool": "hv"}},
        "status": {"capacity": amounts, "allocatable": amounts},
    }
    facts = Facts.from_objects([offering])
    assert pool.gpu is not None

    cause, remedy = GpuAmounts(pool, facts.nodes[0], pool.gpu, Offer({resource: 4}), facts).why(reference)

    assert cause.startswith(f"a device plugin has registered {resource} with the kubelet of gpu-1, and no device")
    assert "OPER-" not in remedy


def test_labels_of_gpus_that_nobody_has_found_wait_for_the_gpus() -> None:
    facts = Facts.from_objects([node(), plugin()])

    awaited = awaits_devices(facts.nodes[0], facts)

    assert awaited is not None
    assert awaited.requirement == "POOL-04"


@pytest.mark.parametrize(
    "objects", [[node()], [node(), plugin(ready=False)], [node(**{"nvidia.com_gpu": "4"}), plugin()]]
)
def test_labels_are_missed_where_gpus_are_offered_or_nothing_tells(objects: list[Object]) -> None:
    facts = Facts.from_objects(objects)

    assert awaits_devices(facts.nodes[0], facts) is None

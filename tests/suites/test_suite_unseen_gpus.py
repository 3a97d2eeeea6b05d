"""Device plugins that are Ready and have no GPU to register: the cause is told before their log is pointed at."""

from typing import Any

import pytest

from conformance.facts import Facts
from suites._shared.unseen_gpus import awaits_devices, installer_failure, runtime_class_missing

Object = dict[str, Any]
NVIDIA = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gpus"}, "handler": "nvidia"}
GVISOR = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"}


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

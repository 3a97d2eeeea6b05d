"""What suites read out of pods: ways past the allocator, CUDA of an image, shared memory, refusals, driver starts."""

import pytest

from conformance.facts import Facts
from conformance.gpu.drivers import CudaVersion
from suites._shared.gpu_holders import cuda_of, driver_starts, has_big_shared_memory
from suites._shared.node_gpus import memory_agrees
from suites._shared.node_probes import product_label, uuids
from suites._shared.refused_pods import refusal_of
from suites.isolation.gpu_access import (
    cdi_devices_named,
    gpu_files,
    nvidia_runtime_classes,
    protected_host_paths,
    reached,
)


def pod(spec=None, status=None, **metadata):
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "team", **metadata},
        "spec": {"containers": [{"name": "main", "image": "i"}], **(spec or {})},
        "status": status or {},
    }
    return Facts.from_objects([obj]).pods[0]


@pytest.mark.parametrize(
    ("image", "cuda"),
    [
        ("nvidia/cuda:12.1.0-base-ubuntu22.04", "12.1.0"),
        ("nvcr.io/nvidia/cuda:13.0.1-devel-ubi9@sha256:0", "13.0.1"),
        ("registry.local:5000/mirror/nvidia/cuda:11.8.0-runtime", "11.8.0"),
        ("pytorch/pytorch:2.3.0-cuda12.1-cudnn8-runtime", "12.1"),
        ("nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0-ubuntu22.04", "12.5.0"),
        ("ours/trainer:2.4-cu121", "12.1"),
        ("ours/trainer:cu118", "11.8"),
    ],
)
def test_an_image_name_has_its_cuda_version(image, cuda):
    assert cuda_of(image) == CudaVersion.parse(cuda)


@pytest.mark.parametrize(
    "image", ["vllm/vllm-openai:v0.10.0", "nvcr.io/nvidia/pytorch:24.05-py3", "ubuntu:24.04", "ours/cuda-free:1.2", "x"]
)
def test_an_image_name_without_cuda_version_is_not_guessed(image):
    assert cuda_of(image) is None


@pytest.mark.parametrize(
    "path",
    ["/", "/dev", "/dev/", "/dev/nvidia0", "/dev/nvidia-caps", "/run", "/run/nvidia/driver", "/var/run", "/var/run/",
     "/var/run/nvidia", "/home", "/var/lib/kubelet", "/var/lib/kubelet/device-plugins", "/etc/cdi", "/dev/dri"],
)  # fmt: skip
def test_a_host_path_that_leads_to_devices_is_reported(path):
    mounting = pod({"volumes": [{"name": "v", "hostPath": {"path": path}}]})

    assert protected_host_paths(mounting) == [path]


@pytest.mark.parametrize(
    "path", ["/data", "/dev/shm", "/dev/infiniband", "/var/log", "/run/containerd", "/homes", "/opt"]
)
def test_other_host_paths_are_not_judged(path):
    assert protected_host_paths(pod({"volumes": [{"name": "v", "hostPath": {"path": path}}]})) == []


def test_annotations_that_name_devices_are_reported():
    named = {
        "nvidia.cdi.k8s.io/container.main": "k8s.device-plugin.nvidia.com/gpu=GPU-1",
        "cdi.k8s.io/x": "nvidia.com/gpu=0",
    }

    assert cdi_devices_named(pod(annotations={**named, "team": "ml"})) == named


def test_runtime_classes_are_nvidias_by_their_handler():
    classes = [("gpu", "nvidia"), ("nvidia-cdi", "nvidia-cdi"), ("sandbox", "gvisor")]
    objects = [
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler}
        for name, handler in classes
    ]

    assert nvidia_runtime_classes(Facts.from_objects(objects)) == ("gpu", "nvidia-cdi")


def test_what_was_reached_is_what_opened_and_not_what_is_there():
    record = {"devices": [], "device_files": ["/dev/nvidia0"], "opened": []}

    assert reached(record) == []
    assert reached({**record, "opened": ["/dev/nvidia0"]}) == ["/dev/nvidia0"]
    assert gpu_files(["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia12"]) == [
        "/dev/nvidia0",
        "/dev/nvidia12",
    ]


def with_shm(volume):
    container = {"name": "main", "image": "i", "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}
    return pod({"containers": [container], "volumes": [{"name": "shm", **volume}]})


def test_only_memory_of_its_own_is_enough_for_nccl():
    assert has_big_shared_memory(with_shm({"emptyDir": {"medium": "Memory"}}))
    assert has_big_shared_memory(with_shm({"hostPath": {"path": "/dev/shm"}}))
    assert not has_big_shared_memory(with_shm({"emptyDir": {}}))
    assert not has_big_shared_memory(pod())


@pytest.mark.parametrize("path", ["/dev", "/dev/", "/"])
def test_a_mount_of_the_node_above_it_brings_its_shared_memory(path):
    container = {"name": "main", "image": "i", "volumeMounts": [{"name": "node", "mountPath": path}]}
    mounted = {"containers": [container], "volumes": [{"name": "node", "hostPath": {"path": path}}]}

    assert has_big_shared_memory(pod(mounted))
    assert not has_big_shared_memory(pod(mounted | {"volumes": [{"name": "node", "emptyDir": {}}]}))


def test_the_ipc_namespace_of_the_node_has_its_shared_memory():
    assert has_big_shared_memory(pod({"hostIPC": True}))
    assert not has_big_shared_memory(pod({"hostIPC": False}))


@pytest.mark.parametrize("reason", ["UnexpectedAdmissionError", "TopologyAffinityError", "OutOfnvidia.com/gpu"])
def test_a_pod_that_its_kubelet_refused_is_distinguished_from_one_that_failed(reason):
    assert refusal_of(pod(status={"phase": "Failed", "reason": reason}))
    assert not refusal_of(pod(status={"phase": "Failed", "reason": "Evicted"}))
    assert not refusal_of(pod(status={"phase": "Failed"}))


# The words as reports of the field have them.
@pytest.mark.parametrize(
    ("message", "cause", "remedy"),
    [
        (
            "Allocate failed due to rpc error: code = Unknown desc = request for 'nvidia.com/gpu: 2' too large: "
            "maximum request size for shared resources is 1; found 2, which is unexpected",
            "more than one replica of a shared GPU",
            "Request one replica",
        ),
        (
            "Pod Allocate failed due to device plugin GetPreferredAllocation rpc failed with err: rpc error: code = "
            "Unknown desc = Unable to retrieve list of available devices: error creating nvml.Device 5: nvml: GPU is "
            "lost, which is unexpected",
            "one that is lost",
            "Cordon the node",
        ),
        (
            "Allocate failed due to device plugin GetPreferredAllocation rpc failed with err: rpc error: code = "
            "Unknown desc = error getting list of preferred allocation devices: unable to get device link "
            "information: error calling nvml.Init: Unknown Error, which is unexpected",
            "cannot reach the driver",
            "Delete the device plugin's pod",
        ),
        (
            "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu, "
            "which is unexpected",
            "had registered no healthy device",
            "POOL-04",
        ),
        (
            "Pod Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, "
            "Available: 0, which is unexpected",
            "counted fewer devices as free",
            "restart its kubelet",
        ),
        ("something that nobody knows yet", "did not allocate the devices", ""),
    ],
)
def test_the_message_of_a_refusal_tells_its_cause(message, cause, remedy):
    refused = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": message}

    refusal = refusal_of(pod(status=refused))

    assert refusal is not None
    assert cause in refusal.cause
    assert remedy in refusal.remedy
    assert bool(refusal.remedy) == bool(remedy)


def test_a_node_that_ran_out_of_cpu_is_no_node_that_ran_out_of_devices():
    cpu, gpus = (
        refusal_of(pod(status={"phase": "Failed", "reason": reason})) for reason in ("OutOfcpu", "OutOfnvidia.com/gpu")
    )

    assert "less cpu left" in cpu.cause
    assert "GPUs are not the reason" in cpu.cause
    assert "fewer devices" in gpus.cause


def test_a_driver_starts_when_its_container_last_did():
    driver = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "d", "labels": {"app.kubernetes.io/component": "nvidia-driver"}},
        "spec": {"nodeName": "n", "containers": [{"name": "nvidia-driver-ctr", "image": "i"}]},
        "status": {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [
                {"name": "nvidia-driver-ctr", "state": {"running": {"startedAt": "2026-02-01T00:00:00Z"}}}
            ],
        },
    }

    assert driver_starts(Facts.from_objects([driver]))["n"].month == 2


def test_names_and_sizes_are_compared_as_feature_discovery_writes_them():
    assert product_label("NVIDIA H100 80GB HBM3") == "NVIDIA-H100-80GB-HBM3"
    assert product_label("NVIDIA GeForce RTX (Super)") == "NVIDIA-GeForce-RTX-Super"
    assert memory_agrees(23028, 24576)
    assert not memory_agrees(16384, 24576)
    assert memory_agrees(1, 0)


def test_mig_devices_are_what_was_given_where_there_are_any():
    gpu = {"uuid": "GPU-1", "mig": []}

    assert uuids({"devices": [gpu]}) == ["GPU-1"]
    assert uuids({"devices": [{**gpu, "mig": [{"uuid": "MIG-1"}, {"uuid": "MIG-2"}]}]}) == ["MIG-1", "MIG-2"]

"""Programs of NVIDIA's stack under names of a site's own, and plugins of other devices that look like them."""

from typing import Any

import pytest

from conformance.facts import Facts
from conformance.facts.programs import device_plugins_in, discovers_gpus
from conformance.gpu.operator_stack import StackKind
from conformance.gpu.stack_programs import program_of
from suites.observability.exporters import has_exporter

FOLDER = "/var/lib/kubelet/device-plugins"
FEATURES = "/etc/kubernetes/node-feature-discovery/features.d"


def daemonset(
    container: dict[str, Any], folder: str = FOLDER, name: str = "accelerators", **spec: Any
) -> dict[str, Any]:
    mounted = {"volumeMounts": [{"name": "sockets", "mountPath": "/mnt"}]} if folder else {}
    volumes = [{"name": "sockets", "hostPath": {"path": folder}}] if folder else []
    containers = [{"name": "main", **mounted, **container}]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "platform"},
        "spec": {"template": {"spec": {"containers": containers, "volumes": volumes, **spec}}},
    }


def variables(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


GPU_TAINT = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]

PLUGINS = {
    "by its program": daemonset({"image": "harbor.example/ai/plugin:1", "command": ["/usr/bin/nvidia-device-plugin"]}),
    "by its program in a shell": daemonset(
        {"image": "harbor.example/ai/base:1", "command": ["sh", "-c"], "args": ["sleep 5; exec nvidia-device-plugin"]}
    ),
    "by its flags": daemonset({"image": "harbor.example/ai/plugin@sha256:0", "args": ["--mig-strategy=mixed"]}),
    "by its variables": daemonset(
        {"image": "harbor.example/ai/plugin:1", "env": variables(DEVICE_LIST_STRATEGY="volume-mounts")}
    ),
    "by the image of a mirror": daemonset(
        {"image": "mirror.example/nvidia-docker/k8s-device-plugin:v0.17.4"}, tolerations=GPU_TAINT
    ),
    "by the image of a mirror that keeps the last name only": daemonset(
        {"image": "mirror.example/k8s-device-plugin:v0.17.4"}, tolerations=GPU_TAINT
    ),
    "by an image of a cloud": daemonset({"image": "cr.example/oke-public/nvidia-gpu-device-plugin:0.1"}),
    "with the kubelet of k0s": daemonset(
        {"image": "nvcr.io/nvidia/k8s-device-plugin:v0.18.0"}, "/var/lib/k0s/kubelet/device-plugins/"
    ),
}
NOT_PLUGINS = {
    "without the kubelet's folder": daemonset({"image": "nvcr.io/nvidia/k8s-device-plugin:v0.18.0"}, ""),
    "AMD's": daemonset({"image": "rocm/k8s-device-plugin:1.31"}, tolerations=[{"key": "amd.com/gpu"}]),
    "AMD's in a mirror": daemonset(
        {"image": "mirror.example/k8s-device-plugin:1.31"}, name="amdgpu-device-plugin", tolerations=GPU_TAINT
    ),
    "one of which nobody says whose it is": daemonset({"image": "mirror.example/k8s-device-plugin:1.31"}),
    "Intel's": daemonset({"image": "intel/intel-gpu-plugin:0.34.0"}, tolerations=GPU_TAINT),
    "RDMA": daemonset({"image": "nvcr.io/nvidia/mellanox/k8s-rdma-shared-dev-plugin:v1.5"}, tolerations=GPU_TAINT),
    "SR-IOV": daemonset({"image": "nvcr.io/nvidia/mellanox/nvidia-sriov-device-plugin:v3.9"}, tolerations=GPU_TAINT),
    "FUSE": daemonset({"image": "ghcr.io/squat/generic-device-plugin:latest", "args": ["--device", "fuse"]}),
    "KVM": daemonset({"image": "quay.io/kubevirt/device-plugin-kvm:latest"}, tolerations=GPU_TAINT),
    "TPU": daemonset({"image": "gke.gcr.io/tpu-device-plugin:1"}),
    "GPUs for virtual machines": daemonset({"image": "nvcr.io/nvidia/kubevirt-gpu-device-plugin:v1.4.0"}),
    "GPUs for Kata": daemonset({"image": "nvcr.io/nvidia/cloud-native/nvidia-sandbox-device-plugin:v0.0.1"}),
    "HAMi's": daemonset({"image": "projecthami/hami:v2.7.1", "command": ["nvidia-device-plugin"]}),
    "Volcano's": daemonset(
        {"image": "volcanosh/volcano-vgpu-device-plugin:v1.11", "env": variables(MIG_STRATEGY="none")}
    ),
    "a plugin of shares": daemonset({"image": "example/metagpu-device-plugin:1", "command": ["/usr/bin/mgdp"]}),
}


@pytest.mark.parametrize("manifest", PLUGINS.values(), ids=PLUGINS)
def test_a_device_plugin_is_known_under_any_name_of_its_container(manifest: dict[str, Any]) -> None:
    facts = Facts.from_objects([manifest])

    assert facts.stack.stack is StackKind.DEVICE_PLUGIN
    assert facts.stack.device_plugins == ("platform/accelerators",)


@pytest.mark.parametrize("manifest", NOT_PLUGINS.values(), ids=NOT_PLUGINS)
def test_plugins_of_other_devices_are_not_taken_for_it(manifest: dict[str, Any]) -> None:
    assert Facts.from_objects([manifest]).stack.device_plugins == ()


def test_a_static_pod_is_known_by_what_it_runs() -> None:
    template = PLUGINS["by its program"]["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "accelerators-a", "namespace": "platform"},
        **template,
    }

    (found,) = Facts.from_objects([pod]).pods

    assert [each.name for each in device_plugins_in(found)] == ["main"]


@pytest.mark.parametrize(
    ("container", "folder", "known"),
    [
        ({"image": "harbor.example/labels:1", "command": ["gpu-feature-discovery"]}, FEATURES, True),
        ({"image": "harbor.example/labels:1", "env": variables(GFD_SLEEP_INTERVAL="60s")}, FEATURES, True),
        ({"image": "harbor.example/labels:1", "env": variables(MIG_STRATEGY="single")}, FEATURES, True),
        ({"image": "mirror.example/k8s-device-plugin:v0.18.0"}, FEATURES, True),
        ({"image": "mirror.example/k8s-device-plugin:v0.18.0"}, FOLDER, False),
        ({"image": "harbor.example/node-feature-discovery:v0.18.2", "command": ["nfd-worker"]}, FEATURES, False),
    ],
)
def test_gpu_feature_discovery_is_known_by_what_it_runs(container: dict[str, Any], folder: str, known: bool) -> None:
    (found,) = Facts.from_objects([daemonset(container, folder)]).workloads

    assert discovers_gpus(found.template) is known


@pytest.mark.parametrize(
    ("container", "known"),
    [
        ({"image": "harbor.example/metrics:4", "command": ["/usr/bin/dcgm-exporter"]}, True),
        ({"image": "harbor.example/metrics:4", "args": ["-f", "/etc/dcgm-exporter/default-counters.csv"]}, True),
        ({"image": "harbor.example/metrics:4", "env": variables(DCGM_EXPORTER_KUBERNETES="true")}, True),
        ({"image": "quay.io/prometheus/node-exporter:v1.9.1", "args": ["--path.rootfs=/host"]}, False),
    ],
)
def test_the_exporter_is_known_by_what_it_runs(container: dict[str, Any], known: bool) -> None:
    (found,) = Facts.from_objects([daemonset(container, "")]).workloads

    assert has_exporter(found.template.containers) is known


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (["/usr/bin/nvidia-mig-manager"], "nvidia-mig-manager"),
        (["bash", "-c", "trap exit TERM;nfd-worker -feature-sources=all"], "nfd-worker"),
        (["tini", "--", "/usr/bin/dcgm-exporter", "-f", "/counters.csv"], "dcgm-exporter"),
        (["NVIDIA_DRIVER_ROOT=/", "nvidia-device-plugin"], "nvidia-device-plugin"),
        (["python", "train.py", "--mig-strategy-of-mine"], ""),
        (["kubectl", "rollout", "restart", "daemonset", "nvidia-device-plugin"], ""),
        (["sh", "-c", "sleep 60; kubectl rollout restart daemonset dcgm-exporter"], ""),
        (["sh", "-c", "cat /etc/dcgm-exporter/default-counters.csv"], ""),
        ([], ""),
    ],
)
def test_a_program_is_told_by_command_and_arguments(words: list[str], program: str) -> None:
    assert program_of(words) == program

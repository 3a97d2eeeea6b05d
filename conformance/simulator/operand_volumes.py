"""The ConfigMaps that operands mount, and those of them that the operator brings along.

Source: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go and assets/state-mig-manager.
"""

from collections.abc import Mapping
from typing import Any

from conformance.simulator.chart.objects import named
from conformance.simulator.clusterpolicy import ClusterPolicy, mapping
from conformance.simulator.operands import EXPORTER, MIG_MANAGER, Operand
from conformance.simulator.sandbox_operands import VGPU_DEVICE_MANAGER
from conformance.simulator.world import Object

METRICS = "/etc/dcgm-exporter/dcgm-metrics.csv"
_LAYOUTS, _CLIENTS = "default-mig-parted-config", "default-gpu-clients"
_VGPU_LAYOUTS = "default-vgpu-devices-config"
_NO_VGPUS = "version: v1\nvgpu-configs: {}\n"


def configured(operand: Operand, policy: ClusterPolicy) -> bool:
    """Whether an operand reads a ConfigMap of device plugin configurations."""
    return operand.configured and bool(policy.plugin_config)


def config_mounts(policy: ClusterPolicy) -> list[Object]:
    """Where configurations are read from, and where the chosen one goes."""
    available = {"name": policy.plugin_config["name"], "mountPath": "/available-configs"}
    return [available, {"name": "config", "mountPath": "/config"}]


def mounts(operand: Operand, policy: ClusterPolicy) -> list[Object]:
    """What an operand's container mounts of volumes()."""
    if configured(operand, policy):
        return config_mounts(policy)
    if operand is MIG_MANAGER:
        return [
            {"name": "mig-parted-config", "mountPath": "/mig-parted-config"},
            {"name": "gpu-clients", "mountPath": "/gpu-clients"},
        ]
    if operand is VGPU_DEVICE_MANAGER:
        return [{"name": "vgpu-config", "mountPath": "/vgpu-config"}]
    if operand is EXPORTER and volumes(operand, policy):
        return [{"name": "metrics-config", "mountPath": METRICS, "subPath": "dcgm-metrics.csv", "readOnly": True}]
    return []


def volumes(operand: Operand, policy: ClusterPolicy) -> list[Object]:
    """The volumes of an operand that are no paths of the host."""
    if configured(operand, policy):
        name = policy.plugin_config["name"]
        return [{"name": name, "configMap": {"name": name}}, {"name": "config", "emptyDir": {}}]
    if operand is MIG_MANAGER:
        return _layout_volumes(policy.block("migManager"))
    if operand is VGPU_DEVICE_MANAGER:
        chosen = mapping(policy.block("vgpuDeviceManager").get("config")).get("name")
        return [{"name": "vgpu-config", "configMap": {"name": chosen or _VGPU_LAYOUTS}}]
    metrics = mapping(policy.block("dcgmExporter").get("config")).get("name") if operand is EXPORTER else None
    items = [{"key": "dcgm-metrics.csv", "path": "dcgm-metrics.csv"}]
    return [{"name": "metrics-config", "configMap": {"name": metrics, "items": items}}] if metrics else []


def _layout_volumes(block: Mapping[str, Any]) -> list[Object]:
    chosen = mapping(block.get("config")).get("name")
    clients = mapping(block.get("gpuClientsConfig")).get("name") or _CLIENTS
    layouts: Object = {"name": chosen or _LAYOUTS}
    if not chosen:
        layouts["items"] = [{"key": "config.yaml", "path": "config-default.yaml"}]
    return [
        {"name": "mig-parted-config", "configMap": layouts},
        {"name": "gpu-clients", "configMap": {"name": clients}},
    ]


def config_maps(operand: Operand, policy: ClusterPolicy, namespace: str) -> list[Object]:
    """Those that the operator brings along: layouts of MIG and vGPU, and a list of nobody to stop first."""
    if operand is VGPU_DEVICE_MANAGER:
        if mapping(policy.block("vgpuDeviceManager").get("config")).get("name"):
            return []
        return [named("ConfigMap", "v1", _VGPU_LAYOUTS, namespace, data={"config.yaml": _NO_VGPUS})]
    if operand is not MIG_MANAGER:
        return []
    layouts = "version: v1\nmig-configs:\n  all-disabled:\n    - devices: all\n      mig-enabled: false\n"
    return [
        named("ConfigMap", "v1", _LAYOUTS, namespace, data={"config.yaml": layouts}),
        named("ConfigMap", "v1", _CLIENTS, namespace, data={"clients.yaml": "version: v1\nsystemd-services: []\n"}),
    ]

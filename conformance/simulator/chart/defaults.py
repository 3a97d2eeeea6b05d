"""The values that the gpu-operator chart has when nobody sets them, as far as they reach an object.

Source: NVIDIA/gpu-operator v26.7.0, deployments/gpu-operator/values.yaml. Startup probes, logging and the licences of
vGPU are left out: nothing here reads them.
"""

from typing import Any

_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_CONTROL_PLANE_TAINT = {"key": _CONTROL_PLANE, "operator": "Equal", "value": "", "effect": "NoSchedule"}
_GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}

_NVIDIA, _NATIVE, _K8S = "nvcr.io/nvidia", "nvcr.io/nvidia/cloud-native", "nvcr.io/nvidia/k8s"


def _image(repository: str, image: str, version: str | None = None, **more: Any) -> dict[str, Any]:
    """The block of a component. Without ``version`` it follows the chart."""
    of_version = {} if version is None else {"version": version}
    return {"repository": repository, "image": image, **of_version, "imagePullPolicy": "IfNotPresent", **more}


_DRIVER_MANAGER = _image(_NATIVE, "k8s-driver-manager", "v0.12.0", env=[])

GPU_OPERATOR: dict[str, Any] = {
    "nfd": {"enabled": True, "nodefeaturerules": False},
    "psa": {"enabled": False},
    "cdi": {"enabled": True, "nriPluginEnabled": False},
    "sandboxWorkloads": {"enabled": False, "defaultWorkload": "container", "mode": "kubevirt"},
    "hostPaths": {"rootFS": "/", "driverInstallDir": "/run/nvidia/driver"},
    "daemonsets": {
        "labels": {},
        "annotations": {},
        "priorityClassName": "system-node-critical",
        "tolerations": [_GPU_TAINT],
        "updateStrategy": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "1"},
    },
    "validator": _image(_NVIDIA, "gpu-operator", plugin={"env": []}),
    "operator": _image(
        _NVIDIA,
        "gpu-operator",
        env=[],
        priorityClassName="system-node-critical",
        runtimeClass="nvidia",
        nodeSelector={"kubernetes.io/os": "linux"},
        tolerations=[_CONTROL_PLANE_TAINT],
        annotations={"openshift.io/scc": "restricted-readonly"},
        affinity={
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "preference": {"matchExpressions": [{"key": _CONTROL_PLANE, "operator": "In", "values": [""]}]},
                    }
                ]
            }
        },
        resources={"limits": {"cpu": "500m", "memory": "350Mi"}, "requests": {"cpu": "200m", "memory": "100Mi"}},
    ),
    "mig": {"strategy": "single"},
    "driver": _image(
        _NVIDIA,
        "driver",
        "595.91.07",
        enabled=True,
        nvidiaDriverCRD={"enabled": False, "deployDefaultCR": True, "driverType": "gpu", "nodeSelector": {}},
        kernelModuleType="auto",
        usePrecompiled=False,
        rdma={"enabled": False, "useHostMofed": False},
        upgradePolicy={
            "autoUpgrade": True,
            "maxParallelUpgrades": 1,
            "maxUnavailable": "25%",
            "waitForCompletion": {"timeoutSeconds": 0, "podSelector": ""},
            "gpuPodDeletion": {"force": False, "timeoutSeconds": 300, "deleteEmptyDir": False},
            "drain": {
                "enable": False,
                "force": False,
                "podSelector": "",
                "timeoutSeconds": 300,
                "deleteEmptyDir": False,
            },
        },
        manager=_DRIVER_MANAGER,
        repoConfig={"configMapName": ""},
        certConfig={"name": ""},
        licensingConfig={"secretName": "", "nlsEnabled": True},
        virtualTopology={"config": ""},
        kernelModuleConfig={"name": ""},
    ),
    "toolkit": _image(_K8S, "container-toolkit", "v1.20.0", enabled=True, installDir="/usr/local/nvidia"),
    "devicePlugin": _image(
        _NVIDIA,
        "k8s-device-plugin",
        "v0.20.0",
        enabled=True,
        config={"create": False, "name": "", "default": "", "data": {}},
        mps={"root": "/run/nvidia/mps"},
    ),
    "dcgm": _image(_NATIVE, "dcgm", "4.6.0-1-ubuntu24.04", enabled=False),
    "dcgmExporter": _image(
        _K8S,
        "dcgm-exporter",
        "4.6.0-4.8.3-distroless",
        enabled=True,
        service={"internalTrafficPolicy": "Cluster"},
        serviceMonitor={"enabled": True, "interval": "15s", "scrapeTimeout": "10s", "honorLabels": False},
    ),
    "gfd": _image(_NVIDIA, "k8s-device-plugin", "v0.20.0", enabled=True),
    "migManager": _image(
        _NATIVE,
        "k8s-mig-manager",
        "v0.15.0",
        enabled=True,
        config={"default": "all-disabled", "create": False, "name": "", "data": {}},
        gpuClientsConfig={"name": ""},
    ),
    "nodeStatusExporter": _image(_NVIDIA, "gpu-operator", enabled=False),
    "gds": _image(_NATIVE, "nvidia-fs", "2.29.4", enabled=False),
    "gdrcopy": _image(_NATIVE, "gdrdrv", "v2.6", enabled=False),
    "vgpuManager": _image("", "vgpu-manager", "", enabled=False, driverManager=_DRIVER_MANAGER),
    "vgpuDeviceManager": _image(
        _NATIVE, "vgpu-device-manager", "v0.5.0", enabled=True, config={"name": "", "default": "default"}
    ),
    "vfioManager": _image(_NATIVE, "k8s-driver-manager", "v0.12.0", enabled=True, driverManager=_DRIVER_MANAGER),
    "kataManager": {"enabled": False, "config": {}, "imagePullPolicy": "IfNotPresent"},
    "sandboxDevicePlugin": _image(_NVIDIA, "kubevirt-gpu-device-plugin", "v1.6.0", enabled=True),
    "kataSandboxDevicePlugin": _image(_NATIVE, "nvidia-sandbox-device-plugin", "v0.0.5", enabled=True),
    "ccManager": _image(_NATIVE, "k8s-cc-manager", "v0.4.3", enabled=True, defaultMode="on"),
    "clusterPolicy": {"deployCR": True},
    "gpuCluster": {"deployCR": False},
    "draDriver": _image(
        _NVIDIA,
        "dra-driver-nvidia-gpu",
        "v0.5.0",
        featureGates={},
        gpus={"kubeletPlugin": {}},
        computeDomains={"enabled": True, "controller": {}, "kubeletPlugin": {}},
    ),
    "extraObjects": [],
    "node-feature-discovery": {
        "priorityClassName": "system-node-critical",
        "gc": {
            "enable": True,
            "replicaCount": 1,
            "serviceAccount": {"name": "node-feature-discovery", "create": False},
        },
        "worker": {
            "serviceAccount": {"name": "node-feature-discovery", "create": False},
            "tolerations": [_CONTROL_PLANE_TAINT, _GPU_TAINT],
            "config": {
                "sources": {
                    "pci": {
                        "deviceClassWhitelist": ["02", "0200", "0207", "0300", "0302"],
                        "deviceLabelFields": ["vendor"],
                    }
                }
            },
        },
        "master": {
            "serviceAccount": {"name": "node-feature-discovery", "create": True},
            "config": {"extraLabelNs": ["nvidia.com"]},
        },
    },
}

"""The operator resources as the gpu-operator chart writes them from its values.

Source: NVIDIA/gpu-operator v26.7.0, deployments/gpu-operator/templates/clusterpolicy.yaml, gpucluster.yaml and
nvidiadriver.yaml. A setting that is empty is left out, but for the switches, which are always there.
"""

import copy
from typing import Any

from conformance.simulator.chart.objects import MANAGED_BY, Object, Release, Values, given, named, over

_IMAGE = (
    "repository",
    "image",
    "version",
    "imagePullPolicy",
    "imagePullSecrets",
    "resources",
    "env",
    "args",
    "hostNetwork",
)
# The components of a ClusterPolicy, each with the settings that it has beside those of its image.
_COMPONENTS: dict[str, tuple[str, ...]] = {
    "vgpuManager": ("kernelModuleConfig",),
    "kataManager": ("config",),
    "vfioManager": (),
    "vgpuDeviceManager": ("config",),
    "ccManager": ("defaultMode",),
    "toolkit": ("installDir",),
    "devicePlugin": (),
    "dcgm": (),
    "dcgmExporter": (
        "annotations",
        "serviceMonitor",
        "service",
        "hostPID",
        "hpcJobMapping",
        "enablePodLabels",
        "enablePodUID",
        "podLabelAllowlistRegex",
    ),
    "gfd": (),
    "migManager": ("gpuClientsConfig",),
    "nodeStatusExporter": (),
    "gds": (),
    "gdrcopy": (),
    "sandboxDevicePlugin": (),
    "kataSandboxDevicePlugin": (),
}
_OF_DRIVER = (
    *_IMAGE,
    "startupProbe",
    "livenessProbe",
    "readinessProbe",
    "repoConfig",
    "certConfig",
    "licensingConfig",
    "virtualTopology",
    "kernelModuleConfig",
    "secretEnv",
)
_VALIDATED = ("plugin", "cuda", "driver", "toolkit", "vfioPCI", "vgpuManager", "vgpuDevices")
_COMPONENT_LABEL = {"app.kubernetes.io/component": "gpu-operator"}


def cluster_policy(release: Release, values: Values) -> Object:
    """The ClusterPolicy ``cluster-policy``; ``values`` are complete, defaults included."""
    labels = release.labels | _COMPONENT_LABEL
    return named("ClusterPolicy", "nvidia.com/v1", "cluster-policy", labels=labels, spec=_spec(release, values))


def gpu_cluster(release: Release, values: Values) -> Object:
    """The GPUCluster ``gpu-cluster``. Helm leaves its deletion to a hook of the chart."""
    spec = {
        "draDriver": _dra_driver(values["draDriver"]),
        "dcgm": _component(values["dcgm"]),
        "dcgmExporter": _exporter(values["dcgmExporter"]),
        "hostPaths": given(values["hostPaths"], "driverInstallDir", "kubeletRootDir"),
        "daemonsets": copy.deepcopy(dict(values["daemonsets"])),
    }
    labels = release.labels | _COMPONENT_LABEL
    made = named("GPUCluster", "nvidia.com/v1alpha1", "gpu-cluster", labels=labels, spec=spec)
    made["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    return made


def nvidia_driver(values: Values) -> Object:
    """The NVIDIADriver ``default``, for all nodes."""
    driver = values["driver"]
    spec = {
        "default": True,
        **given(driver, *_IMAGE, "startupProbe", "livenessProbe", "readinessProbe", "secretEnv", "manager"),
        **given(values["daemonsets"], "annotations", "labels", "tolerations"),
        "kernelModuleType": driver["kernelModuleType"],
        "usePrecompiled": driver["usePrecompiled"],
        "driverType": driver["nvidiaDriverCRD"].get("driverType") or "gpu",
        "rdma": dict(driver["rdma"]),
        "upgradePolicy": _upgrade_policy(driver["upgradePolicy"]),
        **({"gds": _component(values["gds"])} if values["gds"].get("enabled") else {}),
        "gdrcopy": _component(values["gdrcopy"]),
    }
    return named("NVIDIADriver", "nvidia.com/v1alpha1", "default", spec=spec)


def _spec(release: Release, values: Values) -> Object:
    spec: Object = {
        "hostPaths": given(values["hostPaths"], "rootFS", "driverInstallDir", "kubeletRootDir"),
        "operator": given(values["operator"], "runtimeClass", "defaultGPUMode", "use_ocp_driver_toolkit", "metrics"),
        "daemonsets": _daemonsets(release, values["daemonsets"]),
        "validator": _validator(release, values["validator"]),
        "mig": given(values["mig"], "strategy"),
        "psa": {"enabled": values["psa"]["enabled"]},
        "cdi": {"enabled": values["cdi"]["enabled"], **given(values["cdi"], "nriPluginEnabled")},
        "driver": _driver(values["driver"]),
        "sandboxWorkloads": {
            "enabled": values["sandboxWorkloads"]["enabled"],
            **given(values["sandboxWorkloads"], "defaultWorkload", "mode"),
        },
    }
    for name, more in _COMPONENTS.items():
        spec[name] = _component(values[name], *more)
    for name in ("vgpuManager", "vfioManager"):
        manager = given(values[name].get("driverManager") or {}, "repository", "image", "version", "imagePullPolicy")
        spec[name]["driverManager"] = manager
    spec["nodeStatusExporter"].setdefault("version", release.version)
    spec["dcgmExporter"] = _exporter(values["dcgmExporter"])
    spec["devicePlugin"] |= _plugin_config(values["devicePlugin"]["config"])
    layouts = values["migManager"]["config"]
    spec["migManager"]["config"] = {**given(layouts, "name"), "default": layouts.get("default") or ""}
    return spec


def _component(block: Values, *more: str) -> Object:
    return {"enabled": bool(block.get("enabled")), **given(block, *_IMAGE, *more)}


def _daemonsets(release: Release, block: Values) -> Object:
    labels = {"helm.sh/chart": release.labels["helm.sh/chart"], MANAGED_BY: release.chart, **block["labels"]}
    made = {"labels": labels, **given(block, "annotations", "tolerations", "priorityClassName", "updateStrategy")}
    if block.get("rollingUpdate"):
        made["rollingUpdate"] = {"maxUnavailable": str(block["rollingUpdate"]["maxUnavailable"])}
    return made


def _validator(release: Release, block: Values) -> Object:
    parts = {name: {"env": list(block[name].get("env") or [])} for name in _VALIDATED if block.get(name)}
    return {"version": release.version, **given(block, *_IMAGE), **parts}


def _driver(block: Values) -> Object:
    used = bool(block["nvidiaDriverCRD"]["enabled"])
    made: Object = {"enabled": bool(block["enabled"]), "useNvidiaDriverCRD": used}
    if not used:
        made |= {
            "kernelModuleType": block["kernelModuleType"],
            "usePrecompiled": block["usePrecompiled"],
            "rdma": dict(block["rdma"]),
            "manager": given(block["manager"], "repository", "image", "version", "imagePullPolicy", "env"),
            **given(block, *_OF_DRIVER),
        }
    if block.get("upgradePolicy"):
        made["upgradePolicy"] = _upgrade_policy(block["upgradePolicy"])
    return made


def _upgrade_policy(block: Values) -> Object:
    """The policy; what the values call gpuPodDeletion is podDeletion there."""
    waits, drain = block["waitForCompletion"], block["drain"]
    return {
        "autoUpgrade": bool(block.get("autoUpgrade")),
        "maxParallelUpgrades": block.get("maxParallelUpgrades") or 0,
        "maxUnavailable": block.get("maxUnavailable") or "25%",
        "waitForCompletion": {"timeoutSeconds": waits["timeoutSeconds"], **given(waits, "podSelector")},
        "podDeletion": dict(block["gpuPodDeletion"]),
        "drain": {
            **{key: value for key, value in drain.items() if key != "podSelector"},
            **given(drain, "podSelector"),
        },
    }


def _exporter(block: Values) -> Object:
    made = _component(block, *_COMPONENTS["dcgmExporter"])
    if (block.get("config") or {}).get("name"):
        made["config"] = {"name": block["config"]["name"]}
    return made


def _plugin_config(block: Values) -> Object:
    """Nothing without a name; a default that is missing is written as an empty one."""
    if not block.get("name"):
        return {}
    return {"config": {"name": block["name"], "default": block.get("default") or ""}}


def _dra_driver(block: Values) -> Object:
    domains = block["computeDomains"]
    made: dict[str, Any] = {
        **given(block, "repository", "image", "version", "imagePullPolicy", "imagePullSecrets", "featureGates"),
        "computeDomains": {"enabled": domains["enabled"], **given(domains, "controller", "kubeletPlugin")},
    }
    if block["gpus"].get("kubeletPlugin"):
        made["gpus"] = over({}, block["gpus"])
    return made

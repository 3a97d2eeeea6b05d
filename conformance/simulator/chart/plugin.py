"""The chart of the device plugin without an operator: plugin, MPS control daemon, GPU and Node Feature Discovery.

Source: NVIDIA/k8s-device-plugin v0.20.0, deployments/helm/nvidia-device-plugin.
"""

from typing import Any

from conformance.simulator.chart import definitions
from conformance.simulator.chart.feature_discovery import feature_discovery
from conformance.simulator.chart.objects import (
    ChartError,
    Object,
    Release,
    Values,
    config_manager_environment,
    config_map,
    field_env,
    given,
    host_volume,
    namespace,
    over,
    service_account,
    workload,
)

CHART = "nvidia-device-plugin"
VERSION = "0.20.0"


def _present(key: str, value: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}


DEFAULTS: dict[str, Any] = {
    "config": {"name": "", "map": {}, "default": "", "fallbackStrategies": ["named", "single"]},
    "allowDefaultNamespace": False,
    "imagePullSecrets": [],
    "image": {"repository": "nvcr.io/nvidia/k8s-device-plugin", "pullPolicy": "IfNotPresent", "tag": ""},
    "updateStrategy": {"type": "RollingUpdate"},
    "resources": {},
    "nodeSelector": {},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    _present("feature.node.kubernetes.io/pci-10de.present", "true"),
                    _present("feature.node.kubernetes.io/cpu-model.vendor_id", "NVIDIA"),
                    _present("nvidia.com/gpu.present", "true"),
                ]
            }
        }
    },
    "tolerations": [
        {"key": "CriticalAddonsOnly", "operator": "Exists"},
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    ],
    "priorityClassName": "system-node-critical",
    "devicePlugin": {"enabled": True},
    "gfd": {"enabled": False, "securityContext": {"privileged": True}},
    "mps": {"root": "/run/nvidia/mps", "enableHostPID": True},
    "nfd": {
        "master": {
            "serviceAccount": {"name": "node-feature-discovery", "create": True},
            "config": {"extraLabelNs": ["nvidia.com"]},
        },
        "worker": {
            "tolerations": [
                {"key": "node-role.kubernetes.io/master", "operator": "Equal", "value": "", "effect": "NoSchedule"},
                {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"},
            ],
            "config": {
                "sources": {"pci": {"deviceClassWhitelist": ["02", "03"], "deviceLabelFields": ["vendor"]}},
            },
        },
    },
}

# A value that is set becomes a variable of the plugin: (value, type that counts as set, variable).
_SETTINGS = (
    ("migStrategy", str, "MIG_STRATEGY"),
    ("failOnInitError", bool, "FAIL_ON_INIT_ERROR"),
    ("compatWithCPUManager", bool, "PASS_DEVICE_SPECS"),
    ("deviceListStrategy", str, "DEVICE_LIST_STRATEGY"),
    ("deviceIDStrategy", str, "DEVICE_ID_STRATEGY"),
    ("nvidiaDriverRoot", str, "NVIDIA_DRIVER_ROOT"),
    ("deviceDiscoveryStrategy", str, "DEVICE_DISCOVERY_STRATEGY"),
)
_OF_DISCOVERY = ("MIG_STRATEGY", "FAIL_ON_INIT_ERROR", "DEVICE_DISCOVERY_STRATEGY")
_OF_MPS = ("MIG_STRATEGY",)


def device_plugin(
    values: Values, *, namespace_name: str = CHART, version: str = VERSION, release_name: str = CHART
) -> list[Object]:
    """Everything that ``helm install --create-namespace`` of the chart creates. Raises ChartError as the chart does."""
    release = Release(release_name, CHART, namespace_name, (version or VERSION).removeprefix("v"))
    chosen = over(DEFAULTS, values)
    _refuse_contradictions(release, chosen)
    made = [namespace(namespace_name)]
    # The chart asks for nfd.enabled first, which it does not set itself, and then for gfd.enabled.
    if chosen["nfd"].get("enabled", chosen["gfd"]["enabled"]):
        made += [*definitions.of_feature_discovery(), *feature_discovery(release, chosen["nfd"])]
    made.append(service_account(release, _account(release)))
    if chosen["config"]["map"]:
        made.append(config_map(release, _config_map(release, chosen), chosen["config"]["map"]))
    if chosen["devicePlugin"]["enabled"]:
        made += [_plugin(release, chosen), _mps(release, chosen)]
    if chosen["gfd"]["enabled"]:
        made.append(_discovery(release, chosen))
    return made


def _refuse_contradictions(release: Release, chosen: Values) -> None:
    config = chosen["config"]
    if config["name"] and config["map"]:
        raise ChartError("config.name and config.map are both set: name a ConfigMap that is there, or have one made")
    if release.namespace == "default" and not chosen["allowDefaultNamespace"]:
        raise ChartError("the chart does not go into the namespace default unless allowDefaultNamespace is true")
    known = config["map"]
    by_name = "named" in config["fallbackStrategies"] and "default" in known
    by_number = "single" in config["fallbackStrategies"] and len(known) == 1
    if known and not (config["default"] or by_name or by_number or "empty" in config["fallbackStrategies"]):
        raise ChartError("config.map has several configurations and none is the default: set config.default")


def _account(release: Release) -> str:
    return f"{release.full_name}-service-account"


def _config_map(release: Release, chosen: Values) -> str:
    name: str = chosen["config"]["name"]
    return name or (f"{release.full_name}-configs" if chosen["config"]["map"] else "")


def _plugin(release: Release, chosen: Values) -> Object:
    container = {
        "name": "nvidia-device-plugin-ctr",
        "command": ["nvidia-device-plugin"],
        "env": [
            {"name": "MPS_ROOT", "value": chosen["mps"]["root"]},
            *_settings(release, chosen),
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
            {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,utility"},
        ],
        "securityContext": chosen.get("securityContext") or _rights(release, chosen),
    }
    volumes = [
        host_volume("kubelet-device-plugins-dir", "/var/lib/kubelet/device-plugins"),
        host_volume("mps-root", chosen["mps"]["root"]),
        host_volume("mps-shm", f"{chosen['mps']['root']}/shm"),
        host_volume("cdi-root", "/var/run/cdi"),
    ]
    return _daemon_set(release, chosen, "", container, "nvidia-device-plugin", "nvidia-device-plugin", volumes)


def _rights(release: Release, chosen: Values) -> Object:
    """The plugin looks at MIG devices and hands out devices as mounts with SYS_ADMIN; else it needs no capability."""
    if chosen.get("compatWithCPUManager"):
        return {"privileged": True}
    configured = bool(_config_map(release, chosen))
    strategy, lists = chosen.get("migStrategy"), chosen.get("deviceListStrategy")
    sees_mig = strategy != "none" if strategy else configured
    mounts = "volume-mounts" in lists if lists else configured
    if sees_mig or mounts:
        return {"capabilities": {"add": ["SYS_ADMIN"]}}
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _discovery(release: Release, chosen: Values) -> Object:
    container = {
        "name": "gpu-feature-discovery-ctr",
        "command": ["gpu-feature-discovery"],
        "env": [
            field_env("NODE_NAME", "spec.nodeName"),
            field_env("NAMESPACE", "metadata.namespace"),
            field_env("POD_NAME", "metadata.name"),
            *_settings(release, chosen, _OF_DISCOVERY),
        ],
        "securityContext": chosen["gfd"]["securityContext"],
    }
    volumes = [
        host_volume("output-dir", "/etc/kubernetes/node-feature-discovery/features.d"),
        host_volume("host-sys", "/sys"),
    ]
    program = "gpu-feature-discovery"
    return _daemon_set(release, chosen, "gpu-feature-discovery", container, program, program, volumes)


def _mps(release: Release, chosen: Values) -> Object:
    container = {
        "name": "mps-control-daemon-ctr",
        "command": ["mps-control-daemon"],
        "env": [
            field_env("NODE_NAME", "spec.nodeName"),
            *_settings(release, chosen, _OF_MPS),
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
            {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,utility"},
        ],
        "securityContext": {"privileged": True},
    }
    root = chosen["mps"]["root"]
    volumes = [host_volume("mps-root", root), host_volume("mps-shm", f"{root}/shm")]
    made = _daemon_set(
        release, chosen, "mps-control-daemon", container, "mps-control-daemon", "/usr/bin/mps-control-daemon", volumes
    )
    pod = made["spec"]["template"]["spec"]
    pod["nodeSelector"] = {"nvidia.com/mps.capable": "true", **pod.get("nodeSelector", {})}
    if chosen["mps"]["enableHostPID"]:
        # Kubernetes allows one of the two.
        pod.pop("shareProcessNamespace", None)
        pod["hostPID"] = True
    return made


def _settings(release: Release, chosen: Values, wanted: tuple[str, ...] | None = None) -> list[Object]:
    made = [
        {"name": variable, "value": str(value).lower() if kind is bool else value}
        for key, kind, variable in _SETTINGS
        if isinstance(value := chosen.get(key), kind) and (wanted is None or variable in wanted)
    ]
    if _config_map(release, chosen):
        made.append({"name": "CONFIG_FILE", "value": "/config/config.yaml"})
    return made


def _daemon_set(
    release: Release,
    chosen: Values,
    suffix: str,
    container: Object,
    stem: str,
    process: str,
    volumes: list[Object],
) -> Object:
    """One of the chart's DaemonSets. All of them have the same selector; owner references keep their pods apart."""
    image = f"{chosen['image']['repository']}:{chosen['image']['tag'] or release.tag}"
    main = {"image": image, "imagePullPolicy": chosen["image"]["pullPolicy"], **given(chosen, "resources"), **container}
    pod: Object = {
        "serviceAccountName": _account(release),
        "containers": [main],
        "volumes": list(volumes),
        **given(chosen, "priorityClassName", "runtimeClassName", "imagePullSecrets"),
        **given(chosen, "nodeSelector", "affinity", "tolerations"),
    }
    if name := _config_map(release, chosen):
        pod["shareProcessNamespace"] = True
        pod["initContainers"] = [_config_manager(chosen, image, f"{stem}-init", "")]
        pod["containers"].insert(0, _config_manager(chosen, image, f"{stem}-sidecar", process))
        pod["volumes"] += [
            {"name": "available-configs", "configMap": {"name": name}},
            {"name": "config", "emptyDir": {}},
        ]
    full = f"{release.full_name}-{suffix}" if suffix else release.full_name
    return workload(
        "DaemonSet", release, full, selector=release.selector, pod=pod, updateStrategy=dict(chosen["updateStrategy"])
    )


def _config_manager(chosen: Values, image: str, name: str, process: str) -> Object:
    """What chooses a node's configuration: once before the program starts, then beside it, signalling ``process``."""
    config = chosen["config"]
    fallbacks = ",".join(config["fallbackStrategies"])
    return {
        "name": name,
        "image": image,
        "command": ["config-manager"],
        "env": config_manager_environment(config["default"], fallbacks, process),
        "volumeMounts": [
            {"name": "available-configs", "mountPath": "/available-configs"},
            {"name": "config", "mountPath": "/config"},
        ],
    }

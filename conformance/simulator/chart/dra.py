"""The chart of the DRA driver without an operator: its kubelet plugin, its controller, and the device classes.

Sources: kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1, deployments/helm/dra-driver-nvidia-gpu; and v25.12.0 of the same
project, whose chart was called nvidia-dra-driver-gpu and tolerated nothing.
"""

from typing import Any

from conformance.simulator.chart import definitions
from conformance.simulator.chart.objects import (
    ChartError,
    Object,
    Release,
    Values,
    field_env,
    given,
    host_volume,
    named,
    namespace,
    over,
    service_account,
    workload,
)

CHART = "dra-driver-nvidia-gpu"
FORMER_CHART = "nvidia-dra-driver-gpu"
VERSION = "0.4.1"
RESOURCE_API = "resource.k8s.io/v1"

_FORMER_YEARS = 25
_ROLE = "node-role.kubernetes.io"


def _terms(**wanted: str) -> Object:
    terms = [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]} for key, value in wanted.items()]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


_GPU_NODES = {
    "feature.node.kubernetes.io/pci-10de.present": "true",
    "feature.node.kubernetes.io/pci-0302_10de.present": "true",
    "feature.node.kubernetes.io/pci-0300_10de.present": "true",
    "feature.node.kubernetes.io/cpu-model.vendor_id": "NVIDIA",
    "nvidia.com/gpu.present": "true",
}
DEFAULTS: dict[str, Any] = {
    "nvidiaDriverRoot": "/",
    "gpuResourcesEnabledOverride": False,
    "allowDefaultNamespace": False,
    "resourceApiVersion": "",
    "imagePullSecrets": [],
    "image": {
        "repository": "registry.k8s.io/dra-driver-nvidia/dra-driver-nvidia-gpu",
        "pullPolicy": "IfNotPresent",
        "tag": "",
    },
    "resources": {"gpus": {"enabled": True}, "computeDomains": {"enabled": True}},
    "featureGates": {},
    "controller": {
        "replicas": 1,
        "priorityClassName": "system-node-critical",
        "nodeSelector": {},
        "tolerations": [
            {"key": f"{_ROLE}/control-plane", "operator": "Exists", "effect": "NoSchedule"},
            {"key": f"{_ROLE}/master", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
        ],
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "preference": {"matchExpressions": [{"key": f"{_ROLE}/control-plane", "operator": "Exists"}]},
                    }
                ]
            }
        },
    },
    "kubeletPlugin": {
        "priorityClassName": "system-node-critical",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
        "nodeSelector": {},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": _terms(**_GPU_NODES),
        "kubeletRegistrarDirectoryPath": "/var/lib/kubelet/plugins_registry",
        "kubeletPluginsDirectoryPath": "/var/lib/kubelet/plugins",
        "containers": {
            "computeDomains": {"env": [], "securityContext": {"privileged": True}, "resources": {}},
            "gpus": {"env": [], "securityContext": {"privileged": True}, "resources": {}},
        },
    },
}
_FORMER: dict[str, Any] = {
    "image": {"repository": "nvcr.io/nvidia/k8s-dra-driver-gpu"},
    "controller": {
        "tolerations": [{"key": f"{_ROLE}/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                # None takes away what the later chart has instead.
                "preferredDuringSchedulingIgnoredDuringExecution": None,
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": f"{_ROLE}/control-plane", "operator": "Exists"}]}
                    ]
                },
            }
        },
    },
    "kubeletPlugin": {
        "tolerations": [],
        "affinity": _terms(**{key: value for key, value in _GPU_NODES.items() if "/pci-03" not in key}),
    },
}
_GPU, _DOMAIN = "gpu.nvidia.com", "compute-domain.nvidia.com"


def dra_driver(
    values: Values, *, namespace_name: str = FORMER_CHART, version: str = VERSION, release_name: str = ""
) -> list[Object]:
    """Everything that ``helm install --create-namespace`` of the chart creates. Raises ChartError as the chart does.

    Versions up to v25.12 are those of the chart under its former name, later ones (0.4 and up) of the present one.
    """
    chosen_version = (version or VERSION).removeprefix("v")
    former = int(chosen_version.partition(".")[0]) >= _FORMER_YEARS
    chart = FORMER_CHART if former else CHART
    release = Release(release_name or chart, chart, namespace_name, chosen_version)
    chosen = over(over(DEFAULTS, _FORMER) if former else DEFAULTS, values)
    _refuse_contradictions(release, chosen)
    made = [namespace(namespace_name), *definitions.of_dra_driver()]
    resources = chosen["resources"]
    roles = ["kubeletplugin", *(["controller"] if resources["computeDomains"]["enabled"] else [])]
    made += [service_account(release, _account(release, role)) for role in roles]
    made += _device_classes(chosen)
    if resources["gpus"]["enabled"] or resources["computeDomains"]["enabled"]:
        made.append(_kubelet_plugin(release, chosen))
    if resources["computeDomains"]["enabled"]:
        made.append(_controller(release, chosen))
    return made


def _refuse_contradictions(release: Release, chosen: Values) -> None:
    if release.namespace == "default" and not chosen["allowDefaultNamespace"]:
        raise ChartError("the chart does not go into the namespace default unless allowDefaultNamespace is true")
    if chosen["resources"]["gpus"]["enabled"] and not chosen["gpuResourcesEnabledOverride"]:
        raise ChartError(
            "resources.gpus.enabled needs gpuResourcesEnabledOverride: true, by which you say that no device plugin "
            "offers the same GPUs"
        )


def _device_classes(chosen: Values) -> list[Object]:
    api = chosen["resourceApiVersion"] or RESOURCE_API
    made = []
    if chosen["resources"]["gpus"]["enabled"]:
        extended = {"extendedResourceName": "nvidia.com/gpu"} if api == RESOURCE_API else {}
        made += [
            _device_class(api, "gpu.nvidia.com", _GPU, "gpu", **extended),
            _device_class(api, "mig.nvidia.com", _GPU, "mig"),
            _device_class(api, "vfio.gpu.nvidia.com", _GPU, "vfio"),
        ]
    if chosen["resources"]["computeDomains"]["enabled"]:
        channel = _device_class(api, "compute-domain-default-channel.nvidia.com", _DOMAIN, "channel")
        channel["spec"]["selectors"][0]["cel"]["expression"] += f" && device.attributes['{_DOMAIN}'].id == 0"
        made += [_device_class(api, "compute-domain-daemon.nvidia.com", _DOMAIN, "daemon"), channel]
    return made


def _device_class(api: str, name: str, driver: str, kind: str, **more: str) -> Object:
    expression = f"device.driver == '{driver}' && device.attributes['{driver}'].type == '{kind}'"
    return named("DeviceClass", api, name, spec={"selectors": [{"cel": {"expression": expression}}], **more})


def _account(release: Release, role: str) -> str:
    return f"{release.full_name}-service-account-{role}"


def _image(release: Release, chosen: Values) -> str:
    return f"{chosen['image']['repository']}:{chosen['image']['tag'] or release.tag}"


def _kubelet_plugin(release: Release, chosen: Values) -> Object:
    block = chosen["kubeletPlugin"]
    enabled = chosen["resources"]
    containers = [
        _plugin_container(release, chosen, name, program, block["containers"][key])
        for key, name, program in (
            ("computeDomains", "compute-domains", "compute-domain-kubelet-plugin"),
            ("gpus", "gpus", "gpu-kubelet-plugin"),
        )
        if enabled[key]["enabled"]
    ]
    volumes = [
        host_volume("plugins-registry", block["kubeletRegistrarDirectoryPath"]),
        host_volume("plugins", block["kubeletPluginsDirectoryPath"]),
        host_volume("cdi", "/var/run/cdi"),
        host_volume("driver-root", chosen["nvidiaDriverRoot"]),
    ]
    pod = {
        "serviceAccountName": _account(release, "kubeletplugin"),
        "initContainers": [
            {
                "name": "init-container",
                "image": _image(release, chosen),
                "command": ["bash", "/usr/bin/kubelet-plugin-prestart.sh"],
                "env": [{"name": "NVIDIA_DRIVER_ROOT", "value": chosen["nvidiaDriverRoot"]}],
                "securityContext": {"privileged": True},
            }
        ],
        "containers": containers,
        "volumes": volumes,
        **given(block, "priorityClassName", "nodeSelector", "affinity", "tolerations"),
        **given(chosen, "imagePullSecrets"),
    }
    return _workload("DaemonSet", release, "kubelet-plugin", pod, updateStrategy=dict(block["updateStrategy"]))


def _plugin_container(release: Release, chosen: Values, name: str, program: str, block: Values) -> Object:
    block_paths = chosen["kubeletPlugin"]
    return {
        "name": name,
        "image": _image(release, chosen),
        "imagePullPolicy": chosen["image"]["pullPolicy"],
        "command": ["bash", "-c"],
        "args": [f"{program} -v 4"],
        "env": [
            {"name": "NVIDIA_DRIVER_ROOT", "value": chosen["nvidiaDriverRoot"]},
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
            {"name": "CDI_ROOT", "value": "/var/run/cdi"},
            field_env("NODE_NAME", "spec.nodeName"),
            field_env("NAMESPACE", "metadata.namespace"),
            *_gates(chosen),
            *block["env"],
        ],
        "securityContext": block["securityContext"],
        **given(block, "resources"),
        "volumeMounts": [
            {"name": "plugins-registry", "mountPath": block_paths["kubeletRegistrarDirectoryPath"]},
            {"name": "plugins", "mountPath": block_paths["kubeletPluginsDirectoryPath"]},
            {"name": "cdi", "mountPath": "/var/run/cdi"},
            {"name": "driver-root", "mountPath": "/driver-root"},
        ],
    }


def _controller(release: Release, chosen: Values) -> Object:
    block = chosen["controller"]
    container = {
        "name": "compute-domain",
        "image": _image(release, chosen),
        "imagePullPolicy": chosen["image"]["pullPolicy"],
        "command": ["compute-domain-controller"],
        "env": [
            field_env("POD_NAME", "metadata.name"),
            field_env("NAMESPACE", "metadata.namespace"),
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
            *_gates(chosen),
        ],
    }
    pod = {
        "serviceAccountName": _account(release, "controller"),
        "containers": [container],
        **given(block, "priorityClassName", "nodeSelector", "affinity", "tolerations"),
        **given(chosen, "imagePullSecrets"),
    }
    return _workload("Deployment", release, "controller", pod, replicas=block["replicas"])


def _gates(chosen: Values) -> list[Object]:
    gates = "".join(f"{name}={str(on).lower()}," for name, on in chosen["featureGates"].items())
    return [{"name": "FEATURE_GATES", "value": gates}] if gates else []


def _workload(kind: str, release: Release, role: str, pod: Object, **spec: Any) -> Object:
    selector = {f"{release.chart}-component": role}
    # Since the chart was renamed its pods carry the former label as well.
    marks = {**release.selector, f"{FORMER_CHART}-component": role}
    name = f"{release.chart}-{role}"
    return workload(kind, release, name, selector=selector, pod=pod, pod_labels=marks, **spec)

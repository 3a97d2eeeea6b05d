"""Node Feature Discovery, the chart on which the others stand: its master, its workers, and what cleans up.

Source: node-feature-discovery 0.19.0, deployment/helm/node-feature-discovery.
"""

from typing import Any

import yaml

from conformance.simulator.chart.objects import (
    Object,
    Release,
    Values,
    config_map,
    field_env,
    given,
    host_volume,
    over,
    service_account,
    workload,
)

CHART = "node-feature-discovery"
VERSION = "0.19.0"

_HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
}
_CONF = "/etc/kubernetes/node-feature-discovery"
_FEATURES = f"{_CONF}/features.d/"
# What a worker reads of its host: the name of the volume, the path on the host, and where it is mounted.
_HOST = (
    ("host-boot", "/boot", "/host-boot"),
    ("host-os-release", "/etc/os-release", "/host-etc/os-release"),
    ("host-sys", "/sys", "/host-sys"),
    ("host-usr-lib", "/usr/lib", "/host-usr/lib"),
    ("host-lib", "/lib", "/host-lib"),
    ("host-proc-swaps", "/proc/swaps", "/host-proc/swaps"),
    ("features-d", _FEATURES, _FEATURES),
)
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
DEFAULTS: dict[str, Any] = {
    "image": {"repository": "registry.k8s.io/nfd/node-feature-discovery", "tag": "", "pullPolicy": "IfNotPresent"},
    "imagePullSecrets": [],
    "priorityClassName": "",
    "master": {
        "enable": True,
        "replicaCount": 1,
        "serviceAccount": {"create": True, "name": ""},
        "config": {},
        "extraLabelNs": [],
        "nodeSelector": {},
        "tolerations": [{"key": _CONTROL_PLANE, "operator": "Equal", "value": "", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "preference": {"matchExpressions": [{"key": _CONTROL_PLANE, "operator": "In", "values": [""]}]},
                    }
                ]
            }
        },
        "resources": {"limits": {"memory": "4Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
    },
    "worker": {
        "enable": True,
        "serviceAccount": {"create": True, "name": ""},
        "config": {},
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}},
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "5m", "memory": "64Mi"}},
    },
    "gc": {
        "enable": True,
        "replicaCount": 1,
        "serviceAccount": {"create": True, "name": ""},
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "10m", "memory": "128Mi"}},
    },
}


def feature_discovery(parent: Release, values: Values) -> list[Object]:
    """The objects of the chart as a part of ``parent``, from the values of its block."""
    release = Release(parent.name, CHART, parent.namespace, VERSION)
    chosen = over(DEFAULTS, values)
    made = [service_account(release, name) for name in _accounts(release, chosen)]
    if chosen["master"]["enable"]:
        made += [_conf(release, "master", chosen), _deployment(release, "master", chosen)]
    if chosen["worker"]["enable"]:
        made += [_conf(release, "worker", chosen), _worker(release, chosen)]
    if chosen["gc"]["enable"]:
        made.append(_deployment(release, "gc", chosen))
    return made


def _accounts(release: Release, chosen: Values) -> list[str]:
    names = [
        _account(release, role, chosen)
        for role in ("master", "worker", "gc")
        if chosen[role]["enable"] and chosen[role]["serviceAccount"]["create"]
    ]
    return list(dict.fromkeys(names))


def _account(release: Release, role: str, chosen: Values) -> str:
    name: str = chosen[role]["serviceAccount"]["name"]
    return name or (release.full_name if role == "master" else f"{release.full_name}-{role}")


def _conf(release: Release, role: str, chosen: Values) -> Object:
    text = yaml.safe_dump(chosen[role]["config"] or None, sort_keys=False)
    return config_map(release, f"{release.full_name}-{role}-conf", {f"nfd-{role}.conf": text})


def _deployment(release: Release, role: str, chosen: Values) -> Object:
    arguments = [f"-extra-label-ns={','.join(names)}"] if (names := chosen[role].get("extraLabelNs")) else []
    volumes = [_conf_volume(release, role)] if role == "master" else []
    return _workload("Deployment", release, role, chosen, arguments, volumes, replicas=chosen[role]["replicaCount"])


def _worker(release: Release, chosen: Values) -> Object:
    volumes = [*(host_volume(name, path) for name, path, _ in _HOST), _conf_volume(release, "worker")]
    strategy = chosen["worker"]["updateStrategy"]
    return _workload("DaemonSet", release, "worker", chosen, ["-owner-refs=pod,ds"], volumes, updateStrategy=strategy)


def _conf_volume(release: Release, role: str) -> Object:
    return {"name": f"nfd-{role}-conf", "configMap": {"name": f"{release.full_name}-{role}-conf"}}


def _workload(
    kind: str, release: Release, role: str, chosen: Values, arguments: list[str], volumes: list[Object], **spec: Any
) -> Object:
    image, block = chosen["image"], chosen[role]
    mounts = {name: mount for name, _, mount in _HOST} | {f"nfd-{role}-conf": _CONF}
    container = {
        "name": role,
        "image": f"{image['repository']}:{image['tag'] or release.tag}",
        "imagePullPolicy": image["pullPolicy"],
        "command": [f"nfd-{role}"],
        "args": arguments,
        "env": [field_env("NODE_NAME", "spec.nodeName")],
        "ports": [{"containerPort": 8080, "name": "http"}],
        "resources": block["resources"],
        "securityContext": _HARDENED,
        "volumeMounts": [
            {"name": each["name"], "mountPath": mounts[each["name"]], "readOnly": True} for each in volumes
        ],
    }
    pod = {
        "serviceAccountName": _account(release, role, chosen),
        "dnsPolicy": "ClusterFirstWithHostNet",
        "containers": [container],
        "volumes": volumes,
        **given(chosen, "priorityClassName", "imagePullSecrets"),
        **given(block, "nodeSelector", "affinity", "tolerations"),
    }
    selector = {**release.selector, "role": role}
    return workload(
        kind, release, f"{release.full_name}-{role}", selector=selector, pod=pod, labels={"role": role}, **spec
    )

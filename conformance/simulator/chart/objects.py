"""What the charts have in common: a release and its labels, values over defaults, and plain objects of known kinds."""

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

Object = dict[str, Any]
Values = Mapping[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
PRIVILEGED = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
"""Labels of a namespace in which operands may run: they mount the host and run privileged."""


class ChartError(ValueError):
    """The values contradict each other, and the chart refuses them; the text says which and what to set."""


class Release(msgspec.Struct, frozen=True):
    """One installed chart. ``version`` is the chart's, which for all of these charts is the program's, too."""

    name: str
    chart: str
    namespace: str
    version: str

    @property
    def full_name(self) -> str:
        """How the names of a chart's objects begin: the release, and the chart unless the release is named for it."""
        return self.name if self.chart in self.name else f"{self.name}-{self.chart}"

    @property
    def tag(self) -> str:
        """The tag of the program's images."""
        return f"v{self.version.removeprefix('v')}"

    @property
    def selector(self) -> dict[str, str]:
        """The labels that all pods of the release carry."""
        return {NAME: self.chart, INSTANCE: self.name}

    @property
    def labels(self) -> dict[str, str]:
        """The labels that Helm's charts put on every object."""
        mark = f"{self.chart}-{self.version}"
        return {
            **self.selector,
            "helm.sh/chart": mark,
            "app.kubernetes.io/version": self.version,
            MANAGED_BY: "Helm",
        }


def over(defaults: Values, values: Values) -> dict[str, Any]:
    """Values over defaults as Helm merges them: mappings key by key, everything else replaced, null removes a key."""
    merged = copy.deepcopy(dict(defaults))
    for key, value in values.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = over(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def given(values: Values, *keys: str) -> Object:
    """Those of the keys that have a value; empty ones are left out, as the charts' templates do."""
    return {key: copy.deepcopy(values[key]) for key in keys if values.get(key)}


def named(kind: str, version: str, name: str, namespace: str = "", labels: Values | None = None, **more: Any) -> Object:
    """An object of a kind, with whatever else it holds at its top level."""
    metadata: Object = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def namespace(name: str) -> Object:
    """The namespace of a stack, whose pods may be privileged."""
    return named("Namespace", "v1", name, labels=PRIVILEGED)


def service_account(release: Release, name: str, **labels: str) -> Object:
    """A service account of the release."""
    return named("ServiceAccount", "v1", name, release.namespace, release.labels | labels)


def config_map(release: Release, name: str, data: Values) -> Object:
    """A ConfigMap of the release."""
    return named("ConfigMap", "v1", name, release.namespace, release.labels, data=dict(data))


def workload(
    kind: str,
    release: Release,
    name: str,
    *,
    selector: Values,
    pod: Values,
    labels: Values | None = None,
    pod_labels: Values | None = None,
    annotations: Values | None = None,
    **spec: Any,
) -> Object:
    """A Deployment or DaemonSet. ``pod`` is the pod's spec, ``pod_labels`` what its pods carry beside the selector."""
    metadata: Object = {"labels": {**(pod_labels or {}), **selector}}
    if annotations:
        metadata["annotations"] = dict(annotations)
    body = {"selector": {"matchLabels": dict(selector)}, "template": {"metadata": metadata, "spec": dict(pod)}}
    marks = {**release.labels, **(labels or {})}
    return named(kind, "apps/v1", name, release.namespace, marks, spec={**body, **spec})


def field_env(name: str, field: str) -> Object:
    """An environment variable that holds a field of its pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}


def environment_of(variables: Mapping[str, str]) -> list[Object]:
    """Variables as a container lists them."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def fields_of(variables: Mapping[str, str]) -> list[Object]:
    """Variables that hold fields of their pod, as a container lists them."""
    return [field_env(name, field) for name, field in variables.items()]


def config_manager_environment(default: str, fallbacks: str, process: str) -> list[Object]:
    """The variables of config-manager: once before the program starts, then beside it, signalling ``process``.

    Both charts with a device plugin have it. ``default`` is the configuration of nodes without a label, ``fallbacks``
    say what happens where there is none, by commas.
    """
    env = {
        "ONESHOT": "false" if process else "true",
        "KUBECONFIG": "",
        "NODE_LABEL": "nvidia.com/device-plugin.config",
        "CONFIG_FILE_SRCDIR": "/available-configs",
        "CONFIG_FILE_DST": "/config/config.yaml",
        "DEFAULT_CONFIG": default,
        "FALLBACK_STRATEGIES": fallbacks,
        "SEND_SIGNAL": "true" if process else "false",
        "SIGNAL": "1" if process else "",
        "PROCESS_TO_SIGNAL": process,
    }
    return [field_env("NODE_NAME", "spec.nodeName"), *environment_of(env)]


def host_volume(name: str, path: str) -> Object:
    """A volume that is a path of the host."""
    return {"name": name, "hostPath": {"path": path}}

"""Which text of the device plugin's ConfigMap the operator gives to a node, along the references from a ClusterPolicy.

Sources: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go (handleDevicePluginConfig);
NVIDIA/k8s-device-plugin v0.20.0, cmd/config-manager/main.go.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG
from conformance.gpu.plugin_config import PluginConfig, Problem, parse


class Chain(StrEnum):
    """Whether a configuration reaches a node along its references, and if not, how that ends."""

    APPLIED = "applied"
    NOT_CONFIGURED = "no ConfigMap is named"
    NOT_APPLIED = "silently not applied"
    BROKEN = "broken"
    """The next pod of the plugin does not become ready; a plugin that runs keeps what it has until it restarts."""
    UNKNOWN = "unknown"


class Selection(msgspec.Struct, frozen=True):
    """Which key of the ConfigMap a node gets, chosen by ``label`` or ``default``, or the first link that is broken."""

    outcome: Chain
    key: str = ""
    chosen_by: str = ""
    config: PluginConfig | None = None
    cause: str = ""
    hidden_because: str = ""
    remedy: str = ""
    problems: tuple[Problem, ...] = ()


def select(
    cluster_policy: object,
    config_map: Mapping[str, Any] | None,
    node_labels: Mapping[str, str],
    operator_namespace: str | None = None,
) -> Selection:
    """Follow the references from a ClusterPolicy over the ConfigMap that it names to the configuration of one node.

    ``config_map`` None says that the named ConfigMap does not exist. With ``operator_namespace`` a ConfigMap of
    another namespace counts as missing, as it does for the pods that mount it.
    """
    spec = mapping_at(cluster_policy, "spec")
    if spec is None:
        return Selection(Chain.UNKNOWN, cause="the ClusterPolicy has no spec that can be read")
    plugin = mapping_at(spec, "devicePlugin") or {}
    named = mapping_at(plugin, "config") or {}
    name, default = word(named.get("name")), word(named.get("default"))
    if plugin.get("enabled") is False:
        return Selection(Chain.NOT_CONFIGURED, cause="devicePlugin.enabled is false: no plugin is deployed")
    if not name:
        return _nothing_named(default, config_map)
    missing = missing_link(config_map, "devicePlugin.config.name", name, operator_namespace)
    if missing:
        hides = "pods that wait for a ConfigMap to mount say ContainerCreating, and the ClusterPolicy keeps its state"
        return Selection(Chain.BROKEN, "", "", None, missing, hides, f"create ConfigMap {name} before it is named")
    return _chosen(name, default, config_map or {}, word(node_labels.get(DEVICE_PLUGIN_CONFIG)))


def _nothing_named(default: str, config_map: Mapping[str, Any] | None) -> Selection:
    alone = f": devicePlugin.config.default {default} means nothing without it" if default else ""
    remedy = "set devicePlugin.config.name to the ConfigMap and devicePlugin.config.default to one of its keys"
    unused = f", and ConfigMap {name_of(config_map)} is used by nobody" if config_map else ""
    return Selection(Chain.NOT_CONFIGURED, cause=f"devicePlugin.config.name is empty{alone}{unused}", remedy=remedy)


def _chosen(name: str, default: str, config_map: Mapping[str, Any], label: str) -> Selection:
    keys, data = keys_of(config_map), mapping_at(config_map, "data") or {}
    listed = ", ".join(keys)
    key, chosen_by = (label, "label") if label else (default, "default" if default else "")
    if not keys:
        empty = f"ConfigMap {name} has no keys"
        return Selection(Chain.BROKEN, key, chosen_by, None, empty, "", "put a configuration under a key of its data")
    if not key:
        return Selection(
            Chain.NOT_APPLIED,
            cause=f"devicePlugin.config.default is empty and the node has no label {DEVICE_PLUGIN_CONFIG}",
            hidden_because=(
                "the operator's config-manager then falls back to an empty configuration and reports no error"
            ),
            remedy=f"set devicePlugin.config.default, or label the node, with one of: {listed}",
        )
    if key not in keys:
        source = f"label {DEVICE_PLUGIN_CONFIG}" if label else "devicePlugin.config.default"
        broken = f"{source} names the key {key}, which ConfigMap {name} does not have"
        return Selection(Chain.BROKEN, key, chosen_by, None, broken, "", f"use one of: {listed}")
    if key not in data:
        return Selection(Chain.UNKNOWN, key, chosen_by, None, f"key {key} of ConfigMap {name} is binary data")
    parsed = parse(data[key])
    if parsed.config is None:
        fatal = next(problem for problem in parsed.problems if problem.fatal)
        broken = f"key {key} of ConfigMap {name} is refused: {fatal}"
        return Selection(Chain.BROKEN, key, chosen_by, None, broken, "", "correct the text", parsed.problems)
    return Selection(Chain.APPLIED, key, chosen_by, parsed.config, problems=parsed.problems)


def missing_link(config_map: Mapping[str, Any] | None, setting: str, name: str, namespace: str | None) -> str:
    """Why the ConfigMap that ``setting`` names is not there; empty when it is."""
    if config_map is None:
        return f"{setting} names ConfigMap {name}, which does not exist"
    found = mapping_at(config_map, "metadata") or {}
    if found.get("name", name) != name:
        return f"{setting} names ConfigMap {name}, and only {found['name']} was found"
    place = found.get("namespace", namespace)
    if namespace and place != namespace:
        return f"{setting} names ConfigMap {name}, which is in namespace {place} and not in the operator's {namespace}"
    return ""


def name_of(config_map: Mapping[str, Any] | None) -> str:
    """The name of a ConfigMap; empty when it has none."""
    return word((mapping_at(config_map, "metadata") or {}).get("name"))


def keys_of(config_map: Mapping[str, Any]) -> list[str]:
    """The keys of a ConfigMap, each of which is a file where it is mounted."""
    return sorted({str(key) for part in ("data", "binaryData") for key in mapping_at(config_map, part) or {}})


def mapping_at(value: object, key: str) -> Mapping[str, Any] | None:
    """A member that is a mapping, of a value that may be none; None otherwise."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else None


def word(value: object) -> str:
    """A text as it is; empty for everything that is no text."""
    return value if isinstance(value, str) else ""

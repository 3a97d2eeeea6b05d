"""Which configuration a device plugin without ClusterPolicy gives to a node: label, default and fallbacks in turn.

Sources: NVIDIA/k8s-device-plugin v0.20.0, cmd/config-manager/main.go (updateConfigName) and
deployments/helm/nvidia-device-plugin (values.yaml: the fallbacks of the chart are named and single).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.gpu.labels import DEVICE_PLUGIN_CONFIG
from conformance.gpu.plugin_config import parse
from conformance.gpu.plugin_config_selection import Chain, Selection, keys_of, mapping_at, missing_link, word

NAMED = "default"
"""The key that the fallback ``named`` looks for."""


class ConfigChoice(msgspec.Struct, frozen=True):
    """What the pod template of a device plugin says about its configuration.

    ``by`` names the workload. ``fixed`` is a key that the plugin reads on every node, without a config-manager beside
    it. ``fallbacks`` are tried in turn where a node has no label and ``default`` is empty.
    """

    by: str
    config_map: str
    default: str = ""
    fallbacks: tuple[str, ...] = ()
    fixed: str = ""


def select(
    choice: ConfigChoice, config_map: Mapping[str, Any] | None, node_labels: Mapping[str, str], namespace: str
) -> Selection:
    """The configuration of one node, or the first link on the way to it that is broken.

    ``config_map`` None says that the ConfigMap does not exist; one of another namespace than the plugin's counts as
    missing.
    """
    missing = missing_link(config_map, f"a volume of {choice.by}", choice.config_map, namespace)
    if missing or config_map is None:
        hides = "pods that wait for a ConfigMap to mount say ContainerCreating"
        remedy = f"create ConfigMap {choice.config_map} in namespace {namespace}"
        return Selection(Chain.BROKEN, "", "", None, missing, hides, remedy)
    keys = keys_of(config_map)
    label = "" if choice.fixed else word(node_labels.get(DEVICE_PLUGIN_CONFIG))
    for key, source in ((choice.fixed, "CONFIG_FILE"), (label, "label"), (choice.default, "default")):
        if key:
            return _of_key(choice, config_map, key, source)
    for fallback in choice.fallbacks:
        if fallback == "named" and NAMED in keys:
            return _of_key(choice, config_map, NAMED, "fallback named")
        if fallback == "single" and len(keys) == 1:
            return _of_key(choice, config_map, keys[0], "fallback single")
        if fallback == "empty":
            return _nothing_applied(choice, keys)
    return _nothing_chosen(choice, keys)


def _nothing_applied(choice: ConfigChoice, keys: list[str]) -> Selection:
    return Selection(
        Chain.NOT_APPLIED,
        cause=f"{choice.by} has no default and the node has no label {DEVICE_PLUGIN_CONFIG}",
        hidden_because="the config-manager then falls back to an empty configuration and reports no error",
        remedy=f"set config.default of the chart, or label the node, with one of: {', '.join(keys) or 'none is there'}",
    )


def _nothing_chosen(choice: ConfigChoice, keys: list[str]) -> Selection:
    tried = f", and no fallback helps ({', '.join(choice.fallbacks)})" if choice.fallbacks else ""
    there = ", ".join(keys) or "none"
    return Selection(
        Chain.BROKEN,
        cause=f"nothing chooses among the keys of ConfigMap {choice.config_map}: the node has no label "
        f"{DEVICE_PLUGIN_CONFIG}, {choice.by} has no default{tried}",
        hidden_because="the config-manager ends with an error, and the plugin's pod never becomes ready",
        remedy=f"set config.default of the chart, or label the node, with one of: {there}",
    )


def _of_key(choice: ConfigChoice, config_map: Mapping[str, Any], key: str, source: str) -> Selection:
    name, data = choice.config_map, mapping_at(config_map, "data") or {}
    keys = keys_of(config_map)
    if key not in keys:
        broken = f"{source} names the key {key}, which ConfigMap {name} does not have"
        listed = ", ".join(keys) or "none is there"
        return Selection(Chain.BROKEN, key, source, None, broken, "", f"use one of: {listed}")
    if key not in data:
        return Selection(Chain.UNKNOWN, key, source, None, f"key {key} of ConfigMap {name} is binary data")
    parsed = parse(data[key])
    if parsed.config is None:
        fatal = next(problem for problem in parsed.problems if problem.fatal)
        broken = f"key {key} of ConfigMap {name} is refused: {fatal}"
        return Selection(Chain.BROKEN, key, source, None, broken, "", "correct the text", parsed.problems)
    return Selection(Chain.APPLIED, key, source, parsed.config, problems=parsed.problems)

"""Helm values of NVIDIA's charts for a reference set-up: what its owners would give to ``helm install -f``.

Sources of the keys: NVIDIA/gpu-operator v26.7.0, deployments/gpu-operator, with node-feature-discovery 0.19.0 below it;
NVIDIA/k8s-device-plugin v0.20.0, deployments/helm/nvidia-device-plugin; kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1
and v25.12.0, deployments/helm.
"""

import copy
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from conformance.gpu.labels import CPU_VENDOR, DEPLOY_DRIVER, DEPLOY_OPERANDS, GPU_PRESENT, PCI_PRESENT
from conformance.gpu.resources import GPU
from conformance.gpu.taints import Taint, tolerates, toleration_from
from conformance.reference.model import Reference
from conformance.reference.stack import Stack

__all__ = ["DRIVER_ROOT", "device_plugin_values", "dra_driver_values", "gpu_operator_values", "merged"]

Values = dict[str, Any]

DRIVER_ROOT = "/run/nvidia/driver"
"""Where the driver container of the operator leaves the driver on a node; a driver of the host itself is at ``/``."""

_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_GPU = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
_CRITICAL = {"key": "CriticalAddonsOnly", "operator": "Exists"}
# An override replaces the chart's list, so each of these repeats the list that it replaces.
_OF_OPERANDS = (_GPU,)
_OF_DISCOVERY = ({"key": _CONTROL_PLANE, "operator": "Equal", "value": "", "effect": "NoSchedule"}, _GPU)
_OF_PLUGIN = (_CRITICAL, _GPU)
_OF_PLUGIN_DISCOVERY = (
    {"key": "node-role.kubernetes.io/master", "operator": "Equal", "value": "", "effect": "NoSchedule"},
    {"key": GPU, "operator": "Equal", "value": "present", "effect": "NoSchedule"},
)
_OF_DRA = (_GPU,)
# Uninstalled, the chart would remove every label, annotation, extended resource and taint of Node Feature Discovery
# from every node, whoever wrote it (node-feature-discovery v0.19.0: templates/post-delete-job.yaml, nfd-master -prune).
_WITHOUT_PRUNING = {"postDeleteCleanup": False}
# With one of these at false a node gets no driver from the operator.
_WITHOUT_DRIVER = (DEPLOY_OPERANDS, DEPLOY_DRIVER)
# By one of these the plugin's chart knows a node with GPUs.
_GPU_NODES = (
    (PCI_PRESENT[0], "true"),
    (CPU_VENDOR, "NVIDIA"),
    (GPU_PRESENT, "true"),
)


def gpu_operator_values(reference: Reference) -> Values:
    """Values of the chart gpu-operator. Raises ValueError for a set-up that declares no stack.

    Every taint of every GPU pool is tolerated by the operands and by Node Feature Discovery: where one of the two is
    missing, the nodes get no operand and the operator still says ready.
    """
    stack = _stack(reference)
    values: Values = {
        "driver": {"enabled": stack.driver_managed},
        "toolkit": {"enabled": stack.toolkit},
        "devicePlugin": {"enabled": True},
        "gfd": {"enabled": stack.gpu_feature_discovery},
        "dcgmExporter": {"enabled": stack.dcgm_exporter},
        "migManager": {"enabled": stack.mig_manager},
        # Also when it is empty: the chart's default would outrank what the plugin's configurations say.
        "mig": {"strategy": stack.mig_strategy},
        "daemonsets": {"tolerations": tolerations(reference, _OF_OPERANDS)},
        "node-feature-discovery": {
            **_WITHOUT_PRUNING,
            "worker": {"tolerations": tolerations(reference, _OF_DISCOVERY)},
        },
    }
    if stack.driver_managed and stack.driver:
        values["driver"]["version"] = stack.driver
    if stack.plugin_configs is not None:
        configs = stack.plugin_configs
        values["devicePlugin"]["config"] = {"create": False, "name": configs.config_map, "default": configs.default}
    if stack.mig_layouts is not None:
        values["migManager"]["config"] = {"create": False, "name": stack.mig_layouts.config_map}
    return merged(values, stack.values)


def device_plugin_values(reference: Reference) -> Values:
    """Values of the chart nvidia-device-plugin. Raises ValueError for a set-up that declares no stack.

    Node Feature Discovery comes along in any case: the plugin goes only to nodes that it has labelled.
    """
    stack = _stack(reference)
    values: Values = {
        "gfd": {"enabled": stack.gpu_feature_discovery},
        "tolerations": tolerations(reference, _OF_PLUGIN),
        "nfd": {
            "enabled": True,
            **_WITHOUT_PRUNING,
            "worker": {"tolerations": tolerations(reference, _OF_PLUGIN_DISCOVERY)},
        },
    }
    if stack.mig_strategy:
        values["migStrategy"] = stack.mig_strategy
    if stack.plugin_configs is not None:
        values["config"] = {"name": stack.plugin_configs.config_map, "default": stack.plugin_configs.default}
    if elsewhere := _dra_selectors(reference):
        values["affinity"] = _away_from(elsewhere)
    return merged(values, stack.values)


def dra_driver_values(reference: Reference) -> Values:
    """Values of the chart of the DRA driver, beside a stack or as the stack itself.

    Raises ValueError for a set-up that declares neither.
    """
    stack = _stack(reference)
    alone = stack.kind == "dra-driver"
    if not alone and stack.dra is None:
        raise ValueError(f"{reference} declares no DRA driver: give its stack a 'dra'")
    plugin: Values = {"tolerations": tolerations(reference, _OF_DRA)}
    values: Values = {
        "gpuResourcesEnabledOverride": True,
        "nvidiaDriverRoot": DRIVER_ROOT if _brings_driver(reference, stack) else "/",
        "kubeletPlugin": plugin,
    }
    if stack.dra is not None and stack.dra.node_selector:
        plugin["nodeSelector"] = dict(stack.dra.node_selector)
    if stack.dra is not None:
        values = merged(values, stack.dra.values)
    return merged(values, stack.values) if alone else values


def tolerations(reference: Reference, defaults: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The chart's own tolerations, and those that the GPU pools need beside them: declared ones, else by taint."""
    stack = _stack(reference)
    found = [dict(each) for each in defaults]
    found += [dict(each) for each in stack.tolerations if dict(each) not in found]
    if stack.tolerations:
        return found
    for pool in reference.gpu_pools:
        for taint in pool.taints:
            wanted = Taint(taint.key, taint.value, taint.effect)
            if not tolerates([toleration_from(each) for each in found], wanted):
                found.append(_tolerating(wanted))
    return found


def merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> Values:
    """``more`` over ``values`` as Helm merges two files of values: mappings key by key, all else replaced."""
    result = copy.deepcopy(dict(values))
    for key, value in more.items():
        below = result.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = merged(below, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def _stack(reference: Reference) -> Stack:
    if reference.stack is None:
        raise ValueError(f"{reference} declares no GPU stack: give it a 'stack', see docs/deploying-the-stack.md")
    return reference.stack


def _tolerating(taint: Taint) -> dict[str, Any]:
    how = {"operator": "Equal", "value": taint.value} if taint.value else {"operator": "Exists"}
    return {"key": taint.key, **how, "effect": taint.effect}


def _brings_driver(reference: Reference, stack: Stack) -> bool:
    """Whether the operator's container brings the driver to pools that DRA serves; else it is on their hosts."""
    pools = [pool for pool in reference.gpu_pools if pool.gpu is not None and pool.gpu.allocated_by == "dra"]
    kept_off = [any(pool.labels.get(label) == "false" for label in _WITHOUT_DRIVER) for pool in pools]
    return stack.kind == "gpu-operator" and stack.driver_managed and not (kept_off and all(kept_off))


def _dra_selectors(reference: Reference) -> list[dict[str, str]]:
    return [pool.selector for pool in reference.gpu_pools if pool.gpu is not None and pool.gpu.allocated_by == "dra"]


def _away_from(selectors: list[dict[str, str]]) -> Values:
    """The affinity of the chart for nodes with GPUs, less those of pools whose GPUs DRA allocates.

    A node belongs to a pool when all labels of its selector match; it stands outside when one of them does not, so
    that each way to stand outside of all of these pools is a term of its own.
    """
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": [value]},
                *({"key": label, "operator": "NotIn", "values": [text]} for label, text in outside),
            ]
        }
        for key, value in _GPU_NODES
        for outside in product(*(selector.items() for selector in selectors))
    ]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}

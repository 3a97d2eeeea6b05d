"""The objects that a declared GPU stack finds in its namespace when it is installed: configurations and MIG layouts."""

from collections.abc import Iterable
from typing import Any

from conformance.gpu.mig import model_of
from conformance.gpu.mig_config import CONFIG_KEY, Entry
from conformance.gpu.mig_layouts import standard_layout
from conformance.reference import simulated_plugin
from conformance.reference.model import Reference
from conformance.reference.objects import Object
from conformance.reference.stack import MigLayouts, PluginConfigs

__all__ = ["layouts_text", "stack_objects"]

_MODES = ("enforce", "audit", "warn")
_NO_MIG = "all-disabled"
"""The layout that the operator gives to nodes that choose none."""


def stack_objects(reference: Reference) -> list[Object]:
    """The namespaces of the stack, those of teams left out, and its ConfigMaps, without our own labels.

    Of a simulated device plugin it is everything: no chart brings it.
    Operands mount the host and run privileged, which Pod Security admission has to allow in their namespace.
    """
    stack = reference.stack
    if stack is None:
        return []
    beside = [stack.dra.namespace] if stack.dra is not None and stack.kind != "dra-driver" else []
    names = dict.fromkeys([stack.namespace, *beside])
    made = [_namespace(name) for name in names if reference.team(name) is None]
    if stack.plugin_configs is not None and stack.kind != "dra-driver":
        made.append(_plugin_configs(stack.plugin_configs, stack.namespace))
    if stack.kind == simulated_plugin.KIND:
        made += simulated_plugin.plugin_objects(reference, stack)
    if stack.mig_layouts is not None and stack.kind == "gpu-operator":
        made.append(_mig_layouts(reference, stack.mig_layouts, stack.namespace))
    return made


def layouts_text(reference: Reference, declared: MigLayouts) -> str:
    """The text of the MIG ConfigMap: the declared layouts and those of NVIDIA's that are needed beside them.

    A ConfigMap of one's own replaces the layouts that the MIG manager generates. The one by which a node has no MIG
    devices is always needed, and so is what pools ask for without declaring it.
    """
    layouts: dict[str, list[dict[str, Any]]] = {name: list(entries) for name, entries in declared.layouts.items()}
    for pool in reference.gpu_pools:
        gpu, name = pool.gpu, pool.mig_layout
        if gpu is not None and name and name not in layouts:
            entries = standard_layout(name, model_of(gpu.product, gpu.memory_mib or None))
            if entries is not None:
                layouts[name] = [_plain(entry) for entry in entries]
    layouts.setdefault(_NO_MIG, [{"devices": "all", "mig-enabled": False}])
    return _yaml({"version": "v1", "mig-configs": layouts})


def _namespace(name: str) -> Object:
    labels = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in _MODES}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _plugin_configs(declared: PluginConfigs, namespace: str) -> Object:
    texts = ((key, _yaml(config)) for key, config in declared.configs.items())
    return _config_map(declared.config_map, namespace, texts)


def _mig_layouts(reference: Reference, declared: MigLayouts, namespace: str) -> Object:
    return _config_map(declared.config_map, namespace, [(CONFIG_KEY, layouts_text(reference, declared))])


def _config_map(name: str, namespace: str, texts: Iterable[tuple[str, str]]) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(texts)}


def _plain(entry: Entry) -> dict[str, Any]:
    """An entry as nvidia-mig-parted reads it."""
    made: dict[str, Any] = {"devices": "all" if entry.devices is None else list(entry.devices)}
    made["mig-enabled"] = entry.mig_enabled
    if entry.mig_enabled:
        made["mig-devices"] = dict(entry.mig_devices)
    return made


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False)
    return text

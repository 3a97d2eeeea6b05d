"""Node Feature Discovery: what its workers find on their nodes, as labels.

A worker labels its node while its pod is ready. The labels stay when it goes: with NFD they are kept by NodeFeature
objects, which outlive the pods. NodeFeature objects themselves are not written, nobody else reads them.

Source: kubernetes-sigs/node-feature-discovery v0.19.0, docs/usage/features.md and
docs/reference/worker-configuration-reference.md: PCI labels are named by the fields of deviceLabelFields.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from conformance.kube.paths import path
from conformance.simulator.agents import is_ready
from conformance.simulator.clusterpolicy import mapping
from conformance.simulator.hardware import machine_of
from conformance.simulator.world import Object, World

PREFIX = "feature.node.kubernetes.io/"
OS_ID, OS_VERSION = f"{PREFIX}system-os_release.ID", f"{PREFIX}system-os_release.VERSION_ID"

_PCI = f"{PREFIX}pci-"
_VENDOR = "10de"
# Data-centre GPUs are 3D controllers to the bus. The device and subsystem of a model stand in no table of ours.
_FIELDS = {
    "class": "0302",
    "vendor": _VENDOR,
    "device": "0000",
    "subsystem_vendor": _VENDOR,
    "subsystem_device": "0000",
}
_DEFAULT_FIELDS = ("class", "vendor")
_CONFIG_KEY = "nfd-worker.conf"
_OS = re.compile(r"(?P<name>[^0-9]+)(?P<version>[0-9]+(?:\.[0-9]+)*)?")
_IDS = {
    "red hat enterprise linux coreos": "rhcos",
    "red hat enterprise": "rhel",
    "amazon": "amzn",
    "oracle": "ol",
    "container-optimized os": "cos",
}
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


class NodeFeatureDiscovery:
    """Labels a node with what the NFD worker on it finds. A key is the name of a node."""

    name = "nfd"
    watches = ("Node", "Pod", "ConfigMap")

    def __init__(self, world: World) -> None:
        self._world = world

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The node of a worker, a node, and the nodes of the workers that a ConfigMap configures."""
        if kind == "Node":
            return () if deleted else (obj["metadata"]["name"],)
        if kind == "Pod":
            node = obj["spec"].get("nodeName")
            return (node,) if node and not deleted and is_worker(obj) else ()
        if _CONFIG_KEY not in (obj.get("data") or {}):
            return ()
        workers = (pod for pod in self._world.all("Pod", obj["metadata"]["namespace"]) if is_worker(pod))
        return [node for pod in workers if (node := pod["spec"].get("nodeName"))]

    def reconcile(self, key: str) -> float | None:
        """Bring a node's labels in order where a worker is ready."""
        node = self._world.get("Node", key)
        worker = next((pod for pod in self._world.pods_on(key) if is_worker(pod) and is_ready(pod)), None)
        if node is None or worker is None or worker["metadata"].get("deletionTimestamp"):
            return None
        has = node["metadata"].get("labels") or {}
        wanted = dict(self._found(node, worker))
        stale = {label: None for label in has if label.startswith(_PCI) and _VENDOR in label and label not in wanted}
        changed = {label: value for label, value in wanted.items() if has.get(label) != value} | stale
        if changed:
            self._world.client.patch(path("Node", name=key), {"metadata": {"labels": changed}})
        return None

    def _found(self, node: Object, worker: Object) -> Iterable[tuple[str, str]]:
        yield from _system(mapping(mapping(node.get("status")).get("nodeInfo")))
        machine = machine_of(node)
        if machine is not None and machine.present:
            fields = _label_fields(self._config(worker))
            yield f"{_PCI}{'_'.join(_FIELDS[field] for field in fields)}.present", "true"

    def _config(self, worker: Object) -> Mapping[str, Any]:
        """What the worker's ConfigMap says; nothing for one that cannot be read, as the worker itself does."""
        for volume in worker["spec"].get("volumes") or ():
            name = mapping(volume.get("configMap")).get("name")
            found = self._world.get("ConfigMap", str(name), worker["metadata"]["namespace"]) if name else None
            text = mapping((found or {}).get("data")).get(_CONFIG_KEY)
            if text is not None:
                try:
                    return mapping(yaml.safe_load(text))
                except yaml.YAMLError:
                    return {}
        return {}


def is_worker(pod: Object) -> bool:
    """Whether a pod is that of an NFD worker, by its labels or its name."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    labelled = labels.get("app.kubernetes.io/name") == "node-feature-discovery" and labels.get("role") == "worker"
    return labelled or "node-feature-discovery-worker" in metadata["name"]


def _label_fields(config: Mapping[str, Any]) -> Sequence[str]:
    pci = mapping(mapping(config.get("sources")).get("pci"))
    given = pci.get("deviceLabelFields")
    fields = [field for field in given if field in _FIELDS] if isinstance(given, list) else []
    # NFD orders them by itself, and falls back to its default where it knows none of them.
    return [field for field in _FIELDS if field in fields] or _DEFAULT_FIELDS


def _system(software: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    kernel = _ODD.sub("_", str(software.get("kernelVersion") or ""))
    if kernel:
        yield f"{PREFIX}kernel-version.full", kernel
        for name, number in zip(("major", "minor", "revision"), re.findall(r"[0-9]+", kernel)[:3], strict=False):
            yield f"{PREFIX}kernel-version.{name}", number
    matched = _OS.match(str(software.get("osImage") or ""))
    if matched is None:
        return
    name = matched["name"].strip().lower()
    yield OS_ID, next((known for start, known in _IDS.items() if name.startswith(start)), name.partition(" ")[0])
    version = ".".join((matched["version"] or "").split(".")[:2])
    if version:
        yield OS_VERSION, version
        for part, number in zip(("major", "minor"), version.split("."), strict=False):
            yield f"{OS_VERSION}.{part}", number

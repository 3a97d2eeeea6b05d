"""Actor ``dra``: the kubelet plugin of NVIDIA's DRA driver on each node, and the kubelet's share in it.

The plugin publishes the node's devices in a ResourceSlice and prepares claims. Allocating is the scheduler's, claims
from templates and their end are the controller manager's business, as on any cluster.
Sources: kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1, cmd/gpu-kubelet-plugin and its chart; kubernetes/kubernetes,
pkg/kubelet/cm/dra/plugin (wiping slices) and staging/src/k8s.io/dynamic-resource-allocation/resourceslice.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conformance.kube.paths import path
from conformance.simulator import agents
from conformance.simulator.agents import Agent
from conformance.simulator.annotations import CLAIMED, SIMULATED, SIMULATED_VALUE, annotation
from conformance.simulator.devices import Claimed
from conformance.simulator.dra_claims import (
    DOMAIN_DRIVER,
    as_annotations,
    has_claims,
    pools_of,
    prepared,
    users_of,
    waits,
)
from conformance.simulator.dra_devices import DRIVER, devices, uuids
from conformance.simulator.geometry import geometry_of
from conformance.simulator.hardware import HARDWARE, Machine, machine_of
from conformance.simulator.pod_failures import Kind, PodFailure, show_failure
from conformance.simulator.world import Object, World

GPU_CONTAINER, DOMAIN_CONTAINER = "gpus", "compute-domains"
_CONTAINERS = frozenset((GPU_CONTAINER, DOMAIN_CONTAINER))
_DRIVERS = {GPU_CONTAINER: DRIVER, DOMAIN_CONTAINER: DOMAIN_DRIVER}
_NAMED = ("dra-driver", "kubelet-plugin")
_HOST_ROOT, _OPERATOR_ROOT = "/", "/run/nvidia/driver"
_HEALTH_GATE = "NVMLDeviceHealthCheck=true"

_WIPED_AFTER = 3.0
"""How long (seconds) slices outlive their plugin, so that an update of it does not take the devices away. The kubelet
gives it 30 seconds; time runs fast here."""


class DraDriver:
    """The kubelet plugin of every node. A key is the name of a node."""

    name = "dra"
    watches = ("Node", "Pod", "ResourceSlice", "ResourceClaim")

    def __init__(self, world: World) -> None:
        self._world = world
        # Since when a node that has a slice has no plugin. Keys are served one after the other.
        self._orphaned: dict[str, float] = {}
        # What was last sent and what the API server kept of it: it fills in defaults and drops fields that are off.
        self._sent: dict[str, tuple[Object, Object]] = {}

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The nodes that a change bears on."""
        if kind == "Node":
            return (obj["metadata"]["name"],) if agents_may_run(obj) or annotation(obj, HARDWARE) else ()
        if kind == "Pod":
            node = obj["spec"].get("nodeName")
            return (node,) if node and (has_claims(obj) or _concerns(obj)) else ()
        if kind == "ResourceSlice":
            node = obj["spec"].get("nodeName")
            return (node,) if node and obj["spec"]["driver"] == DRIVER else ()
        return self._nodes_of(obj)

    def _nodes_of(self, claim: Object) -> set[str]:
        namespace = claim["metadata"]["namespace"]
        pods = (self._world.get("Pod", name, namespace) for name in users_of(claim))
        return pools_of(claim) | {pod["spec"]["nodeName"] for pod in pods if pod and pod["spec"].get("nodeName")}

    def reconcile(self, key: str) -> float | None:
        """Publish what one node has, and prepare the pods that wait there. Raises KubeError."""
        node = self._world.get("Node", key)
        machine = None if node is None else machine_of(node)
        if node is None:
            self._sent.pop(key, None)
            return None
        plugin = _plugin_on(self._world, key)
        if not agents_may_run(node):
            works = plugin is not None and machine is not None and self._works(plugin, key, machine)
            return self._tell_plugin(node, plugin if works else None, machine)
        found: list[Object] | None = None
        if plugin is not None and machine is not None and self._works(plugin, key, machine):
            found = self._devices(plugin, node, machine)
        self._prepare(key, uuids(found or []), () if plugin is None or not plugin.ready else _drivers_of(plugin))
        if found is None:
            return self._wipe(key)
        self._orphaned.pop(key, None)
        self._publish(node, found)
        return None

    def _works(self, plugin: Agent, node: str, machine: Machine) -> bool:
        """Whether the plugin finds a driver; its init container looks for one until it does."""
        root = agents.environment(plugin.container).get("NVIDIA_DRIVER_ROOT")
        there = _HOST_ROOT if machine.driver else _OPERATOR_ROOT
        driver = agents.driver_of(self._world, node, machine)
        if root is not None:
            message = f"nvidia-smi: no such file below driver root {root}"
            failure = None if driver and root == there else PodFailure(Kind.INIT, message, _first_container(plugin))
            show_failure(self._world.client, plugin, failure)
            if failure is not None:
                return False
        return bool(driver) and plugin.ready and plugin.container["name"] == GPU_CONTAINER

    def _tell_plugin(self, node: Object, plugin: Agent | None, machine: Machine | None) -> float | None:
        """Have the DRA plugin of a real node work while the stack's does, and how long to wait until it is to end."""
        name = node["metadata"]["name"]
        text = None
        if plugin is not None and machine is not None:
            claimed = Claimed(agents.driver_of(self._world, name, machine), _checks_health(plugin))
            text = msgspec.json.encode(claimed).decode()
        before = annotation(node, CLAIMED) or None
        if text == before:
            self._orphaned.pop(name, None)
            return None
        if text is None and (left := self._orphaned_for(name)) > 0:
            return left
        self._orphaned.pop(name, None)
        self._world.client.patch(path("Node", name=name), {"metadata": {"annotations": {CLAIMED: text}}})
        return None

    def _devices(self, plugin: Agent, node: Object, machine: Machine) -> list[Object]:
        name = node["metadata"]["name"]
        driver = agents.driver_of(self._world, name, machine)
        return devices(name, machine, geometry_of(node), driver, health=_checks_health(plugin))

    def _publish(self, node: Object, found: list[Object]) -> None:
        wanted = _slice(node, found)
        name = wanted["metadata"]["name"]
        present = self._world.get("ResourceSlice", name)
        sent = self._sent.get(name)
        if present is not None and sent is not None and sent[0] == wanted["spec"] and sent[1] == present["spec"]:
            return
        if present is not None and present["spec"] == wanted["spec"]:
            return
        kept = self._world.client.apply(wanted, manager="gpu-conformance-simulator", force=True)
        self._sent[name] = (wanted["spec"], kept["spec"])

    def _wipe(self, node: str) -> float | None:
        """Take a slice away that has had no plugin for long enough; how long that still takes."""
        name = slice_name(node)
        if self._world.get("ResourceSlice", name) is None:
            self._orphaned.pop(node, None)
            return None
        if (left := self._orphaned_for(node)) > 0:
            return left
        self._world.client.delete(path("ResourceSlice", name=name))
        return None

    def _orphaned_for(self, node: str) -> float:
        """How long what a node's plugin has published may still stay without one; 0 or less when it may not."""
        return self._orphaned.setdefault(node, time.monotonic()) + _WIPED_AFTER - time.monotonic()

    def _prepare(self, node: str, known: Mapping[str, str], drivers: Iterable[str]) -> None:
        for pod in self._world.pods_on(node):
            if not waits(pod):
                continue
            given = prepared(self._world, pod, known, frozenset(drivers))
            if given is not None:
                text = msgspec.json.encode(given).decode()
                # With the uid, so that a pod that has taken the name of this one meanwhile is not meant.
                metadata = {"uid": pod["metadata"]["uid"], "annotations": as_annotations(text)}
                self._world.client.patch(_path(pod), {"metadata": metadata})


def agents_may_run(node: Object) -> bool:
    """Whether the kubelet of a node is simulated; real ones prepare claims themselves."""
    return annotation(node, SIMULATED) == SIMULATED_VALUE


def is_kubelet_plugin(pod: Object) -> bool:
    """Whether a pod is the kubelet plugin of NVIDIA's DRA driver."""
    owners = pod["metadata"].get("ownerReferences") or ()
    ours = any(each["kind"] == "DaemonSet" and all(word in each["name"] for word in _NAMED) for each in owners)
    return ours and any(container["name"] in _CONTAINERS for container in pod["spec"]["containers"])


def slice_name(node: str) -> str:
    """The name of a node's slice."""
    return f"{node}-{DRIVER}"


def _concerns(pod: Object) -> bool:
    """Whether the plugin depends on a pod: it is the plugin, or brings the driver."""
    return agents.is_one_of(pod, _CONTAINERS)


def _plugin_on(world: World, node: str) -> Agent | None:
    """The plugin's pod with its container for GPUs, if it has one; of two pods the one that is ready."""
    found = []
    for pod in world.pods_on(node):
        gone = pod["metadata"].get("deletionTimestamp") or agents.phase_of(pod) in ("Succeeded", "Failed")
        if is_kubelet_plugin(pod) and not gone:
            containers = [each for each in pod["spec"]["containers"] if each["name"] in _CONTAINERS]
            found.append(Agent(pod, max(containers, key=lambda each: str(each["name"]) == GPU_CONTAINER)))
    return max(found, key=lambda each: each.ready, default=None)


def _checks_health(plugin: Agent) -> bool:
    return _HEALTH_GATE in agents.environment(plugin.container).get("FEATURE_GATES", "")


def _drivers_of(plugin: Agent) -> tuple[str, ...]:
    names = {container["name"] for container in plugin.pod["spec"]["containers"]}
    return tuple(driver for container, driver in _DRIVERS.items() if container in names)


def _first_container(plugin: Agent) -> str:
    return str(next(iter(plugin.containers))["name"])


def _slice(node: Object, found: list[Object]) -> Object:
    metadata = node["metadata"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    spec: dict[str, Any] = {
        "driver": DRIVER,
        "nodeName": metadata["name"],
        "pool": {"name": metadata["name"], "generation": 1, "resourceSliceCount": 1},
        "devices": found,
    }
    named = {"name": slice_name(metadata["name"]), "ownerReferences": [owner]}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": named, "spec": spec}


def _path(pod: Object) -> str:
    return path("Pod", namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"])

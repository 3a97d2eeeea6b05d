"""Actor ``plugin``: NVIDIA's device plugin on each node, which says what the node offers under which name.

Source: NVIDIA/k8s-device-plugin v0.20.0, internal/rm (device_map.go, rm.go), internal/plugin (mps.go, server.go).
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from conformance.kube.paths import path
from conformance.simulator import agents
from conformance.simulator.agents import Agent
from conformance.simulator.annotations import OFFERED, annotation
from conformance.simulator.configured import Configurations, Configured, Started, crash, note_started
from conformance.simulator.devices import Device, Offer, Offered, Registrations
from conformance.simulator.geometry import Geometry, geometry_of, is_whole
from conformance.simulator.hardware import Machine, gpu_uuid, machine_of, mig_uuid
from conformance.simulator.mps import daemon_serves
from conformance.simulator.plugin_settings import GPU, MIG_PREFIX, MPS, NONE, SINGLE, Refused, Settings
from conformance.simulator.pod_failures import Kind, show_failure
from conformance.simulator.world import Object, World

Devices = dict[str, tuple[Device, ...]]
"""The devices of a node before sharing, by resource."""

_BLIND = "plugin-blind"


def offers(node: str, machine: Machine, geometry: Geometry, settings: Settings) -> dict[str, Offer]:
    """What the plugin offers on a node, MPS daemon or not. Raises Refused where it ends with an error instead."""
    physical = _physical(node, machine, geometry, settings.mig_strategy)
    sharing = settings.sharing
    if sharing.strategy == MPS and any(device.profile for devices in physical.values() for device in devices):
        raise Refused("sharing using MPS is not supported for MIG devices")
    found = {}
    for resource, devices in physical.items():
        replicas = sharing.replicas(resource)
        if replicas < 2:
            found[resource] = Offer(devices, mps=sharing.strategy == MPS)
            continue
        replicated = tuple(_replica(device, number) for device in devices for number in range(replicas))
        found[sharing.name(resource)] = Offer(replicated, True, sharing.refuses_many, sharing.strategy == MPS)
    return found


def _replica(device: Device, number: int) -> Device:
    return msgspec.structs.replace(device, id=f"{device.id}::{number}")


def _physical(node: str, machine: Machine, geometry: Geometry, strategy: str) -> Devices:
    cut = {} if strategy == NONE else {index: geometry[index] for index in machine.present if index in geometry}
    whole = tuple(_gpu(node, machine, index) for index in machine.present if index not in cut)
    parts = [device for index, layout in cut.items() for device in _parts(node, machine, index, layout)]
    if strategy == SINGLE:
        _check_uniform(bool(whole), cut)
        return {GPU: (*whole, *parts)} if whole or parts else {}
    return ({GPU: whole} if whole else {}) | _by_profile(parts)


def _gpu(node: str, machine: Machine, index: int) -> Device:
    uuid = gpu_uuid(node, index)
    return Device(uuid, uuid, index, healthy=index not in machine.unhealthy)


def _parts(node: str, machine: Machine, index: int, layout: Mapping[str, int]) -> Iterable[Device]:
    for profile, count in layout.items():
        for number in range(count):
            uuid = mig_uuid(node, index, profile, number)
            yield Device(uuid, uuid, index, profile, index not in machine.unhealthy)


def _check_uniform(any_whole: bool, cut: Geometry) -> None:
    empty = [index for index, layout in cut.items() if not any(layout.values())]
    invalid = "error building MIG device map: invalid MIG configuration"
    if empty:
        raise Refused(
            f"{invalid}: at least one device with migEnabled=true was not configured correctly: "
            f"device {empty[0]} has no MIG devices configured"
        )
    if len({profile for layout in cut.values() for profile, count in layout.items() if count}) > 1:
        raise Refused(f"{invalid}: more than one MIG device type present on node")
    if any_whole and cut:
        raise Refused("all devices on the node must be configured with the same migEnabled value")


def _by_profile(parts: Iterable[Device]) -> Devices:
    found: Devices = {}
    for device in parts:
        if not is_whole(device.profile):
            raise Refused(f"MIG profile '{device.profile}' does not match any resource patterns")
        resource = f"{MIG_PREFIX}{device.profile.replace('+', '.')}"
        found[resource] = (*found.get(resource, ()), device)
    return found


class DevicePlugin:
    """The plugin of every node. ``wake`` has the kubelet of a node look at what has changed there."""

    name = "plugin"
    watches = ("Node", "Pod", "ConfigMap", "DaemonSet")

    def __init__(self, world: World, registrations: Registrations, wake: Callable[[str, str], None]) -> None:
        self._world = world
        self._registrations = registrations
        self._wake = wake
        self._configurations = Configurations(world, agents.PLUGIN, agents.MPS_DAEMON)

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The nodes that a change bears on."""
        return self._configurations.nodes(kind, obj)

    def reconcile(self, key: str) -> float | None:
        """Register what the plugin of one node offers now. Raises KubeError."""
        node = self._world.get("Node", key)
        plugin = agents.agent_on(self._world, key, agents.PLUGIN)
        machine = None if node is None else machine_of(node)
        found: dict[str, Offer] = {}
        if node is not None and plugin is not None and machine is not None:
            found = self._offers(plugin, node, machine)
        if node is not None and machine is not None and not agents.is_played(self._world, key):
            self._tell_plugin(node, machine, found)
        elif self._registrations.register(key, found):
            self._wake("kubelet", key)
        return None

    def _tell_plugin(self, node: Object, machine: Machine, found: dict[str, Offer]) -> None:
        """Have the device plugin of a real node offer what the stack's plugin is configured for."""
        offered = Offered(agents.driver_of(self._world, node["metadata"]["name"], machine), found)
        text = msgspec.json.encode(offered).decode() if found or offered.driver else None
        if (annotation(node, OFFERED) or None) != text:
            self._world.client.patch(
                path("Node", name=node["metadata"]["name"]), {"metadata": {"annotations": {OFFERED: text}}}
            )

    def _offers(self, plugin: Agent, node: Object, machine: Machine) -> dict[str, Offer]:
        name = node["metadata"]["name"]
        configured = self._configurations.of(plugin, node)
        has_driver = bool(agents.driver_of(self._world, name, machine))
        found: dict[str, Offer] = {}
        started = self._seen(plugin, name, machine, configured)
        try:
            if configured.settings is not None and has_driver and _BLIND not in machine.broken:
                seen = msgspec.structs.replace(machine, unhealthy=started.unhealthy)
                found = offers(name, seen, geometry_of(node), configured.settings)
        except Refused as refusal:
            configured = Configured(None, crash(plugin, refusal))
        show_failure(self._world.client, plugin, configured.failure)
        if not _serves(plugin, configured):
            return {}
        if plugin.ready and started != configured.started:
            note_started(self._world, plugin, started)
        return found if started.met_daemon or not _uses_mps(configured) else {}

    def _seen(self, plugin: Agent, node: str, machine: Machine, configured: Configured) -> Started:
        """What the plugin has read and seen by now; an unhealthy GPU and the daemon, once met, stay."""
        started = configured.started
        every = tuple(sorted({*started.unhealthy, *machine.unhealthy}))
        met = started.met_daemon or (_uses_mps(configured) and daemon_serves(self._world, node))
        return msgspec.structs.replace(started, unhealthy=every, met_daemon=met)


def _serves(plugin: Agent, configured: Configured) -> bool:
    """Whether the plugin's sockets are there: what ails a container beside it does not close them."""
    failure = configured.failure
    up = plugin.ready if failure is None else failure.kind is Kind.SIDECAR and plugin.running
    return up and configured.settings is not None


def _uses_mps(configured: Configured) -> bool:
    return configured.settings is not None and configured.settings.sharing.strategy == MPS

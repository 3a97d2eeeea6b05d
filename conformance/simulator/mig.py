"""Actor ``mig``: the MIG manager on each node, which cuts the GPUs as a label of the node asks.

It looks at the label when it starts and when the label changes, and not again: a layout that has failed stays failed.
What it is about stands in the node's annotation CHANGE, so that a simulator that is started anew goes on with it.
Source: NVIDIA/mig-parted v0.15.0, cmd/nvidia-mig-manager, pkg/mig/reconfigure, cmd/nvidia-mig-parted/apply.
"""

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from conformance.gpu.mig_config import CONFIG_KEY, parse
from conformance.gpu.mig_profiles import Model
from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.simulator import agents
from conformance.simulator.agents import Agent
from conformance.simulator.annotations import MIG_GEOMETRY, allocation_of, annotation
from conformance.simulator.configured import Configurations, crash
from conformance.simulator.geometry import Geometry, as_annotation, geometry_of, model_of, standard_layouts
from conformance.simulator.hardware import Machine, gpu_uuid, machine_of, mig_uuid
from conformance.simulator.mig_apply import Failed, Layout, apply, is_applied, needs_mode_change
from conformance.simulator.plugin_settings import Refused
from conformance.simulator.pod_failures import show_failure
from conformance.simulator.world import Object, World

CONFIG_LABEL = "nvidia.com/mig.config"
STATE_LABEL = "nvidia.com/mig.config.state"
PENDING, REBOOTING, SUCCESS, FAILED = "pending", "rebooting", "success", "failed"

CHANGE = f"{DOMAIN}/mig-change"
"""On a node: JSON of the Change that its MIG manager is about, or was about last."""

_DEPLOY = "nvidia.com/gpu.deploy."
_PAUSED = "paused-for-mig-change"
# Set on every node, whether its operator deploys them or not; the client only where somebody has set it.
_PAUSED_NAMES = ("device-plugin", "gpu-feature-discovery", "dcgm-exporter", "dcgm", "nvsm")
_OPERANDS = tuple(f"{_DEPLOY}{name}" for name in _PAUSED_NAMES)
_CLIENT = f"{_DEPLOY}client"
_CLIENT_APPS = ("nvidia-device-plugin-daemonset", "gpu-feature-discovery", "nvidia-dcgm-exporter", "nvidia-dcgm")
_VALIDATED_BEFORE = ("nvidia-cuda-validator", "nvidia-device-plugin-validator")
_VALIDATES_AFTER = ("nvidia-operator-validator",)

_PATIENCE = 300.0
_REBOOT_SECONDS = 3.0
_AGAIN = 0.5


class Change(msgspec.Struct, frozen=True):
    """One run of the MIG manager. ``state`` is what it has reported so far, ``done`` whether it is over.

    ``pod`` is the uid of the manager's pod, ``since`` when the state began, in seconds since 1970.
    """

    layout: str
    pod: str
    state: str
    since: float
    done: bool = False


# Made before any thread needs it; see kube/client.py.
_CHANGES = msgspec.json.Decoder(Change)


class MigManager:
    """The MIG manager of every node."""

    name = "mig"
    watches = ("Node", "Pod", "ConfigMap", "DaemonSet")

    def __init__(self, world: World) -> None:
        self._world = world
        self._configurations = Configurations(world, agents.MIG_MANAGER)

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """The nodes that a change bears on; pods of clients count, because the manager waits for their end."""
        if kind == "Pod" and deleted and _app(obj) in _CLIENT_APPS and obj["spec"].get("nodeName"):
            return (obj["spec"]["nodeName"],)
        return self._configurations.nodes(kind, obj)

    def reconcile(self, key: str) -> float | None:
        """Take the change of one node a step further. Raises KubeError."""
        node = self._world.get("Node", key)
        manager = agents.agent_on(self._world, key, agents.MIG_MANAGER)
        machine = None if node is None else machine_of(node)
        if node is None or manager is None or machine is None:
            return None
        failure = self._configurations.mount_failure(manager, key)
        layouts = None
        try:
            if failure is None and agents.driver_of(self._world, key, machine):
                layouts = self._layouts(manager, key, machine)
        except Refused as refusal:
            failure = crash(manager, refusal)
        show_failure(self._world.client, manager, failure)
        if failure is not None or layouts is None or not manager.ready:
            return None
        return self._step(manager, node, machine, layouts)

    def _layouts(self, manager: Agent, node: str, machine: Machine) -> str:
        """The text of the layouts that the manager reads. Raises Refused where it ends with an error instead."""
        config_file = manager.option("--config-file", "CONFIG_FILE")
        if config_file:
            text = agents.mounted_file(self._world, manager, config_file)
            if text is None:
                raise Refused(f"failed to setup MIG config: failed to read custom config {config_file}: no such file")
            return text
        model = model_of(machine) if machine.mig_capable else None
        if model is not None and model.profiles:
            return self._generated(manager, node, _text_of(model))
        default = agents.environment(manager.container).get("DEFAULT_CONFIG_FILE", "")
        text = agents.mounted_file(self._world, manager, default) if default else None
        if text is None:
            raise Refused("failed to setup MIG config: dynamic generation failed and no default config available")
        return text

    def _generated(self, manager: Agent, node: str, text: str) -> str:
        """Publish the layouts that were generated from the hardware, for others to read; the pod owns the object."""
        name = f"{node}-mig-config"
        owner = {"apiVersion": "v1", "kind": "Pod", "name": manager.pod["metadata"]["name"], "uid": manager.uid}
        found = self._world.get("ConfigMap", name, manager.namespace)
        owners = [] if found is None else [each["uid"] for each in found["metadata"].get("ownerReferences") or ()]
        if found is None or owners != [manager.uid] or (found.get("data") or {}).get(CONFIG_KEY) != text:
            labels = {"app.kubernetes.io/component": "nvidia-mig-manager", "nvidia.com/node-name": node}
            metadata = {"name": name, "namespace": manager.namespace, "labels": labels, "ownerReferences": [owner]}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {CONFIG_KEY: text}}
            self._world.client.apply(body, force=True)
        return text

    def _step(self, manager: Agent, node: Object, machine: Machine, layouts: str) -> float | None:
        labels = node["metadata"].get("labels") or {}
        change, layout = change_of(node), labels.get(CONFIG_LABEL) or ""
        # A reboot ends the manager's pod, too; the next one goes on where it was.
        if change is not None and not change.done and (change.pod == manager.uid or change.state == REBOOTING):
            return self._go_on(manager, node, machine, change, _layout(layouts, change.layout))
        if not layout or (change is not None and (change.pod, change.layout) == (manager.uid, layout)):
            return None
        change = Change(layout, manager.uid, PENDING, time.time())
        return self._begin(node, machine, change, _layout(layouts, layout))

    def _begin(self, node: Object, machine: Machine, change: Change, wanted: Layout | None) -> float | None:
        if wanted is None:
            return self._finish(node, change, FAILED)
        if is_applied(machine, geometry_of(node), wanted):
            return self._finish(node, change, SUCCESS)
        self._patch(node, change, PENDING, _deployed(node, _PAUSED))
        return _AGAIN

    def _go_on(
        self, manager: Agent, node: Object, machine: Machine, change: Change, wanted: Layout | None
    ) -> float | None:
        if wanted is None:
            return self._finish(node, change, FAILED)
        if change.state == REBOOTING:
            return self._reboot(node, machine, change, wanted)
        if self._clients(manager, node):
            if time.time() - change.since < _PATIENCE:
                return _AGAIN
            # The manager gives up without a word: the state stays pending and the operands stay paused.
            self._patch(node, msgspec.structs.replace(change, done=True), PENDING, {})
            return None
        self._delete(manager, node, _VALIDATED_BEFORE)
        return self._apply(manager, node, machine, change, wanted)

    def _apply(self, manager: Agent, node: Object, machine: Machine, change: Change, wanted: Layout) -> float | None:
        before = geometry_of(node)
        reboots = needs_mode_change(machine, before, wanted) and bool(
            machine.broken.keys() & {"mig-reboots", "mig-never-reboots"}
        )
        if reboots and _may_reboot(manager):
            now = msgspec.structs.replace(change, state=REBOOTING, since=time.time())
            self._patch(node, now, REBOOTING, {})
            return _REBOOT_SECONDS
        try:
            if reboots or machine.broken.get("mig-busy"):
                raise Failed("In use by another client", before)
            after = apply(machine, before, wanted, self._held(node, machine, before))
        except Failed as failure:
            return self._finish(node, change, FAILED, failure.geometry)
        self._delete(manager, node, _VALIDATES_AFTER)
        return self._finish(node, change, SUCCESS, after)

    def _reboot(self, node: Object, machine: Machine, change: Change, wanted: Layout) -> float | None:
        """After a reboot nobody holds a GPU any more."""
        left = change.since + _REBOOT_SECONDS - time.time()
        if machine.broken.get("mig-never-reboots"):
            return None
        if left > 0:
            return left
        try:
            return self._finish(node, change, SUCCESS, apply(machine, geometry_of(node), wanted, frozenset()))
        except Failed as failure:
            return self._finish(node, change, FAILED, failure.geometry)

    def _finish(self, node: Object, change: Change, state: str, geometry: Geometry | None = None) -> float | None:
        done = msgspec.structs.replace(change, done=True, since=time.time())
        self._patch(node, done, state, _deployed(node, "true"), geometry)
        return None

    def _patch(
        self, node: Object, change: Change, state: str, labels: Mapping[str, str], geometry: Geometry | None = None
    ) -> None:
        text = msgspec.json.encode(msgspec.structs.replace(change, state=state)).decode()
        annotations: dict[str, str | None] = {CHANGE: text}
        if geometry is not None:
            annotations[MIG_GEOMETRY] = as_annotation(geometry)
        metadata = {"labels": {**labels, STATE_LABEL: state}, "annotations": annotations}
        self._world.client.patch(path("Node", name=node["metadata"]["name"]), {"metadata": metadata})

    def _clients(self, manager: Agent, node: Object) -> list[Object]:
        """The pods that have to be gone before the GPUs are touched."""
        pods = self._world.pods_on(node["metadata"]["name"])
        own = [pod for pod in pods if pod["metadata"]["namespace"] == manager.namespace and _app(pod) in _CLIENT_APPS]
        return own + [pod for pod in pods if _CLIENT in (pod["spec"].get("nodeSelector") or {}) and _is_daemon(pod)]

    def _delete(self, manager: Agent, node: Object, apps: tuple[str, ...]) -> None:
        for pod in self._world.pods_on(node["metadata"]["name"]):
            metadata = pod["metadata"]
            mine = _app(pod) in apps and metadata["namespace"] == manager.namespace
            if mine and not metadata.get("deletionTimestamp"):
                self._world.client.delete(path("Pod", namespace=metadata["namespace"], name=metadata["name"]))

    def _held(self, node: Object, machine: Machine, geometry: Geometry) -> frozenset[int]:
        """The GPUs that pods hold, whole or a part of them."""
        name = node["metadata"]["name"]
        owners = {gpu_uuid(name, index): index for index in machine.present}
        for index, layout in geometry.items():
            for profile, count in layout.items():
                owners |= {mig_uuid(name, index, profile, number): index for number in range(count)}
        running = (pod for pod in self._world.pods_on(name) if agents.phase_of(pod) not in ("Succeeded", "Failed"))
        uuids = (uuid for pod in running for held in allocation_of(pod).uuids.values() for uuid in held)
        return frozenset(owners[uuid] for uuid in uuids if uuid in owners)


@lru_cache(maxsize=64)
def _text_of(model: Model) -> str:
    import yaml

    return str(yaml.safe_dump({"version": "v1", "mig-configs": standard_layouts(model)}))


def _layout(text: str, name: str) -> Layout | None:
    """The layout of a name; None when the text has none of that name, or is refused as a whole."""
    config = parse(text).config
    return None if config is None else config.layouts.get(name)


def change_of(node: Object) -> Change | None:
    """What the MIG manager of a node is about, or was about last."""
    text = annotation(node, CHANGE)
    return _CHANGES.decode(text) if text else None


def _deployed(node: Object, value: str) -> dict[str, str]:
    """The labels that let operands run, or pause them; what somebody has turned off stays off."""
    labels = node["metadata"].get("labels") or {}
    names = (*_OPERANDS, _CLIENT) if labels.get(_CLIENT) else _OPERANDS
    return {name: "false" if labels.get(name) == "false" else value for name in names}


def _may_reboot(manager: Agent) -> bool:
    """Whether the manager reboots the node; only an explicit no keeps it from that here, see BROKEN."""
    return (manager.option("--with-reboot", "WITH_REBOOT") or "true").lower() != "false"


def _app(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get("app") or "")


def _is_daemon(pod: Object) -> bool:
    return any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences") or ())

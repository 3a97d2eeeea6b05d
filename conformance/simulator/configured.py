"""The configuration that an agent on a node runs with: what it read when it started, not what stands there now.

A configuration is read when the pod starts, when a container that failed starts again, and when the node's label
chooses another file; the edit of a ConfigMap is none of these. What a pod has read stands in its annotation STARTED,
so that a simulator that is started anew knows it, too.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.simulator import agents
from conformance.simulator.agents import Agent
from conformance.simulator.annotations import annotation
from conformance.simulator.hardware import HARDWARE
from conformance.simulator.plugin_settings import File, Refused, Settings, choose, combine, read
from conformance.simulator.pod_failures import Kind, PodFailure, failure_of, missing_mount
from conformance.simulator.world import Object, World

STARTED = f"{DOMAIN}/started-with"
"""On the pod of an agent: JSON of Started."""


class Started(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent has read and seen since it started.

    ``file`` is the name of its configuration, ``text`` what was in it, ``label`` the value of the node's label by which
    it was chosen, None where none was looked at; ``unhealthy`` are the GPUs that failed since: a
    plugin never withdraws that a GPU is unhealthy (internal/plugin/server.go). ``met_daemon`` says that it has found
    the MPS control daemon, for which it looks when it starts, and not again.
    """

    file: str | None = None
    text: str = ""
    label: str | None = None
    unhealthy: tuple[int, ...] = ()
    met_daemon: bool = False


class Configured(msgspec.Struct, frozen=True):
    """What an agent runs with, None while it cannot run, what its pod has to suffer, and what it has read."""

    settings: Settings | None
    failure: PodFailure | None = None
    started: Started = Started()


# Made before any thread needs it; see kube/client.py.
_STARTED = msgspec.json.Decoder(Started)


class Configurations:
    """The configurations of one kind of agent, known by its ``containers``, on all nodes.

    ``beside`` are the containers of other agents that it looks at.
    """

    def __init__(self, world: World, containers: tuple[str, ...], beside: tuple[str, ...] = ()) -> None:
        self._world = world
        self._containers = frozenset(containers)
        self._concerning = self._containers | frozenset(beside)
        self._began = time.time()
        self._mounted: dict[str, str] = {}

    def nodes(self, kind: str, obj: Object) -> Iterable[str]:
        """The nodes whose agent a change may bear on. Costs little except for a ConfigMap that agents mount."""
        if kind == "Node":
            return (obj["metadata"]["name"],) if annotation(obj, HARDWARE) else ()
        if kind == "Pod":
            node = obj["spec"].get("nodeName")
            return (node,) if node and agents.is_one_of(obj, self._concerning) else ()
        if kind == "ConfigMap":
            return self._mounting(obj["metadata"]["namespace"], obj["metadata"]["name"])
        return ()

    def _mounting(self, namespace: str, name: str) -> Iterable[str]:
        templates = [each["spec"]["template"] for each in self._world.all("DaemonSet", namespace)]
        if not any(self._mounts(template, name) for template in templates):
            return ()
        pods = self._world.all("Pod", namespace)
        return {pod["spec"].get("nodeName", "") for pod in pods if self._mounts(pod, name)} - {""}

    def _mounts(self, pod: Object, name: str) -> bool:
        volumes = pod["spec"].get("volumes") or ()
        mine = any(container["name"] in self._containers for container in pod["spec"]["containers"])
        return mine and any((volume.get("configMap") or {}).get("name") == name for volume in volumes)

    def mount_failure(self, agent: Agent, node: str) -> PodFailure | None:
        """The volume that a pod waits for. Once a pod has started, a ConfigMap that goes away harms it no more.

        Raises KubeError.
        """
        if self._mounted.get(node) == agent.uid or self._started_before_us(agent):
            return None
        failure = missing_mount(self._world, agent)
        if failure is None:
            self._mounted[node] = agent.uid
        return failure

    def _started_before_us(self, agent: Agent) -> bool:
        started = agent.pod["status"].get("startTime") if agent.ready and failure_of(agent.pod) is None else None
        return started is not None and seconds_of(started) < self._began - 1

    def of(self, agent: Agent, node: Object) -> Configured:
        """What an agent runs with; notes on its pod what it reads now. Raises KubeError."""
        failure = self.mount_failure(agent, node["metadata"]["name"])
        if failure is not None:
            return Configured(None, failure)
        before = started_of(agent)
        try:
            return self._read(agent, self._selected(agent, node, before))
        except _ManagerFails as error:
            # A program that runs already is merely not told to read another file.
            goes_on = before.file is not None
            failure = PodFailure(Kind.SIDECAR if goes_on else Kind.INIT, str(error), error.container(goes_on))
            running = self._read(agent, before) if goes_on else Configured(None)
            return msgspec.structs.replace(running, failure=failure)
        except Refused as refusal:
            return Configured(None, crash(agent, refusal))

    def _read(self, agent: Agent, started: Started) -> Configured:
        file = File() if started.file is None else read(started.text)
        strategy = agent.option("--mig-strategy", "GFD_MIG_STRATEGY", "MIG_STRATEGY")
        # Only the plugin asks for the folder of MPS.
        root = agent.option("--mps-root", "MPS_ROOT") if agent.container["name"] in agents.PLUGIN else "/"
        settings = combine(file, strategy, root)
        if agent.running and started != started_of(agent):
            note_started(self._world, agent, started)
        return Configured(settings, started=started)

    def _selected(self, agent: Agent, node: Object, before: Started) -> Started:
        """The file that the agent reads. Raises _ManagerFails where config-manager ends with an error, else Refused."""
        path = agent.option("--config-file", "GFD_CONFIG_FILE", "CONFIG_FILE")
        if not path:
            return before
        folder = _managed_folder(agent)
        if folder is None:
            if before.file is not None:
                return before
            text = agents.mounted_file(self._world, agent, path)
            if text is None:
                raise Refused(f"error opening config file: open {path}: no such file or directory")
            return msgspec.structs.replace(before, file=path, text=text)
        label = _label(agent, node)
        # Beside a program that runs it is the label that is watched: a ConfigMap may change or go meanwhile.
        if before.file is not None and before.label == label:
            return before
        files = agents.mounted_files(self._world, agent, folder) or {}
        name = _choose(agent, label, files)
        if before.file == name:
            return msgspec.structs.replace(before, label=label)
        return msgspec.structs.replace(before, file=name, text=files.get(name, ""), label=label, met_daemon=False)


class _ManagerFails(Exception):
    """The config-manager of a pod ends with an error: the first one before the program starts, the last beside it."""

    def __init__(self, message: str, managers: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(message)
        self._managers = managers

    def container(self, goes_on: bool) -> str:
        """The container that fails when the program runs, or not, already."""
        return str(self._managers[-1 if goes_on else 0]["name"])


def crash(agent: Agent, refusal: Refused) -> PodFailure:
    """The failure of a pod whose program ends with an error."""
    return PodFailure(Kind.CRASH, str(refusal), str(agent.container["name"]))


def _managed_folder(agent: Agent) -> str | None:
    return next((found for each in agent.containers if (found := _source(each))), None)


def _source(container: Mapping[str, Any]) -> str:
    return agents.environment(container).get("CONFIG_FILE_SRCDIR", "")


def _managers(agent: Agent) -> Sequence[Mapping[str, Any]]:
    return [each for each in agent.containers if _source(each)]


def _label(agent: Agent, node: Object) -> str:
    """The name of a configuration by the node's label; empty without one."""
    label = agents.environment(_managers(agent)[0]).get("NODE_LABEL") or "nvidia.com/device-plugin.config"
    return str((node["metadata"].get("labels") or {}).get(label, ""))


def _choose(agent: Agent, label: str, files: Mapping[str, str]) -> str:
    managers = _managers(agent)
    env = agents.environment(managers[0])
    fallbacks = [each for each in env.get("FALLBACK_STRATEGIES", "").split(",") if each]
    try:
        return choose(files, label, env.get("DEFAULT_CONFIG", ""), fallbacks)
    except Refused as refusal:
        raise _ManagerFails(str(refusal), managers) from None


def started_of(agent: Agent) -> Started:
    """What an agent has read since it started, as its pod says."""
    text = annotation(agent.pod, STARTED)
    return _STARTED.decode(text) if text else Started()


def note_started(world: World, agent: Agent, started: Started) -> None:
    """Write down what an agent has read. Raises KubeError."""
    where = path("Pod", namespace=agent.namespace, name=agent.pod["metadata"]["name"])
    text = msgspec.json.encode(started).decode()
    world.client.patch(where, {"metadata": {"uid": agent.uid, "annotations": {STARTED: text}}})


def seconds_of(moment: str) -> float:
    """A time of the API as seconds since 1970."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()

"""The pods of NVIDIA's node agents: which of them runs on a node, how it is configured, and which driver it finds.

Agents are known by the names of their containers, which the operator's assets and the standalone charts agree on
closely enough (NVIDIA/gpu-operator, assets/; NVIDIA/k8s-device-plugin and its older manifests, deployments/).
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.gpu.driver_branches import BRANCHES
from conformance.simulator.annotations import SIMULATED, SIMULATED_VALUE, annotation
from conformance.simulator.hardware import Machine
from conformance.simulator.world import Object, World

PLUGIN = ("nvidia-device-plugin", "nvidia-device-plugin-ctr", "nvidia-gpu-device-plugin")
GFD = ("gpu-feature-discovery", "gpu-feature-discovery-ctr")
MIG_MANAGER = ("nvidia-mig-manager",)
MPS_DAEMON = ("mps-control-daemon-ctr", "nvidia-device-plugin-mps-control-daemon")
DRIVER = ("nvidia-driver-ctr",)

_COMPONENT = "app.kubernetes.io/component"
_DRIVER_COMPONENT = "nvidia-driver"
_VERSION = re.compile(r"[1-9][0-9]{2}\.[0-9]{1,3}(\.[0-9]{1,3})?(?![0-9.])")
_BRANCH = re.compile(r"[1-9][0-9]{2}(?=-)")


@dataclass(frozen=True)
class Agent:
    """The pod of an agent and the container in it that is the agent itself."""

    pod: Object
    container: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """Its namespace, which is where its ConfigMaps are."""
        return str(self.pod["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """What tells this pod from the one before and after it."""
        return str(self.pod["metadata"]["uid"])

    @property
    def ready(self) -> bool:
        """Whether it runs and says that it is ready."""
        return is_ready(self.pod)

    @property
    def running(self) -> bool:
        """Whether its containers have been started, ready or not."""
        return phase_of(self.pod) == "Running"

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations of the pod."""
        return self.pod["metadata"].get("annotations") or {}

    @property
    def containers(self) -> Iterator[Mapping[str, Any]]:
        """All containers, those that come first included."""
        spec = self.pod["spec"]
        yield from spec.get("initContainers") or ()
        yield from spec["containers"]

    def option(self, flag: str, *variables: str) -> str | None:
        """An option of the agent: an argument ``--flag=value`` or ``--flag value``, else the first variable set."""
        arguments = [*(self.container.get("command") or ()), *(self.container.get("args") or ())]
        for at, argument in enumerate(arguments):
            if argument == flag and at + 1 < len(arguments):
                return str(arguments[at + 1])
            if argument.startswith(f"{flag}="):
                return str(argument.partition("=")[2])
        known = environment(self.container)
        return next((known[name] for name in variables if name in known), None)


def is_played(world: World, node: str) -> bool:
    """Whether nobody but us runs the pods of a node; a real kubelet says itself how they are."""
    found = world.get("Node", node)
    return found is None or annotation(found, SIMULATED) == SIMULATED_VALUE


def agent_on(world: World, node: str, containers: Iterable[str]) -> Agent | None:
    """The pod on a node that has one of these containers; while one replaces another, the one that is ready.

    A pod that is being deleted is no agent any more: the program ends with the first signal.
    """
    wanted = frozenset(containers)
    found = [agent for pod in world.pods_on(node) if (agent := _as_agent(pod, wanted)) is not None]
    return max(found, key=lambda agent: (agent.ready, agent.pod["metadata"]["creationTimestamp"]), default=None)


def _as_agent(pod: Object, wanted: frozenset[str]) -> Agent | None:
    if pod["metadata"].get("deletionTimestamp") or phase_of(pod) in ("Succeeded", "Failed"):
        return None
    container = next((each for each in pod["spec"]["containers"] if each["name"] in wanted), None)
    return None if container is None else Agent(pod, container)


def is_one_of(pod: Object, containers: frozenset[str]) -> bool:
    """Whether a pod has one of these containers, or brings the driver, which every agent needs."""
    return any(container["name"] in containers for container in pod["spec"]["containers"]) or _brings_driver(pod)


def phase_of(pod: Object) -> str:
    """The phase of a pod; empty before it has one."""
    return str((pod.get("status") or {}).get("phase") or "")


def is_ready(pod: Object) -> bool:
    """Whether a pod has the condition Ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """The literal environment of a container; a variable that is set without value is empty."""
    return {
        each["name"]: str(each.get("value") or "") for each in container.get("env") or () if "valueFrom" not in each
    }


def mounted_files(world: World, agent: Agent, folder: str) -> dict[str, str] | None:
    """The files of the ConfigMap that is mounted at ``folder``, by name; None when no ConfigMap is mounted there.

    Files of ``binaryData`` are there with an empty text.
    """
    for container in agent.containers:
        for mount in container.get("volumeMounts") or ():
            if posixpath.normpath(mount["mountPath"]) == posixpath.normpath(folder) and "subPath" not in mount:
                source = _config_map_volume(agent.pod, mount["name"])
                if source is not None:
                    return _files(world, agent.namespace, source)
    return None


def mounted_file(world: World, agent: Agent, path: str) -> str | None:
    """The text of one file of a mounted ConfigMap; None when there is no such file."""
    folder, name = posixpath.split(posixpath.normpath(path))
    for mount in agent.container.get("volumeMounts") or ():
        source = _config_map_volume(agent.pod, mount["name"])
        if source is not None and "subPath" in mount and posixpath.normpath(mount["mountPath"]) == f"{folder}/{name}":
            return _files(world, agent.namespace, source).get(mount["subPath"])
    return (mounted_files(world, agent, folder) or {}).get(name)


def _config_map_volume(pod: Object, name: str) -> Mapping[str, Any] | None:
    volumes = pod["spec"].get("volumes") or ()
    return next((each["configMap"] for each in volumes if each["name"] == name and "configMap" in each), None)


def _files(world: World, namespace: str, source: Mapping[str, Any]) -> dict[str, str]:
    found = world.get("ConfigMap", source["name"], namespace) or {}
    texts = dict.fromkeys(found.get("binaryData") or {}, "") | dict(found.get("data") or {})
    if not source.get("items"):
        return texts
    return {item["path"]: texts[item["key"]] for item in source["items"] if item["key"] in texts}


def driver_of(world: World, node: str, machine: Machine) -> str:
    """The version of the driver that is loaded on a node: the host's, or that of a ready driver pod; else empty."""
    if machine.driver:
        return machine.driver
    pods = (pod for pod in world.pods_on(node) if _brings_driver(pod) and is_ready(pod))
    versions = (_version_in(pod) for pod in pods if not pod["metadata"].get("deletionTimestamp"))
    return next((version for version in versions if version), "")


def _brings_driver(pod: Object) -> bool:
    labelled = (pod["metadata"].get("labels") or {}).get(_COMPONENT) == _DRIVER_COMPONENT
    return labelled or any(container["name"] in DRIVER for container in pod["spec"]["containers"])


def _version_in(pod: Object) -> str:
    containers = pod["spec"]["containers"]
    container = next((each for each in containers if each["name"] in DRIVER), containers[0])
    version = environment(container).get("DRIVER_VERSION", "")
    tag = str(container.get("image") or "").partition("@")[0].rpartition(":")[2]
    found = _VERSION.match(version) or _VERSION.match(tag)
    return found[0] if found else _first_of_branch(tag)


def _first_of_branch(tag: str) -> str:
    """A version behind the tag of a precompiled driver, which names the branch: 580-6.8.0-1035-aws-ubuntu22.04."""
    named = _BRANCH.match(tag)
    return next((branch.first for branch in BRANCHES if named and branch.number == int(named[0])), "")

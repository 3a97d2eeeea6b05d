"""Running probes on many nodes at once: one pod for each node, by Indexed Jobs, harmless like all pods of the lab.

A Job is for nodes that are alike (taints, number of devices), so that any of its pods may go to any of them; required
anti-affinity against its own pods spreads them, one to a node. A pod that ends before its siblings are placed is no
obstacle to them any more, so two may come to one node; those nodes that got none are then tried again. Nodes that
cannot take such a pod are known from the nodes and pods as they are, and get no pod.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict

import msgspec

from conformance.gpu.placement import bound_by_node, obstacles, requests_of
from conformance.gpu.quantities import as_count
from conformance.gpu.taints import Taint, taint_from
from conformance.kube.client import Client
from conformance.kube.errors import ApiError, KubeError
from conformance.kube.names import DOMAIN
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.lab.namespaces import delete_pods
from conformance.lab.object_factory import Maker
from conformance.lab.pods import at_once
from conformance.lab.podspec import Named, used
from conformance.lab.probe_results import CONTAINER, ProbeResult, ResultCollector, job_of, last_warning
from conformance.lab.workloads import workload_object

__all__ = ["PROBES", "Bench", "ProbeOptions", "Program", "held_programs", "run_programs"]

PROBES = ("devices", "cuda", "bandwidth", "isolation")
PROGRAM_LABEL = f"{DOMAIN}/program"

_SOURCES = Path(__file__).resolve().parent.parent / "probes"
_FOLDER = "/probes"
_CONFIG_MAP = "probes"
_HOSTNAME = "kubernetes.io/hostname"
# An affinity names each node; it is repeated in each pod, so a Job must not have too many of them.
_MOST_NODES = 50
# A pod may land where another of its batch has just ended. What is left then is tried again, as often as this.
_ROUNDS = 4
_DISPLACED = "its pod went to another node each time, where one of the same batch had just ended"
# How long a held pod stays when nobody takes it away any more, in seconds.
_HOLD = "3600"
# Google's device plugin mounts the driver there and tells no loader of it; images made for CUDA set the variable
# (GoogleCloudPlatform/container-engine-accelerators, cmd/nvidia_gpu; NVIDIA/k8s-device-plugin#632).
_LIBRARIES = {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"}
# CUDA keeps a few hundred MiB of host memory for each device. Little is asked for, so that a busy node has room.
_REQUESTS = {"cpu": "100m", "memory": "128Mi"}
_LIMITS = {"memory": "4Gi"}
_NEVER_RETRIED = {"completionMode": "Indexed", "backoffLimitPerIndex": 0}

_Object: TypeAlias = dict[str, Any]
_Pairs: TypeAlias = tuple[tuple[str, str], ...]
_PodsByNode: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]


class ProbeOptions(TypedDict, total=False):
    """How a probe is run. Everything is optional.

    ``gpus`` devices of ``resource`` (one of the set-up's GPU resource, if not named), 0 for none, ``free`` for all
    that the node has to give; a mapping says it by node. ``claims`` are device claims as PodOptions has them. ``args``
    go to the program, ``env`` to its container, and ``env_of`` adds variables by node.
    """

    gpus: int | Literal["free"] | Mapping[str, int]
    resource: str | None
    claims: Mapping[str, Mapping[str, str]]
    args: Sequence[str]
    env: Mapping[str, str]
    env_of: Mapping[str, Mapping[str, str]]
    runtime_class: str


class Bench(NamedTuple):
    """What a requirement's lab lends to run programs: its client, how it makes objects, and its namespace.

    ``numbered`` gives a name that is not used yet for a hint, ``create_workload`` creates and remembers a workload.
    """

    client: Client
    timeouts: Timeouts
    maker: Maker
    namespace: str
    image: str
    gpu_resource: str
    gpu_runtime_class: str
    numbered: Callable[[str], str]
    create_workload: Callable[[_Object], _Object]


class _Group(msgspec.Struct):
    """Nodes that are alike for a probe: taints to tolerate, number of devices to ask for, variables to set."""

    taints: tuple[Taint, ...]
    devices: int
    env: dict[str, str]
    nodes: list[_Object]
    job: str = ""

    @property
    def names(self) -> list[str]:
        return [_name(node) for node in self.nodes]

    def without(self, done: Container[str]) -> "_Group":
        """The same for those of its nodes that are not done."""
        return msgspec.structs.replace(self, nodes=[node for node in self.nodes if _name(node) not in done])


class Program(NamedTuple):
    """A probe that is to run once on each of these nodes."""

    nodes: Sequence[Named]
    probe: str
    options: ProbeOptions


def run_programs(bench: Bench, programs: Sequence[Program]) -> list[dict[str, ProbeResult]]:
    """Run programs at the same time and return what each said, by node, in the order of its nodes.

    A node on which one could not run gets a result that says why. Raises EffectRefused when the requirement may not
    take devices, KubeError when the cluster cannot be asked at all.
    """
    with _batches(bench, programs, held=False) as results:
        return results


def held_programs(bench: Bench, programs: Sequence[Program]) -> AbstractContextManager[list[dict[str, ProbeResult]]]:
    """As run_programs, but the pods stay, and with them their devices, until the block ends."""
    return _batches(bench, programs, held=True)


@contextmanager
def _batches(bench: Bench, programs: Sequence[Program], *, held: bool) -> Iterator[list[dict[str, ProbeResult]]]:
    batches = [_Batch(bench, program, held=held) for program in programs]
    try:
        yield at_once(lambda batch: batch.results(), batches)
    finally:
        at_once(lambda batch: batch.remove(), batches)


class _Batch:
    """The Jobs of one program."""

    def __init__(self, bench: Bench, program: Program, *, held: bool) -> None:
        self._nodes, probe, options = program
        if probe not in PROBES:
            raise ValueError(f"there is no probe {probe!r}; there are: {', '.join(PROBES)}")
        self._bench = bench
        self._client = bench.client
        self._namespace = bench.namespace
        self._probe = probe
        self._options = options
        self._held = held
        self._label = bench.numbered(probe)
        self._jobs: list[str] = []

    def results(self) -> dict[str, ProbeResult]:
        wanted = [node.name for node in self._nodes]
        found, bound = self._look()
        results = {name: ProbeResult(name, failure="the cluster has no such node") for name in wanted}
        self._bench.maker.create(_config_map(self._namespace))
        groups = self._grouped([found[name] for name in wanted if name in found], bound, results)
        for _ in range(_ROUNDS):
            started = [group for group in groups if self._started(group, results)]
            if not started:
                break
            collected, groups = self._collected(started)
            results |= collected
        return {name: results[name] for name in wanted}

    def remove(self) -> None:
        """Delete the Jobs, and wait until no pod of them holds a device any more.

        What does not go now goes with the namespace when the requirement ends; results must not be lost over it.
        """
        with suppress(KubeError):
            for name in self._jobs:
                self._client.delete(path("Job", namespace=self._namespace, name=name))
            if self._jobs:
                self._delete_unfinished()

    def _delete_unfinished(self) -> None:
        delete_pods(
            self._client,
            path("Pod", namespace=self._namespace),
            self._bench.timeouts,
            what=f"pods of {self._label} in namespace {self._namespace}",
            selector=self._selector,
            field_selector="status.phase!=Succeeded,status.phase!=Failed",
        )

    def _look(self) -> tuple[dict[str, _Object], dict[str, list[Mapping[str, Any]]]]:
        nodes = {_name(node): node for node in self._client.list(path("Node"))}
        return nodes, bound_by_node(self._client.list(path("Pod")))

    def _grouped(
        self,
        nodes: Sequence[_Object],
        bound: _PodsByNode,
        results: dict[str, ProbeResult],
    ) -> list[_Group]:
        """Nodes that can take the probe, by what they have in common; of the others ``results`` says why not."""
        groups: dict[tuple[tuple[Taint, ...], int, _Pairs], list[_Object]] = defaultdict(list)
        for node in nodes:
            taints = _lasting_taints(node)
            devices = self._devices(node, bound.get(_name(node), ()))
            reason = self._why_not(node, taints, devices, bound)
            if reason:
                results[_name(node)] = ProbeResult(_name(node), failure=reason)
            else:
                groups[taints, devices, self._env_of(_name(node))].append(node)
        return [
            _Group(taints, devices, dict(env), members[start : start + _MOST_NODES])
            for (taints, devices, env), members in groups.items()
            for start in range(0, len(members), _MOST_NODES)
        ]

    def _devices(self, node: _Object, here: Sequence[Mapping[str, Any]]) -> int:
        asked = self._options.get("gpus", 1)
        if isinstance(asked, int):
            return asked
        if isinstance(asked, Mapping):
            return asked[_name(node)]
        used = sum(int(requests_of(pod).get(self._resource, 0)) for pod in here)
        return max(0, as_count(str(_allocatable(node).get(self._resource, "0"))) - used)

    def _why_not(
        self,
        node: _Object,
        taints: tuple[Taint, ...],
        devices: int,
        bound: _PodsByNode,
    ) -> str:
        if not _is_ready(node):
            return "the node is not Ready"
        if self._options.get("gpus") == "free" and not devices:
            devices = 1
        pod = {
            "metadata": {"namespace": self._namespace, "name": ""},
            "spec": self._template(taints, devices, {})["spec"],
        }
        return "; ".join(each.text for each in obstacles(pod, node, [node], bound))

    def _started(self, group: _Group, results: dict[str, ProbeResult]) -> bool:
        """Create the group's Job; where that is refused, each of its nodes gets the refusal as its result."""
        count = len(group.nodes)
        group.job = f"{self._label}-{len(self._jobs) + 1}"
        self._jobs.append(group.job)
        template = self._template(group.taints, group.devices, group.env, on=group.names)
        body = {"completions": count, "parallelism": count, **_NEVER_RETRIED}
        job = workload_object("Job", self._namespace, group.job, template, self._bench.maker.labels, **body)
        try:
            self._bench.create_workload(job)
        except ApiError as error:
            results |= {node: ProbeResult(node, failure=f"its Job was refused: {error}") for node in group.names}
            return False
        return True

    def _collected(self, groups: Sequence[_Group]) -> tuple[dict[str, ProbeResult], list[_Group]]:
        """What the Jobs of groups brought, and the groups of those nodes whose pods went to other nodes instead."""
        collector = ResultCollector(
            self._client, self._bench.timeouts, self._namespace, self._selector,
            jobs=[group.job for group in groups], names=[name for group in groups for name in group.names],
            held=self._held,
        )  # fmt: skip
        failure = ""
        try:
            collector.run()
        except KubeError as error:
            failure = f"its pods could not be watched to their end: {error}"
        found = dict(collector.results)
        asked = {name: group.devices for group in groups for name in group.names}
        displaced = []
        for group in groups:
            rest = group.without(found)
            if not failure and rest.nodes and collector.placed(group.job) >= len(group.nodes):
                displaced.append(rest)
                found |= {name: ProbeResult(name, failure=_DISPLACED) for name in rest.names}
        found |= self._unplaced([group.without(found) for group in groups], collector, failure)
        return {name: msgspec.structs.replace(each, devices=asked[name]) for name, each in found.items()}, displaced

    def _unplaced(self, groups: Sequence[_Group], collector: ResultCollector, failure: str) -> dict[str, ProbeResult]:
        """Why the nodes of groups have no result, computed from nodes and pods as they are now."""
        if failure or not any(group.nodes for group in groups):
            return {name: ProbeResult(name, failure=failure) for group in groups for name in group.names}
        nodes, bound = self._look()
        results: dict[str, ProbeResult] = {}
        for group in groups:
            waiting = next((pod for pod in collector.waiting.values() if job_of(pod) == group.job), None)
            for name in group.names:
                results[name] = ProbeResult(
                    name, failure=self._explained(nodes.get(name), nodes, waiting, group, bound)
                )
        return results

    def _explained(
        self,
        node: _Object | None,
        nodes: Mapping[str, _Object],
        pod: _Object | None,
        group: _Group,
        bound: _PodsByNode,
    ) -> str:
        if node is None:
            return "the node has left the cluster"
        if pod is None:
            _, warned = last_warning(self._client, self._namespace, group.job)
            return f"the Job controller made no pod for it{f': {warned}' if warned else ''}"
        kept = "; ".join(each.text for each in obstacles(pod, node, list(nodes.values()), bound))
        return kept or "nothing keeps the pod off the node, the scheduler has not placed it yet"

    @property
    def _resource(self) -> str:
        return self._options.get("resource") or self._bench.gpu_resource

    @property
    def _selector(self) -> str:
        return f"{PROGRAM_LABEL}={self._label}"

    def _env_of(self, node: str) -> _Pairs:
        own = (self._options.get("env_of") or {}).get(node) or {}
        return tuple(sorted({**(self._options.get("env") or {}), **own}.items()))

    def _template(
        self, taints: tuple[Taint, ...], devices: int, env: Mapping[str, str], on: Sequence[str] = ()
    ) -> _Object:
        """Metadata and spec of a pod; without nodes to land ``on`` it is only good for asking where it would fit."""
        apart = {"labelSelector": {"matchLabels": {PROGRAM_LABEL: self._label}}, "topologyKey": _HOSTNAME}
        anti = {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
        return self._bench.maker.template(
            {
                "labels": {PROGRAM_LABEL: self._label},
                "tolerates": taints,
                "on": on,
                "affinity": {"podAntiAffinity": anti} if on else {},
                "claims": self._options.get("claims") or {},
                "spec": {
                    "restartPolicy": "Never",
                    "runtimeClassName": self._runtime_class(devices) or None,
                    "volumes": [{"name": _CONFIG_MAP, "configMap": {"name": _CONFIG_MAP}}],
                    "containers": [self._container(devices, env)],
                },
            }
        )

    def _runtime_class(self, devices: int) -> str:
        """The class that a probe asks for, else for one with GPUs the one that the cluster's GPU pods have to name."""
        asked = self._options.get("runtime_class")
        if asked is not None:
            return asked
        return self._bench.gpu_runtime_class if devices or self._options.get("claims") else ""

    def _container(self, devices: int, env: Mapping[str, str]) -> _Object:
        amounts = {self._resource: str(devices)} if devices else {}
        hold = ["--hold", _HOLD] if self._held else []
        return {
            "name": CONTAINER,
            "image": self._bench.image,
            "command": ["python3", f"{_FOLDER}/{self._probe}.py", *self._options.get("args", ()), *hold],
            "env": [{"name": name, "value": value} for name, value in (_LIBRARIES | dict(env)).items()],
            "resources": {
                "requests": {**_REQUESTS, **amounts},
                "limits": {**_LIMITS, **amounts},
                **used(self._options.get("claims") or ()),
            },
            "volumeMounts": [{"name": _CONFIG_MAP, "mountPath": _FOLDER, "readOnly": True}],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }


def _config_map(namespace: str) -> _Object:
    """All programs, by file name."""
    sources = {f"{name}.py": (_SOURCES / f"{name}.py").read_text(encoding="utf-8") for name in PROBES}
    metadata = {"name": _CONFIG_MAP, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": sources}


def _name(node: Mapping[str, Any]) -> str:
    return str(node["metadata"]["name"])


def _lasting_taints(node: Mapping[str, Any]) -> tuple[Taint, ...]:
    taints = (taint_from(raw) for raw in node["spec"].get("taints") or ())
    return tuple(taint for taint in taints if not taint.is_lifecycle)


def _allocatable(node: Mapping[str, Any]) -> dict[str, Any]:
    return dict((node.get("status") or {}).get("allocatable") or {})


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)

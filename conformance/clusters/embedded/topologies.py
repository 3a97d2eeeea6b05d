"""Topologies: simulated fleets as YAML files, and the Node objects that they stand for.

A topology says what a cloud and its machines bring along: instance types, zones, GPUs and what GPU feature discovery
says of them. What the owners of a cluster add (labels, taints) is no part of it: deploying their set-up does that.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from conformance.shipped import shipped

from .annotations import NOT_READY
from .components import SIMULATED_ANNOTATION, SIMULATED_VALUE
from .errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = "fixtures/topologies"
_GFD = "nvidia.com"


class TopologyError(EmbeddedError):
    """A topology cannot be used; the text names the file, the place in it, and what is wrong."""


class Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The GPUs of one node. ``product`` is GPU feature discovery's value, ``memory_mib`` is per GPU."""

    product: str
    count: int
    memory_mib: int
    driver: str
    family: str = ""
    mig_capable: bool = False
    resource: str = "nvidia.com/gpu"


class Taint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A taint that the cloud puts on a pool's nodes."""

    key: str
    effect: str
    value: str = ""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How some nodes of a pool (by number, from 1) differ from what they should be.

    ``gpus`` is how many GPUs the node still advertises, ``not_ready`` the message of a node that is not ready
    (``unreachable``: nobody hears from it), a label with value None is missing.
    """

    nodes: tuple[int, ...]
    gpus: int | None = None
    not_ready: str | None = None
    cordoned: bool = False
    driver: str | None = None
    kernel: str | None = None
    labels: dict[str, str | None] = {}
    taints: tuple[Taint, ...] = ()


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes of one kind; they are named ``<pool>-<n>`` with n from 1 and spread over the zones in turn."""

    name: str
    count: int
    cpu: str
    memory: str
    instance_type: str = ""
    zones: tuple[str, ...] = ()
    kernel: str = "6.8.0-1035-aws"
    os_image: str = "Ubuntu 24.04.3 LTS"
    container_runtime: str = "containerd://2.1.5"
    pods: int = 110
    gpu: Gpu | None = None
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    faults: tuple[Fault, ...] = ()


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fleet: pools of nodes."""

    name: str
    description: str
    pools: tuple[Pool, ...] = ()

    @property
    def size(self) -> int:
        """How many nodes it has."""
        return sum(pool.count for pool in self.pools)

    @property
    def gpus(self) -> int:
        """How many GPUs its nodes have, faults aside."""
        return sum(pool.count * pool.gpu.count for pool in self.pools if pool.gpu)


def names() -> list[str]:
    """The topologies that come with the package."""
    return sorted(path.stem for path in shipped(_FOLDER).glob("*.yaml"))


@lru_cache(maxsize=32)
def load(name_or_path: str | Path) -> Topology:
    """The topology of a name (``guide``) or of a file (anything with a slash or ending in .yaml).

    Raises TopologyError: no such topology, or a file that does not say what a topology has to say.
    """
    path = _path(name_or_path)
    import yaml

    try:
        topology = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Topology)
    except OSError as error:
        raise TopologyError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise TopologyError(f"{path}: {error}") from None
    problems = list(_problems(topology))
    if problems:
        raise TopologyError("\n".join(f"{path}: {problem}" for problem in problems))
    return topology


def nodes(topology: Topology, *, kubelet: str = "v1.36.0") -> Iterator[dict[str, Any]]:
    """The Node objects of a topology. ``kubelet`` is the version that they claim."""
    for pool in topology.pools:
        for number in range(1, pool.count + 1):
            yield _node(pool, number, kubelet)


def _path(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return Path(text)
    if text not in names():
        raise TopologyError(f"no topology named {text!r}; there are: {', '.join(names())}; or give the path of a file")
    return shipped(_FOLDER) / f"{text}.yaml"


def _problems(topology: Topology) -> Iterator[str]:
    seen: set[str] = set()
    for index, pool in enumerate(topology.pools):
        place = f"pools[{index}]"
        if pool.name in seen:
            yield f"{place}.name: {pool.name!r} is taken by an earlier pool"
        seen.add(pool.name)
        if pool.count < 0:
            yield f"{place}.count: {pool.count} nodes cannot be"
        for number, fault in enumerate(pool.faults):
            outside = [node for node in fault.nodes if not 1 <= node <= pool.count]
            if outside:
                yield f"{place}.faults[{number}].nodes: {outside} is outside of 1 to {pool.count}"
            if fault.gpus is not None and pool.gpu is None:
                yield f"{place}.faults[{number}].gpus: the pool has no gpu"


def _node(pool: Pool, number: int, kubelet: str) -> dict[str, Any]:
    faults = [fault for fault in pool.faults if number in fault.nodes]
    name = f"{pool.name}-{number}"
    annotations = {SIMULATED_ANNOTATION: SIMULATED_VALUE}
    if (message := _last((fault.not_ready for fault in faults), None)) is not None:
        annotations[NOT_READY] = message
    spec: dict[str, Any] = {"providerID": f"kwok://{name}"}
    taints = [*pool.taints, *(taint for fault in faults for taint in fault.taints)]
    if taints:
        spec["taints"] = [msgspec.to_builtins(taint) for taint in taints]
    if any(fault.cordoned for fault in faults):
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": _labels(pool, name, number, faults), "annotations": annotations},
        "spec": spec,
        "status": _status(pool, faults, kubelet),
    }


def _labels(pool: Pool, name: str, number: int, faults: list[Fault]) -> dict[str, str]:
    labels: dict[str, str | None] = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    if pool.instance_type:
        labels["node.kubernetes.io/instance-type"] = pool.instance_type
    if pool.zones:
        zone = pool.zones[(number - 1) % len(pool.zones)]
        labels |= {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": zone.rstrip("abcdef")}
    if pool.gpu:
        labels |= _discovered(pool.gpu, _last((fault.driver for fault in faults), pool.gpu.driver))
    labels |= pool.labels
    for fault in faults:
        labels |= fault.labels
    return {key: value for key, value in labels.items() if value is not None}


def _discovered(gpu: Gpu, driver: str) -> dict[str, str]:
    """What GPU feature discovery says of a node (label names and forms as in k8s-device-plugin's GFD)."""
    major, minor, revision = [*driver.split("."), "", ""][:3]
    labels = {
        "gpu.present": "true",
        "gpu.product": gpu.product,
        "gpu.memory": str(gpu.memory_mib),
        "gpu.count": str(gpu.count),
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
        "mig.capable": str(gpu.mig_capable).lower(),
        "cuda.driver-version.full": driver,
        "cuda.driver-version.major": major,
        "cuda.driver-version.minor": minor,
        "cuda.driver-version.revision": revision,
    }
    if gpu.family:
        labels["gpu.family"] = gpu.family
    return {f"{_GFD}/{name}": value for name, value in labels.items()}


def _status(pool: Pool, faults: list[Fault], kubelet: str) -> dict[str, Any]:
    resources = {"cpu": pool.cpu, "memory": pool.memory, "ephemeral-storage": "200Gi", "pods": str(pool.pods)}
    if pool.gpu:
        resources[pool.gpu.resource] = str(_last((fault.gpus for fault in faults), pool.gpu.count))
    return {
        "capacity": resources,
        "allocatable": dict(resources),
        "nodeInfo": {
            "kubeletVersion": kubelet,
            "kernelVersion": _last((fault.kernel for fault in faults), pool.kernel),
            "osImage": pool.os_image,
            "containerRuntimeVersion": pool.container_runtime,
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    }


def _last(overrides: Iterator[Any], otherwise: Any) -> Any:
    for override in overrides:
        if override is not None:
            otherwise = override
    return otherwise

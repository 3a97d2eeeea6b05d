"""Topologies: simulated fleets as YAML files, and the Node objects that they stand for.

A topology says what a cloud and its machines bring along: instance types, zones, GPUs. Of a pool whose node image runs
driver and device plugin, outside Kubernetes, that includes capacity and the labels of GPU Feature Discovery; other
pools are bare hardware until a stack is deployed. What the owners of a cluster add (labels, taints) is no part of it:
deploying their set-up does that.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from conformance.gpu.resources import GPU
from conformance.shipped import shipped
from conformance.simulator.hardware import BROKEN, HARDWARE, Machine

from .annotations import NOT_READY, SIMULATED_ANNOTATION, SIMULATED_VALUE
from .errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = "fixtures/topologies"
_GFD = "nvidia.com"


class TopologyError(EmbeddedError):
    """A topology cannot be used; the text names the file, the place in it, and what is wrong."""


class Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The GPUs of one node. ``product`` is GPU Feature Discovery's value, ``memory_mib`` is per GPU.

    ``name`` is what NVML calls the product, which has blanks where the value has some of its dashes; by default the
    first one only (``Tesla T4``, ``NVIDIA A100-SXM4-40GB``). ``compute`` is the compute capability (``8.0``), empty
    where nothing needs it. ``brought_by``: with ``image`` driver and device plugin come with the node image, so that
    the node offers its GPUs as ``resource`` from the start; with ``stack`` it is bare hardware until a stack is
    deployed. ``driver`` is the version of the driver on the host, empty where there is none.
    """

    product: str
    count: int
    memory_mib: int
    driver: str = ""
    name: str = ""
    compute: str = ""
    family: str = ""
    mig_capable: bool = False
    resource: str = GPU
    brought_by: Literal["image", "stack"] = "image"

    @property
    def called(self) -> str:
        """What NVML calls the product."""
        return self.name or self.product.replace("-", " ", 1)


class Taint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A taint that the cloud puts on a pool's nodes."""

    key: str
    effect: str
    value: str = ""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How some nodes of a pool (by number, from 1) differ from what they should be.

    ``gpus`` is how many GPUs the driver still lists, ``not_ready`` the message of a node that is not ready
    (``unreachable``: nobody hears from it), a label with value None is missing. ``unhealthy`` and ``missing`` are
    indices of GPUs that are ill or fell off the bus, ``broken`` what else is wrong with the machine, by the keys of
    simulator.hardware.BROKEN.
    """

    nodes: tuple[int, ...]
    gpus: int | None = None
    not_ready: str | None = None
    cordoned: bool = False
    driver: str | None = None
    kernel: str | None = None
    labels: dict[str, str | None] = {}
    taints: tuple[Taint, ...] = ()
    unhealthy: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    broken: dict[str, Any] = {}


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
    """A fleet: pools of nodes, and ``objects`` that the platform brings along, as ``kubectl apply`` takes them.

    These are its own agents, classes and RuntimeClasses: what is on such a cluster before anybody deploys a set-up.
    """

    name: str
    description: str
    pools: tuple[Pool, ...] = ()
    objects: tuple[dict[str, Any], ...] = ()

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
        if pool.gpu:
            yield from (f"{place}.gpu.{problem}" for problem in _gpu_problems(pool.gpu))
        for number, fault in enumerate(pool.faults):
            yield from (f"{place}.faults[{number}].{problem}" for problem in _fault_problems(pool, fault))


def _gpu_problems(gpu: Gpu) -> Iterator[str]:
    if gpu.brought_by == "image" and not gpu.driver:
        yield "driver: the node image brings it, so say which version; or say brought_by: stack"
    discovered = gpu.called.replace(" ", "-")
    if discovered != gpu.product:
        yield f"name: GPU Feature Discovery makes {discovered!r} of it, but product is {gpu.product!r}"


def _fault_problems(pool: Pool, fault: Fault) -> Iterator[str]:
    outside = [node for node in fault.nodes if not 1 <= node <= pool.count]
    if outside:
        yield f"nodes: {outside} is outside of 1 to {pool.count}"
    for field in ("gpus", "unhealthy", "missing", "broken"):
        if pool.gpu is None and getattr(fault, field) not in (None, (), {}):
            yield f"{field}: the pool has no gpu"
    if pool.gpu is not None:
        yield from _outside(pool.gpu, fault)
    unknown = sorted(set(fault.broken) - set(BROKEN))
    if unknown:
        yield f"broken: {', '.join(unknown)} is unknown; known are: {', '.join(BROKEN)}"


def _outside(gpu: Gpu, fault: Fault) -> Iterator[str]:
    if fault.gpus is not None and not 0 <= fault.gpus <= gpu.count:
        yield f"gpus: {fault.gpus} is outside of 0 to {gpu.count}"
    for field in ("unhealthy", "missing"):
        outside = [index for index in getattr(fault, field) if not 0 <= index < gpu.count]
        if outside:
            yield f"{field}: {outside} is outside of 0 to {gpu.count - 1}"


def _node(pool: Pool, number: int, kubelet: str) -> dict[str, Any]:
    faults = [fault for fault in pool.faults if number in fault.nodes]
    name = f"{pool.name}-{number}"
    annotations = {SIMULATED_ANNOTATION: SIMULATED_VALUE}
    if (message := _last((fault.not_ready for fault in faults), None)) is not None:
        annotations[NOT_READY] = message
    machine = None if pool.gpu is None else _machine(pool, pool.gpu, faults)
    if machine is not None:
        annotations[HARDWARE] = msgspec.json.encode(machine).decode()
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
        "status": _status(pool, machine, faults, kubelet),
    }


def _machine(pool: Pool, gpu: Gpu, faults: list[Fault]) -> Machine:
    """What the simulator knows of the node's hardware; several faults add up."""
    listed = _last((fault.gpus for fault in faults), gpu.count)
    missing = {*range(listed, gpu.count), *(index for fault in faults for index in fault.missing)}
    return Machine(
        product=gpu.called,
        gpus=gpu.count,
        memory_mib=gpu.memory_mib,
        compute=gpu.compute,
        family=gpu.family,
        driver=_last((fault.driver for fault in faults), gpu.driver),
        mig_capable=gpu.mig_capable,
        machine=pool.instance_type or "",
        unhealthy=tuple(sorted({index for fault in faults for index in fault.unhealthy})),
        missing=tuple(sorted(missing)),
        offered_as=gpu.resource if gpu.brought_by == "image" else "",
        broken={key: value for fault in faults for key, value in fault.broken.items()},
    )


def _labels(pool: Pool, name: str, number: int, faults: list[Fault]) -> dict[str, str]:
    labels: dict[str, str | None] = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        # As kubelets still write them; where they are missing, a controller adds them one node after the other.
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": "amd64",
    }
    if pool.instance_type:
        labels["node.kubernetes.io/instance-type"] = pool.instance_type
    if pool.zones:
        zone = pool.zones[(number - 1) % len(pool.zones)]
        labels |= {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": zone.rstrip("abcdef")}
    if pool.gpu and pool.gpu.brought_by == "image":
        labels |= _discovered(pool.gpu, _last((fault.driver for fault in faults), pool.gpu.driver))
    labels |= pool.labels
    for fault in faults:
        labels |= fault.labels
    return {key: value for key, value in labels.items() if value is not None}


def _discovered(gpu: Gpu, driver: str) -> dict[str, str]:
    """What GPU Feature Discovery says of a node (label names and forms as in k8s-device-plugin's GFD)."""
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
    if gpu.compute:
        labels["gpu.compute.major"], _, labels["gpu.compute.minor"] = gpu.compute.partition(".")
    return {f"{_GFD}/{name}": value for name, value in labels.items()}


def _status(pool: Pool, machine: Machine | None, faults: list[Fault], kubelet: str) -> dict[str, Any]:
    capacity = {"cpu": pool.cpu, "memory": pool.memory, "ephemeral-storage": "200Gi", "pods": str(pool.pods)}
    allocatable = dict(capacity)
    if machine is not None and machine.offered_as:
        capacity[machine.offered_as] = str(len(machine.present))
        allocatable[machine.offered_as] = str(len(set(machine.present) - set(machine.unhealthy)))
    return {
        "capacity": capacity,
        "allocatable": allocatable,
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

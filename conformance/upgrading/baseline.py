"""The baseline: what each GPU node has before an upgrade, as a file that a run afterwards compares with.

A file of JSON with ``apiVersion`` and ``kind``. Of pods their owners are kept, because the pods themselves are others
afterwards; a pod without owner is its own.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import msgspec

from conformance.facts import Facts, Node, Pod
from conformance.gpu.drivers import labelled_driver
from conformance.gpu.labels import (
    GPU_PRODUCT,
    MIG_CONFIG,
    MIG_CONFIG_STATE,
    NVIDIA,
    UPGRADE_STATE,
)

API_VERSION = "gpu-conformance.io/v1alpha1"
KIND = "UpgradeBaseline"
FILE = "upgrade-baseline.json"


class NodeBefore(msgspec.Struct, frozen=True, rename="camel"):
    """One GPU node: what it offers, its driver and layout, and how many pods with GPUs each owner has there.

    ``driver`` is empty where no label tells it. ``labels`` are those of NVIDIA's programs and of the owners below
    nvidia.com/. ``pool`` is the declared pool that has it; empty where none does, and in older baselines.
    """

    name: str
    ready: bool
    cordoned: bool
    kernel: str
    driver: str
    product: str
    mig_config: str
    mig_state: str
    upgrade_state: str
    allocatable: dict[str, int]
    labels: dict[str, str]
    owners: dict[str, int]
    pool: str = ""


class Baseline(msgspec.Struct, frozen=True, rename="camel"):
    """All GPU nodes of a cluster at one time (UTC), before its drivers are upgraded to ``target``.

    ``probes`` are the statuses that an earlier run gave requirements on workloads, isolation and metrics, by their ids,
    ``figures`` the rates that its findings tell, of which a part of ``tolerance`` may be lost afterwards.
    """

    cluster: str
    target: str
    taken_at: datetime
    nodes: tuple[NodeBefore, ...]
    probes: dict[str, str] = {}
    figures: dict[str, float] = {}
    tolerance: float = 0.1
    uid: str = ""
    api_version: str = API_VERSION
    kind: str = KIND


class BaselineError(ValueError):
    """The file is no baseline that could be compared with the cluster."""


def load(file: Path) -> Baseline:
    """Read a baseline. Raises BaselineError where the file is missing, damaged, of another kind or version."""
    try:
        told = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError:
        raise BaselineError(f"{file} does not exist; a run with --gpu-pre-upgrade writes {FILE}") from None
    except (OSError, msgspec.DecodeError) as error:
        raise BaselineError(f"{file} cannot be read: {error}") from None
    if not isinstance(told, dict) or told.get("kind") != KIND:
        raise BaselineError(f"{file} is no baseline of an upgrade; a run with --gpu-pre-upgrade writes {FILE}")
    if told.get("apiVersion") != API_VERSION:
        raise BaselineError(f"{file} is of version {told.get('apiVersion')}, and this program reads {API_VERSION}")
    try:
        return msgspec.convert(told, Baseline)
    except msgspec.ValidationError as error:
        raise BaselineError(f"{file} is damaged: {error}") from None


def require_cluster(baseline: Baseline, file: Path, nodes: Iterable[str], uid: str | None) -> None:
    """Raise BaselineError where the baseline is of another cluster.

    Told by the UIDs of both, else by whether the cluster has any node of the baseline: managed node pools may have
    replaced all of them.
    """
    if baseline.uid and uid:
        if baseline.uid != uid:
            raise BaselineError(f"{file} is of the cluster {baseline.cluster}, whose UID {baseline.uid} is another one")
        return
    named = {each.name for each in baseline.nodes}
    if named and not named & {*nodes}:
        raise BaselineError(
            f"{file} is of the cluster {baseline.cluster}: this one has none of its {len(named)} GPU nodes"
        )


def take(
    facts: Facts,
    resources: Iterable[str],
    *,
    cluster: str,
    target: str,
    pool_of: Callable[[Node], str] = lambda _: "",
    uid: str = "",
) -> Baseline:
    """The baseline of a cluster; ``resources`` are the names by which the owners' set-up offers GPUs.

    ``pool_of`` names the pool of a node, ``uid`` is the cluster's where it stays the same. Raises Waits where nodes or
    pods could not be read.
    """
    names = frozenset(resources)
    nodes = (_before(node, facts, names, pool_of(node)) for node in facts.nodes if has_gpus(node, names))
    return Baseline(cluster, target, facts.taken_at, tuple(nodes), uid=uid)


def write(baseline: Baseline, folder: Path) -> Path:
    """Write it into a report folder, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    file.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n")
    return file


def has_gpus(node: Node, resources: Iterable[str]) -> bool:
    """Whether a node offers GPUs, or a label says that it has some that it does not offer now."""
    return bool(_offered(node, frozenset(resources)) or node.labels.get(GPU_PRODUCT))


def offered(node: Node, resources: Iterable[str]) -> dict[str, int]:
    """What pods can be given on a node (allocatable), by the name of the GPU resource; names with 0 included."""
    return {name: node.gpus(name) for name in sorted(_offered(node, frozenset(resources)))}


def owner_of(pod: Pod) -> str:
    """Whose a pod is, as it is told again of the pod that takes its place; of a Deployment's the Deployment."""
    if not pod.owner_kind:
        return f"Pod {pod.namespace}/{pod.name}"
    revision = pod.labels.get("pod-template-hash", "")
    if pod.owner_kind == "ReplicaSet" and revision and pod.owner_name.endswith(f"-{revision}"):
        return f"Deployment {pod.namespace}/{pod.owner_name.removesuffix(f'-{revision}')}"
    return f"{pod.owner_kind} {pod.namespace}/{pod.owner_name}"


def owners_on(node: str, facts: Facts, resources: frozenset[str]) -> dict[str, int]:
    """How many unfinished pods with GPUs each owner has on a node."""
    here = (pod for pod in facts.pods_on(node) if not pod.finished and pod.gpu_requests(resources))
    return dict(sorted(Counter(owner_of(pod) for pod in here).items()))


def _before(node: Node, facts: Facts, resources: frozenset[str], pool: str) -> NodeBefore:
    labels = node.labels
    return NodeBefore(
        node.name,
        node.ready,
        node.unschedulable,
        node.kernel,
        labelled_driver(labels),
        labels.get(GPU_PRODUCT, ""),
        labels.get(MIG_CONFIG, ""),
        labels.get(MIG_CONFIG_STATE, ""),
        labels.get(UPGRADE_STATE, ""),
        offered(node, resources),
        {key: value for key, value in sorted(labels.items()) if key.startswith(NVIDIA)},
        owners_on(node.name, facts, resources),
        pool,
    )


def _offered(node: Node, resources: frozenset[str]) -> set[str]:
    return {*node.gpu_resources, *(name for name in resources if name in node.allocatable)}

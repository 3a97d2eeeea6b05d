"""Waiting until what was deployed is ready: the GPU stack, what nodes have allocatable, quotas and workloads.

One vocabulary: an object is **ready** when its status says that it does its work, a node has GPUs **allocatable** when
``status.allocatable`` holds what its pool declares. Every wait has a limit and returns, in words, what is missing:
whether it ought to be there is for the suites to say.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, NamedTuple, TypeVar

from conformance.deploy.preflight import listed
from conformance.gpu.labels import DEPLOY_GPU_FEATURE_DISCOVERY, DEPLOY_OPERANDS, GPU_PRODUCT, MIG_CONFIG_STATE
from conformance.gpu.resources import DRA_DRIVER
from conformance.kube.client import Client
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.reference.expected import offer_of
from conformance.reference.model import Pool, Reference

__all__ = [
    "nodes_lacking_gpus",
    "stack_not_ready",
    "wait_until_gpus_allocatable",
    "wait_until_stack_ready",
    "wait_until_workloads_ready",
]

_OPERATOR_RESOURCES = ("ClusterPolicy", "GPUCluster")
# Reasons for which a ClusterPolicy is ready without operands (NVIDIA/gpu-operator v26.7.0, internal/conditions).
_NO_NODE_SEEN = {"NoGPUNodes", "NFDLabelsMissing"}
# A look at thousands of nodes takes its time; this share of a core is left to those who bring the GPUs.
_PAUSE = 2.0

_Missing = TypeVar("_Missing", bound=Sized)


# Nodes: what they have allocatable.


def wait_until_gpus_allocatable(client: Client, reference: Reference, limit: float) -> tuple[str, ...]:
    """Wait up to ``limit`` seconds; return the nodes that lack GPUs that are declared, each with what it lacks."""
    what = f"the nodes of {reference} have their GPUs allocatable"
    if _wait_until_empty(lambda: nodes_lacking_gpus(client, reference), what, limit):
        return ()
    return tuple(f"node {name}: {lacks}" for name, lacks in nodes_lacking_gpus(client, reference).items())


def nodes_lacking_gpus(client: Client, reference: Reference) -> dict[str, str]:
    """The ready nodes that do not have allocatable what their pool declares, each with what is missing."""
    with_slices = _nodes_with_slices(client) if any(_by_dra(pool) for pool in reference.gpu_pools) else set()
    found = {}
    for node in client.list(path("Node")):
        pool = reference.pool_of(node["metadata"].get("labels") or {})
        name = str(node["metadata"]["name"])
        if pool is None or pool.gpu is None or not _is_ready_node(node):
            continue
        if lacks := _lacks(node, reference, pool, has_slice=name in with_slices):
            found[name] = lacks
    return found


def _lacks(node: dict[str, Any], reference: Reference, pool: Pool, *, has_slice: bool) -> str:
    if _by_dra(pool):
        return "" if has_slice else f"no ResourceSlice of driver {DRA_DRIVER}"
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    declared = offer_of(reference, pool).resources or {}
    return ", ".join(
        f"{resource} is {allocatable.get(resource, 'absent')}, declared are {count}"
        for resource, count in declared.items()
        if str(allocatable.get(resource, "0")) != str(count)
    )


def _by_dra(pool: Pool) -> bool:
    return pool.gpu is not None and pool.gpu.allocated_by == "dra"


def _nodes_with_slices(client: Client) -> set[str]:
    specs = [each.get("spec") or {} for each in listed(client, path("ResourceSlice"))]
    return {str(spec.get("nodeName")) for spec in specs if spec.get("driver") == DRA_DRIVER}


def _is_ready_node(node: dict[str, Any]) -> bool:
    """Whether the node is up: nobody can bring GPUs to one that is not."""
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in _conditions(node))


# The GPU stack: GPUs are allocatable before everything that describes them is there.


def wait_until_stack_ready(client: Client, reference: Reference, namespaces: Iterable[str], limit: float) -> None:
    """Wait up to ``limit`` seconds. What is not ready by then is for the suites to tell."""
    where = tuple(dict.fromkeys(namespaces))
    _wait_until_empty(
        lambda: tuple(stack_not_ready(client, reference, where))[:1], f"the GPU stack of {reference} is ready", limit
    )


def stack_not_ready(client: Client, reference: Reference, namespaces: Iterable[str]) -> Iterator[str]:
    """What is not ready, in words: workloads in the stack's namespaces, the operator resource, labels of nodes."""
    for namespace in namespaces:
        for kind in ("DaemonSet", "Deployment"):
            for workload in client.list(path(kind, namespace=namespace)):
                if not _is_ready(workload):
                    yield f"{kind.lower()} {namespace}/{workload['metadata']['name']}"
    for kind in _OPERATOR_RESOURCES:
        for resource in listed(client, path(kind)):
            if (resource.get("status") or {}).get("state") in (None, "", "notReady"):
                yield f"{kind} {resource['metadata']['name']}"
    if reference.stack is not None:
        nodes = _ready_nodes_in_pools(client, reference)
        yield from _operator_resources_without_nodes(client, [node for node, pool in nodes if _is_plugins(pool)])
        for node, pool in nodes:
            if lacks := _labels_missing(node["metadata"].get("labels") or {}, reference, pool):
                yield f"node {node['metadata']['name']}: {lacks}"


def _ready_nodes_in_pools(client: Client, reference: Reference) -> list[tuple[dict[str, Any], Pool]]:
    found = [(node, reference.pool_of(node["metadata"].get("labels") or {})) for node in client.list(path("Node"))]
    return [(node, pool) for node, pool in found if pool is not None and _is_ready_node(node)]


def _is_plugins(pool: Pool) -> bool:
    return pool.gpu is not None and not _by_dra(pool)


def _operator_resources_without_nodes(client: Client, gpu_nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """ClusterPolicies that are ready because their operator has not seen the GPU nodes yet, in words.

    The operator writes the status at the end of a pass only: what it says while it deploys the operands for nodes that
    have just been discovered is what it said without them (NVIDIA/gpu-operator v26.7.0, clusterpolicy_controller.go,
    Reconcile; seen for 2 s).
    """
    for policy in listed(client, path("ClusterPolicy")) if gpu_nodes else ():
        for condition in _conditions(policy):
            if condition.get("status") == "True" and condition.get("reason") in _NO_NODE_SEEN:
                name, reason = policy["metadata"]["name"], condition["reason"]
                yield f"ClusterPolicy {name} says {reason}, although GPU nodes are there"


def _labels_missing(labels: dict[str, str], reference: Reference, pool: Pool) -> str:
    """Which program has not labelled a node yet, in words."""
    if pool.gpu is None or pool.gpu.allocated_by == "dra" or reference.stack is None:
        return ""
    kept_off = any(labels.get(label) == "false" for label in (DEPLOY_OPERANDS, DEPLOY_GPU_FEATURE_DISCOVERY))
    if reference.stack.gpu_feature_discovery and not kept_off and GPU_PRODUCT not in labels:
        return "GPU Feature Discovery has not labelled it"
    managed = reference.stack.mig_manager and reference.stack.kind == "gpu-operator"
    if pool.mig_layout and managed and labels.get(MIG_CONFIG_STATE) not in ("success", "failed"):
        return "the MIG manager has not ended"
    return ""


# Quotas and workloads of the set-up.


class _Awaited(NamedTuple):
    """An object that is deployed and has to become ready."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()} {self.namespace}/{self.name}"


def wait_until_workloads_ready(client: Client, reference: Reference, limit: float) -> tuple[str, ...]:
    """Wait up to ``limit`` seconds, all together, for quotas and workloads; return in words what is not ready.

    A quota has to be counted once: until then it limits nothing, and kube-controller-manager
    takes seconds to look at quotas after its own start and after every new resource type
    (kubernetes: pkg/controller/resourcequota/resource_quota_controller.go, Sync).
    """
    quotas = [
        _Awaited("ResourceQuota", team.namespace, quota.name) for team in reference.teams for quota in team.quotas
    ]
    workloads = [_Awaited(each.kind, each.namespace, each.name) for each in reference.workloads if each.manifest]
    awaited = [*quotas, *workloads]
    if not awaited:
        return ()
    try:
        wait_for(
            lambda: _not_ready(client, awaited),
            lambda waiting: not waiting,
            what=f"quotas and workloads of {reference} are ready",
            timeout=limit,
            give_up=lambda waiting: "every one left is refused" if all(map(_is_refused, waiting.values())) else None,
        )
    except WaitTimeout:
        return tuple(f"{each}: {_why_not_ready(obj)}" for each, obj in _not_ready(client, awaited).items())
    return ()


def _not_ready(client: Client, awaited: list[_Awaited]) -> dict[_Awaited, dict[str, Any]]:
    found = {each: _read(client, each) for each in awaited}
    return {each: obj for each, obj in found.items() if not _is_ready(obj)}


def _read(client: Client, awaited: _Awaited) -> dict[str, Any]:
    try:
        return client.get(path(awaited.kind, namespace=awaited.namespace, name=awaited.name))
    except NotFound:
        return {}


def _is_ready(obj: dict[str, Any]) -> bool:
    """Whether a quota is counted, or a workload has all its pods ready and they are of its newest generation."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    match obj.get("kind"):
        case "ResourceQuota":
            return bool(status.get("hard") == spec.get("hard"))
        case "Job":
            return bool(status.get("ready") or status.get("succeeded"))
        case "Deployment":
            wanted, ready = spec.get("replicas", 1), status.get("availableReplicas")
        case "StatefulSet":
            wanted, ready = spec.get("replicas", 1), status.get("readyReplicas")
        case "DaemonSet":
            wanted, ready = status.get("desiredNumberScheduled"), status.get("numberAvailable")
        case _:
            return False
    observed = int(status.get("observedGeneration") or 0) >= int(obj["metadata"].get("generation") or 0)
    return observed and int(ready or 0) >= int(wanted or 0)


def _is_refused(obj: dict[str, Any]) -> bool:
    """Whether the API server refuses the workload's pods, for a quota or an admission rule, or the Job has failed."""
    return any(
        condition.get("type") in ("ReplicaFailure", "Failed") and condition.get("status") == "True"
        for condition in _conditions(obj)
    )


def _why_not_ready(obj: dict[str, Any]) -> str:
    if not obj:
        return "is not there"
    if obj.get("kind") == "ResourceQuota":
        return "it has not been counted, and so limits nothing yet"
    messages = [str(each["message"]) for each in _conditions(obj) if each.get("message") and _is_bad(each)]
    return "; ".join(messages) or "its pods are not ready"


def _is_bad(condition: dict[str, Any]) -> bool:
    bad_when_true = condition.get("type") in ("ReplicaFailure", "Failed", "FailureTarget")
    return (condition.get("status") == "True") == bad_when_true


def _conditions(obj: dict[str, Any]) -> list[dict[str, Any]]:
    return (obj.get("status") or {}).get("conditions") or []


def _wait_until_empty(look: Callable[[], _Missing], what: str, limit: float) -> bool:
    """Look until nothing is missing, and say whether that came; a look that took long is followed by a long pause."""
    pause = 0.0

    def paced() -> _Missing:
        nonlocal pause
        time.sleep(pause)
        began = time.monotonic()
        found = look()
        pause = (time.monotonic() - began) * _PAUSE
        return found

    try:
        wait_for(paced, lambda missing: not missing, what=what, timeout=limit)
    except WaitTimeout:
        return False
    return True

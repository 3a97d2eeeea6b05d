"""Waiting until an installed GPU stack has come to rest: GPUs are offered before all that tells of them is there."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from conformance.deploy.preflight import listed
from conformance.kube.client import Client
from conformance.kube.errors import WaitTimeout
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.reference.model import Pool, Reference

__all__ = ["unrested", "wait_until_at_rest"]

_DISCOVERED = "nvidia.com/gpu.product"
_MIG_STATE = "nvidia.com/mig.config.state"
# With one of these at false a node gets no feature discovery from the operator.
_WITHOUT_DISCOVERY = ("nvidia.com/gpu.deploy.operands", "nvidia.com/gpu.deploy.gpu-feature-discovery")
_ROOTS = ("ClusterPolicy", "GPUCluster")
# A look at thousands of nodes takes its time; this share of a core is left to those who are not at rest.
_REST = 2.0


def wait_until_at_rest(client: Client, reference: Reference, namespaces: Iterable[str], limit: float) -> None:
    """Wait up to ``limit`` seconds. What does not come to rest by then is for the suites to tell."""
    where = tuple(dict.fromkeys(namespaces))
    rest = 0.0

    def look() -> str:
        nonlocal rest
        time.sleep(rest)
        began = time.monotonic()
        found = next(unrested(client, reference, where), "")
        rest = (time.monotonic() - began) * _REST
        return found

    try:
        wait_for(look, lambda moving: not moving, what=f"the GPU stack of {reference} is at rest", timeout=limit)
    except WaitTimeout:
        return


def unrested(client: Client, reference: Reference, namespaces: Iterable[str]) -> Iterator[str]:
    """What is not at rest, each in words: workloads in the namespaces of the stack, its root object, its nodes."""
    for namespace in namespaces:
        for kind in ("DaemonSet", "Deployment"):
            for workload in client.list(path(kind, namespace=namespace)):
                if not _is_available(workload):
                    yield f"{kind.lower()} {namespace}/{workload['metadata']['name']}"
    for kind in _ROOTS:
        for root in listed(client, path(kind)):
            if (root.get("status") or {}).get("state") in (None, "", "notReady"):
                yield f"{kind} {root['metadata']['name']}"
    if reference.stack is not None:
        for node in client.list(path("Node")):
            labels = node["metadata"].get("labels") or {}
            pool = reference.pool_of(labels)
            if pool is not None and _is_ready(node) and (words := _untold(labels, reference, pool)):
                yield f"node {node['metadata']['name']}: {words}"


def _untold(labels: dict[str, str], reference: Reference, pool: Pool) -> str:
    """What the labels of a node do not tell yet, in words."""
    if pool.gpu is None or pool.gpu.allocated_by == "dra":
        return ""
    kept_off = any(labels.get(label) == "false" for label in _WITHOUT_DISCOVERY)
    discovers = reference.stack is not None and reference.stack.gpu_feature_discovery and not kept_off
    if discovers and _DISCOVERED not in labels:
        return "GPU feature discovery has not labelled it"
    managed = reference.stack is not None and reference.stack.mig_manager and reference.stack.kind == "gpu-operator"
    if pool.mig_layout and managed and labels.get(_MIG_STATE) not in ("success", "failed"):
        return "the MIG manager has not ended"
    return ""


def _is_available(workload: dict[str, Any]) -> bool:
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    if int(status.get("observedGeneration") or 0) < int(workload["metadata"].get("generation") or 0):
        return False
    if workload["kind"] == "DaemonSet":
        return int(status.get("numberAvailable") or 0) >= int(status.get("desiredNumberScheduled") or 0)
    return int(status.get("availableReplicas") or 0) >= int(spec.get("replicas", 1))


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)

"""Waiting until the nodes of a set-up offer the GPUs that it declares, or saying which do not and what they lack."""

import time
from typing import Any

from conformance.kube.client import Client
from conformance.kube.errors import NotFound, WaitTimeout
from conformance.kube.paths import path
from conformance.kube.waits import wait_for
from conformance.reference.expected import offer_of
from conformance.reference.model import Pool, Reference

__all__ = ["unoffered", "wait_until_offered"]

_DRIVER = "gpu.nvidia.com"
# A look at thousands of nodes takes its time; this share of a core is left to those who bring the GPUs.
_REST = 2.0


def wait_until_offered(client: Client, reference: Reference, limit: float) -> tuple[str, ...]:
    """Wait up to ``limit`` seconds; return in words the nodes that do not offer what is declared, and why."""
    rest = 0.0

    def look() -> dict[str, str]:
        nonlocal rest
        time.sleep(rest)
        began = time.monotonic()
        found = unoffered(client, reference)
        rest = (time.monotonic() - began) * _REST
        return found

    try:
        wait_for(look, lambda lacking: not lacking, what=f"the nodes of {reference} offer their GPUs", timeout=limit)
    except WaitTimeout:
        return tuple(f"node {name}: {words}" for name, words in unoffered(client, reference).items())
    return ()


def unoffered(client: Client, reference: Reference) -> dict[str, str]:
    """The ready nodes that do not offer what their pool declares, each with what is missing."""
    sliced = _with_slices(client) if any(_by_dra(pool) for pool in reference.gpu_pools) else set()
    found = {}
    for node in client.list(path("Node")):
        pool = reference.pool_of(node["metadata"].get("labels") or {})
        name = str(node["metadata"]["name"])
        if pool is None or pool.gpu is None or not _is_ready(node):
            continue
        words = _lacks(node, reference, pool, has_slice=name in sliced)
        if words:
            found[name] = words
    return found


def _lacks(node: dict[str, Any], reference: Reference, pool: Pool, *, has_slice: bool) -> str:
    if _by_dra(pool):
        return "" if has_slice else f"no ResourceSlice of driver {_DRIVER}"
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    declared = offer_of(reference, pool).resources or {}
    return ", ".join(
        f"{resource} is {allocatable.get(resource, 'absent')}, declared are {count}"
        for resource, count in declared.items()
        if str(allocatable.get(resource, "0")) != str(count)
    )


def _by_dra(pool: Pool) -> bool:
    return pool.gpu is not None and pool.gpu.allocated_by == "dra"


def _is_ready(node: dict[str, Any]) -> bool:
    """Whether the node is up: nobody can offer anything on one that is not."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _with_slices(client: Client) -> set[str]:
    try:
        slices = client.list(path("ResourceSlice"))
    except NotFound:
        return set()
    specs = [each.get("spec") or {} for each in slices]
    return {str(spec.get("nodeName")) for spec in specs if spec.get("driver") == _DRIVER}

"""Why Karpenter brings no node for a pod: a NodePool is not ready or at its limit, a NodeClaim came to nothing.

NodeClaims do not say for which pods they were made; those are told that ask for a device that the pod asks for.
Sources: https://karpenter.sh/docs/concepts/nodepools/ (limits, status.resources) and nodeclaims/ (Launched, Registered,
Initialized); https://github.com/kubernetes-sigs/karpenter (pkg/controllers/nodeclaim/lifecycle: ResourceNotRegistered),
https://github.com/Azure/karpenter-provider-azure/issues/1790 (a node without its GPU never becomes initialized, and
none is made in its place).
"""

from collections.abc import Iterator
from itertools import chain

from conformance.explaining.seen import Seen, condition
from conformance.gpu.labels import NODE_POOL
from conformance.gpu.placement import Manifest, in_units, taken_of_node
from conformance.gpu.quantities import quantity

_STEPS = (
    ("Launched", "is not launched"),
    ("Registered", "is launched, and no node has joined the cluster for it"),
    ("Initialized", "has a node that is not initialized"),
)
_REMEDIES = {
    "Launched": "Let its NodePool choose among more instance types, zones or capacity types, or get capacity reserved.",
    "Registered": "See the machine's console: whether it boots, reaches the API server and may join (node role).",
    "Initialized": "See why the node does not offer what was asked for (driver, device plugin), or why it keeps a "
    "startup taint: Karpenter makes no other node as long as it waits for this one.",
}
_MOST = 300


def why_no_node(seen: Seen, pod: Manifest) -> tuple[str, str]:
    """Why Karpenter has brought none, and what to do; empty where nothing says so."""
    devices = {resource for resource in taken_of_node(pod) if "/" in resource}
    if not devices:
        return "", ""
    told = chain(_unfinished(seen, devices), _not_ready(seen, devices), _at_limits(seen, pod, devices))
    return next(told, ("", ""))


def _unfinished(seen: Seen, devices: set[str]) -> Iterator[tuple[str, str]]:
    for claim in seen.of("NodeClaim"):
        asked = (((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).keys()
        if not devices & asked or claim["metadata"].get("deletionTimestamp"):
            continue
        for step, words in _STEPS:
            found = condition(claim, step)
            if found.get("status") == "True":
                continue
            if found.get("message") or found.get("reason"):
                yield f"NodeClaim {_named(claim)} of Karpenter {words}: {_said(found)}", _REMEDIES[step]
            break


def _not_ready(seen: Seen, devices: set[str]) -> Iterator[tuple[str, str]]:
    for pool in _pools_with(seen, devices):
        ready = condition(pool, "Ready")
        if ready.get("status") == "False":
            yield (
                f"NodePool {pool['metadata']['name']} of Karpenter is not ready: {_said(ready)}",
                "Correct the NodePool or its node class, as the condition says: Karpenter makes no node of it before.",
            )


def _at_limits(seen: Seen, pod: Manifest, devices: set[str]) -> Iterator[tuple[str, str]]:
    """Pools that would be above one of their limits with the pod; other limits are reached by the size of a node."""
    wanted = taken_of_node(pod)
    for pool in _pools_with(seen, devices):
        limits = (pool.get("spec") or {}).get("limits") or {}
        used = (pool.get("status") or {}).get("resources") or {}
        for resource in sorted(limits.keys() & wanted.keys(), key=lambda each: ("/" not in each, each)):
            limit, held = quantity(limits[resource]), quantity(used.get(resource, "0"))
            if held + wanted[resource] > limit:
                amounts = f"{in_units(resource, held)} of {in_units(resource, limit)} {resource} are in use"
                yield (
                    f"NodePool {pool['metadata']['name']} of Karpenter is at its limit: {amounts}",
                    "Raise spec.limits of the NodePool, wait until its nodes are empty, or ask for less.",
                )
                break


def _pools_with(seen: Seen, devices: set[str]) -> Iterator[Manifest]:
    """The pools that have, or may have, such devices: by their limits, their nodes, or a NodeClaim of theirs."""
    claimed = {
        str((claim["metadata"].get("labels") or {}).get(NODE_POOL) or "")
        for claim in seen.of("NodeClaim")
        if devices & (((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).keys()
    }
    for pool in seen.of("NodePool"):
        limits, used = (pool.get("spec") or {}).get("limits") or {}, (pool.get("status") or {}).get("resources") or {}
        if devices & {*limits, *used} or pool["metadata"]["name"] in claimed:
            yield pool


def _named(claim: Manifest) -> str:
    pool = (claim["metadata"].get("labels") or {}).get(NODE_POOL)
    return f"{claim['metadata']['name']}{f' (NodePool {pool})' if pool else ''}"


def _said(found: Manifest) -> str:
    reason, words = str(found.get("reason") or ""), " ".join(str(found.get("message") or "").split())
    if not words or words == reason:
        return reason or "it does not say why"
    return f"{words[:_MOST]}{'...' * (len(words) > _MOST)} ({reason})" if reason else words[:_MOST]

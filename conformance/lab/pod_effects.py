"""What a pod can do to a cluster: take GPUs, or the place of somebody else's pod. Judged on its final spec.

The guard of the HTTP client sees namespaces; what a pod does once the scheduler has it is not in its path. So the
lab judges each pod, and each template, before it is sent.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from conformance.gpu.affinity import required_terms
from conformance.kube.effects import Effect, Landing
from conformance.kube.errors import EffectRefused

__all__ = ["SAFE_CEILING", "PodPriority", "effect_of", "pinned_to", "pod_specs", "require_effect", "require_landing"]

SAFE_CEILING = -1_000_000_000
"""No real workload is below this value (the placeholder pods of cluster autoscalers are at -10), so a pod that is
cannot push one out."""

WORKLOADS = ("DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet")


class PodPriority(msgspec.Struct, frozen=True):
    """What a PriorityClass lets its pods do."""

    value: int
    preempts: bool

    @property
    def threatens_others(self) -> bool:
        """Whether its pods may push out pods that are not the lab's."""
        return self.preempts and self.value > SAFE_CEILING


def effect_of(spec: Mapping[str, Any], pod_priority: Callable[[str], PodPriority], borrowed: Collection[str]) -> Effect:
    """What a pod of this spec can do to the cluster.

    ``pod_priority`` looks a PriorityClass up by name (an empty name: the cluster's default); ``borrowed`` are the
    nodes that the lab has to itself, where a pod can push out nobody else's.
    """
    if spec.get("schedulingGates"):
        return Effect.OWN_NAMESPACE
    nodes = pinned_to(spec)
    on_borrowed = bool(nodes) and nodes <= set(borrowed)
    if not on_borrowed and pod_priority(str(spec.get("priorityClassName") or "")).threatens_others:
        return Effect.DISRUPTIVE
    return Effect.OCCUPIES_IDLE_GPUS if _asks_for_devices(spec) else Effect.OWN_NAMESPACE


def require_effect(needed: Effect, limit: Effect, what: str, requirement: str) -> None:
    """Raise EffectRefused when a pod does more than the requirement declares."""
    if needed > limit:
        raise EffectRefused("create", what, needed, limit, requirement)


def require_landing(
    spec: Mapping[str, Any], landing: Landing, own: Collection[str], what: str, requirement: str
) -> None:
    """Raise ValueError when a pod may get where the requirement does not declare: it may be beside others there.

    ``own`` are the nodes on which it declares that its pods land, those that it has borrowed or picked.
    """
    if landing is Landing.ANYWHERE or spec.get("schedulingGates"):
        return
    if landing is Landing.WITHOUT_DEVICES:
        if _asks_for_devices(spec):
            raise ValueError(f"pods of {requirement} land {landing}, as it declares, and {what} asks for devices")
        return
    nodes = pinned_to(spec)
    if landing is Landing.NOWHERE or not nodes or not nodes <= set(own):
        raise ValueError(f"pods of {requirement} land {landing}, as it declares, and {what} may land elsewhere")


def pinned_to(spec: Mapping[str, Any]) -> frozenset[str]:
    """The only nodes on which a pod of this spec can be placed; empty when that is not certain from the spec."""
    if spec.get("nodeName"):
        return frozenset({str(spec["nodeName"])})
    names = set()
    for term in required_terms((spec.get("affinity") or {}).get("nodeAffinity")):
        named = [field["values"][0] for field in term.get("matchFields") or () if field.get("operator") == "In"]
        if not named:
            return frozenset()
        names.update(named)
    return frozenset(names)


def pod_specs(obj: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod specs inside a Pod or a workload; none in any other object. They are the object's own, not copies."""
    kind = obj.get("kind")
    if kind == "Pod":
        yield obj["spec"]
    elif kind in WORKLOADS:
        yield obj["spec"]["template"]["spec"]
    elif kind == "CronJob":
        yield obj["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def _asks_for_devices(spec: Mapping[str, Any]) -> bool:
    """Whether any container asks for an extended resource (their names have a domain), or the pod for claims."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    resources = [container.get("resources") or {} for container in containers]
    names = {name for each in resources for part in ("requests", "limits") for name in each.get(part) or {}}
    return any("/" in name for name in names) or bool(spec.get("resourceClaims"))

"""Volcano's queues: what bounds the GPUs of the pods in them.

The ``capability`` of a queue is what its pods have at most, and that of a queue above bounds those below it. What other
queues are guaranteed nobody else gets. ``deserved`` bounds only where the scheduler takes back (plugin capacity, action
reclaim), which stands in its configuration and is on by no default; ``weight`` divides only what is contended.
Sources: https://github.com/volcano-sh/apis (pkg/apis/scheduling/v1beta1); https://github.com/volcano-sh/volcano
(pkg/scheduler/plugins/capacity and proportion: realCapability; docs/user-guide/how_to_use_capacity_plugin.md;
pkg/controllers/podgroup: queue of a pod without group).
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from conformance.facts import Facts, Pod, Resource
from conformance.gpu.labels import VOLCANO_DEFAULT_QUEUE, VOLCANO_GROUP_KEYS, VOLCANO_QUEUE
from conformance.gpu.quantities import quantity
from suites._shared.queue_trees import with_those_above

_QUEUE_KEYS = (VOLCANO_QUEUE, "volcano.sh/queue-name")


class Bound(NamedTuple):
    """What bounds a pod's GPUs, in words; ``sure`` unless the scheduler's configuration decides whether it does."""

    words: str
    sure: bool


def queue_of(pod: Pod, facts: Facts) -> str:
    """The queue of a pod: its group's, else the one that it names, else Volcano's own default."""
    said = {**pod.labels, **pod.annotations}
    group = next((said[key] for key in VOLCANO_GROUP_KEYS if said.get(key)), "")
    found = (each for each in facts.volcano_pod_groups if (each.namespace, each.name) == (pod.namespace, group))
    named = next((str(each.spec.get("queue") or "") for each in found), "")
    return named or next((said[key] for key in _QUEUE_KEYS if said.get(key)), VOLCANO_DEFAULT_QUEUE)


def bound_of(name: str, resources: Collection[str], queues: Mapping[str, Resource]) -> Bound | None:
    """What bounds how much of some resources a queue has; None where nothing does, or there is no such queue."""
    chain = [queues[each] for each in with_those_above(name, queues, _parent)]
    for queue in chain:
        if capability := _amounts(queue.spec.get("capability"), resources):
            return Bound(f"{queue}, capability {capability}", sure=True)
    if chain and (reserved := _guaranteed_to_others(chain, resources, queues)):
        return Bound(f"{chain[0]}, which leaves to others what they are guaranteed: {reserved}", sure=True)
    for queue in chain:
        if queue.spec.get("reclaimable") is not False and (deserved := _amounts(queue.spec.get("deserved"), resources)):
            return Bound(f"{queue}, deserved {deserved}", sure=False)
    return None


def _parent(queue: Resource) -> str:
    return str(queue.spec.get("parent") or "")


def _guaranteed_to_others(chain: list[Resource], resources: Collection[str], queues: Mapping[str, Resource]) -> str:
    own = {each.name for each in chain}
    for queue in queues.values():
        guarantee = queue.spec.get("guarantee")
        reserved = _amounts(guarantee.get("resource") if isinstance(guarantee, dict) else None, resources)
        if queue.name not in own and reserved:
            return f"{queue} {reserved}"
    return ""


def _amounts(said: Any, resources: Collection[str]) -> str:
    """The amounts of all of some resources, as text; empty unless every one of them is named."""
    amounts = said if isinstance(said, dict) else {}
    if not resources or not set(resources) <= amounts.keys():
        return ""
    return ", ".join(f"{float(quantity(amounts[each])):g} {each}" for each in sorted(resources))

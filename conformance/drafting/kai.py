"""The KAI scheduler and its queues, where the cluster has it."""

from typing import Any

from conformance.drafting.notes import Guess, Item, LeftOut, Part
from conformance.facts import Facts, Resource
from conformance.reference.stack import RUN_AI
from conformance.verdict import Inconclusive

_PROGRAM = "kai-scheduler"
_LIMITS = "which of their limits the owners promise"
_RUN_AI = {"namespace": RUN_AI.namespace, "scheduler": RUN_AI.scheduler, "queue_label": RUN_AI.queue_label}


def drafted_kai(facts: Facts) -> Part | None:
    """KAI as declared by its queues; None where there are none, or they may not be read."""
    try:
        queues, workloads = facts.queues, facts.workloads
    except Inconclusive:
        return None
    if not queues:
        return None
    names = {each.name for each in queues}
    items: list[Item] = [_queue(each, names) for each in sorted(queues, key=lambda each: each.name)]
    value: dict[str, Any] = {"queues": items}
    if any(pod.scheduler == RUN_AI.scheduler for pod in facts.pods):
        value = {**_RUN_AI, **value}
        return Part(value, Guess("the queues of scheduling.run.ai and pods of Run:ai's scheduler", decide=_LIMITS))
    namespace = next((each.namespace for each in workloads if each.kind == "Deployment" and _PROGRAM in each.name), "")
    if namespace:
        value = {"namespace": namespace, **value}
    return Part(value, Guess("the queues of scheduling.run.ai", decide=_LIMITS))


def _queue(queue: Resource, names: set[str]) -> Item:
    parent = str(queue.spec.get("parentQueue") or "")
    if parent and parent not in names:
        return LeftOut(str(queue), f"its parent {parent} does not exist", is_fault=True)
    gpu = (queue.spec.get("resources") or {}).get("gpu") or {}
    value: dict[str, Any] = {"name": queue.name, **({"parent": parent} if parent else {})}
    for key, name in (("gpu_quota", "quota"), ("gpu_limit", "limit")):
        if isinstance(gpu.get(name), (int, float)):
            value[key] = gpu[name]
    return Part(value)

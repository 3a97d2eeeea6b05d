"""Who could be evicted for a pod that finds no room, and why that does not happen.

Preemption takes pods of lower priority, on nodes where their going would be enough (kube-scheduler, DefaultPreemption).
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from conformance.explaining.seen import Seen
from conformance.gpu.affinity import selector_matches
from conformance.gpu.placement import ROOM, Manifest, Obstacle, taken_of_node
from conformance.gpu.quantities import quantity

_SHOWN = 3


def for_pod(seen: Seen, pod: Manifest, found: Mapping[str, Sequence[Obstacle]]) -> str:
    """One sentence; empty where there is no node on which only room is missing."""
    full = sorted(name for name, kept in found.items() if kept and all(_only_full(each) for each in kept))
    if not full:
        return ""
    priority = int(pod["spec"].get("priority") or 0)
    if pod["spec"].get("preemptionPolicy") == "Never":
        named = pod["spec"].get("priorityClassName") or "it"
        return f"nobody is evicted for it: {named} has preemptionPolicy Never"
    for name in full:
        ending = _ending(seen, name)
        if ending and (pod.get("status") or {}).get("nominatedNodeName") == name:
            return f"room is being made for it on node {name}, where these are still ending: {_listed(ending)}"
        victims = _victims(seen, name, pod, priority)
        if victims:
            return f"on node {name} preemption can take {_listed(victims)}{_guarded(seen, victims)}"
    return f"nobody can be evicted for it: no pods of a priority below {priority} hold enough on any of these nodes"


def _ending(seen: Seen, node: str) -> list[Manifest]:
    return [each for each in seen.bound.get(node, ()) if each["metadata"].get("deletionTimestamp")]


def _only_full(obstacle: Obstacle) -> bool:
    return obstacle.kind == ROOM and not obstacle.lasting


def _victims(seen: Seen, node: str, pod: Manifest, priority: int) -> list[Manifest]:
    """Pods of lower priority, the lowest first, whose going makes room; empty where even all of them do not."""
    wanted = taken_of_node(pod)
    here = [(other, taken_of_node(other)) for other in seen.bound.get(node, ())]
    offered = (seen.nodes[node].get("status") or {}).get("allocatable") or {}
    short = {
        name: amount
        + sum((held.get(name, Fraction(0)) for _, held in here), Fraction(0))
        - quantity(offered.get(name, "0"))
        for name, amount in wanted.items()
    }
    taken: list[Manifest] = []
    for other, held in sorted(here, key=lambda each: int(each[0]["spec"].get("priority") or 0)):
        missing = [name for name, amount in short.items() if amount > 0]
        if not missing or int(other["spec"].get("priority") or 0) >= priority:
            break
        if any(held.get(name) for name in missing):
            taken.append(other)
            short = {name: amount - held.get(name, Fraction(0)) for name, amount in short.items()}
    return taken if all(amount <= 0 for amount in short.values()) else []


def _listed(victims: Sequence[Manifest]) -> str:
    names = [f"pod {each['metadata'].get('namespace')}/{each['metadata']['name']}" for each in victims[:_SHOWN]]
    more = f" and {len(victims) - _SHOWN} more" if len(victims) > _SHOWN else ""
    return f"{', '.join(names)}{more}"


def _guarded(seen: Seen, victims: Sequence[Manifest]) -> str:
    budgets = [
        str(budget["metadata"]["name"])
        for budget in seen.of("PodDisruptionBudget")
        if not (budget.get("status") or {}).get("disruptionsAllowed")
        and any(
            budget["metadata"].get("namespace") == each["metadata"].get("namespace")
            and selector_matches(budget["spec"].get("selector"), each["metadata"].get("labels") or {})
            for each in victims
        )
    ]
    told = ", ".join(budgets)
    return f"; disruption budget {told} guards some of them, which preemption respects where it can" if told else ""

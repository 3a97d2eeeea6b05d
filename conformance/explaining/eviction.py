"""Who could be evicted for a pod that finds no room, and why that does not happen.

Preemption takes pods of lower priority, on the node where least is broken (conformance.gpu.preemption): first of all
disruption budgets, which count all victims of a node together.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from conformance.explaining.seen import Seen
from conformance.gpu.affinity import selector_matches
from conformance.gpu.placement import ROOM, Manifest, Obstacle, taken_of_node
from conformance.gpu.preemption import Amounts, Holding, Victims, victims_on
from conformance.gpu.quantities import nanos, quantity

_SHOWN = 3


def for_pod(seen: Seen, pod: Manifest, found: Mapping[str, Sequence[Obstacle]]) -> str:
    """One sentence; empty where there is no node on which only room is missing."""
    full = sorted(name for name, kept in found.items() if kept and all(_only_full(each) for each in kept))
    if not full:
        return ""
    priority = _priority(pod)
    if pod["spec"].get("preemptionPolicy") == "Never":
        named = pod["spec"].get("priorityClassName") or "it"
        return f"nobody is evicted for it: {named} has preemptionPolicy Never"
    nominated = str((pod.get("status") or {}).get("nominatedNodeName") or "")
    ending = _ending(seen, nominated) if nominated in full else []
    if ending:
        return f"room is being made for it on node {nominated}, where these are still ending: {_listed(ending)}"
    budgets = _Budgets(seen)
    victims = {name: each for name in full if (each := _victims(seen, name, pod, budgets)) is not None}
    if not victims:
        return f"nobody can be evicted for it: no pods of a priority below {priority} hold enough on any of these nodes"
    node = min(victims, key=lambda name: (victims[name].rank, name))
    names = [each.name for each in reversed(victims[node].pods)]
    return f"on node {node} preemption can take {_shown(names)}{budgets.guarding(victims[node])}"


class _Budgets:
    """The disruption budgets as preemption counts them: one without a selector, or an empty one, counts no pod."""

    def __init__(self, seen: Seen) -> None:
        self._selecting: dict[str, list[tuple[str, Manifest]]] = {}
        self.allowed: dict[str, int] = {}
        for each in seen.of("PodDisruptionBudget"):
            namespace, name = str(each["metadata"].get("namespace")), str(each["metadata"]["name"])
            selector = (each.get("spec") or {}).get("selector") or {}
            self.allowed[f"{namespace}/{name}"] = int((each.get("status") or {}).get("disruptionsAllowed") or 0)
            if selector.get("matchLabels") or selector.get("matchExpressions"):
                self._selecting.setdefault(namespace, []).append((f"{namespace}/{name}", selector))

    def of(self, pod: Manifest) -> tuple[str, ...]:
        """The budgets that count a pod."""
        labels = pod["metadata"].get("labels") or {}
        every = self._selecting.get(str(pod["metadata"].get("namespace")), ()) if labels else ()
        return tuple(name for name, selector in every if selector_matches(selector, labels))

    def guarding(self, victims: Victims) -> str:
        """Which budgets let fewer go than would have to, all of them together; empty where all let go."""
        asked: dict[str, int] = {}
        for each in victims.pods:
            for budget in each.budgets:
                asked[budget] = asked.get(budget, 0) + 1
        told = ", ".join(
            f"{name} lets {self.allowed[name]} of {n} go" for name, n in sorted(asked.items()) if n > self.allowed[name]
        )
        many = "disruption budgets guard" if told.count(" lets ") > 1 else "a disruption budget guards"
        return f"; {many} some of them, which preemption respects where it can: {told}" if told else ""


def _victims(seen: Seen, node: str, pod: Manifest, budgets: _Budgets) -> Victims | None:
    """Who would have to leave a node; None where that makes no room, or nobody there is of lower priority."""
    here, priority = seen.bound.get(node, ()), _priority(pod)
    if not any(_priority(each) < priority for each in here):
        return None
    offered = (seen.nodes[node].get("status") or {}).get("allocatable") or {}
    holding = tuple(_holdings(here, budgets))
    return victims_on(
        _amounts(pod),
        {name: nanos(quantity(amount)) for name, amount in offered.items()},
        holding,
        priority,
        budgets.allowed,
    )


def _holdings(pods: Sequence[Manifest], budgets: _Budgets) -> Iterator[Holding]:
    for each in pods:
        name = f"pod {each['metadata'].get('namespace')}/{each['metadata']['name']}"
        yield Holding(name, _priority(each), _amounts(each), _started(each), budgets.of(each))


def _amounts(pod: Manifest) -> Amounts:
    return {name: nanos(amount) for name, amount in taken_of_node(pod).items()}


def _started(pod: Manifest) -> float:
    """When a pod started, in seconds; one that does not say so has started last."""
    stated = (pod.get("status") or {}).get("startTime")
    return datetime.fromisoformat(str(stated)).timestamp() if stated else float("inf")


def _priority(pod: Manifest) -> int:
    return int(pod["spec"].get("priority") or 0)


def _ending(seen: Seen, node: str) -> list[Manifest]:
    return [each for each in seen.bound.get(node, ()) if each["metadata"].get("deletionTimestamp")]


def _only_full(obstacle: Obstacle) -> bool:
    return obstacle.kind == ROOM and not obstacle.lasting


def _listed(pods: Sequence[Manifest]) -> str:
    return _shown([f"pod {each['metadata'].get('namespace')}/{each['metadata']['name']}" for each in pods])


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"

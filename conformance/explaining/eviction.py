"""Who could be evicted for a pod that finds no room, and why that does not happen.

Preemption takes pods of lower priority, on the node where least is broken (conformance.gpu.preemption): first of all
disruption budgets, which count all victims of a node together.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction

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
    budgets = seen.once("disruption budgets", lambda: _Budgets(seen))
    holdings = seen.once("holdings", lambda: _Holdings(seen, budgets))
    wanted = _in_nanos(taken_of_node(pod))
    found_on = {
        name: victims_on(wanted, _offered(seen.nodes[name], wanted), holdings.on(name), priority, budgets.allowed)
        for name in full
    }
    victims = {name: each for name, each in found_on.items() if each is not None}
    if not victims:
        return f"nobody can be evicted for it: no pods of a priority below {priority} hold enough on any of these nodes"
    node = min(victims, key=lambda name: (victims[name].rank, name))
    names = [each.name for each in reversed(victims[node].pods)]
    return f"on node {node} preemption can take {_shown(names)}{budgets.guarding(victims[node])}"


class _Budgets:
    """The disruption budgets as preemption counts them: one without a selector, or an empty one, counts no pod."""

    def __init__(self, seen: Seen) -> None:
        # With the selector where there is more of it than one label.
        self._by_label: dict[tuple[str, str, str], list[tuple[str, Manifest]]] = {}
        self._others: dict[str, list[tuple[str, Manifest]]] = {}
        self.allowed: dict[str, int] = {}
        for each in seen.of("PodDisruptionBudget"):
            namespace, name = str(each["metadata"].get("namespace")), str(each["metadata"]["name"])
            selector = (each.get("spec") or {}).get("selector") or {}
            self.allowed[f"{namespace}/{name}"] = int((each.get("status") or {}).get("disruptionsAllowed") or 0)
            first = next(iter((selector.get("matchLabels") or {}).items()), None)
            if first is not None:
                more = selector if len(selector["matchLabels"]) > 1 or selector.get("matchExpressions") else {}
                self._by_label.setdefault((namespace, *first), []).append((f"{namespace}/{name}", more))
            elif selector.get("matchExpressions"):
                self._others.setdefault(namespace, []).append((f"{namespace}/{name}", selector))

    def of(self, pod: Manifest) -> tuple[str, ...]:
        """The budgets that count a pod."""
        namespace, labels = str(pod["metadata"].get("namespace")), pod["metadata"].get("labels")
        if not labels or not self.allowed:
            return ()
        near = [*self._others.get(namespace, ())]
        for key, value in labels.items():
            near += self._by_label.get((namespace, key, value), ())
        return tuple([name for name, selector in near if not selector or selector_matches(selector, labels)])

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


class _Holdings:
    """The pods of each node as preemption sees them, computed once for all that wait."""

    def __init__(self, seen: Seen, budgets: _Budgets) -> None:
        self._seen, self._budgets = seen, budgets
        self._on: dict[str, Sequence[Holding]] = {}
        self._nanos: dict[int, tuple[Amounts, object]] = {}

    def on(self, node: str) -> Sequence[Holding]:
        """The pods of a node."""
        if node not in self._on:
            here, asked = self._seen.bound.get(node, ()), self._seen.occupancy.asked_of(node)
            self._on[node] = [*map(self._holding, here, asked)]
        return self._on[node]

    def _holding(self, pod: Manifest, taken: Mapping[str, Fraction]) -> Holding:
        return Holding(_named(pod), _priority(pod), self._amounts(taken), _started(pod), self._budgets.of(pod))

    def _amounts(self, taken: Mapping[str, Fraction]) -> Amounts:
        """In whole numbers; pods that ask alike have one object of what they take."""
        if id(taken) not in self._nanos:
            self._nanos[id(taken)] = _in_nanos(taken), taken
        return self._nanos[id(taken)][0]


def _in_nanos(amounts: Mapping[str, Fraction]) -> Amounts:
    return {name: nanos(amount) for name, amount in amounts.items()}


def _offered(node: Manifest, wanted: Amounts) -> Amounts:
    """What a node has to give of what is wanted."""
    offered = (node.get("status") or {}).get("allocatable") or {}
    return {name: nanos(quantity(offered[name])) for name in wanted if name in offered}


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
    return _shown([_named(each) for each in pods])


def _named(pod: Manifest) -> str:
    return f"pod {pod['metadata'].get('namespace')}/{pod['metadata']['name']}"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"

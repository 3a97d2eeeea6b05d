"""The room that nodes have for pods, and whom a pod would evict for it, also while some nodes are away.

What depends on a pod only by what the scheduler looks at is worked out once for all pods that are alike in that.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple, TypeAlias

from conformance.facts import Facts, Pod
from conformance.gpu.preemption import Amounts, Holding, Rank, Victims, fits, victims_on
from conformance.gpu.quantities import quantity

_NEVER = "Never"
_POD = {"pods": Fraction(1)}
_Sort: TypeAlias = tuple[object, ...]


class Place(NamedTuple):
    """Where a pod evicts others, whom, and how many other nodes serve as well."""

    node: str
    victims: tuple[Pod, ...]
    instead: int


class Room:
    """What nodes offer and what pods hold there, as it was read."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.nodes = tuple(node for node in facts.nodes if node.ready and not node.unschedulable)
        self._open: dict[_Sort, tuple[str, ...]] = {}
        self._with_room: dict[_Sort, tuple[str, ...]] = {}
        self._evictions: dict[_Sort, list[tuple[Rank, str, Victims]]] = {}
        self._held: dict[str, tuple[Holding, ...]] = {}
        self._offered: dict[str, Amounts] = {}
        self._pods: dict[str, Pod] = {}

    def without(self, away: Collection[str]) -> "Meanwhile":
        """The same while these nodes are away, to be filled."""
        return Meanwhile(self, frozenset(away))

    @cached_property
    def allowed(self) -> Mapping[str, int]:
        """How many disruptions each budget allows."""
        return {str(each): each.disruptions_allowed for each in self._facts.disruption_budgets}

    def pod(self, name: str) -> Pod:
        """The pod of a holding."""
        return self._pods[name]

    def open_to(self, pod: Pod) -> tuple[str, ...]:
        """The nodes that a pod selects and whose taints it tolerates."""
        sort = sort_of(pod)
        if sort not in self._open:
            chosen = pod.selected(self.nodes)
            self._open[sort] = tuple(node.name for node in chosen if not node.untolerated(pod.tolerations))
        return self._open[sort]

    def with_room(self, pod: Pod) -> tuple[str, ...]:
        """Those of them on which it finds room now."""
        sort = sort_of(pod)
        if sort not in self._with_room:
            wanted = wanted_by(pod)
            self._with_room[sort] = tuple(
                name for name in self.open_to(pod) if fits(wanted, self.offered(name), held_by(self.held(name)))
            )
        return self._with_room[sort]

    def evictions(self, pod: Pod) -> Sequence[tuple[Rank, str, Victims]]:
        """Whom it would evict on each of them now, the nodes in the order in which they are taken."""
        sort = sort_of(pod)
        if sort not in self._evictions:
            found = (
                (name, victims_for(pod, self.offered(name), self.held(name), self.allowed))
                for name in self.open_to(pod)
            )
            self._evictions[sort] = sorted((each.rank, name, each) for name, each in found if each is not None)
        return self._evictions[sort]

    def offered(self, node: str) -> Amounts:
        """What pods can be given on a node."""
        if node not in self._offered:
            found = self._facts.node(node)
            amounts = found.allocatable if found is not None else {}
            self._offered[node] = {name: quantity(amount) for name, amount in amounts.items()}
        return self._offered[node]

    def held(self, node: str) -> tuple[Holding, ...]:
        """The pods on a node with what they hold."""
        if node not in self._held:
            self._held[node] = tuple(self.holding(pod) for pod in self._facts.pods_on(node) if not pod.finished)
        return self._held[node]

    def holding(self, pod: Pod) -> Holding:
        """A pod as it takes part in preemption; a budget that selects everything counts no pod there."""
        budgets = self._facts.disruption_budgets_of(pod) if pod.labels else ()
        self._pods[str(pod)] = pod
        started = pod.started.timestamp() if pod.started else float("inf")
        return Holding(
            str(pod), pod.priority or 0, wanted_by(pod), started, tuple(str(each) for each in budgets if each.selector)
        )


class Meanwhile:
    """The room while nodes are away, of which pods that are placed take their part."""

    def __init__(self, room: Room, away: frozenset[str]) -> None:
        self._room = room
        self._away = away
        self._changed: dict[str, tuple[Holding, ...]] = {}

    def take(self, pod: Pod) -> bool:
        """Give a pod the first node that has room for it; False where none has."""
        wanted = wanted_by(pod)
        for node in self._room.with_room(pod):
            if node in self._away:
                continue
            if node not in self._changed or fits(wanted, self._room.offered(node), held_by(self._changed[node])):
                self._put(pod, node, self._here(node))
                return True
        # Where others were evicted, more may be free than they were evicted for.
        for node in self._changed:
            if node in self._room.open_to(pod) and fits(wanted, self._room.offered(node), held_by(self._changed[node])):
                self._put(pod, node, self._changed[node])
                return True
        return False

    def take_from_others(self, pod: Pod) -> Place | None:
        """Evict pods of lower priority for a pod where least is broken; None where that helps nowhere."""
        if pod.preemption_policy == _NEVER:
            return None
        choice = [
            each for each in self._room.evictions(pod) if each[1] not in self._away and each[1] not in self._changed
        ]
        for node in self._changed:
            if node in self._room.open_to(pod):
                found = victims_for(pod, self._room.offered(node), self._changed[node], self._room.allowed)
                choice += [(found.rank, node, found)] if found is not None else []
        if not choice:
            return None
        rank, node, victims = min(choice, key=lambda each: each[:2])
        left = tuple(each for each in self._here(node) if each not in victims.pods)
        self._put(pod, node, left)
        pods = tuple(self._room.pod(each.name) for each in victims.pods)
        return Place(node, pods, sum(each[0] == rank for each in choice) - 1)

    def _here(self, node: str) -> tuple[Holding, ...]:
        return self._changed.get(node, self._room.held(node))

    def _put(self, pod: Pod, node: str, others: tuple[Holding, ...]) -> None:
        self._changed[node] = (*others, self._room.holding(pod)._replace(started=float("inf")))


def sort_of(pod: Pod) -> _Sort:
    """The key of pods that the scheduler treats alike, as far as that is looked at here."""
    return (
        tuple(sorted(pod.requests().items())),
        tuple(sorted(pod.node_selector.items())),
        repr(pod.node_affinity),
        frozenset(pod.tolerations),
        pod.priority or 0,
    )


def wanted_by(pod: Pod) -> Amounts:
    """What a pod takes of a node, one of its places for pods included."""
    return {name: amount for name, amount in pod.requests().items() if amount} | _POD


def held_by(pods: Sequence[Holding]) -> dict[str, Fraction]:
    """What pods hold together."""
    total: dict[str, Fraction] = {}
    for pod in pods:
        for name, amount in pod.holds.items():
            total[name] = total.get(name, Fraction(0)) + amount
    return total


def victims_for(pod: Pod, offered: Amounts, here: Sequence[Holding], allowed: Mapping[str, int]) -> Victims | None:
    """Whom a pod would evict on a node with these pods."""
    return victims_on(wanted_by(pod), offered, here, pod.priority or 0, allowed)

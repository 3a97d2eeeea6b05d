"""The room that nodes have for pods, and whom a pod would evict for it, also while some nodes are away.

What depends on a pod only by what the scheduler looks at is worked out once for all pods that are alike in that.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

from conformance.facts import Facts, Pod
from conformance.gpu.preemption import Amounts, Holding, Rank, Victims, fits, total_of, victims_on
from conformance.gpu.quantities import nanos, quantity

_NEVER = "Never"
_POD = {"pods": nanos(quantity(1))}
_Sort: TypeAlias = int
"""The number of a sort of pods: its key is long, and would be hashed again at every look."""

Eviction: TypeAlias = tuple[Rank, str, Victims]
"""How nodes are compared, the node, and whom a pod would evict there."""


class Evictions(NamedTuple):
    """Whom pods of one sort would evict now: by node, the nodes in the order in which they are taken."""

    by_node: Mapping[str, Eviction]
    of_rank: Mapping[Rank, int]

    @classmethod
    def of(cls, found: Iterable[Eviction]) -> "Evictions":
        """Those that were found, in any order."""
        ordered = sorted(found, key=lambda each: each[:2])
        return cls({each[1]: each for each in ordered}, Counter(each[0] for each in ordered))

    def best_without(self, nodes: Collection[str]) -> tuple[Eviction | None, int]:
        """The first on none of these nodes, and how many of the others are as good as it."""
        best = next((each for node, each in self.by_node.items() if node not in nodes), None)
        if best is None:
            return None, 0
        others = (self.by_node[node] for node in nodes if node in self.by_node)
        return best, self.of_rank[best[0]] - sum(each[0] == best[0] for each in others)


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
        self._open: dict[_Sort, dict[str, None]] = {}
        self._sorts: dict[str, _Sort] = {}
        self._numbers: dict[tuple[object, ...], _Sort] = {}
        self._with_room: dict[_Sort, tuple[str, ...]] = {}
        self._evictions: dict[_Sort, Evictions] = {}
        self._held: dict[str, tuple[Holding, ...]] = {}
        self._offered: dict[str, Amounts] = {}
        self._wanted: dict[_Sort, Amounts] = {}
        self._pods: dict[str, Pod] = {}
        self._holdings: dict[str, Holding] = {}

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

    def _sort_of(self, pod: Pod) -> _Sort:
        name = str(pod)
        if name not in self._sorts:
            self._sorts[name] = self._numbers.setdefault(sort_of(pod), len(self._numbers))
        return self._sorts[name]

    def wanted(self, pod: Pod) -> Amounts:
        """What a pod takes of a node, one of its places for pods included."""
        sort = self._sort_of(pod)
        if sort not in self._wanted:
            self._wanted[sort] = {name: nanos(amount) for name, amount in pod.requests().items() if amount} | _POD
        return self._wanted[sort]

    def victims(self, pod: Pod, node: str, here: Sequence[Holding]) -> Victims | None:
        """Whom a pod would evict on a node where these pods are."""
        return victims_on(self.wanted(pod), self.offered(node), here, pod.priority or 0, self.allowed)

    def open_to(self, pod: Pod) -> Mapping[str, None]:
        """The nodes that a pod selects and whose taints it tolerates, in their order."""
        sort = self._sort_of(pod)
        if sort not in self._open:
            chosen = pod.selected(self.nodes)
            self._open[sort] = {node.name: None for node in chosen if not node.untolerated(pod.tolerations)}
        return self._open[sort]

    def with_room(self, pod: Pod) -> tuple[str, ...]:
        """Those of them on which it finds room now."""
        sort = self._sort_of(pod)
        if sort not in self._with_room:
            wanted = self.wanted(pod)
            self._with_room[sort] = tuple(
                name for name in self.open_to(pod) if fits(wanted, self.offered(name), self.filled(name))
            )
        return self._with_room[sort]

    def evictions(self, pod: Pod) -> Evictions:
        """Whom it would evict on each of them now."""
        sort = self._sort_of(pod)
        if sort not in self._evictions:
            found = ((name, self.victims(pod, name, self.held(name))) for name in self.open_to(pod))
            self._evictions[sort] = Evictions.of((each.rank, name, each) for name, each in found if each is not None)
        return self._evictions[sort]

    def offered(self, node: str) -> Amounts:
        """What pods can be given on a node."""
        if node not in self._offered:
            found = self._facts.node(node)
            amounts = found.allocatable if found is not None else {}
            self._offered[node] = {name: nanos(quantity(amount)) for name, amount in amounts.items()}
        return self._offered[node]

    def held(self, node: str) -> tuple[Holding, ...]:
        """The pods on a node with what they hold."""
        if node not in self._held:
            self._held[node] = tuple(self.holding(pod) for pod in self._facts.pods_on(node) if not pod.finished)
        return self._held[node]

    def filled(self, node: str) -> Amounts:
        """What the pods on a node hold together."""
        return total_of(each.holds for each in self.held(node))

    def holding(self, pod: Pod) -> Holding:
        """A pod as it takes part in preemption; a budget that selects everything counts no pod there."""
        name = str(pod)
        if name not in self._holdings:
            budgets = self._facts.disruption_budgets_of(pod) if pod.labels else ()
            self._pods[name] = pod
            started = pod.started.timestamp() if pod.started else float("inf")
            counted = tuple(str(each) for each in budgets if each.selector)
            self._holdings[name] = Holding(name, pod.priority or 0, self.wanted(pod), started, counted)
        return self._holdings[name]


class Meanwhile:
    """The room while nodes are away, of which pods that are placed take their part."""

    def __init__(self, room: Room, away: frozenset[str]) -> None:
        self._room = room
        self._away = away
        self._changed: dict[str, tuple[Holding, ...]] = {}
        self._filled: dict[str, Amounts] = {}

    def take(self, pod: Pod) -> bool:
        """Give a pod the first node that has room for it; False where none has."""
        wanted = self._room.wanted(pod)
        for node in self._room.with_room(pod):
            if node in self._away:
                continue
            if node not in self._changed or fits(wanted, self._room.offered(node), self._filled[node]):
                self._put(pod, node, self._here(node))
                return True
        # Where others were evicted, more may be free than they were evicted for.
        for node in self._changed:
            if node in self._room.open_to(pod) and fits(wanted, self._room.offered(node), self._filled[node]):
                self._put(pod, node, self._changed[node])
                return True
        return False

    def take_from_others(self, pod: Pod) -> Place | None:
        """Evict pods of lower priority for a pod where least is broken; None where that helps nowhere."""
        if pod.preemption_policy == _NEVER:
            return None
        unchanged, alike = self._room.evictions(pod).best_without({*self._away, *self._changed})
        changed = list(self._evictions_on_changed(pod))
        choice = [*changed, *([unchanged] if unchanged is not None else [])]
        if not choice:
            return None
        rank, node, victims = min(choice, key=lambda each: each[:2])
        instead = sum(each[0] == rank for each in changed) - 1
        if unchanged is not None and unchanged[0] == rank:
            instead += alike
        left = tuple(each for each in self._here(node) if each not in victims.pods)
        self._put(pod, node, left)
        return Place(node, tuple(self._room.pod(each.name) for each in victims.pods), instead)

    def _evictions_on_changed(self, pod: Pod) -> Iterator[Eviction]:
        for node, here in self._changed.items():
            if node in self._room.open_to(pod):
                found = self._room.victims(pod, node, here)
                if found is not None:
                    yield found.rank, node, found

    def _here(self, node: str) -> tuple[Holding, ...]:
        return self._changed.get(node, self._room.held(node))

    def _put(self, pod: Pod, node: str, others: tuple[Holding, ...]) -> None:
        self._changed[node] = (*others, self._room.holding(pod)._replace(started=float("inf")))
        self._filled[node] = total_of(each.holds for each in self._changed[node])


def sort_of(pod: Pod) -> tuple[object, ...]:
    """The key of pods that the scheduler treats alike, as far as that is looked at here."""
    return (
        tuple(sorted(pod.requests().items())),
        tuple(sorted(pod.node_selector.items())),
        repr(pod.node_affinity),
        frozenset(pod.tolerations),
        pod.priority or 0,
    )

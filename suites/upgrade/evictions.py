"""Whether the pods that an upgrade evicts may all go, by their disruption budgets taken together.

A budget that allows one disruption lets one pod go. The next may go when the first runs again elsewhere, for which
another node needs room, and all pods that leave at the same time compete for that: those of a node, and where several
nodes are upgraded at once those of all of them. A node by itself never goes on without such room; of several nodes the
others go on when the first is back, as far as the policy waits for that. Budgets that allow none while all of their
pods are healthy are OPER-19's.
Sources: kubernetes/kubernetes, pkg/registry/core/pod/storage/eviction.go (two budgets of one pod are an error);
kubernetes/kubectl, pkg/drain (only a budget's refusal, 429, is tried again, every 5 seconds);
NVIDIA/k8s-operator-libs, pkg/upgrade/pod_manager.go (pods are evicted until the timeout).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, PodDisruptionBudget, passes_budgets
from conformance.gpu.driver_companions import DRIVER_MAY_TAKE
from conformance.upgrading.forecast import turn_of, why_not_placed
from conformance.upgrading.room import Meanwhile, Room
from suites._shared.formatting import join_limited
from suites._shared.upgrade_obstacles import forbidding_budget
from suites.upgrade.upgrade_groups import UpgradeGroup, leaving_pods, patience_of


class Refusal(NamedTuple):
    """Why a pod of a node cannot be evicted; ``known`` is false where only its place elsewhere is not known."""

    why: str
    known: bool = True


class _Stuck(NamedTuple):
    """What a budget keeps: how many of the pods that it counts leave, how many may at once, and run elsewhere then."""

    budget: PodDisruptionBudget
    leaving: int
    runs_elsewhere: int
    unknown: str

    @property
    def why(self) -> str:
        allowed = self.budget.disruptions_allowed
        return (
            f"{self.budget} allows {allowed} of {self.leaving} pods here to go at once, and the next only when one "
            f"runs elsewhere: {self.unknown or f'other nodes have room for {self.runs_elsewhere}'}"
        )


class Evictions:
    """The pods that leave each node, and the budgets that count them."""

    def __init__(self, groups: Sequence[UpgradeGroup], facts: Facts) -> None:
        self._groups, self._facts, self._room = groups, facts, Room(facts)
        self._leaving: dict[str, tuple[Pod, ...]] = {}
        self._guards: dict[str, PodDisruptionBudget] = {}
        self._budgets: dict[str, PodDisruptionBudget] = {}
        self._held: dict[str, Counter[str]] = defaultdict(Counter)
        self._several: dict[str, list[str]] = defaultdict(list)
        self._kept: dict[tuple[frozenset[str], frozenset[str]], tuple[_Stuck, ...]] = {}
        for group in groups:
            for node in group.nodes:
                self._leaving[node.name] = leaving_pods(node, group.policy, facts)
                for pod in self._leaving[node.name]:
                    self._count(pod)

    def leaving(self, node: Node) -> tuple[Pod, ...]:
        """The pods that an upgrade evicts from a node."""
        return self._leaving[node.name]

    def refusals(self) -> Mapping[str, tuple[Refusal, ...]]:
        """Why pods cannot be evicted, by node."""
        found = {name: list(self._refusals_on(name)) for name in self._leaving}
        for name, refusal in self._refusals_of_several():
            if not found[name]:
                found[name].append(refusal)
        return {name: tuple(refusals) for name, refusals in found.items()}

    def _count(self, pod: Pod) -> None:
        budgets = () if passes_budgets(pod) else self._facts.disruption_budgets_of(pod)
        if len(budgets) > 1:
            names = join_limited([str(each) for each in budgets])
            self._several[pod.node].append(f"{pod} is counted by {names}: more than one forbids eviction")
        elif budgets and budgets[0].guards(pod) and not forbidding_budget(pod, self._facts):
            budget = budgets[0]
            self._guards[str(pod)] = self._budgets[str(budget)] = budget
            self._held[str(budget)][pod.node] += 1

    def _refusals_on(self, node: str) -> Iterator[Refusal]:
        """Why the pods of a node cannot go although no other node is upgraded at the same time."""
        yield from map(Refusal, self._several[node])
        counted = [name for name, held in self._held.items() if node in held]
        for name in counted:
            if not self._budgets[name].disruptions_allowed:
                yield Refusal(_none_allowed(self._budgets[name], self._held[name][node]))
        if any(self._held[name][node] > self._budgets[name].disruptions_allowed > 0 for name in counted):
            for stuck in self._stuck({node}, {node}):
                yield Refusal(stuck.why, not stuck.unknown)

    def _refusals_of_several(self) -> Iterator[tuple[str, Refusal]]:
        """Why pods of nodes cannot go while others of the same budget go, too; by node."""
        for name, held in self._held.items():
            emptied = [_most_of(held, group) for group in self._groups]
            nodes = {node for each in emptied for node in each}
            allowed = self._budgets[name].disruptions_allowed
            if len(nodes) < 2 or not allowed or sum(held[node] for node in nodes) <= allowed:
                continue
            away = nodes.union(*(_surely_away(group) for group in self._groups))
            stuck = next((each for each in self._stuck(nodes, away) if str(each.budget) == name), None)
            if stuck is None:
                continue
            for group, taken in zip(self._groups, emptied, strict=True):
                patience = patience_of(group.policy)
                if 0 < patience < DRIVER_MAY_TAKE:
                    others = join_limited(sorted(nodes))
                    why = (
                        f"where {others} are upgraded together: {stuck.why}; {group} waits {patience} seconds for that"
                    )
                    yield from ((node, Refusal(why, not stuck.unknown)) for node in taken)

    def _stuck(self, emptied: Collection[str], away: Collection[str]) -> tuple[_Stuck, ...]:
        """The budgets that keep a pod on nodes that are emptied together, while some are away.

        Worked out once for the many budgets that have their pods on the same nodes.
        """
        key = (frozenset(emptied), frozenset(away))
        if key not in self._kept:
            self._kept[key] = tuple(self._stuck_anew(*key))
        return self._kept[key]

    def _stuck_anew(self, emptied: frozenset[str], away: frozenset[str]) -> Iterator[_Stuck]:
        meanwhile = self._room.without(away)
        waiting = sorted((pod for node in emptied for pod in self._leaving[node]), key=turn_of)
        allowed = {name: budget.disruptions_allowed for name, budget in self._budgets.items()}
        elsewhere: Counter[str] = Counter()
        unknown: dict[str, str] = {}
        while True:
            going, waiting = self._let_go(waiting, allowed)
            if not going:
                break
            for pod in going:
                budget = self._guards.get(str(pod))
                why = why_not_placed(pod)
                if why and budget is not None:
                    unknown[str(budget)] = f"for {pod} that is not computed, because {why}"
                elif not why and pod.owner_kind and _finds_room(pod, meanwhile) and budget is not None:
                    elsewhere[str(budget)] += 1
                    allowed[str(budget)] += 1
        kept = {str(self._guards[str(pod)]) for pod in waiting if str(pod) in self._guards}
        for name in sorted(each for each in kept if self._budgets[each].disruptions_allowed):
            leaving = sum(self._held[name][node] for node in emptied)
            yield _Stuck(self._budgets[name], leaving, elsewhere[name], unknown.get(name, ""))

    def _let_go(self, waiting: Sequence[Pod], allowed: dict[str, int]) -> tuple[list[Pod], list[Pod]]:
        """The pods that budgets let go now, and those that they keep; takes of the budgets what is used."""
        going, kept = [], []
        for pod in waiting:
            budget = self._guards.get(str(pod))
            if budget is not None and not allowed[str(budget)]:
                kept.append(pod)
                continue
            if budget is not None:
                allowed[str(budget)] -= 1
            going.append(pod)
        return going, kept


def _none_allowed(budget: PodDisruptionBudget, asked: int) -> str:
    if not budget.expected:
        return f"{budget} allows no disruption: the disruption controller has counted none of its pods"
    healthy = f"{budget.healthy} of its {budget.expected} pods are healthy"
    return f"{budget} allows no disruption: {healthy}, and it is asked for {asked}"


def _most_of(held: Mapping[str, int], group: UpgradeGroup) -> list[str]:
    """The nodes of a group that have most of a budget's pods, as many of them as may be away at once."""
    own = [node.name for node in group.nodes if node.name in held]
    return sorted(own, key=lambda name: (-held[name], name))[: group.at_once]


def _surely_away(group: UpgradeGroup) -> set[str]:
    """All nodes of a group that are away at once; none where others stay meanwhile."""
    return {node.name for node in group.nodes} if 1 < len(group.nodes) <= group.at_once else set()


def _finds_room(pod: Pod, meanwhile: Meanwhile) -> bool:
    return meanwhile.take(pod) or meanwhile.take_from_others(pod) is not None

"""Whom kube-scheduler evicts for a pod that finds no room: on one node, and on which of several.

Pods of lower priority only. Of those on a node as many stay as can, the most important first: of two the one of higher
priority, then the one that started earlier; before all others those whose going a disruption budget does not allow.
Of several nodes the one is taken where least is broken.
Source: kubernetes/kubernetes, pkg/scheduler/framework/plugins/defaultpreemption (SelectVictimsOnNode,
filterPodsWithPDBViolation) and framework/preemption (pickOneNodeForPreemption).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

Amounts: TypeAlias = Mapping[str, int]
"""By resource, in billionths of its base unit (quantities.nanos)."""
Rank: TypeAlias = tuple[int, int, int, int, float]

_LIFTED = 2**31
"""Added to each priority where they are summed up, so that every victim counts, those below 0 as well."""


class Holding(NamedTuple):
    """A pod on a node: what it holds, when it started (seconds since 1970), and the budgets that count it."""

    name: str
    priority: int
    holds: Amounts
    started: float
    budgets: tuple[str, ...] = ()


class Victims(NamedTuple):
    """Those who have to go, the most important first; ``violating`` is how many of them a budget wants to stay."""

    pods: tuple[Holding, ...]
    violating: int

    @property
    def rank(self) -> Rank:
        """By what nodes are compared: the lowest is taken, and between equal ones nobody can tell."""
        highest = self.pods[0].priority
        earliest = min(each.started for each in self.pods if each.priority == highest)
        lifted = sum(each.priority + _LIFTED for each in self.pods)
        return self.violating, highest, lifted, len(self.pods), -earliest


def fits(wanted: Amounts, offered: Amounts, held: Amounts) -> bool:
    """Whether a node has what a pod asks for beside what others hold."""
    # A loop: this is asked hundreds of thousands of times, and a generator costs more than the sum.
    for name, amount in wanted.items():  # noqa: SIM110
        if amount + held.get(name, 0) > offered.get(name, 0):
            return False
    return True


def total_of(parts: Iterable[Amounts]) -> dict[str, int]:
    """What pods hold together."""
    total: dict[str, int] = {}
    for part in parts:
        _add(part, total)
    return total


def _add(part: Amounts, total: dict[str, int]) -> None:
    for name, amount in part.items():
        total[name] = total.get(name, 0) + amount


def victims_on(
    wanted: Amounts, offered: Amounts, here: Sequence[Holding], priority: int, allowed: Mapping[str, int]
) -> Victims | None:
    """Who has to leave a node for a pod of a priority; None where that does not make room, or nobody is below it.

    ``here`` are all pods of the node, ``allowed`` says how many disruptions each budget allows.
    """
    lower = sorted([each for each in here if each.priority < priority], key=_importance)
    if not lower:
        return None
    # Loops and no sums: this is asked for each of thousands of nodes.
    left = {name: offered.get(name, 0) - amount for name, amount in wanted.items()}
    for each in here:
        if each.priority >= priority:
            _take(each.holds, left)
    if min(left.values(), default=0) < 0:
        return None
    violating = _violating(lower, allowed)
    gone, broken = [], 0
    for each in (*violating, *(each for each in lower if each not in violating)) if violating else lower:
        holds = each.holds
        if not [name for name, amount in left.items() if holds.get(name, 0) > amount]:
            _take(holds, left)
        else:
            gone.append(each)
            broken += each in violating
    return Victims(tuple(sorted(gone, key=_importance)), broken) if gone else None


def _take(holds: Amounts, left: dict[str, int]) -> None:
    for name in left:
        left[name] -= holds.get(name, 0)


def _importance(pod: Holding) -> tuple[int, float]:
    return -pod.priority, pod.started


def _violating(pods: Iterable[Holding], allowed: Mapping[str, int]) -> list[Holding]:
    """Those whose going their budgets do not allow, when the others before them go as well."""
    # Of thousands of budgets only these few are looked at; this is asked for each node and each sort of pods.
    left: dict[str, int] = {}
    found = []
    for pod in pods:
        for budget in pod.budgets:
            left[budget] = left.get(budget, allowed.get(budget, 0)) - 1
        if any(left[budget] < 0 for budget in pod.budgets):
            found.append(pod)
    return found

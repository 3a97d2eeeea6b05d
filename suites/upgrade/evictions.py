"""Whether the pods that an upgrade evicts from a node may all go, by their disruption budgets taken together.

A budget that allows one disruption lets one pod of a node go. The next may go when the first runs again elsewhere, for
which another node needs room: while the node is upgraded there is none on it. Budgets that allow none while all of
their pods are healthy are OPER-19's.
Sources: kubernetes/kubernetes, pkg/registry/core/pod/storage/eviction.go (two budgets of one pod are an error);
NVIDIA/k8s-operator-libs, pkg/upgrade/pod_manager.go (pods are evicted until the timeout).
"""

from collections.abc import Iterator, Sequence

from conformance.facts import Facts, Node, Pod, PodDisruptionBudget
from suites._shared.formatting import join_limited
from suites._shared.free_room import FreeRoom, preempts_below
from suites._shared.upgrade_obstacles import forbidding_budget


def refusals_together(node: Node, pods: Sequence[Pod], facts: Facts) -> Iterator[str]:
    """Why the pods of a node cannot all be evicted; nothing where they can."""
    by_budget: dict[str, tuple[PodDisruptionBudget, list[Pod]]] = {}
    for pod in pods:
        budgets = facts.disruption_budgets_of(pod)
        if len(budgets) > 1:
            yield f"{pod} is counted by {join_limited([str(each) for each in budgets])}: more than one forbids eviction"
        elif budgets and not forbidding_budget(pod, facts):
            by_budget.setdefault(str(budgets[0]), (budgets[0], []))[1].append(pod)
    for budget, members in by_budget.values():
        yield from _refusal_of(budget, members, node, facts)


def _refusal_of(budget: PodDisruptionBudget, pods: Sequence[Pod], node: Node, facts: Facts) -> Iterator[str]:
    allowed = budget.disruptions_allowed
    if not allowed:
        yield (
            f"{budget} allows no disruption: {budget.healthy} of its {budget.expected} pods are healthy, and it is "
            f"asked for {len(pods)}"
        )
        return
    moving = len(pods) - allowed
    if moving > 0 and (placed := _placed(pods[: moving + 1], node, facts)) < moving:
        yield (
            f"{budget} allows {allowed} of {len(pods)} pods here to go at once, and the next only when one runs "
            f"elsewhere: other nodes have room for {placed}"
        )


def _placed(pods: Sequence[Pod], node: Node, facts: Facts) -> int:
    """For how many of the pods other nodes have room, pods of lower priority taken away."""
    others = (each for each in facts.nodes if each.name != node.name)
    room = FreeRoom(others, facts, above=preempts_below(pods[0]))
    return sum(room.place(pod) is not None for pod in pods)

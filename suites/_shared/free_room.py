"""What nodes have free, and whether pods that have to move would find room there.

Decided are taints, cordons, required node affinity and free resources, as kube-scheduler's filters decide them; what
pods ask of each other is not looked at.
"""

from collections.abc import Iterable
from fractions import Fraction

from conformance.facts import Facts, Node
from conformance.facts.podspec import PodSpec
from conformance.gpu.quantities import quantity


def preempts_below(pod: PodSpec) -> int | None:
    """The priority below which a pod preempts others; None where it preempts nobody."""
    return None if pod.preemption_policy == "Never" else pod.priority


class FreeRoom:
    """The free resources of nodes, of which pods that are placed take their part.

    With ``above`` pods of a priority below that take nothing: a pod of that priority preempts them.
    """

    def __init__(self, nodes: Iterable[Node], facts: Facts, *, above: int | None = None) -> None:
        self._above = above
        self._nodes = tuple(node for node in nodes if node.ready and not node.unschedulable)
        self._facts = facts
        self._free: dict[str, dict[str, Fraction]] = {}

    def place(self, pod: PodSpec) -> Node | None:
        """Give a pod the first node that takes it, where it then holds what it asks for; None where none does."""
        wanted = {name: amount for name, amount in pod.requests().items() if amount} | {"pods": Fraction(1)}
        for node in pod.selected(self._nodes):
            if node.untolerated(pod.tolerations):
                continue
            free = self._of(node)
            if all(amount <= free.get(name, Fraction(0)) for name, amount in wanted.items()):
                self._free[node.name] = {name: free[name] - wanted.get(name, Fraction(0)) for name in free}
                return node
        return None

    def _of(self, node: Node) -> dict[str, Fraction]:
        if node.name not in self._free:
            free = {name: quantity(amount) for name, amount in node.allocatable.items()}
            for pod in self._facts.pods_on(node.name):
                if not pod.finished and (self._above is None or (pod.priority or 0) >= self._above):
                    for name, amount in (pod.requests() | {"pods": Fraction(1)}).items():
                        free[name] = free.get(name, Fraction(0)) - amount
            self._free[node.name] = free
        return self._free[node.name]

"""Which nodes the scenarios of one run have in use, so that two that run side by side never have the same."""

import threading
from collections.abc import Callable, Collection

from conformance.verdict import Inconclusive

__all__ = ["Reservations"]

_LOOK_AGAIN = 0.2
"""Seconds after which a scenario that waits for a node looks whether its run was interrupted."""


class Reservations:
    """The nodes in use, by requirement. Used by several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders: dict[str, str] = {}

    def pick(
        self,
        holder: str,
        candidates: Collection[str],
        choose: Callable[[Collection[str]], tuple[str, ...]],
        *,
        awaited: Collection[str] = (),
    ) -> tuple[str, ...]:
        """Reserve what ``choose`` returns, which gets the names of nodes that others have in use.

        Where it raises Inconclusive and others have some of the candidates in use, it is asked again when they let go
        of them, and also while others have one of ``awaited`` in use. A requirement that holds nodes already does not
        wait, so that no two ever wait for each other.
        """
        with self._changed:
            while True:
                taken = {name for name, of in self._holders.items() if of != holder}
                try:
                    chosen = choose(taken)
                except Inconclusive:
                    if holder in self._holders.values() or taken.isdisjoint(candidates):
                        raise
                    self._changed.wait(_LOOK_AGAIN)
                    continue
                if not taken.isdisjoint(awaited) and holder not in self._holders.values():
                    self._changed.wait(_LOOK_AGAIN)
                    continue
                self._holders |= dict.fromkeys(chosen, holder)
                return chosen

    def take(self, node: str, holder: str) -> None:
        """Reserve one node. Raises Inconclusive when another requirement of the run has it in use."""
        with self._changed:
            by = self._holders.setdefault(node, holder)
        if by != holder:
            raise Inconclusive(f"node {node} is in use by {by}, which runs at the same time")

    def held_by(self, holder: str) -> frozenset[str]:
        """The nodes that a requirement has in use."""
        with self._changed:
            return frozenset(name for name, of in self._holders.items() if of == holder)

    def release(self, holder: str, node: str = "") -> None:
        """Let go of a node that a requirement has in use, or of everything that it has."""
        with self._changed:
            for name in [name for name, of in self._holders.items() if of == holder and node in ("", name)]:
                del self._holders[name]
            self._changed.notify_all()

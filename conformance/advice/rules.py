"""What an advice is, and how a function that looks for one says its id and its source."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from conformance.reference.model import Pool, Reference
from conformance.reference.sources import Position, Trail
from conformance.reference.stack import Stack


class Setup(NamedTuple):
    """A set-up that loads, and what was written: ``value`` tells what was left to its default."""

    reference: Reference
    value: dict[str, Any]

    def written(self, *path: str | int) -> Any:
        """What was written at a path; None where nothing was."""
        found: Any = self.value
        for step in path:
            if isinstance(found, dict):
                found = found.get(str(step))
            elif isinstance(found, list) and isinstance(step, int) and step < len(found):
                found = found[step]
            else:
                return None
        return found


class Remark(NamedTuple):
    """What an advice says of one part of a set-up."""

    path: Trail
    text: str


Look = Callable[[Setup], Iterator[Remark]]


class Rule(NamedTuple):
    """One kind of advice: its id, who says so, and the function that looks for it."""

    id: str
    source: str
    look: Look


class Advice(NamedTuple):
    """One piece of advice about one place of a set-up."""

    position: Position
    remark: Remark
    rule: Rule


class Rules:
    """The rules of one subject, in the order in which they were written."""

    def __init__(self) -> None:
        self.all: list[Rule] = []

    def rule(self, id_: str, source: str) -> Callable[[Look], Look]:
        """Make a function a rule."""

        def register(look: Look) -> Look:
            self.all.append(Rule(id_, source, look))
            return look

        return register


def discovers_hardware(stack: Stack | None, pool: Pool) -> bool:
    """Whether a declared stack tells product and driver of a pool's nodes: by GPU Feature Discovery or by a DRA driver.

    Platforms that bring their own device plugin (GKE, AKS) have neither, and what is declared is then compared with
    nothing.
    """
    by_dra = pool.gpu is not None and pool.gpu.allocated_by == "dra"
    return by_dra or (stack is not None and stack.gpu_feature_discovery)

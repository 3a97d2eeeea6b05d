"""What can be wrong with a reference set-up, in words for those who wrote it."""

from collections.abc import Sequence
from pathlib import Path

from conformance.reference.sources import Problem


class ReferenceError(Exception):
    """A reference set-up cannot be used as it is."""


class InvalidReference(ReferenceError):
    """The YAML of a set-up is wrong. ``problems`` holds everything that is wrong with it."""

    def __init__(self, place: Path, problems: Sequence[Problem]) -> None:
        lines = [f"the reference set-up {place} has {_counted(len(problems))}:", *(f"  {each}" for each in problems)]
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)


class ForeignObject(ReferenceError):
    """The cluster holds what the set-up would have to overwrite, or pods that it would evict. Nothing was written.

    ``conflicts`` names each of them, why it is in the way, and what to do about it.
    """

    def __init__(self, reference: str, conflicts: Sequence[str]) -> None:
        head = f"the reference set-up {reference} was not deployed, {_counted(len(conflicts))}, nothing was written:"
        super().__init__("\n".join([head, *(f"  {conflict}" for conflict in conflicts)]))
        self.conflicts = tuple(conflicts)


def _counted(number: int) -> str:
    return "1 problem" if number == 1 else f"{number} problems"

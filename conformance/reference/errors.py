"""What can be wrong with a reference set-up, in words for those who wrote it."""

from collections.abc import Sequence
from pathlib import Path

from conformance.reference.sources import Problem


class ReferenceError(Exception):
    """A reference set-up cannot be used as it is."""


class InvalidReference(ReferenceError):
    """The YAML of a set-up is wrong. ``problems`` holds everything that is wrong with it."""

    def __init__(self, place: Path, problems: Sequence[Problem]) -> None:
        lines = [f"the reference set-up {place} has {counted(len(problems))}:", *(f"  {each}" for each in problems)]
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)


def counted(number: int) -> str:
    """How many problems, in words."""
    return "1 problem" if number == 1 else f"{number} problems"

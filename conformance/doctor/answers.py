"""An answer of the doctor, and what all answers add up to."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class State(StrEnum):
    """How an answer bears on a run: not at all, not yet, on some requirements, or so that it cannot begin."""

    OK = "ok"
    NOTE = "note"
    ATTENTION = "attention"
    BLOCKED = "blocked"


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was found about one topic. ``requirements`` are those that cannot be judged because of it."""

    topic: str
    state: State
    text: str
    remedy: str = ""
    requirements: tuple[str, ...] = ()

    def line(self, *, after: str = "") -> str:
        """The answer as one line; a remedy that the line before (``after``) has is not said twice."""
        # What programs and servers say may have lines of its own.
        told = f"{self.state:<9}  {self.topic:<13}  {' '.join(self.text.split())}"
        return f"{told}. {self.remedy}" if self.remedy and self.remedy != after else told


READY, ATTENTION, NOT_READY = 0, 1, 4
"""Exit codes: a run can begin, it can begin and will leave something out, it cannot begin."""


def exit_code(answers: Iterable[Answer]) -> int:
    """The exit code for some answers."""
    states = {each.state for each in answers}
    if State.BLOCKED in states:
        return NOT_READY
    return ATTENTION if State.ATTENTION in states else READY

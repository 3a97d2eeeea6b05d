"""What came and went over several runs: a finding that is told as fixed today and is back tomorrow."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from conformance.report.comparing.objects import broken_in, stable_name
from conformance.report.comparing.verdicts import JUDGED
from conformance.report.model import Report

# Broken, whole and broken again: fewer changes are a fault and its repair.
FLAPS = 2

Key = tuple[str, str]


class Seen(msgspec.Struct, frozen=True):
    """What one run saw: which requirements it judged, and which objects it found broken in which of them."""

    judged: frozenset[str]
    broken: frozenset[Key]

    @classmethod
    def in_report(cls, report: Report) -> "Seen":
        """What the run of a report saw."""
        judged = frozenset(each.requirement for each in report.requirements if each.status in JUDGED)
        broken = frozenset(
            (verdict.requirement, stable_name(each)) for verdict in report.requirements for each in broken_in(verdict)
        )
        return cls(judged, broken)

    def of(self, key: Key) -> bool | None:
        """Whether the object was found broken; None where the requirement was not judged."""
        return (key in self.broken) if key[0] in self.judged else None


def changes(history: Iterable[bool | None]) -> int:
    """How often something changed between broken and whole, not counting runs that did not judge it."""
    known = [each for each in history if each is not None]
    return sum(one != other for one, other in pairwise(known))


def flapping(runs: Sequence[Seen]) -> frozenset[Key]:
    """The objects that came and went over these runs, in the order in which they were."""
    if len(runs) <= FLAPS:
        return frozenset()
    candidates = frozenset[Key]().union(*(run.broken for run in runs))
    return frozenset(key for key in candidates if changes(run.of(key) for run in runs) >= FLAPS)

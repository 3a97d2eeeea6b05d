"""What somebody has to fix, each cause once with all that hangs on it: the first list of the page.

A cause fails subjects, maybe of several requirements, and makes others wait. Where no cause is known, the requirement
stands for it.
"""

from collections.abc import Iterable, Iterator

import msgspec

from conformance.catalog import Level
from conformance.report.formats.html.shown import Shown, shown
from conformance.report.grouping import FindingGroup
from conformance.report.model import Cause, Report, Verdict
from conformance.verdict import Status

_LEVELS = tuple(Level)
_UNCLEAR = (Status.ERROR, Status.UNKNOWN)
# Of each thing to fix so many different findings are told; its requirements below have more of them.
FINDINGS = 3


class Fix(msgspec.Struct, frozen=True):
    """One thing to fix. ``subjects`` counts what is broken by it, ``waiting`` is what cannot be judged before."""

    title: str
    status: str
    level: str
    requirements: tuple[Verdict, ...]
    waiting: tuple[str, ...]
    subjects: int
    findings: tuple[Shown, ...]
    findings_left: int

    @property
    def rank(self) -> tuple[object, ...]:
        """What most requirements wait for comes first, then what is binding, then what is widespread."""
        level = _LEVELS.index(Level(self.level)) if self.level else len(_LEVELS)
        return -len(self.waiting), level, -len(self.requirements), -self.subjects, self.title


def fixes(report: Report) -> tuple[Fix, ...]:
    """All there is to fix, the most important first."""
    by_id = {verdict.requirement: verdict for verdict in report.requirements}
    awaited = [_awaited(cause, by_id.get(cause.requirement)) for cause in report.causes]
    told = {cause.requirement for cause in report.causes}
    others = [verdict for verdict in report.requirements if verdict.requirement not in told]
    return tuple(sorted([*awaited, *_failed(others), *_unclear(others)], key=lambda fix: fix.rank))


def _awaited(cause: Cause, judge: Verdict | None) -> Fix:
    """What others wait for, with what the requirement that judges it found."""
    if judge is None:
        return _fix(cause.cause, cause.status or Status.ERROR, (), (), cause.waiting)
    return _fix(cause.cause, cause.status, (judge,), tuple(_own(judge)), cause.waiting)


def _failed(verdicts: list[Verdict]) -> Iterator[Fix]:
    alike: dict[tuple[str, str], list[tuple[Verdict, FindingGroup]]] = {}
    for verdict in verdicts:
        if verdict.status is Status.FAILED:
            for group in verdict.causes:
                alike.setdefault((group.cause, "" if group.cause else verdict.requirement), []).append((verdict, group))
            if not verdict.causes:
                yield _fix(verdict.title, Status.FAILED, (verdict,), ())
    for members in alike.values():
        judge, group = members[0]
        title = group.first.cause or judge.title
        yield _fix(title, Status.FAILED, _each_once(judge for judge, _ in members), tuple(members))


def _unclear(verdicts: list[Verdict]) -> Iterator[Fix]:
    alike: dict[tuple[Status, str], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.status in _UNCLEAR:
            alike.setdefault((verdict.status, verdict.reason), []).append(verdict)
    for (status, reason), members in alike.items():
        yield _fix(reason, status, tuple(members), tuple(own for verdict in members for own in _own(verdict)))


def _own(verdict: Verdict) -> Iterator[tuple[Verdict, FindingGroup]]:
    return ((verdict, group) for group in verdict.causes)


def _each_once(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    return tuple({verdict.requirement: verdict for verdict in verdicts}.values())


def _fix(
    title: str,
    status: str,
    judges: tuple[Verdict, ...],
    groups: tuple[tuple[Verdict, FindingGroup], ...],
    waiting: tuple[str, ...] = (),
) -> Fix:
    levels = sorted((judge.level for judge in judges), key=_LEVELS.index)
    return Fix(
        title,
        str(status),
        str(levels[0]) if levels else "",
        judges,
        waiting,
        sum(group.count for _, group in groups),
        tuple(shown(group, remedy=judge.remedy) for judge, group in groups[:FINDINGS]),
        len(groups[FINDINGS:]),
    )

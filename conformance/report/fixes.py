"""What somebody has to fix, each cause once with all that hangs on it: the first list of a report for people.

A cause fails subjects, maybe of several requirements, and makes others wait. Where no cause is known, the requirement
stands for it.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from conformance.catalog import Level
from conformance.report import owners
from conformance.report.grouping import FindingGroup
from conformance.report.model import Cause, Report, Verdict
from conformance.report.shown import Shown, shown
from conformance.verdict import Status

_LEVELS = tuple(Level)
_UNCLEAR = (Status.ERROR, Status.UNKNOWN)
# Of each thing to fix so many different findings are told; its requirements below have more of them.
FINDINGS = 3
_FOLLOW = re.compile(r"Follow ([A-Z0-9]+-\d+)\b")
_PRONOUN = re.compile(r"(its?|they|their)\b")

_Broken = tuple[Verdict, FindingGroup]
_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)


class Fix(msgspec.Struct, frozen=True):
    """One thing to fix: what it fails, with its findings, and the causes for which other requirements wait.

    ``title`` is the ``cause``, with the subject before it where it speaks of that as "its" or "it". ``subjects`` counts
    what is broken, ``owner`` says who has to act where that is known, ``follows`` names the requirement that all its
    remedies refer to, if they do.
    """

    title: str
    cause: str
    status: Status
    requirements: tuple[Verdict, ...]
    causes: tuple[Cause, ...]
    subjects: int
    findings: tuple[Shown, ...]
    findings_left: int
    owner: str
    follows: str = ""

    @property
    def rank(self) -> tuple[object, ...]:
        """What most requirements fail by or wait for comes first, then what is binding, then what is widespread."""
        hangs = sum(len(cause.waiting) for cause in self.causes) + len(self.requirements) * self.failed
        level = min((_LEVELS.index(judge.level) for judge in self.requirements), default=len(_LEVELS))
        return -hangs, not self.failed, level, -self.subjects, self.title

    @property
    def failed(self) -> bool:
        """Whether a requirement says so; who waits tells of a cause whose requirement holds, or that none judges."""
        return self.status in (Status.FAILED, *_UNCLEAR)


def fixes(report: Report) -> tuple[Fix, ...]:
    """All there is to fix, the most important first."""
    by_id = {verdict.requirement: verdict for verdict in report.requirements}
    told = {cause.requirement for cause in report.causes}
    others = [verdict for verdict in report.requirements if verdict.requirement not in told]
    found = [*_awaited(report.causes, by_id), *_failed(others), *_unclear(others)]
    return tuple(sorted(_followed(found), key=lambda fix: fix.rank))


def _followed(found: Sequence[Fix]) -> list[Fix]:
    """The fixes; what has no remedy but that of another requirement ("Follow OPER-02") is told with that one."""
    hosts = {at: host for at, fix in enumerate(found) if (host := _host(found, at, fix)) is not None}
    followers: dict[int, list[Fix]] = {}
    for at in hosts:
        if (first := _first(at, hosts)) is not None:
            followers.setdefault(first, []).append(found[at])
    taken = {id(fix) for of_one in followers.values() for fix in of_one}
    told = ((fix, followers.get(at)) for at, fix in enumerate(found) if id(fix) not in taken)
    return [_together(fix, of_one) if of_one else fix for fix, of_one in told]


def _host(found: Sequence[Fix], at: int, follower: Fix) -> int | None:
    """Which of the fixes one is told with.

    Where several fail the requirement to be followed, it is the one whose subject the cause names; else nobody can say.
    """
    if not follower.follows or follower.status is not Status.FAILED:
        return None
    hosts = [number for number, other in enumerate(found) if number != at and _fails(other, follower.follows)]
    if len(hosts) > 1:
        causes = " ".join(each.first.cause for each in follower.findings)
        hosts = [
            number for number in hosts if any(str(each.first.subject) in causes for each in found[number].findings)
        ]
    return hosts[0] if len(hosts) == 1 else None


def _fails(fix: Fix, requirement: str) -> bool:
    return fix.status is Status.FAILED and any(judge.requirement == requirement for judge in fix.requirements)


def _first(at: int, hosts: Mapping[int, int]) -> int | None:
    """The fix at the end of those that follow each other; None where they lead in a circle."""
    met = {at}
    while at in hosts:
        at = hosts[at]
        if at in met:
            return None
        met.add(at)
    return at


def _together(host: Fix, followers: Sequence[Fix]) -> Fix:
    """The host with what is told with it, each by its first finding."""
    every = (host, *followers)
    findings = (*host.findings, *(each for fix in followers for each in fix.findings[:1]))
    return msgspec.structs.replace(
        host,
        requirements=_each_once(judge for fix in every for judge in fix.requirements),
        causes=tuple(cause for fix in every for cause in fix.causes),
        subjects=sum(fix.subjects for fix in every),
        findings=findings,
        findings_left=sum(len(fix.findings) + fix.findings_left for fix in every) - len(findings),
        owner="; ".join(dict.fromkeys(fix.owner for fix in every if fix.owner)),
    )


def _awaited(causes: Iterable[Cause], by_id: dict[str, Verdict]) -> Iterator[Fix]:
    """What others wait for, with what the requirement that judges it found; a cause that none judges is on its own."""
    for of_one in _alike(causes, lambda cause: cause.requirement or cause.cause).values():
        judge = by_id.get(of_one[0].requirement)
        title = judge.title if judge and len(of_one) > 1 else of_one[0].cause
        status = judge.status if judge else Status.WAITING
        yield _fix(title, status, (judge,) if judge else (), _broken(judge) if judge else (), tuple(of_one))


def _failed(verdicts: Sequence[Verdict]) -> Iterator[Fix]:
    failed = [verdict for verdict in verdicts if verdict.status is Status.FAILED]
    broken = [each for verdict in failed for each in _broken(verdict)]
    scattered = _scattered(broken)

    def cause_of(each: _Broken) -> str:
        judge, group = each
        return "" if judge.requirement in scattered else group.cause

    for of_one in _mended_together(_alike(broken, lambda each: cause_of(each) or each[0].requirement).values()):
        judge, group = of_one[0]
        title = group.first.cause if cause_of(of_one[0]) else judge.title
        yield _fix(title, Status.FAILED, _each_once(judge for judge, _ in of_one), of_one)
    yield from (_fix(verdict.title, Status.FAILED, (verdict,), ()) for verdict in failed if not verdict.causes)


def _mended_together(causes: Iterable[list[_Broken]]) -> list[list[_Broken]]:
    """The causes; those of different requirements whose findings have one remedy in common are one thing to fix.

    A driver image that cannot be pulled is told by the pod, by the operand and by the GPUs that the node lacks.
    """
    found: dict[str | int, list[_Broken]] = {}
    for number, of_one in enumerate(causes):
        remedies = {group.first.remedy for _, group in of_one}
        remedy = remedies.pop() if len(remedies) == 1 else ""
        told = {judge.requirement for judge, _ in found.get(remedy, ())}
        apart = not remedy or any(judge.requirement in told for judge, _ in of_one)
        found.setdefault(number if apart else remedy, []).extend(of_one)
    return list(found.values())


def _scattered(broken: Iterable[_Broken]) -> set[str]:
    """The requirements with so many causes of their own, one for each pod for example, that they are told as one."""
    by_cause = _alike(broken, lambda each: each[1].cause)
    alone = [of_one for of_one in by_cause.values() if len(_each_once(judge for judge, _ in of_one)) == 1]
    causes = Counter(of_one[0][0].requirement for of_one in alone)
    return {requirement for requirement, number in causes.items() if number > FINDINGS}


def _unclear(verdicts: Iterable[Verdict]) -> Iterator[Fix]:
    unclear = [verdict for verdict in verdicts if verdict.status in _UNCLEAR]
    for (status, reason), of_one in _alike(unclear, lambda verdict: (verdict.status, verdict.reason)).items():
        yield _fix(reason, status, tuple(of_one), [each for verdict in of_one for each in _broken(verdict)])


def _fix(
    title: str,
    status: Status,
    judges: tuple[Verdict, ...],
    broken: Sequence[_Broken],
    causes: tuple[Cause, ...] = (),
) -> Fix:
    return Fix(
        _standing_alone(title, broken),
        title,
        status,
        judges,
        causes,
        sum(group.count for _, group in broken),
        tuple(shown(group, remedy=judge.remedy) for judge, group in broken[:FINDINGS]),
        len(broken[FINDINGS:]),
        owners.who_acts(group for _, group in broken),
        _follows(broken),
    )


def _standing_alone(cause: str, broken: Sequence[_Broken]) -> str:
    """The cause as a title: one that begins with a pronoun needs the subject that it is about."""
    if not broken or not _PRONOUN.match(cause):
        return cause
    _, group = broken[0]
    others = sum(each.count for _, each in broken) - 1
    return f"{group.first.subject}{f' and {others:,} more' if others else ''}: {cause}"


def _follows(broken: Sequence[_Broken]) -> str:
    """The requirement whose remedy is all that these findings advise, or nothing."""
    named = {match[1] if (match := _FOLLOW.match(group.remedy)) else "" for _, group in broken}
    return named.pop() if len(named) == 1 else ""


def _broken(verdict: Verdict) -> list[_Broken]:
    return [(verdict, group) for group in verdict.causes]


def _each_once(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    return tuple({verdict.requirement: verdict for verdict in verdicts}.values())


def _alike(members: Iterable[_T], key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """The members by their keys, in the order in which they come."""
    found: dict[_K, list[_T]] = {}
    for member in members:
        found.setdefault(key(member), []).append(member)
    return found

"""Two reports compared, by object and cause."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from msgspec.structs import replace

from conformance.catalog import Level
from conformance.report.comparing.changes import Change, ChangedFindings, ChangedVerdict, Difference, Turn
from conformance.report.comparing.flapping import Key, Seen, flapping
from conformance.report.comparing.objects import Broken, Met, broken_in, matched, stable_name
from conformance.report.comparing.runs import compared, nodes_of, unlike
from conformance.report.comparing.verdicts import JUDGED, by_id, turned
from conformance.report.model import Report, Verdict
from conformance.verdict import Status

FLAPPING = "flapping"
_CHANGES, _TURNS, _LEVELS = tuple(Change), tuple(Turn), tuple(Level)


def compare(old: Sequence[Report], new: Report) -> Difference:
    """What ``new`` differs in from the last of ``old``; with several of these, also what came and went.

    Raises ValueError where ``old`` is empty.
    """
    if not old:
        raise ValueError("there is no older report to compare with")
    last = old[-1]
    flap = flapping([Seen.in_report(each) for each in (*old, new)]) if len(old) > 1 else frozenset()
    found = sorted(_findings(last, new, flap), key=_rank)
    verdicts = sorted(_verdicts(last, new), key=lambda each: (_TURNS.index(each.turn), each.requirement))
    runs = tuple(map(compared, old))
    return Difference(runs, compared(new), unlike(last, new), _counts(found), tuple(found), tuple(verdicts))


def _rank(changed: ChangedFindings) -> tuple[object, ...]:
    """What is new first, then what is binding, then what is widespread."""
    level = _LEVELS.index(changed.level)
    return _CHANGES.index(changed.change), changed.waived, level, -changed.count, changed.requirement


def _counts(found: Iterable[ChangedFindings]) -> dict[str, int]:
    counts: Counter[str] = Counter({str(each): 0 for each in Change} | {FLAPPING: 0})
    for each in found:
        counts[FLAPPING] += each.flapping
        if not (each.waived and each.change in (Change.NEW, Change.OTHER_CAUSE)):
            counts[str(each.change)] += each.count
    return dict(counts)


def _verdicts(old: Report, new: Report) -> Iterator[ChangedVerdict]:
    before, now = by_id(old), by_id(new)
    for requirement in {**before, **now}:
        yield from turned(before.get(requirement), now.get(requirement))


def _findings(old: Report, new: Report, flap: Collection[Key]) -> Iterator[ChangedFindings]:
    before, now = by_id(old), by_id(new)
    gone = nodes_of(old) - nodes_of(new) if new.fleet else set()
    for requirement in {**before, **now}:
        was, judged = before.get(requirement), now.get(requirement)
        yield from _told(of_requirement(was, judged, gone), flap)


def of_requirement(old: Verdict | None, new: Verdict | None, gone: Collection[str] = ()) -> list[Met]:
    """What became of each broken subject of one requirement. ``gone`` are nodes that the cluster no longer has."""
    met, left = matched(broken_in(old), broken_in(new))
    return [*met, *(Met(_no_longer_found(each, new, gone), each) for each in left)]


def _no_longer_found(broken: Broken, new: Verdict | None, gone: Collection[str]) -> Change:
    """Why a subject is no longer told as broken. Nothing that nobody looked at is called fixed."""
    node = broken.subject.name if broken.group.kind == "Node" else broken.subject.node
    if node in gone:
        return Change.GONE
    if new is None or new.status not in JUDGED or _unseen(broken, new):
        return Change.UNJUDGED
    return Change.FIXED


def _unseen(broken: Broken, new: Verdict) -> bool:
    """Whether the subject was not looked at, or may be one of those that are only counted."""
    if not new.unseen:
        return False
    told = new.unseen_examples
    return new.unseen > len(told) or any(str(each.subject) == broken.name for each in told)


def _told(met: Iterable[Met], flap: Collection[Key]) -> Iterator[ChangedFindings]:
    """Subjects of a group that changed alike as one, in the order in which they come."""
    alike: dict[tuple[object, ...], list[Met]] = {}
    for each in met:
        before = id(each.before.group) if each.before and each.change is Change.OTHER_CAUSE else 0
        alike.setdefault((each.change, id(each.broken.group), before), []).append(each)
    for members in alike.values():
        yield _changed(members, flap)


def _changed(members: Sequence[Met], flap: Collection[Key]) -> ChangedFindings:
    first = members[0]
    verdict, group = first.broken.verdict, first.broken.group
    kept = members[:1] if first.change is Change.KNOWN else members
    subjects = tuple(each.broken.subject for each in kept)
    flapping_here = flap and sum((verdict.requirement, stable_name(each.broken)) in flap for each in members)
    return ChangedFindings(
        verdict.requirement,
        verdict.title,
        verdict.level,
        first.change,
        replace(group, subjects=subjects, count=len(members)),
        verdict.status is Status.WAIVED,
        flapping_here or 0,
        _cause(first.before) if first.before and first.change is Change.OTHER_CAUSE else "",
        verdict.remedy if first.change in (Change.NEW, Change.OTHER_CAUSE) else "",
    )


def _cause(broken: Broken) -> str:
    """The cause of one subject in its own words, or what was found there."""
    finding = replace(broken.group, subjects=(broken.subject,), count=1).first
    return finding.cause or f"expected {finding.expected}, found {finding.actual}"

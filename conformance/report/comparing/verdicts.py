"""What became of each requirement's verdict: judged or not, on which evidence, excepted by a waiver or not."""

from collections.abc import Iterator

from conformance.report.comparing.changes import ChangedVerdict, Turn
from conformance.report.model import Report, Verdict
from conformance.report.story import waits_for
from conformance.verdict import EvidenceKind, Status

JUDGED = (Status.PASSED, Status.FAILED, Status.WAIVED)
# Nobody could say whether these hold, though somebody should.
OPEN = (Status.ERROR, Status.UNKNOWN, Status.WAITING)

# From the strongest to the weakest: what is simulated says nothing of hardware, objects that were read are real.
_STRENGTH = (EvidenceKind.HARDWARE, EvidenceKind.CONTAINER, EvidenceKind.STATIC, EvidenceKind.SIMULATED)
_ABSENT = "absent"


def by_id(report: Report) -> dict[str, Verdict]:
    """The verdicts of a report by their requirements."""
    return {verdict.requirement: verdict for verdict in report.requirements}


def turned(old: Verdict | None, new: Verdict | None) -> Iterator[ChangedVerdict]:
    """Every way in which the verdict on one requirement changed. One of both may be absent."""
    about = new or old
    if about is None:
        return
    was, now = _status(old), _status(new)
    for turn, why in _turns(old, new):
        evidence = turn in (Turn.WEAKER, Turn.STRONGER)
        before, after = (_evidence(old), _evidence(new)) if evidence else (was, now)
        yield ChangedVerdict(about.requirement, about.title, about.level, turn, before, after, why)


def _turns(old: Verdict | None, new: Verdict | None) -> Iterator[tuple[Turn, str]]:
    was, now = old.status if old else None, new.status if new else None
    why = _why(new)
    if now is Status.FAILED and was is not Status.FAILED:
        yield Turn.NEWLY_FAILED, why
    if was is Status.FAILED and now is Status.PASSED:
        yield Turn.HOLDS_AGAIN, why
    if now not in JUDGED and (was in JUDGED or (now in OPEN and was not in OPEN)):
        yield Turn.NO_LONGER_JUDGED, why
    if was not in JUDGED and now in JUDGED:
        yield Turn.NEWLY_JUDGED, _why(old)
    if old and new and Status.WAIVED in (was, now) and (was, old.reason) != (now, new.reason):
        yield Turn.WAIVER, new.reason or old.reason
    if old and new and was in JUDGED and now in JUDGED:
        yield from _evidence_turned(old, new)


def _evidence_turned(old: Verdict, new: Verdict) -> Iterator[tuple[Turn, str]]:
    was, now = _STRENGTH.index(old.evidence), _STRENGTH.index(new.evidence)
    if now > was:
        yield Turn.WEAKER, ""
    elif now < was:
        yield Turn.STRONGER, ""
    elif new.unseen and not old.unseen and new.status is Status.PASSED:
        yield Turn.WEAKER, f"not looked at: {new.unseen} of {new.unseen + new.judged} subjects, before none"


def _status(verdict: Verdict | None) -> str:
    return str(verdict.status) if verdict else _ABSENT


def _evidence(verdict: Verdict | None) -> str:
    return str(verdict.evidence) if verdict else _ABSENT


def _why(verdict: Verdict | None) -> str:
    if verdict is None:
        return "the run has no such requirement"
    return f"waits for {waits_for(verdict)}" if verdict.status is Status.WAITING else verdict.reason

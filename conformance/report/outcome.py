"""A report as a whole, in words that formats for people share: how it ended, on what evidence, what was not judged."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from conformance.report.model import EXIT_INCOMPLETE, SEVERITY, ProfileResult, Report, Verdict
from conformance.verdict import EvidenceKind, Status

JUDGED = (Status.PASSED, Status.FAILED, Status.WAIVED)

EVIDENCE = {
    EvidenceKind.HARDWARE: "pods ran on the GPUs of this cluster",
    EvidenceKind.CONTAINER: "real containers ran, on nodes without the GPUs themselves",
    EvidenceKind.SIMULATED: "a real control plane decided, but its nodes and GPUs were simulated: nothing ran on them",
    EvidenceKind.STATIC: "objects of the API were read: nothing was run, and no GPU was touched",
}
SIMULATED = (
    "The nodes and GPUs of this run were made by a simulator behind a real control plane. What holds here says how the "
    "set-up is declared and scheduled. It says nothing about hardware, drivers or a running workload, and no simulated "
    "run makes a cluster conformant."
)
MODES = {
    "audit": "only reads",
    "verify": "creates objects of its own, and leaves those of others alone",
    "full": "also patches nodes and preempts",
}
MEANINGS = {
    Status.FAILED: "a subject is not as declared",
    Status.ERROR: "could not be judged",
    Status.UNKNOWN: "about an accelerator that is not known",
    Status.WAITING: "not judged before its cause is fixed",
    Status.NOT_RUN: "left out by the mode or the selection",
    Status.WAIVED: "broken, and excepted by the owners",
    Status.PASSED: "holds for all that was looked at",
    Status.UNSUPPORTED: "the cluster lacks an optional feature",
    Status.NOT_APPLICABLE: "nothing of the kind is declared",
}
_WORDS = {
    ProfileResult.PARTIAL: "Partly evaluated",
    ProfileResult.REHEARSED: "Rehearsed",
    ProfileResult.AUDITED: "Audited",
    ProfileResult.CONFORMANT: "Conformant",
}


class Unjudged(msgspec.Struct, frozen=True):
    """Requirements that were not judged for the same reason."""

    status: Status
    reason: str
    requirements: tuple[str, ...]


def counts(report: Report) -> Counter[Status]:
    """How many requirements ended in each status."""
    return Counter(verdict.status for verdict in report.requirements)


def judged(report: Report) -> int:
    """How many requirements were judged."""
    counted = counts(report)
    return sum(counted[status] for status in JUDGED)


def word_and_tone(report: Report) -> tuple[str, str]:
    """The verdict in a word, and whether that is bad, open, good, or good for a part only (partly)."""
    if report.exit_code == EXIT_INCOMPLETE:
        return "Incomplete", "open"
    if report.exit_code:
        return "Failed", "bad"
    results = {profile.result for profile in report.profiles}
    word = next((word for result, word in _WORDS.items() if result in results), "Nothing evaluated")
    return word, "good" if word == _WORDS[ProfileResult.CONFORMANT] else "partly"


def sentence(report: Report) -> str:
    """The verdict in a sentence: what ended how, how much was judged, in which mode and on which evidence."""
    return (
        f"{report.outcome}; {judged(report)} of {len(report.requirements)} requirements were judged, "
        f"in mode {report.run.mode}, on {report.cluster.evidence} evidence."
    )


def time_of(stamp: str) -> str:
    """Date and time without what a reader does not need; the report's times are UTC."""
    return stamp[: len("2026-11-24T06:00:00")].replace("T", " ")


def moment(stamp: str) -> datetime | None:
    """A time of the report in UTC; None where a report that somebody changed has none."""
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def unreadable(report: Report) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each reason why something could not be read, with the kinds that it kept from being read."""
    by_reason: dict[str, list[str]] = {}
    for kind, why in report.cluster.unreadable.items():
        by_reason.setdefault(why, []).append(kind)
    return tuple((why, tuple(sorted(members))) for why, members in sorted(by_reason.items()))


def unjudged(verdicts: Sequence[Verdict]) -> tuple[Unjudged, ...]:
    """The requirements that were not judged, by status and reason: the worst first."""
    alike: dict[tuple[Status, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.status not in JUDGED:
            alike.setdefault((verdict.status, verdict.reason), []).append(verdict.requirement)
    found = [Unjudged(status, reason, tuple(ids)) for (status, reason), ids in alike.items()]
    return tuple(sorted(found, key=lambda each: (SEVERITY.index(each.status), -len(each.requirements), each.reason)))

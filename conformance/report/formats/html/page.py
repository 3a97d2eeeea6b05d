"""What the HTML page says, worked out of the report: the verdict in a sentence, what to fix, who fails what."""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from conformance.report.formats.html.fixes import Fix, fixes
from conformance.report.formats.html.nodes import OnNodes, OnPool, alike, failing_by_node, fleet
from conformance.report.formats.html.shown import Shown, shown
from conformance.report.model import EXIT_INCOMPLETE, SEVERITY, Profile, ProfileResult, Report, Verdict
from conformance.verdict import EvidenceKind, Status

JUDGED = (Status.PASSED, Status.FAILED, Status.WAIVED)

EVIDENCE = {
    EvidenceKind.HARDWARE: "pods ran on the GPUs of this cluster",
    EvidenceKind.CONTAINER: "real containers ran, on nodes without the GPUs themselves",
    EvidenceKind.SIMULATED: "a real control plane decided, but its nodes and GPUs were simulated: nothing ran on them",
    EvidenceKind.STATIC: "objects of the API were read: nothing was run, and no GPU was touched",
}
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


class Group(msgspec.Struct, frozen=True):
    """A profile with its verdicts, as the page lists them: the worst first."""

    profile: Profile
    verdicts: tuple["Entry", ...]


class Entry(msgspec.Struct, frozen=True):
    """A verdict with as much of its findings as the page has room for."""

    verdict: Verdict
    broken: tuple[Shown, ...]
    held: tuple[Shown, ...]
    causes_left: int
    subjects_left: int


class Unjudged(msgspec.Struct, frozen=True):
    """Requirements that were not judged for the same reason."""

    status: Status
    reason: str
    requirements: tuple[str, ...]


class Page(msgspec.Struct, frozen=True):
    """All that the template needs beside the report itself."""

    tone: str
    word: str
    sentence: str
    simulated: bool
    evidence: str
    mode: str
    started: str
    finished: str
    unreadable: tuple[tuple[str, tuple[str, ...]], ...]
    judged: int
    counts: tuple[tuple[Status, int, str], ...]
    partly: int
    unjudged: tuple[Unjudged, ...]
    fixes: tuple[Fix, ...]
    fixes_left: int
    fleet: tuple[OnPool, ...]
    on_nodes: tuple[OnNodes, ...]
    patterns_left: int
    groups: tuple[Group, ...]
    settings: tuple[tuple[str, str], ...]


# What fits a page that stays usable; report.json has everything.
FIXES = 30
PATTERNS = 30
CAUSES = 20


def of(report: Report) -> Page:
    """The page of a report."""
    counts = Counter(verdict.status for verdict in report.requirements)
    judged = sum(counts[status] for status in JUDGED)
    word, tone = _told(report)
    failing = failing_by_node(report.requirements)
    to_fix, patterns = fixes(report), alike(failing)
    return Page(
        tone,
        word,
        f"{report.outcome}; {judged} of {len(report.requirements)} requirements were judged, "
        f"in mode {report.run.mode}, on {report.cluster.evidence} evidence.",
        report.cluster.evidence is EvidenceKind.SIMULATED,
        EVIDENCE[report.cluster.evidence],
        MODES.get(report.run.mode, ""),
        _time(report.run.started),
        _time(report.run.finished).removeprefix(_time(report.run.started)[: len("2026-11-24 ")]),
        _unreadable(report.cluster.unreadable),
        judged,
        tuple((status, counts[status], MEANINGS[status]) for status in SEVERITY if counts[status]),
        sum(verdict.status is Status.PASSED and verdict.unseen > 0 for verdict in report.requirements),
        _unjudged(report.requirements),
        to_fix[:FIXES],
        len(to_fix[FIXES:]),
        fleet(report, failing),
        patterns[:PATTERNS],
        len(patterns[PATTERNS:]),
        tuple(_group(profile, report.requirements) for profile in report.profiles),
        tuple(sorted(report.run.settings.items())),
    )


def _told(report: Report) -> tuple[str, str]:
    """The verdict in a word, and how the page is coloured."""
    if report.exit_code == EXIT_INCOMPLETE:
        return "Incomplete", "open"
    if report.exit_code:
        return "Failed", "bad"
    results = {profile.result for profile in report.profiles}
    word = next((word for result, word in _WORDS.items() if result in results), "Nothing evaluated")
    return word, "good" if word == _WORDS[ProfileResult.CONFORMANT] else "partly"


def _time(stamp: str) -> str:
    """Date and time without what a reader does not need; the report's times are UTC."""
    return stamp[: len("2026-11-24T06:00:00")].replace("T", " ")


def _unreadable(kinds: Mapping[str, str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each reason why something could not be read, with the kinds that it kept from being read."""
    by_reason: dict[str, list[str]] = {}
    for kind, why in kinds.items():
        by_reason.setdefault(why, []).append(kind)
    return tuple((why, tuple(sorted(members))) for why, members in sorted(by_reason.items()))


def _unjudged(verdicts: Sequence[Verdict]) -> tuple[Unjudged, ...]:
    alike: dict[tuple[Status, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.status not in JUDGED:
            alike.setdefault((verdict.status, verdict.reason), []).append(verdict.requirement)
    found = [Unjudged(status, reason, tuple(ids)) for (status, reason), ids in alike.items()]
    return tuple(sorted(found, key=lambda each: (SEVERITY.index(each.status), -len(each.requirements), each.reason)))


def _group(profile: Profile, verdicts: Sequence[Verdict]) -> Group:
    own = [verdict for verdict in verdicts if verdict.profile == profile.name]
    own.sort(key=lambda verdict: (SEVERITY.index(verdict.status), verdict.requirement))
    return Group(profile, tuple(map(_entry, own)))


def _entry(verdict: Verdict) -> Entry:
    broken = verdict.causes
    return Entry(
        verdict,
        tuple(shown(group, remedy=verdict.remedy) for group in broken[:CAUSES]),
        tuple(shown(group, remedy="") for group in verdict.groups if group.ok),
        len(broken[CAUSES:]),
        sum(group.count for group in broken[CAUSES:]),
    )

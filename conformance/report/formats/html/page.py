"""What the HTML page says, worked out of the report: the verdict in a sentence, what to fix, who fails what."""

from collections.abc import Sequence

import msgspec

from conformance.explaining import WaitingPods
from conformance.report import outcome
from conformance.report.fixes import Fix, fixes
from conformance.report.formats.html.nodes import OnNodes, OnPool, alike, failing_by_node, fleet
from conformance.report.formats.html.scenarios import Eviction, Lane, evictions, lanes
from conformance.report.model import SEVERITY, Profile, Report, Verdict
from conformance.report.outcome import EVIDENCE, MEANINGS, MODES, SIMULATED, Unjudged, time_of
from conformance.report.shown import Shown, shown
from conformance.verdict import EvidenceKind, Status


class Group(msgspec.Struct, frozen=True):
    """A profile with its verdicts, as the page lists them: the worst first."""

    profile: Profile
    verdicts: tuple["Entry", ...]


class Entry(msgspec.Struct, frozen=True):
    """A verdict with as much of its findings as the page has room for; ``new`` counts what the baseline has not."""

    verdict: Verdict
    broken: tuple[Shown, ...]
    held: tuple[Shown, ...]
    causes_left: int
    subjects_left: int
    began: str
    lanes: tuple[Lane, ...]
    new: int


class Page(msgspec.Struct, frozen=True):
    """All that the template needs beside the report itself."""

    tone: str
    word: str
    sentence: str
    simulated: str
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
    evictions: tuple[Eviction, ...]
    evictions_left: int
    scenarios: int
    groups: tuple[Group, ...]
    settings: tuple[tuple[str, str], ...]
    waiting_left: int
    waiting_shown: int


# What fits a page that stays usable; report.json has everything.
FIXES = 30
PATTERNS = 30
CAUSES = 20
EVICTIONS = 100
WAITING = 100


def of(report: Report) -> Page:
    """The page of a report."""
    counts = outcome.counts(report)
    word, tone = outcome.word_and_tone(report)
    failing = failing_by_node(report.requirements)
    to_fix, patterns, seen = fixes(report), alike(failing, report.fleet), evictions(report.requirements)
    return Page(
        tone,
        word,
        outcome.sentence(report),
        SIMULATED if report.cluster.evidence is EvidenceKind.SIMULATED else "",
        EVIDENCE[report.cluster.evidence],
        MODES.get(report.run.mode, ""),
        time_of(report.run.started),
        time_of(report.run.finished).removeprefix(time_of(report.run.started)[: len("2026-11-24 ")]),
        outcome.unreadable(report),
        outcome.judged(report),
        tuple((status, counts[status], MEANINGS[status]) for status in SEVERITY if counts[status]),
        sum(verdict.status is Status.PASSED and verdict.unseen > 0 for verdict in report.requirements),
        outcome.unjudged(report.requirements),
        to_fix[:FIXES],
        len(to_fix[FIXES:]),
        fleet(report, failing),
        patterns[:PATTERNS],
        len(patterns[PATTERNS:]),
        seen[:EVICTIONS],
        len(seen[EVICTIONS:]),
        sum(bool(verdict.timeline) for verdict in report.requirements),
        tuple(_group(profile, report.requirements) for profile in report.profiles),
        tuple(sorted(report.run.settings.items())),
        _waiting_left(report.waiting_pods),
        WAITING,
    )


def _waiting_left(waiting: WaitingPods | msgspec.UnsetType) -> int:
    """How many groups of waiting pods are not on the page."""
    return waiting.groups_left + len(waiting.groups[WAITING:]) if isinstance(waiting, WaitingPods) else 0


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
        verdict.timeline[0].time if verdict.timeline else "",
        lanes(verdict.timeline),
        sum(group.new or 0 for group in broken),
    )

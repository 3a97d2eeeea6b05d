"""Comparisons of runs as pages: the difference of two, a fleet of clusters, the trend of one. They have no script."""

from collections.abc import Iterable, Sequence

import msgspec

from conformance.report.comparing.changes import Change, ChangedFindings, Difference
from conformance.report.comparing.clusters import Fleet, rank
from conformance.report.comparing.text import HEADINGS, TURNS, alike_verdicts, in_numbers
from conformance.report.comparing.trend import Trend
from conformance.report.formats.html import document
from conformance.report.model import SEVERITY
from conformance.verdict import EvidenceKind, join_limited

SUBJECTS, CAUSES, ROWS = 20, 50, 200
"""So many subjects of a cause, causes of a kind of change, and objects that flap, fit a page that stays usable."""
_DETAILED = (Change.NEW, Change.OTHER_CAUSE)


class Part(msgspec.Struct, frozen=True):
    """The findings that changed alike, as many as there is room for, and how many causes are left."""

    id: str
    heading: str
    findings: tuple[ChangedFindings, ...]
    left: int
    detailed: bool


def difference_page(difference: Difference) -> str:
    """The page of a difference."""
    runs = (*difference.old, difference.new)
    new = difference.counts[Change.NEW] + difference.counts[Change.OTHER_CAUSE]
    return document(
        "diff.html",
        title=f"GPU conformance: what changed on {difference.new.cluster}",
        kicker="What changed in the GPU conformance of",
        heading=difference.new.cluster,
        tone="open" if difference.grave else "bad" if new else "good",
        sentence=in_numbers(difference).capitalize(),
        simulated=_simulated((run.run, run.evidence) for run in runs),
        runs=_runs([run.run for run in runs]),
        difference=difference,
        parts=[_part(change, heading, difference) for change, heading in HEADINGS.items() if difference.of(change)],
        turns=[
            (heading, ids, old, new, why)
            for turn, heading in TURNS.items()
            for (old, new, why), ids in alike_verdicts(difference.turned(turn)).items()
        ],
        subjects=SUBJECTS,
        when=_when,
    )


def _part(change: Change, heading: str, difference: Difference) -> Part:
    found = difference.of(change)
    return Part(
        f"change-{change}", heading[0].upper() + heading[1:], found[:CAUSES], len(found[CAUSES:]), change in _DETAILED
    )


def fleet_page(fleet: Fleet) -> str:
    """The page of a fleet: the worst clusters first."""
    clusters = fleet.worst_first
    return document(
        "fleet.html",
        title="GPU conformance of a fleet",
        kicker="GPU conformance of a fleet",
        heading=f"{len(clusters)} clusters",
        tone=("bad", "open", "good")[rank(fleet.exit_code)],
        sentence=fleet.outcome,
        simulated=_simulated((each.cluster, each.evidence) for each in clusters),
        runs=_runs([each.run for each in clusters]),
        fleet=fleet,
        clusters=clusters,
        profiles=list(dict.fromkeys(name for each in clusters for name in each.profiles)),
        broken=[(row, row.alike) for row in fleet.requirements if row.attention],
        ids=frozenset(row.requirement for row in fleet.requirements if row.attention),
        when=_when,
    )


def trend_page(trend: Trend) -> str:
    """The page of a trend."""
    newest = trend.runs[-1]
    there = {status for run in trend.runs for status in run.counts}
    flapping = sum(each.flaps for each in trend.requirements)
    return document(
        "trend.html",
        title=f"GPU conformance over time: {trend.cluster}",
        kicker="GPU conformance over time of",
        heading=trend.cluster,
        tone=("bad", "open", "good")[rank(newest.exit_code)],
        sentence=f"{len(trend.runs)} runs; last: {newest.outcome}; {flapping} requirements came and went",
        simulated=_simulated((run.run, run.evidence) for run in trend.runs),
        runs=f"{len(trend.runs)} runs",
        trend=trend,
        statuses=[str(status) for status in SEVERITY if status in there],
        rows=ROWS,
        when=_when,
    )


def _simulated(evidence: Iterable[tuple[str, EvidenceKind]]) -> str:
    """Whose evidence is simulated."""
    names = dict.fromkeys(name for name, kind in evidence if kind is EvidenceKind.SIMULATED)
    return join_limited(list(names))


def _runs(ids: Sequence[str]) -> str:
    return f"the runs {join_limited(ids, most=20)}"


def _when(stamp: str) -> str:
    return stamp.replace("T", " ")[: len("2026-11-24 06:00")]

"""A comparison of runs as text: plain lines, the doubtful first, then what is new with its remedy."""

from collections.abc import Iterable, Iterator, Sequence

from conformance.report.comparing.changes import Change, ChangedFindings, ChangedVerdict, Compared, Difference, Turn
from conformance.report.comparing.difference import FLAPPING
from conformance.report.comparing.flapping import FLAPS
from conformance.report.grouping import FindingGroup
from conformance.report.model import Report
from conformance.report.visible import one_line
from conformance.verdict import join_limited

HEADINGS = {
    Change.NEW: "new",
    Change.OTHER_CAUSE: "broken before too, now for another cause",
    Change.UNJUDGED: "broken before, not looked at now",
    Change.FIXED: "fixed: judged again, and no longer found broken",
    Change.GONE: "gone: their nodes are no longer in the cluster",
}
TURNS = {
    Turn.NEWLY_FAILED: "newly failed",
    Turn.NO_LONGER_JUDGED: "no longer judged",
    Turn.WEAKER: "evidence weaker",
    Turn.WAIVER: "waiver changed",
    Turn.NEWLY_JUDGED: "newly judged",
    Turn.HOLDS_AGAIN: "holds again",
    Turn.STRONGER: "evidence stronger",
}
_DETAILED = (Change.NEW, Change.OTHER_CAUSE)
_NAMED = 4


def lines(difference: Difference, *, most: int | None = None) -> Iterator[str]:
    """The comparison line by line. ``most`` is how many of each kind are told; None for all."""
    yield f"old  {format_run(difference.old[-1])}{_others(difference.old[:-1])}"
    yield f"new  {format_run(difference.new)}"
    for each in difference.unlike:
        words = "DIFFERENT" if each.grave else "different"
        yield f"{words} {one_line(each.what)}: {one_line(each.old)} -> {one_line(each.new)}"
    if difference.grave:
        yield "What follows may come from that alone."
    yield in_numbers(difference)
    for change, heading in HEADINGS.items():
        found = difference.of(change)
        if found:
            yield ""
            yield f"{heading}:"
            for group in found[:most]:
                yield from _findings(group)
            yield from _left([group.count for group in found[len(found[:most]) :]])
    yield from _verdicts(difference, most)


def in_numbers(difference: Difference) -> str:
    """The comparison in one sentence."""
    counts = difference.counts
    told = [
        f"{counts[Change.NEW]} new",
        f"{counts[Change.OTHER_CAUSE]} with another cause" if counts[Change.OTHER_CAUSE] else "",
        f"{counts[Change.FIXED]} fixed",
        f"{counts[Change.GONE]} gone" if counts[Change.GONE] else "",
        f"{counts[Change.UNJUDGED]} not looked at now" if counts[Change.UNJUDGED] else "",
        f"{counts[Change.KNOWN]} known",
        f"{counts[FLAPPING]} of all these flapping" if counts[FLAPPING] else "",
    ]
    return f"findings: {', '.join(filter(None, told))}"


def since_baseline(report: Report) -> Iterator[str]:
    """What a run has to say of its baseline: how they compare, and first of all where they can hardly be compared."""
    difference = report.baseline
    if difference is None:
        return
    before = difference.old[-1]
    when = before.started.replace("T", " ")[: len("2026-11-24 06:00")]
    for each in difference.grave:
        yield f"DIFFERENT {one_line(each.what)} than the baseline: {one_line(each.old)} -> {one_line(each.new)}"
    turns = (Turn.NO_LONGER_JUDGED, Turn.WEAKER)
    told = [f"{len(found)} {TURNS[turn]}" for turn in turns if (found := difference.turned(turn))]
    numbers = ", ".join((in_numbers(difference), *told))
    yield f"since the baseline of {one_line(when)} (run {one_line(before.run)}): {numbers}"


def format_run(run: Compared) -> str:
    """Which run, in one line."""
    when = run.started.replace("T", " ")[: len("2026-11-24 06:00:00")]
    return (
        f"{one_line(run.cluster)} at {one_line(when)} UTC: {one_line(run.outcome)} "
        f"(run {one_line(run.run)}, mode {one_line(run.mode)}, {run.evidence} evidence)"
    )


def _others(runs: Sequence[Compared]) -> str:
    if not runs:
        return ""
    many = "run" if len(runs) == 1 else "runs"
    return f"\n     and {len(runs)} {many} before it, for what comes and goes at least {FLAPS} times"


def _findings(changed: ChangedFindings) -> Iterator[str]:
    group = changed.findings
    first = group.first
    waived = " (waived)" if changed.waived else ""
    flaps = f" ({changed.flapping} flapping)" if changed.flapping else ""
    yield f"  {changed.requirement} {changed.level}  {one_line(changed.title)}{waived}{flaps}"
    yield f"    {one_line(str(first.subject))}{_more(group)}"
    cause = first.cause or f"expected {first.expected}, found {first.actual}"
    told = [("cause", cause), ("before", changed.was)]
    if changed.change in _DETAILED:
        told += [("remedy", first.remedy or changed.remedy), ("inspect", first.inspect)]
    yield from (f"      {label:<8} {one_line(text)}" for label, text in told if text)


def _more(group: FindingGroup) -> str:
    if group.count == 1:
        return ""
    named = [one_line(each) for each in group.names(_NAMED)[1:]]
    return f" and {group.count - 1} more ({', '.join(named)}{', ...' if group.count > _NAMED else ''})"


def _verdicts(difference: Difference, most: int | None) -> Iterator[str]:
    for turn, heading in TURNS.items():
        told = list(alike_verdicts(difference.turned(turn)).items())
        if told:
            yield ""
            yield f"{heading}:"
        for (old, new, why), ids in told[:most]:
            reason = f": {one_line(why)}" if why else ""
            yield f"  {join_limited(ids, most=8)}: {old} -> {new}{reason}"
        yield from _left([len(ids) for _, ids in told[len(told[:most]) :]])


def _left(counts: Sequence[int]) -> Iterator[str]:
    if counts:
        yield f"  and {sum(counts)} more for {len(counts)} other reasons; --json has them all"


def alike_verdicts(changed: Iterable[ChangedVerdict]) -> dict[tuple[str, str, str], list[str]]:
    """Requirements whose verdicts changed from the same to the same for the same reason."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for each in changed:
        alike.setdefault((each.old, each.new, each.why), []).append(each.requirement)
    return alike

"""A fleet of clusters, and the trend of one, as plain text."""

from collections.abc import Iterator, Sequence

from conformance.report.comparing.clusters import Cell, Fleet, OfRequirement
from conformance.report.comparing.trend import History, Point, Trend
from conformance.report.letters import LETTERS
from conformance.report.visible import one_line
from conformance.verdict import join_limited

_SINCE = len("2026-11-24 06:00")


def fleet_lines(fleet: Fleet, *, most: int | None = None) -> Iterator[str]:
    """The clusters, the worst first, then the requirements that do not hold everywhere."""
    yield fleet.outcome
    width = max(len(one_line(each.cluster)) for each in fleet.clusters)
    for each in fleet.worst_first:
        counts = ", ".join(f"{count} {status}" for status, count in each.counts.items())
        yield (
            f"  {one_line(each.cluster):<{width}}  {one_line(each.outcome)} (exit code {each.exit_code}; {counts}; "
            f"{each.gpu_nodes} nodes with GPUs; reference {one_line(each.reference)}; mode {one_line(each.mode)}; "
            f"{each.evidence} evidence; {_when(each.started)})"
        )
    rows = [row for row in fleet.requirements if row.attention]
    if rows:
        yield ""
        yield "requirements that do not hold, or could not be judged, somewhere:"
    for row in rows[:most]:
        yield from _row(row)
    yield from _left(len(rows) - len(rows[:most]))
    yield from _waiting(fleet, most)


def _waiting(fleet: Fleet, most: int | None) -> Iterator[str]:
    told = fleet.waiting
    if told:
        yield ""
        yield "requirements that wait for something else:"
    for each in told[:most]:
        clusters = join_limited([one_line(name) for name in each.clusters], most=6)
        yield f"  {join_limited(each.requirements, most=6)} on {clusters}: {one_line(each.why)}"
    yield from _left(len(told) - len(told[:most]))


def _row(row: OfRequirement) -> Iterator[str]:
    yield f"  {row.requirement} {row.level}  {one_line(row.title)}"
    for cells in row.alike:
        first = cells[0]
        broken = sum(cell.broken for cell in cells)
        told = f", {broken} subjects" if broken else ""
        yield f"    {first.status} on {_clusters(cells)}{told}"
        if first.why:
            yield f"      cause    {one_line(first.why)}"
        if first.remedy:
            yield f"      remedy   {one_line(first.remedy)}"
        if first.owner:
            yield f"      owner    {one_line(first.owner)}"


def _clusters(cells: Sequence[Cell]) -> str:
    return join_limited([one_line(cell.cluster) for cell in cells], most=6)


def trend_lines(trend: Trend, *, most: int | None = None) -> Iterator[str]:
    """Each run, then the history of each requirement that is not steadily fine, those that flap first."""
    yield f"{one_line(trend.cluster)}: {len(trend.runs)} runs, the oldest first"
    before: Point | None = None
    for point in trend.runs:
        yield _point(point, before)
        before = point
    told = trend.told
    yield from _histories("flapping", told.pop("flapping"), most)
    if trend.subjects:
        yield ""
        yield "subjects that came and went:"
        for subject in trend.subjects[:most]:
            yield f"  {subject.requirement:<9} {subject.history}  {one_line(subject.subject)}"
        yield from _left(len(trend.subjects) - len(trend.subjects[:most]))
    for heading, histories in told.items():
        yield from _histories(heading, histories, most)
    yield ""
    yield f"{trend.steady} other requirements ended the same in every run"
    yield "letters: " + ", ".join(f"{letter} {status}" for status, letter in LETTERS.items())


def _point(point: Point, before: Point | None) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in point.counts.items())
    other = "" if before is None else _other_than(point, before)
    return (
        f"  {_when(point.started)}  {one_line(point.outcome)} (exit code {point.exit_code}; {counts}; "
        f"{point.broken} subjects broken){other}"
    )


def _other_than(point: Point, before: Point) -> str:
    told = point.other_than(before)
    return f"  DIFFERENT {', '.join(map(one_line, told))}" if told else ""


def _histories(heading: str, histories: Sequence[History], most: int | None) -> Iterator[str]:
    if not histories:
        return
    yield ""
    yield f"{heading}:"
    for each in histories[:most]:
        yield (
            f"  {each.requirement:<9} {each.history}  {each.status} since {_when(each.since)}  {each.level} "
            f"{one_line(each.title)}"
        )
    yield from _left(len(histories) - len(histories[:most]))


def _left(count: int) -> Iterator[str]:
    if count:
        yield f"  and {count} more; --json has them all"


def _when(stamp: str) -> str:
    return one_line(stamp.replace("T", " ")[:_SINCE])

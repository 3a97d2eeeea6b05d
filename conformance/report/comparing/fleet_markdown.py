"""A fleet of clusters as Markdown, for the summary of a CI step and for chat: the worst clusters come first."""

from collections.abc import Callable, Iterator, Sequence

from conformance.report.comparing.clusters import Cell, Fleet, OfCluster, OfRequirement, Waiting
from conformance.report.formats.markdown.fitting import Fitting
from conformance.report.formats.markdown.texts import cell, code, plain
from conformance.report.outcome import SIMULATED
from conformance.verdict import EvidenceKind, join_limited

_MINUTE = len("2026-11-24 06:00")
_NAMED = 6


def fleet_markdown(fleet: Fleet) -> str:
    """The summary of a fleet."""
    text = Fitting("the JSON of this fleet")
    text.add(_head(fleet))
    text.add_list(map(_cluster, fleet.worst_first), "cluster", apart="\n", head=_CLUSTERS)
    rows = (row for row in fleet.requirements if row.attention)
    text.add_list(map(_requirement, rows), "requirement", head="## What does not hold, or could not be judged")
    text.add_list(map(_waiting, fleet.waiting), "cause", apart="\n", head=_WAITING)
    runs = join_limited([code(each.run) for each in fleet.clusters], most=_NAMED)
    text.end(f"Merged by gpu-conformance: the runs {runs}.")
    return text.whole


def _head(fleet: Fleet) -> str:
    simulated = [each.cluster for each in fleet.clusters if each.evidence is EvidenceKind.SIMULATED]
    lines = ["# GPU conformance of a fleet", f"**{plain(fleet.outcome)}**"]
    if simulated:
        lines.append(f"> **SIMULATED EVIDENCE** on {_named(simulated)}. {SIMULATED}")
    return "\n\n".join(lines)


_CLUSTERS = """## Clusters

| Cluster | How it ended | Requirements | Nodes with GPUs | Reference | Mode | Evidence | Judged (UTC) |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def _cluster(each: OfCluster) -> str:
    counts = ", ".join(f"{count:,} {status}" for status, count in each.counts.items())
    parts = [
        cell(each.cluster), f"{cell(each.outcome)} (exit code {each.exit_code})", counts, f"{each.gpu_nodes:,}",
        cell(each.reference), cell(each.mode), str(each.evidence), cell(each.started.replace("T", " ")[:_MINUTE]),
    ]  # fmt: skip
    return f"| {' | '.join(parts)} |"


def _requirement(row: OfRequirement) -> str:
    alike = (line for cells in row.alike for line in _alike(cells))
    return "\n".join([f"### {row.requirement} {row.level}: {plain(row.title)}\n", *alike])


def _alike(cells: Sequence[Cell]) -> Iterator[str]:
    """The clusters that have the same cause."""
    first, broken = cells[0], sum(each.broken for each in cells)
    subjects = f", {broken:,} subject{'s' * (broken > 1)}" if broken else ""
    yield f"- **{first.status}** on {_named([each.cluster for each in cells])}{subjects}"
    if first.why:
        yield f"  - Cause: {plain(first.why)}"
    if first.remedy:
        yield f"  - Remedy: {plain(first.remedy)}"
    if first.owner:
        yield f"  - Owner: {plain(first.owner)}"


_WAITING = """## What waits for something else

| Why | Requirements | Clusters |
| --- | --- | --- |"""


def _waiting(each: Waiting) -> str:
    return f"| {cell(each.why)} | {join_limited(each.requirements, most=_NAMED)} | {_named(each.clusters, cell)} |"


def _named(clusters: Sequence[str], written: Callable[[str], str] = code) -> str:
    return join_limited([written(name) for name in clusters], most=_NAMED)

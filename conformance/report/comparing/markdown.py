"""What changed between two runs as Markdown, for the summary of a CI step and for chat: what is new comes first."""

from collections.abc import Iterator

from conformance.report.comparing.changes import Change, ChangedFindings, Compared, Difference
from conformance.report.comparing.text import HEADINGS, TURNS, alike_verdicts, in_numbers
from conformance.report.formats.markdown.fitting import Fitting
from conformance.report.formats.markdown.texts import MOST, block, cell, code, plain
from conformance.report.outcome import SIMULATED
from conformance.verdict import EvidenceKind, join_limited

_DETAILED = (Change.NEW, Change.OTHER_CAUSE)
_NAMED = 6
_ENOUGH = 60


def difference_markdown(difference: Difference) -> str:
    """The summary of a difference."""
    text = Fitting("the JSON of this comparison")
    text.add(_head(difference))
    for change, heading in HEADINGS.items():
        head = f"## {heading[0].upper()}{heading[1:]}"
        text.add_list(map(_findings, difference.of(change)), "cause", head=head)
    text.add_list(_verdicts(difference), "change of verdict", apart="\n", head=_VERDICTS)
    text.end(f"Compared by gpu-conformance: the runs {_run(difference.old[-1])} and {_run(difference.new)}.")
    return text.whole


def _head(difference: Difference) -> str:
    runs = (*difference.old, difference.new)
    simulated = any(run.evidence is EvidenceKind.SIMULATED for run in runs)
    lines = [
        f"# What changed on {code(difference.new.cluster)}\n",
        f"**{in_numbers(difference).capitalize()}**\n",
        *[f"> **SIMULATED EVIDENCE** {SIMULATED}\n"] * simulated,
        f"- Before: {_told(difference.old[-1])}",
        f"- Now: {_told(difference.new)}",
    ]
    for each in difference.unlike:
        told = f"{plain(each.what)}: {plain(each.old)}, now {plain(each.new)}"
        grave = f"**Another {told}.** What is told below may come from that alone."
        lines.append(f"- {grave if each.grave else f'Different {told}'}")
    return "\n".join(lines)


def _told(run: Compared) -> str:
    when = run.started.replace("T", " ")[: len("2026-11-24 06:00")]
    return f"{code(when)} UTC, {plain(run.outcome)} (mode {plain(run.mode)}, {run.evidence} evidence)"


def _run(run: Compared) -> str:
    return code(run.run)


def _findings(changed: ChangedFindings) -> str:
    group, first = changed.findings, changed.findings.first
    names = ", ".join(code(name, most=200) for name in group.names(_NAMED)[1:])
    others = f" and {group.count - 1:,} more" if group.count > 1 else ""
    named = f": {names}" + ", ..." * (group.count > _NAMED) if names else ""
    waived = " (waived)" * changed.waived
    lines = [
        f"### {changed.requirement} {changed.level}: {plain(changed.title)}{waived}\n",
        f"**Subject:** {code(str(first.subject))}{others}{named}\n",
        f"- Cause: {plain(first.cause or f'expected {first.expected}, found {first.actual}')}",
    ]
    if changed.was:
        lines.append(f"- Before: {plain(changed.was)}")
    if changed.flapping:
        lines.append(f"- Flapping: {changed.flapping}")
    if changed.change in _DETAILED:
        lines += _what_to_do(first.remedy or changed.remedy, first.inspect)
    return "\n".join(lines)


def _what_to_do(remedy: str, inspect: str) -> Iterator[str]:
    if remedy:
        yield f"- Remedy: {plain(remedy)}"
    if inspect:
        yield f"\n{block(inspect)}" if len(inspect) <= MOST else "- Inspect: see the JSON of this comparison"


_VERDICTS = """## Verdicts that changed

| What | Requirements | Before | Now | Why |
| --- | --- | --- | --- | --- |"""


def _verdicts(difference: Difference) -> Iterator[str]:
    for turn, heading in TURNS.items():
        for (old, new, why), ids in alike_verdicts(difference.turned(turn)).items():
            yield f"| {heading} | {join_limited(ids, most=_ENOUGH)} | {cell(old)} | {cell(new)} | {cell(why)} |"

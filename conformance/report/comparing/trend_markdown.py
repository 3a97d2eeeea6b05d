"""The runs of one cluster over time as Markdown, for the summary of a CI step and for chat: what flaps comes first."""

from collections.abc import Iterable, Iterator

from conformance.report.comparing.trend import History, ObjectHistory, Point, Trend
from conformance.report.formats.markdown.fitting import Fitting
from conformance.report.formats.markdown.texts import cell, code, plain
from conformance.report.letters import ABSENT
from conformance.report.outcome import SIMULATED
from conformance.verdict import EvidenceKind

_MINUTE = len("2026-11-24 06:00")
# A space at an end of a code span is not shown.
_NOT_THERE = "·"


def trend_markdown(trend: Trend) -> str:
    """The summary of a trend."""
    text = Fitting("the JSON of this trend")
    text.add(_head(trend))
    for heading, histories in trend.told.items():
        head = f"## {heading[0].upper()}{heading[1:]}\n\n{_REQUIREMENTS}"
        text.add_list(map(_history, histories), "requirement", apart="\n", head=head)
        if heading == "flapping":
            text.add_list(map(_subject, trend.subjects), "subject", apart="\n", head=_SUBJECTS)
    text.add_list(_runs(trend.runs), "run", apart="\n", head=_RUNS)
    text.add_list((f"- {plain(each)}" for each in trend.left_out), "report", apart="\n", head="## Not read\n")
    text.add(f"{trend.steady:,} other requirements ended the same in every run.")
    letters = ", ".join(f"`{letter}` {status}" for letter, status in trend.letters.items())
    text.end(f"A letter for each run, the oldest first: {letters}, `{_NOT_THERE}` not known to that run.")
    return text.whole


def _head(trend: Trend) -> str:
    newest = trend.runs[-1]
    flapping = sum(each.flaps for each in trend.requirements)
    lines = [
        f"# GPU conformance over time: {code(trend.cluster)}",
        f"**{len(trend.runs):,} runs; last: {plain(newest.outcome)}; {flapping:,} requirements came and went**",
    ]
    if any(run.evidence is EvidenceKind.SIMULATED for run in trend.runs):
        lines.append(f"> **SIMULATED EVIDENCE** {SIMULATED}")
    return "\n\n".join(lines)


_REQUIREMENTS = """| Requirement | Runs | Now | Since (UTC) | Title |
| --- | --- | --- | --- | --- |"""


def _history(each: History) -> str:
    now = f"{each.status} | {_when(each.since)}"
    return f"| {each.requirement} {each.level} | {_letters(each.history)} | {now} | {cell(each.title)} |"


_SUBJECTS = """## Subjects that came and went

| Requirement | Runs | Subject |
| --- | --- | --- |"""


def _subject(each: ObjectHistory) -> str:
    return f"| {each.requirement} | {_letters(each.history)} | {cell(each.subject)} |"


def _letters(history: str) -> str:
    return f"`{history.replace(ABSENT, _NOT_THERE)}`"


_RUNS = """## Runs, the newest first

| Run (UTC) | How it ended | Requirements | Broken subjects | Unlike the run before |
| --- | --- | --- | --- | --- |"""


def _runs(points: Iterable[Point]) -> Iterator[str]:
    """The newest first, which are read most and which are kept where there is no room for all."""
    runs = list(points)
    for number in reversed(range(len(runs))):
        point = runs[number]
        unlike = "; ".join(point.other_than(runs[number - 1])) if number else ""
        counts = ", ".join(f"{count:,} {status}" for status, count in point.counts.items())
        ended = f"{cell(point.outcome)} (exit code {point.exit_code})"
        yield f"| {_when(point.started)} | {ended} | {counts} | {point.broken:,} | {cell(unlike)} |"


def _when(stamp: str) -> str:
    return cell(stamp.replace("T", " ")[:_MINUTE])

"""The end of a run on a terminal: the causes of failures, profiles, what needs somebody, and where the reports are."""

import shutil
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from conformance.catalog import MUST
from conformance.report.grouping import FindingGroup
from conformance.report.model import Excused, Profile, ProfileResult, Report, Verdict
from conformance.report.story import heading_of_cause, who_waits
from conformance.verdict import Status

# With the profiles below them so many causes fit on one screen; the failures above have them all.
_CAUSES = 8
_NAMED = 5
_REASONS = 6
_GOOD = (ProfileResult.CONFORMANT, ProfileResult.REHEARSED, ProfileResult.AUDITED)
_COLOUR = {ProfileResult.FAILED: "red", ProfileResult.INCOMPLETE: "red", ProfileResult.PARTIAL: "yellow"}


def write(terminal: pytest.TerminalReporter, report: Report, files: Iterable[Path]) -> None:
    """Write the summary of ``report``."""
    terminal.section("GPU conformance", sep="=", bold=True)
    cluster = report.cluster
    terminal.line(
        f"{cluster.name}: Kubernetes {cluster.server_version or 'unknown'}, {cluster.nodes} nodes, "
        f"{cluster.gpu_nodes} with GPUs; reference {report.reference}; mode {report.run.mode}; "
        f"evidence {cluster.evidence}"
    )
    _what_is_in_the_way(terminal, report)
    _failures(terminal, report)
    width = max((len(profile.name) for profile in report.profiles), default=0)
    for profile in report.profiles:
        _profile(terminal, profile, width)
    _what_cannot_be_known(terminal, report)
    for why, kinds in _kinds_by_reason(cluster.unreadable).items():
        terminal.line(f"could not read {', '.join(kinds)}: {why}", yellow=True)
    if report.excused:
        told = f"not the owners' to change (excused in report.json): {', '.join(map(_excused, report.excused))}"
        terminal.line(_on_one_line(told, _width()))
    for note in report.notes:
        terminal.line(f"note: {note}", yellow=True)
    terminal.line(
        f"{report.outcome} (exit code {report.exit_code})",
        bold=True,
        green=report.exit_code == 0,
        red=report.exit_code != 0,
    )
    terminal.line(f"report: {', '.join(map(str, files))}")


def left_behind(left: Iterable[str], command: str) -> str:
    """What a run left on its cluster, and the command that removes it, as every end of a run says it."""
    return f"could not be put back: {'; '.join(left)}. Run: {command}"


def _what_is_in_the_way(terminal: pytest.TerminalReporter, report: Report) -> None:
    """What keeps requirements from being judged: the causes with most consequences first."""
    for cause in report.causes[:_CAUSES]:
        for line in _on_few_lines(f"  {heading_of_cause(cause)}", _width()):
            terminal.line(line, red=True)
        terminal.line(_on_one_line(f"           {who_waits(cause, most=_NAMED)}", _width()))
    if others := report.causes[_CAUSES:]:
        waiting = sum(len(cause.waiting) for cause in others)
        terminal.line(f"  and {len(others)} other causes, for which {waiting} requirements wait")


def _failures(terminal: pytest.TerminalReporter, report: Report) -> None:
    """The failures that most must be done about: those of MUST requirements first, and those of many subjects."""
    broken = [(verdict, group) for verdict in report.requirements for group in verdict.causes if _failed(verdict)]
    broken.sort(key=lambda each: (each[0].level is not MUST, -each[1].count))
    for verdict, group in broken[:_CAUSES]:
        terminal.line(_on_one_line(f"  {verdict.requirement:<8} {_cause(group)}", _width()))
    if len(broken) > _CAUSES:
        terminal.line(f"  and {len(broken) - _CAUSES} other causes")


def _what_cannot_be_known(terminal: pytest.TerminalReporter, report: Report) -> None:
    """Why requirements are unsupported here, each reason once, those first that concern most of them."""
    by_reason: dict[str, list[str]] = {}
    for verdict in report.requirements:
        if verdict.status is Status.UNSUPPORTED:
            by_reason.setdefault(verdict.reason, []).append(verdict.requirement)
    reasons = sorted(by_reason.items(), key=lambda each: -len(each[1]))
    for why, ids in reasons[:_REASONS]:
        for line in _on_few_lines(f"  unsupported: {' '.join(ids)}: {why}", _width()):
            terminal.line(line)
    if len(reasons) > _REASONS:
        terminal.line(f"  and {len(reasons) - _REASONS} other reasons why something is unsupported")


def _failed(verdict: Verdict) -> bool:
    return verdict.status is Status.FAILED


def _cause(group: FindingGroup) -> str:
    """The first subject, how many share its cause, and the cause, or what was found where none is known."""
    finding = group.first
    more = f" and {group.count - 1} more" if group.count > 1 else ""
    return f"{finding.subject}{more}: {finding.cause or f'found {finding.actual}'}"


def _excused(each: Excused) -> str:
    """What of one platform was left out, in numbers."""
    pods = [f"{each.pods} pod{'s' if each.pods > 1 else ''}"] if each.pods else []
    count = len(each.priority_classes)
    classes = [f"{count} priority class{'es' if count > 1 else ''}"] if count else []
    return f"{each.platform} {' and '.join(pods + classes)}"


def _kinds_by_reason(unreadable: Mapping[str, str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for kind, why in unreadable.items():
        kinds.setdefault(why, []).append(kind)
    return kinds


def _width() -> int:
    """The columns of the terminal; logs, which have none, take longer lines."""
    return shutil.get_terminal_size((160, 24)).columns


def _on_few_lines(text: str, width: int) -> list[str]:
    """A cause with what to do about it: the advice stands at its end, and must not be cut off."""
    return textwrap.wrap(
        text, width, subsequent_indent=" " * 11, max_lines=4, placeholder=" ...", break_on_hyphens=False
    )


def _on_one_line(text: str, width: int) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= width else f"{first[: width - 3]}..."


def _profile(terminal: pytest.TerminalReporter, profile: Profile, width: int) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in profile.counts.items())
    colour = "green" if profile.result in _GOOD else _COLOUR.get(profile.result, "white")
    terminal.write(f"  {profile.name:<{width}}  ")
    terminal.write(f"{profile.result:<14}", **{colour: True})
    terminal.line(f"  {counts}")
    told = (("failed", profile.failed), ("not judged", profile.unjudged), ("not everywhere", profile.partly))
    for label, ids in told:
        if ids:
            terminal.line(f"  {'':<{width}}  {label}: {' '.join(ids)}")

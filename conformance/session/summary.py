"""The end of a run on a terminal: profiles, what needs somebody, and where the reports are."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from conformance.report.emitters import JSON_NAME, JUNIT_NAME
from conformance.report.model import Profile, ProfileResult, Report

_GOOD = (ProfileResult.CONFORMANT, ProfileResult.REHEARSED, ProfileResult.AUDITED)
_COLOUR = {ProfileResult.FAILED: "red", ProfileResult.INCOMPLETE: "red", ProfileResult.PARTIAL: "yellow"}


def write(terminal: pytest.TerminalReporter, report: Report, folder: Path) -> None:
    """Write the summary of ``report``."""
    terminal.section("GPU conformance", sep="=", bold=True)
    cluster = report.cluster
    terminal.line(
        f"{cluster.name}: Kubernetes {cluster.server_version or 'unknown'}, {cluster.nodes} nodes, "
        f"{cluster.gpu_nodes} with GPUs; reference {report.reference}; mode {report.run.mode}; "
        f"evidence {cluster.evidence}"
    )
    width = max((len(profile.name) for profile in report.profiles), default=0)
    for profile in report.profiles:
        _profile(terminal, profile, width)
    for kind, why in cluster.unreadable.items():
        terminal.line(f"could not read {kind}: {why}", yellow=True)
    for note in report.notes:
        terminal.line(f"note: {note}", yellow=True)
    terminal.line(
        f"{report.outcome} (exit code {report.exit_code})",
        bold=True,
        green=report.exit_code == 0,
        red=report.exit_code != 0,
    )
    terminal.line(f"report: {folder / JSON_NAME}, {folder / JUNIT_NAME}")


def left_behind(left: Iterable[str], command: str) -> str:
    """What a run left on its cluster, and the command that removes it, as every end of a run says it."""
    return f"could not be put back: {'; '.join(left)}. Run: {command}"


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

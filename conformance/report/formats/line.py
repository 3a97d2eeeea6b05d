"""A report as one line: which cluster, the outcome, what most hangs on, and how strong the evidence is."""

from collections import Counter

from conformance.report.comparing.changes import Change
from conformance.report.model import SEVERITY, Report
from conformance.verdict import EvidenceKind

_ID = 8


def render(report: Report) -> str:
    """One line that a chat shows as it is."""
    counts = Counter(verdict.status for verdict in report.requirements)
    told = ", ".join(f"{counts[status]} {status}" for status in SEVERITY if counts[status])
    simulated = ", simulated" if report.cluster.evidence is EvidenceKind.SIMULATED else ""
    name, mode, run = _plain(report.cluster.name), _plain(report.run.mode), _plain(report.run.id[:_ID])
    return f"{name}: {_plain(report.outcome)} ({told}; mode {mode}{simulated}; run {run}){_since(report)}\n"


def _since(report: Report) -> str:
    """How many findings came and went since the baseline, where there is one."""
    if report.baseline is None:
        return ""
    count = report.baseline.count
    new = count(Change.NEW, Change.OTHER_CAUSE)
    return f"; since the baseline {new} new, {count(Change.FIXED)} fixed, {count(Change.KNOWN)} known"


def _plain(text: str) -> str:
    """Text without anything that a terminal or a chat would act on: control characters, line breaks, mark-up."""
    return "".join(each if each.isprintable() and each not in "<>&*_`~|@#[]" else "?" for each in text)

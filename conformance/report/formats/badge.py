"""A report as a badge: a small SVG that says how a cluster stands, for a README or a dashboard."""

from conformance.report.comparing.changes import Change
from conformance.report.model import EXIT_INCOMPLETE, Decision, Report, Upgrade
from conformance.verdict import EvidenceKind, Status

_LABEL = "GPU conformance"
_GOOD, _OPEN, _BAD = "#1a7f37", "#9a6700", "#b42318"
# About as wide as a character of Verdana at 11 px is, in px, and the space on both sides of a text.
_CHARACTER, _SPACE = 7, 10

_BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}: {text}">
<title>{label}: {text}</title>
<rect width="{split}" height="20" fill="#444"/>
<rect x="{split}" width="{rest}" height="20" fill="{colour}"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{label_at}" y="14">{label}</text>
<text x="{text_at}" y="14">{text}</text>
</g>
</svg>
"""


def render(report: Report) -> str:
    """The badge. All of its text is ours: no name of the cluster is in it."""
    text, colour = _told(report)
    split, rest = _width(_LABEL), _width(text)
    return _BADGE.format(
        label=_LABEL, text=text, colour=colour, split=split, rest=rest, width=split + rest,
        label_at=split / 2, text_at=split + rest / 2,
    )  # fmt: skip


def _told(report: Report) -> tuple[str, str]:
    failed = sum(verdict.status is Status.FAILED for verdict in report.requirements)
    simulated = " (simulated)" if report.cluster.evidence is EvidenceKind.SIMULATED else ""
    if isinstance(report.upgrade, Upgrade):
        upgrade = report.upgrade
        undecided = _OPEN if upgrade.decision is Decision.UNDECIDED else _BAD
        return f"upgrade: {upgrade.word}{simulated}", _GOOD if upgrade.decision.good else undecided
    if failed or report.exit_code not in (0, EXIT_INCOMPLETE):
        return (f"{failed} failed" if failed else "failed") + _new(report) + simulated, _BAD
    if report.exit_code == EXIT_INCOMPLETE:
        return f"incomplete{simulated}", _OPEN
    passed = sum(verdict.status is Status.PASSED for verdict in report.requirements)
    return f"{passed} passed{simulated}", _GOOD


def _new(report: Report) -> str:
    """How many findings the baseline does not have, where there is one."""
    if report.baseline is None:
        return ""
    return f", {report.baseline.count(Change.NEW, Change.OTHER_CAUSE)} new"


def _width(text: str) -> int:
    return len(text) * _CHARACTER + 2 * _SPACE

"""A verdict as the paragraph that an on-call can act on."""

from conformance.report.model import Verdict
from conformance.verdict import Finding

_LABEL = 23
# Ten broken subjects show the pattern; the report file has them all.
_SHOWN = 10


def headline(verdict: Verdict) -> str:
    """One line: status, id, level and title."""
    return f"{verdict.status.upper()} {verdict.requirement} {verdict.level}  {verdict.title}"


def story(verdict: Verdict) -> str:
    """The headline, and under it the details."""
    return f"{headline(verdict)}\n{details(verdict)}"


def details(verdict: Verdict, *, shown: int = _SHOWN) -> str:
    """Every broken subject with what was expected, what was found, why, and what to do."""
    lines = []
    if verdict.reason:
        lines.append(_line("why", verdict.reason))
    broken = [finding for finding in verdict.findings if not finding.ok]
    for finding in broken[:shown]:
        lines += _finding(finding)
    if len(broken) > shown:
        lines.append(_line("and", f"{len(broken) - shown} more; report.json has them all"))
    if not any(finding.remedy for finding in broken[:shown]) and (broken or verdict.reason):
        lines.append(_line("remedy", verdict.remedy))
    unseen = f", {verdict.unseen} not looked at" if verdict.unseen else ""
    lines.append(_line("evidence", f"{verdict.evidence}, {verdict.judged} judged{unseen}"))
    lines.append(_line("sources", "\n".join(str(source) for source in verdict.sources)))
    return "\n".join(lines)


def _finding(finding: Finding) -> list[str]:
    lines = [_line(finding.subject, f"expected {finding.expected}, found {finding.actual}")]
    told = (
        ("cause", finding.cause),
        ("hidden because", finding.hidden_because),
        ("remedy", finding.remedy),
        ("inspect", finding.inspect),
    )
    return lines + [_line(label, text) for label, text in told if text]


def _line(label: str, text: str) -> str:
    indented = text.replace("\n", "\n" + " " * (_LABEL + 2))
    if len(label) > _LABEL - 1:
        return f"  {label}\n{' ' * (_LABEL + 2)}{indented}"
    return f"  {label:<{_LABEL}}{indented}"

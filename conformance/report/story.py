"""A verdict as the paragraph that an on-call can act on."""

from conformance.report.grouping import FindingGroup
from conformance.report.model import Verdict

_LABEL = 23
# Ten causes, and five subjects of each, show the pattern; the report file has them all.
_SHOWN = 10
_NAMED = 5


def heading(verdict: Verdict) -> str:
    """One line for where the status is said already: id, level and title."""
    return f"{verdict.requirement} {verdict.level}  {verdict.title}"


def headline(verdict: Verdict) -> str:
    """One line: status, id, level and title."""
    return f"{verdict.status.upper()} {heading(verdict)}"


def story(verdict: Verdict) -> str:
    """The headline, and under it the details."""
    return f"{headline(verdict)}\n{details(verdict)}"


def details(verdict: Verdict, *, shown: int = _SHOWN) -> str:
    """Every cause with its first subjects, what was expected and found there, why it hides, and what to do."""
    lines = []
    if verdict.reason:
        lines.append(_line("why", verdict.reason))
    causes = verdict.causes
    for group in causes[:shown]:
        lines += _group(group)
    if len(causes) > shown:
        left = sum(group.count for group in causes[shown:])
        lines.append(_line("and", f"{left} more for {len(causes) - shown} other causes; report.json has them all"))
    if not any(group.remedy for group in causes[:shown]) and (causes or verdict.reason):
        lines.append(_line("remedy", verdict.remedy))
    unseen = f", {verdict.unseen} not looked at" if verdict.unseen else ""
    lines.append(_line("evidence", f"{verdict.evidence}, {verdict.judged} judged{unseen}"))
    lines.append(_line("sources", "\n".join(str(source) for source in verdict.sources)))
    return "\n".join(lines)


def _group(group: FindingGroup) -> list[str]:
    """The first subject in full, the next ones by name."""
    finding = group.first
    lines = [_line(str(finding.subject), f"expected {finding.expected}, found {finding.actual}")]
    if group.count > 1:
        lines.append(_line(f"and {group.count - 1} more", _others(group)))
    told = (
        ("cause", finding.cause),
        ("hidden because", finding.hidden_because),
        ("remedy", finding.remedy),
        ("inspect", finding.inspect),
    )
    return lines + [_line(label, text) for label, text in told if text]


def _others(group: FindingGroup) -> str:
    return ", ".join(group.names(_NAMED)[1:]) + (", ..." if group.count > _NAMED else "")


def _line(label: str, text: str) -> str:
    indented = text.replace("\n", "\n" + " " * (_LABEL + 2))
    if len(label) > _LABEL - 1:
        return f"  {label}\n{' ' * (_LABEL + 2)}{indented}"
    return f"  {label:<{_LABEL}}{indented}"

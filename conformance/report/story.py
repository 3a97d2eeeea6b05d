"""A verdict as the paragraph that an on-call can act on."""

from msgspec.structs import replace

from conformance.report import owners
from conformance.report.grouping import FindingGroup
from conformance.report.model import Cause, Verdict
from conformance.verdict import Status, join_limited

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


def waits_for(verdict: Verdict) -> str:
    """What a waiting requirement waits for: the requirement that judges it, and the cause."""
    return f"{verdict.waits_for}: {verdict.reason}" if verdict.waits_for else verdict.reason


def why_not_judged(verdict: Verdict) -> str:
    """One line of a verdict that is neither good nor bad news: its status, and why."""
    return (
        f"waits for {waits_for(verdict)}" if verdict.status is Status.WAITING else f"{verdict.status}: {verdict.reason}"
    )


def heading_of_cause(cause: Cause) -> str:
    """One line: the requirement that judges the cause, how it ended unless it failed, and the cause."""
    if not cause.requirement:
        return cause.cause
    ended = "" if cause.status == Status.FAILED else f" ({cause.status})"
    return f"{cause.requirement}{ended}: {cause.cause}"


def who_waits(cause: Cause, *, most: int) -> str:
    """How many requirements wait for a cause, and the first ``most`` of them."""
    number = len(cause.waiting)
    told = "1 requirement waits" if number == 1 else f"{number} requirements wait"
    return f"{told} for it: {join_limited(cause.waiting, most=most)}"


def details(verdict: Verdict, *, shown: int = _SHOWN) -> str:
    """Every cause with its first subjects, what was expected and found there, why it hides, and what to do."""
    lines = []
    waiting = verdict.status is Status.WAITING
    if waiting:
        lines.append(_line("waits for", waits_for(verdict)))
    elif verdict.reason:
        lines.append(_line("why", verdict.reason))
    if verdict.since:
        lines.append(_line("since the baseline", verdict.since))
    causes = verdict.causes
    for group in causes[:shown]:
        lines += _group(group)
    if len(causes) > shown:
        left = sum(group.count for group in causes[shown:])
        lines.append(_line("and", f"{left} more for {len(causes) - shown} other causes; report.json has them all"))
    # What would make the requirement hold does not help where something else is in the way.
    if not waiting and not any(group.remedy for group in causes[:shown]) and (causes or verdict.reason):
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
        ("new", format_new(group)),
        ("cause", finding.cause),
        ("hidden because", finding.hidden_because),
        ("remedy", finding.remedy),
        ("owner", owners.who_acts([group])),
        ("inspect", finding.inspect),
    )
    return lines + [_line(label, text) for label, text in told if text]


def format_new(group: FindingGroup) -> str:
    """Which subjects the baseline does not have; empty without a baseline, and where it has them all."""
    if not group.new:
        return ""
    if group.new == group.count:
        return "since the baseline"
    fresh = replace(group, subjects=tuple(each for each in group.subjects if each.new))
    return f"{group.new} of {group.count} since the baseline: {join_limited(fresh.names(_NAMED + 1), most=_NAMED)}"


def _others(group: FindingGroup) -> str:
    return ", ".join(group.names(_NAMED)[1:]) + (", ..." if group.count > _NAMED else "")


def _line(label: str, text: str) -> str:
    indented = text.replace("\n", "\n" + " " * (_LABEL + 2))
    if len(label) > _LABEL - 1:
        return f"  {label}\n{' ' * (_LABEL + 2)}{indented}"
    return f"  {label:<{_LABEL}}{indented}"

"""A report as Markdown for the summary of a CI step: the verdict, what to fix, what was judged."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from conformance.explaining import WaitingGroup, WaitingPods
from conformance.report import outcome
from conformance.report.comparing.text import since_baseline
from conformance.report.fixes import Fix, fixes
from conformance.report.formats.markdown.fitting import LIMIT, Fitting
from conformance.report.formats.markdown.texts import MOST, block, cell, code, plain
from conformance.report.model import SEVERITY, PoolFacts, Profile, Report, Upgrade, Verdict
from conformance.report.shown import Shown
from conformance.report.story import why_not_judged
from conformance.upgrading.forecast import Away
from conformance.verdict import EvidenceKind, Status, join_limited

__all__ = ["LIMIT", "render"]

_FOR_FIXES = 600_000
_FOR_WAITING = 150_000
_ENOUGH = 60
_WITH_REMEDY = (Status.FAILED, Status.ERROR, Status.UNKNOWN)


def render(report: Report) -> str:
    """The summary."""
    text = Fitting("`report.json`")
    text.add(_verdict(report))
    text.add_list(_warnings(report), "warning", upto=_FOR_FIXES // 2)
    text.add(_fixes_heading(report))
    ids = {each.requirement for each in report.requirements if _has_heading(each)}
    told = (_fix(number, fix, ids) for number, fix in enumerate(fixes(report), 1))
    text.add_list(told, "cause", upto=_FOR_FIXES)
    if isinstance(report.upgrade, Upgrade):
        text.add(_upgrade(report.upgrade))
        if (capacity := report.upgrade.capacity) is not None:
            text.add(f"## While nodes are away\n\n{plain(str(capacity))}")
            upto = _FOR_FIXES + _FOR_WAITING // 3
            text.add_list((f"- {plain(str(each))}" for each in capacity.stopped), "Job", apart="\n", upto=upto)
            text.add_list(map(_away, capacity.away), "set of nodes", upto=upto)
    if isinstance(report.waiting_pods, WaitingPods):
        text.add(_waiting_heading(report.waiting_pods))
        text.add_list(map(_waiting, report.waiting_pods.groups), "waiting group", upto=_FOR_FIXES + _FOR_WAITING)
    text.add(_profiles(report))
    text.add_list(map(_pool, report.fleet), "pool", apart="\n", head=_POOLS)
    text.add("## Requirements that were not judged" if outcome.unjudged(report.requirements) else "")
    text.add_list(map(_unjudged, outcome.unjudged(report.requirements)), "reason", apart="\n")
    text.add("## Requirements")
    worst_first = _worst_first(report.requirements)
    text.add_list((_section(each, ids) for each in worst_first if _has_heading(each)), "requirement")
    others = (f"- {_requirement(each)}" for each in worst_first if not _has_heading(each))
    text.add_list(others, "requirement", apart="\n")
    text.end(f"Run {code(report.run.id)} of gpu-conformance {plain(report.run.version)}. Times are UTC.")
    return text.whole


def _upgrade(upgrade: Upgrade) -> str:
    parts = [f"- {called}: {plain(', '.join(found))}" for called, found in upgrade.parts().items()]
    return "\n".join([f"## Upgrade to {plain(upgrade.target)}", "", f"**{upgrade.word}**", "", *parts])


def _verdict(report: Report) -> str:
    word, _ = outcome.word_and_tone(report)
    cluster = report.cluster
    simulated = f"\n\n> **SIMULATED EVIDENCE** {outcome.SIMULATED}" * (cluster.evidence is EvidenceKind.SIMULATED)
    counted = outcome.counts(report)
    told = ", ".join(f"{counted[status]} {status}" for status in SEVERITY if counted[status])
    version = plain(cluster.server_version or "of unknown version")
    return f"""# GPU conformance of {code(cluster.name)}: {word}

**Verdict:** {plain(outcome.sentence(report))}{simulated}

- Cluster: Kubernetes {version}, {cluster.nodes} nodes, {cluster.gpu_nodes} with GPUs
- Declared by: {plain(report.reference)}
- Evidence: {cluster.evidence}, {outcome.EVIDENCE[cluster.evidence]}
- When: {code(outcome.time_of(report.run.started))} to {code(outcome.time_of(report.run.finished))} UTC
- Requirements: {told}"""


def _warnings(report: Report) -> Iterator[str]:
    yield from map(plain, since_baseline(report))
    for why, kinds in outcome.unreadable(report):
        yield f"**Could not read {plain(', '.join(kinds))}:** {plain(why)}"
    for note in report.notes:
        yield f"**Note:** {plain(note)}"


def _fixes_heading(report: Report) -> str:
    there_are = any(verdict.status in (*_WITH_REMEDY, Status.WAITING) for verdict in report.requirements)
    return "## What to fix, what most hangs on first" if there_are else "Nothing that was judged is broken."


def _fix(number: int, fix: Fix, ids: Collection[str]) -> str:
    status = fix.status if fix.failed else Status.WAITING
    lines = [f"### {number}. {plain(fix.title)}\n", f"- {status}" + f": {fix.subjects} broken" * bool(fix.subjects)]
    if fix.owner:
        lines.append(f"- Owner: {plain(fix.owner)}")
    lines += [
        f"- {plain(each.requirement, ids=ids)} {each.level}: {plain(each.title)}" for each in fix.requirements[:5]
    ]
    if others := [each.requirement for each in fix.requirements[5:]]:
        lines.append(f"- and {join_limited(others, most=_ENOUGH)}")
    for cause in fix.causes:
        told = f"{plain(cause.cause)}: " if cause.cause != fix.cause else ""
        lines.append(f"- {told}waiting for it: {join_limited(cause.waiting, most=_ENOUGH)}")
    findings = "".join(f"\n\n{_finding(each, fix.cause, ids)}" for each in fix.findings)
    left = f"\n\nand {fix.findings_left} other findings, in `report.json`" if fix.findings_left else ""
    return "\n".join(lines) + findings + left


def _finding(each: Shown, told_before: str, ids: Collection[str]) -> str:
    first = each.first
    names = ", ".join(code(str(other.subject), most=200) for other in each.others[:5])
    others = f" and {each.count - 1} more: {names}" + ", ..." * (each.count > 6) if each.count > 1 else ""
    told = (
        ("New", each.new),
        ("Expected", first.expected),
        ("Found", first.actual),
        ("Cause", first.cause if first.cause != told_before else ""),
        ("Hidden because", first.hidden_because),
        ("Remedy", each.remedy),
    )
    lines = [f"**Subject:** {code(str(first.subject))}{others}\n"]
    lines += [f"- {label}: {plain(text, ids=ids)}" for label, text in told if text]
    if first.inspect:
        lines.append(f"\n{block(first.inspect)}" if len(first.inspect) <= MOST else "- Inspect: see `report.json`")
    return "\n".join(lines)


def _away(each: Away) -> str:
    """Nodes that are away at once, and what becomes of the pods that do not just find room."""
    lines = [f"**{plain(join_limited(each.nodes, most=_ENOUGH))} away**, {_pods(each.pods)} with GPUs\n"]
    return "\n".join((*lines, *(f"- {plain(str(one))}" for one in each.displaced)))


def _waiting_heading(waiting: WaitingPods) -> str:
    lines = ["## GPU pods that wait or fail\n"]
    lines.append(f"{_pods(waiting.pods)}, by owner and cause." if waiting.groups else "None.")
    if waiting.not_computed:
        lines.append(f"Of {waiting.not_computed} the nodes were not judged, there are too many sorts of them.")
    if waiting.groups_left:
        lines.append(f"{waiting.groups_left} groups with {waiting.pods_left} pods are not listed.")
    lines += [f"Not looked at, {plain(kind)}: {plain(why)}" for kind, why in sorted(waiting.unreadable.items())]
    return "\n".join(lines)


def _pods(number: int) -> str:
    return f"{number} pod{'s' * (number != 1)}"


def _waiting(each: WaitingGroup) -> str:
    missing = f": {'; '.join(each.missing)}" if each.missing else ""
    told = (
        ("Cause", each.cause),
        ("Eviction", each.eviction),
        ("Nearest", f"node {each.nearest}{missing}" if each.nearest else ""),
        ("Remedy", each.remedy),
        ("For example", f"{each.owner.namespace}/{each.example}" if each.example else ""),
    )
    lines = [f"**{each.stage}:** {code(str(each.owner))}, {_pods(each.pods)}\n"]
    lines += [f"- {label}: {plain(text)}" for label, text in told if text]
    return "\n".join(lines)


def _profiles(report: Report) -> str:
    statuses = [status for status in SEVERITY if outcome.counts(report)[status]]
    head = f"## Profiles\n\n| Profile | Result | {' | '.join(statuses)} |\n| --- | --- |{' ---: |' * len(statuses)}"
    return "\n".join((head, *(_profile(each, statuses) for each in report.profiles)))


def _profile(profile: Profile, statuses: Sequence[Status]) -> str:
    numbers = " | ".join(str(profile.counts.get(status, "")) for status in statuses)
    return f"| {cell(profile.name)} | {profile.result} | {numbers} |"


_POOLS = """## The fleet

| Pool | Nodes | Not Ready | Cordoned | GPUs allocatable | Declared layout |
| --- | ---: | ---: | ---: | --- | --- |"""


def _pool(pool: PoolFacts) -> str:
    gpus = ", ".join(
        f"{pool.allocatable.get(name, 0)} of {count} {cell(name)}" for name, count in pool.capacity.items()
    )
    name = cell(pool.name) or "in no declared pool"
    layout = cell(", ".join(filter(None, (pool.model, pool.layout))))
    return f"| {name} | {len(pool.nodes)} | {pool.not_ready} | {pool.cordoned} | {gpus} | {layout} |"


def _unjudged(each: outcome.Unjudged) -> str:
    reason = plain(each.reason) or "no reason was given"
    return f"- {each.status}, {reason}: {join_limited(each.requirements, most=_ENOUGH)}"


def _worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: (SEVERITY.index(verdict.status), verdict.requirement))


def _has_heading(verdict: Verdict) -> bool:
    return verdict.status in _WITH_REMEDY


def _section(verdict: Verdict, ids: Collection[str]) -> str:
    """A requirement to which remedies of others may lead, with what it advises in general."""
    advice = plain(verdict.remedy, ids=set(ids) - {verdict.requirement})
    return f"### {verdict.requirement}\n\n{_requirement(verdict)}\n\nIn general: {advice}"


def _requirement(verdict: Verdict) -> str:
    line = f"{verdict.status}: {verdict.requirement} {verdict.level} {plain(verdict.title)}"
    if verdict.since:
        line = f"{line}, since the baseline: {plain(verdict.since)}"
    if verdict.broken:
        return f"{line}, {verdict.broken} of {verdict.judged} broken"
    if verdict.status is Status.WAITING:
        return f"{line} ({plain(why_not_judged(verdict))})"
    return f"{line} ({plain(verdict.reason)})" if verdict.reason else line

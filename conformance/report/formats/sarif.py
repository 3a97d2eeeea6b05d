"""A report as SARIF 2.1.0: each group of findings is a result, at the objects of Kubernetes where it was found.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html; what GitHub makes of it:
https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from conformance.catalog import Level
from conformance.report.formats.as_json import written
from conformance.report.formats.upgrade_section import section
from conformance.report.grouping import FindingGroup
from conformance.report.model import Report, Upgrade, Verdict
from conformance.report.outcome import SIMULATED, moment, unreadable
from conformance.report.story import heading_of_cause, who_waits
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Status

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "gpuConformanceCause/v1"
LOCATIONS = 100
"""So many objects of one result are named; the message says how many there are."""
_LONGEST = 1000
_LEVELS = {Level.MUST: "error", Level.SHOULD: "warning", Level.MAY: "note"}
_FOUND = (Status.FAILED, Status.WAIVED)
_OPEN = (Status.ERROR, Status.UNKNOWN)
# GitHub takes no result without a file: that is the report, which holds the evidence.
_FILE = {"artifactLocation": {"uri": "report.json"}, "region": {"startLine": 1}}
# In a message [text](target) is a link, and {0} stands for an argument (sections 3.11.5 and 3.11.6).
_LINK, _ARGUMENT = re.compile(r"\](?=\()"), re.compile(r"\{(\d+)\}")


def render(report: Report) -> str:
    """The log, with one run."""
    return written({"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report)]})


def _run(report: Report) -> dict[str, Any]:
    positions = {verdict.requirement: position for position, verdict in enumerate(report.requirements)}
    return {
        "tool": {
            "driver": {
                "name": "gpu-conformance",
                "version": report.run.version,
                "rules": [_rule(verdict) for verdict in report.requirements],
            }
        },
        # What stands before the last slash tells analyses of several clusters apart.
        "automationDetails": {"id": f"gpu-conformance/{report.cluster.name}/{report.run.id}"},
        "invocations": [_invocation(report)],
        "results": [
            {**result, "ruleIndex": positions[str(result["ruleId"])]}
            for verdict in report.requirements
            for result in _results(verdict, report)
        ],
        "properties": {
            "cluster": report.cluster.name,
            "evidence": str(report.cluster.evidence),
            "mode": report.run.mode,
            "reference": report.reference,
            "outcome": report.outcome,
            **section(report),
        },
    }


def _rule(verdict: Verdict) -> dict[str, Any]:
    sources = "\n".join(_text(str(source)) for source in verdict.sources)
    addresses = [source.url for source in verdict.sources if source.url.startswith("https://")]
    return {
        "id": verdict.requirement,
        "shortDescription": {"text": _text(verdict.title)},
        "help": {"text": f"{_text(verdict.remedy)}\n\nSources:\n{sources}"},
        **({"helpUri": addresses[0]} if addresses else {}),
        "defaultConfiguration": {"level": _LEVELS[verdict.level]},
        "properties": {"tags": ["gpu-conformance", verdict.profile, str(verdict.level)], "effect": verdict.effect},
    }


def _invocation(report: Report) -> dict[str, Any]:
    times = {"startTimeUtc": report.run.started, "endTimeUtc": report.run.finished}
    return {
        # The run came to its end; what it could not judge is told below.
        "executionSuccessful": True,
        "exitCode": report.exit_code,
        "exitCodeDescription": report.outcome,
        **{name: found.strftime("%Y-%m-%dT%H:%M:%SZ") for name, stamp in times.items() if (found := moment(stamp))},
        "toolExecutionNotifications": [
            {"level": level, "message": {"text": _text(text)}} for level, text in _notifications(report)
        ],
    }


def _notifications(report: Report) -> Iterator[tuple[str, str]]:
    if report.cluster.evidence is EvidenceKind.SIMULATED:
        yield "warning", f"SIMULATED EVIDENCE: {SIMULATED}"
    if isinstance(report.upgrade, Upgrade):
        yield "note" if report.upgrade.decision.good else "error", str(report.upgrade)
    for why, kinds in unreadable(report):
        yield "error", f"Could not read {', '.join(kinds)}: {why}"
    for cause in report.causes:
        if not cause.told_by_its_requirement:
            yield "error", f"{heading_of_cause(cause)}; {who_waits(cause, most=len(cause.waiting))}"
    for verdict in report.requirements:
        if verdict.status in _OPEN:
            yield "error", f"{verdict.requirement} could not be judged ({verdict.status}): {verdict.reason}"
    for note in report.notes:
        yield "note", f"Note: {note}"


def _results(verdict: Verdict, report: Report) -> Iterator[dict[str, Any]]:
    if verdict.status not in (*_FOUND, *_OPEN):
        return
    if not verdict.causes:
        yield _result_without_subjects(verdict, report)
    met: dict[str, int] = {}
    for group in verdict.causes:
        digest = _fingerprint(verdict, group, report.cluster.name)
        met[digest] = met.get(digest, 0) + 1
        yield {
            "ruleId": verdict.requirement,
            **_kind(verdict),
            **_since_baseline(group),
            "message": {"text": _message(verdict, group)},
            "locations": _locations(group),
            "partialFingerprints": {FINGERPRINT: f"{digest}:{met[digest]}"},
            "properties": {
                "subjects": group.count,
                "evidence": str(verdict.evidence),
                "remedy": group.first.remedy or verdict.remedy,
                **({"inspect": group.first.inspect} if group.inspect else {}),
            },
        }


def _result_without_subjects(verdict: Verdict, report: Report) -> dict[str, Any]:
    text = f"{verdict.title}. {_simulated(verdict)}{verdict.reason}\nRemedy: {verdict.remedy}"
    return {
        "ruleId": verdict.requirement,
        **_kind(verdict),
        "message": {"text": _text(text)},
        "locations": [{"physicalLocation": _FILE}],
        "partialFingerprints": {FINGERPRINT: f"{_digest(report.cluster.name, verdict.requirement)}:1"},
        "properties": {"subjects": 0, "evidence": str(verdict.evidence), "remedy": verdict.remedy},
    }


def _kind(verdict: Verdict) -> dict[str, Any]:
    """What failed is a failure; what a requirement found before it could not go on is open; a waiver suppresses."""
    if verdict.status in _OPEN:
        return {"kind": "open", "level": "none"}
    failed = {"kind": "fail", "level": _LEVELS[verdict.level]}
    if verdict.status is Status.FAILED:
        return failed
    accepted = {"kind": "external", "status": "accepted", "justification": _text(verdict.reason)}
    return {**failed, "suppressions": [accepted]}


def _since_baseline(group: FindingGroup) -> dict[str, str]:
    """Whether the baseline of the run had the result (section 3.27.24); one that has new subjects was updated."""
    if group.new is None:
        return {}
    return {"baselineState": "unchanged" if not group.new else "new" if group.new == group.count else "updated"}


def _message(verdict: Verdict, group: FindingGroup) -> str:
    first = group.first
    others = f" and {group.count - 1} more" if group.count > 1 else ""
    found = f"{first.subject}{others}: expected {first.expected}, found {first.actual}"
    told = [f"{verdict.title}. {_simulated(verdict)}{found}"]
    told += [f"Cause: {first.cause}"] if first.cause else []
    told += [f"Hidden because: {first.hidden_because}"] if first.hidden_because else []
    return "\n".join(_text(each) for each in (*told, f"Remedy: {first.remedy or verdict.remedy}"))


def _simulated(verdict: Verdict) -> str:
    return "Simulated evidence. " if verdict.evidence is EvidenceKind.SIMULATED else ""


def _locations(group: FindingGroup) -> list[dict[str, Any]]:
    named = [{"logicalLocations": [_object(each.subject)]} for each in islice(group.findings(), LOCATIONS)]
    return [{"physicalLocation": _FILE, **named[0]}, *named[1:]]


def _object(about: ObjectReference) -> Mapping[str, str]:
    """An object of the cluster, or an entry of the reference set-up, as a logical location."""
    owner = "declared" if about.declared else about.api_version
    path = (owner, about.kind, about.namespace, about.name, about.container, about.field)
    return {
        "name": about.name or about.text,
        "fullyQualifiedName": "/".join(filter(None, path)) if about.name else f"{about.kind}/{about.text}",
        "kind": about.kind,
    }


def _fingerprint(verdict: Verdict, group: FindingGroup, cluster: str) -> str:
    """The same for the same cause in every run, whichever and however many objects it breaks."""
    same = (verdict.requirement, group.kind, group.subject, group.cause or group.expected, group.remedy)
    return _digest(cluster, *same)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


def _text(text: str) -> str:
    """A text that a viewer shows as it is."""
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return _ARGUMENT.sub(r"{ \1 }", _LINK.sub("] ", short))

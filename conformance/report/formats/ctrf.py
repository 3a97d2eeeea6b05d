"""A report in the Common Test Report Format (CTRF): one test for each requirement, in the suite of its profile.

https://ctrf.io/docs/specification/overview has the format. What waits is pending, and its cause is told once.
"""

import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

from conformance.report.formats.as_json import written
from conformance.report.formats.upgrade_section import section
from conformance.report.model import Cause, Report, Verdict
from conformance.report.outcome import SIMULATED, moment
from conformance.report.story import details, heading_of_cause, headline, who_waits, why_not_judged
from conformance.verdict import EvidenceKind, Status

SPECIFICATION = "0.0.0"
_STATUSES = {
    Status.PASSED: "passed",
    Status.FAILED: "failed",
    Status.WAITING: "pending",
    Status.ERROR: "other",
    Status.UNKNOWN: "other",
}
"""All others are skipped: left out, not applicable, unsupported, waived. ``rawStatus`` says which."""

# Ids of tests are the same in every run of a cluster, so that readers can follow a test over runs.
_NAMESPACE = uuid.UUID("6f0a8f5e-3d0b-5e0c-9a43-1c1f6a9d2b77")


def render(report: Report) -> str:
    """The report."""
    tests = [*_causes(report), *(_test(verdict, report) for verdict in report.requirements)]
    finished = moment(report.run.finished)
    return written(
        {
            "reportFormat": "CTRF",
            "specVersion": SPECIFICATION,
            "reportId": _id("run", report.run.id),
            **({"timestamp": finished.strftime("%Y-%m-%dT%H:%M:%SZ")} if finished else {}),
            "generatedBy": f"gpu-conformance {report.run.version}",
            "results": {
                "tool": {"name": "gpu-conformance", "version": report.run.version},
                "summary": _summary(report, tests),
                "tests": tests,
                "environment": _environment(report),
            },
        }
    )


def _summary(report: Report, tests: list[dict[str, Any]]) -> dict[str, Any]:
    counts = Counter(test["status"] for test in tests)
    start, stop = _milliseconds(report.run.started), _milliseconds(report.run.finished)
    return {
        "tests": len(tests),
        **{status: counts[status] for status in ("passed", "failed", "skipped", "pending", "other")},
        "suites": len({tuple(test["suite"]) for test in tests}),
        "start": start,
        "stop": stop,
        "extra": {"outcome": report.outcome, "exitCode": report.exit_code, **section(report)},
    }


def _environment(report: Report) -> dict[str, Any]:
    simulated = {"warning": f"SIMULATED EVIDENCE: {SIMULATED}"}
    return {
        "testEnvironment": report.cluster.name,
        "extra": {
            "evidence": str(report.cluster.evidence),
            "mode": report.run.mode,
            "reference": report.reference,
            "kubernetes": report.cluster.server_version,
            "nodes": report.cluster.nodes,
            "gpuNodes": report.cluster.gpu_nodes,
            "unreadable": [f"{kind}: {why}" for kind, why in report.cluster.unreadable.items()],
            "notes": list(report.notes),
            **(simulated if report.cluster.evidence is EvidenceKind.SIMULATED else {}),
        },
    }


def _test(verdict: Verdict, report: Report) -> dict[str, Any]:
    status = _STATUSES.get(verdict.status, "skipped")
    told = {} if verdict.status is Status.PASSED else {"message": _message(verdict), "trace": details(verdict)}
    return {
        "id": _id(report.cluster.name, verdict.requirement),
        "name": f"{verdict.requirement} {verdict.title}",
        "status": status,
        "rawStatus": str(verdict.status),
        "duration": round(verdict.duration * 1000),
        "suite": [report.cluster.name, verdict.profile],
        **told,
        "type": "conformance",
        "tags": [verdict.profile, str(verdict.level), *_mark(verdict.evidence)],
        "extra": {
            "requirement": verdict.requirement,
            "level": str(verdict.level),
            "effect": verdict.effect,
            "evidence": str(verdict.evidence),
            "judged": verdict.judged,
            "broken": verdict.broken,
            "unseen": verdict.unseen,
            "remedy": verdict.remedy,
            **({"sinceBaseline": verdict.since} if verdict.since else {}),
        },
    }


def _message(verdict: Verdict) -> str:
    if verdict.status in (Status.FAILED, Status.ERROR, Status.UNKNOWN):
        reason = verdict.reason or (verdict.causes[0].first.cause if verdict.causes else "")
        return f"{headline(verdict)}: {reason}" if reason else headline(verdict)
    return why_not_judged(verdict)


def _causes(report: Report) -> Iterator[dict[str, Any]]:
    """What requirements wait for and none tells as a failure: it must not be read as merely pending."""
    for cause in report.causes:
        if not cause.told_by_its_requirement:
            yield _cause(cause, report)


def _cause(cause: Cause, report: Report) -> dict[str, Any]:
    name = f"Cause: {heading_of_cause(cause)}"
    return {
        "id": _id(report.cluster.name, name),
        "name": name,
        "status": "other",
        "rawStatus": "cause",
        "duration": 0,
        "suite": [report.cluster.name, "causes"],
        "message": who_waits(cause, most=len(cause.waiting)),
        "type": "conformance",
        "tags": ["cause", *_mark(report.cluster.evidence)],
    }


def _mark(evidence: EvidenceKind) -> list[str]:
    return ["simulated"] if evidence is EvidenceKind.SIMULATED else []


def _id(*names: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "/".join(names).encode(errors="backslashreplace").decode()))


def _milliseconds(stamp: str) -> int:
    found = moment(stamp)
    return round(found.timestamp() * 1000) if found else 0

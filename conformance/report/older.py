"""Reports of former versions, as the report model of today.

What a former version did not have stays empty. ``gpu-conformance.io/v1`` had sentences for subjects and sources, and a
finding for each subject; its members had several names before they were settled.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from conformance.catalog import Source
from conformance.report.grouping import grouped
from conformance.subjects import ObjectReference
from conformance.verdict import Finding

FIRST = "gpu-conformance.io/v1"

_NODE = re.compile(r"node (?P<name>[a-z0-9.-]+)")
_POD = re.compile(r"pod (?P<namespace>[a-z0-9-]+)/(?P<name>[a-z0-9.-]+)")
# The members of a finding after its subject, by the names that they had one after another.
_TEXTS = (
    ("cause", "first_broken_link"),
    ("hidden_because", "why_it_hides"),
    ("remedy",),
    ("inspect", "see"),
)


def as_of_today(report: dict[str, Any]) -> dict[str, Any]:
    """The content of a report.json of a former version as that of today. Raises KeyError and TypeError."""
    requirements = report["requirements"]
    if report["apiVersion"] == FIRST:
        requirements = [verdict_as_of_today(each) for each in requirements]
    return {
        **report,
        "requirements": requirements,
        "causes": report.get("causes", []),
        "profiles": [{"waiting": [], **profile} for profile in report["profiles"]],
    }


def verdict_as_of_today(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict of ``gpu-conformance.io/v1`` as that of today."""
    return {
        **verdict,
        "findings": _groups(verdict["findings"]),
        "sources": [_source(each) for each in verdict["sources"]],
        "unseenExamples": [_unseen(each) for each in verdict.get("unseenExamples", ())],
    }


def is_of_first(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict is of ``gpu-conformance.io/v1``: its stream does not say so, but a finding has one subject."""
    return any("subjects" not in finding for finding in verdict["findings"]) or any(
        isinstance(each["subject"], str) for each in verdict.get("unseenExamples", ())
    )


def _groups(findings: Iterable[Mapping[str, Any]]) -> Any:
    found = [
        Finding(subject(each["subject"]), each["ok"], each["expected"], each["actual"], **_advice(each))
        for each in findings
    ]
    return msgspec.to_builtins(grouped(found))


def _advice(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {names[0]: next((finding[name] for name in names if name in finding), "") for names in _TEXTS}


def subject(text: str) -> ObjectReference:
    """The object that a sentence names, where it is a node or a pod; else the sentence alone."""
    if node := _NODE.fullmatch(text):
        return ObjectReference.of("Node", node["name"])
    if pod := _POD.fullmatch(text):
        return ObjectReference.of("Pod", pod["name"], namespace=pod["namespace"])
    return ObjectReference("", text=text)


def _source(source: Any) -> Any:
    return msgspec.to_builtins(Source(source, source, "docs/requirements.md")) if isinstance(source, str) else source


def _unseen(unseen: Mapping[str, Any]) -> dict[str, Any]:
    return {**unseen, "subject": msgspec.to_builtins(subject(unseen["subject"]))}

"""Reports and verdicts without the names of machines, clusters and registries (conformance.redaction)."""

from collections.abc import Iterable
from enum import Enum
from typing import Any, TypeVar

import msgspec

from conformance.catalog import Source
from conformance.explaining import WaitingPods
from conformance.redaction import Redactor
from conformance.report.comparing.changes import ChangedFindings, ChangedVerdict, Compared, Difference
from conformance.report.grouping import FindingGroup, grouped
from conformance.report.model import Cause, ClusterFacts, PoolFacts, Profile, Report, RunFacts, Upgrade, Verdict
from conformance.subjects import ObjectReference
from conformance.timeline import Step

_T = TypeVar("_T", bound=msgspec.Struct)
# Where a set-up, a kubeconfig or a report lies tells who somebody is and how their machines are called.
_PATHS = ("reference", "assets", "report", "waivers", "baseline", "clusters_file", "kubeconfig", "chart", "redact_key")
_EMBEDDED = "embedded"
# What are words of ours or of Kubernetes; a node may be called like one of them. Whole types have nothing else.
_WORDS: dict[type, frozenset[str]] = {
    RunFacts: frozenset({"id", "version", "mode", "started", "finished"}),
    ClusterFacts: frozenset({"kind", "server_version"}),
    Cause: frozenset({"requirement", "status", "waiting"}),
    PoolFacts: frozenset({"capacity", "allocatable", "requested"}),
    Verdict: frozenset({"requirement", "title", "profile", "feature", "effect", "remedy", "waits_for"}),
    ObjectReference: frozenset({"kind", "api_version"}),
    Step: frozenset({"time", "did", "kind"}),
    Compared: frozenset({"run", "mode", "started"}),
    ChangedFindings: frozenset({"requirement", "title", "remedy"}),
    ChangedVerdict: frozenset({"requirement", "title", "old", "new"}),
    Difference: frozenset({"counts", "api_version", "kind"}),
    Report: frozenset({"api_version", "kind"}),
    Upgrade: frozenset({"target", "failed", "unjudged", "unknown"}),
}
_NOTHING_OF_OTHERS = (Source, Profile)


def learn_from(report: Report, redactor: Redactor) -> None:
    """Learn the names that a report tells to be those of nodes and clusters, for whoever has only the report."""
    redactor.learn("node", (node for pool in report.fleet for node in pool.nodes))
    for verdict in report.requirements:
        learn_from_verdict(verdict, redactor)
    redactor.learn("node", _nodes_of_pods(report))
    redactor.learn("cluster", cluster_names(report.cluster.name, report.cluster.kind))
    redactor.learn("uuid", filter(None, [report.cluster.uid]))


def learn_from_verdict(verdict: Verdict, redactor: Redactor) -> None:
    """Learn the nodes that the subjects of a verdict are, or are on."""
    for group in verdict.groups:
        redactor.learn("node", {each.node for each in group.subjects if each.node})
        if group.kind == "Node":
            redactor.learn("node", (each.name for each in group.subjects))
    redactor.learn("node", {_node_of(each.subject) for each in verdict.unseen_examples})
    redactor.learn("node", set(map(_node_of, verdict.timeline)))


def _nodes_of_pods(report: Report) -> Iterable[str]:
    """The nodes that a report names beside pods that wait, or that an upgrade displaces."""
    if isinstance(report.waiting_pods, WaitingPods):
        yield from filter(None, (each.nearest for each in report.waiting_pods.groups))
    if isinstance(report.upgrade, Upgrade) and report.upgrade.capacity is not None:
        for away in report.upgrade.capacity.away:
            yield from away.nodes
            yield from filter(None, (each.node for each in away.displaced))


def _node_of(met: ObjectReference | Step) -> str:
    return met.name if met.kind == "Node" else met.node


def cluster_names(name: str, kind: str) -> Iterable[str]:
    """The names of a cluster that are its owners'; the embedded one has none, a snapshot that of its file."""
    if kind == _EMBEDDED:
        return ()
    file = name.removeprefix("snapshot:")
    return (file, file.rpartition("/")[2]) if file != name else (name,)


def redacted(value: _T, redactor: Redactor) -> _T:
    """A report, or a part of one, with replacements, once ``redactor`` has learned its names."""
    words = _WORDS.get(type(value), frozenset())
    members = {name: getattr(value, name) for name in value.__struct_fields__ if name not in words}
    replaced = {name: _replaced(member, redactor) for name, member in members.items()}
    if isinstance(value, RunFacts):
        replaced["settings"] = redacted_settings(value.settings, redactor)
    return msgspec.structs.replace(value, **replaced)


def redacted_settings(settings: dict[str, str], redactor: Redactor) -> dict[str, str]:
    """What was set, with replacements; a path is replaced as a whole."""
    return {name: _setting(name, text, redactor) for name, text in settings.items()}


def _setting(name: str, text: str, redactor: Redactor) -> str:
    value, source, where = text.rpartition(" (from ")
    if name in _PATHS and source:
        return f"{redactor.replacement('file', value)}{source}{where}"
    return redactor.text(text)


def _replaced(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, (Enum, *_NOTHING_OF_OTHERS)):
        return value
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, FindingGroup):
        # Where its findings fall apart, what is asked for here is only one group.
        [*groups] = _groups(value, redactor)
        return groups[0]
    if isinstance(value, (tuple, list)):
        return _each(value, redactor)
    if isinstance(value, dict):
        return {name: _replaced(each, redactor) for name, each in value.items()}
    return redacted(value, redactor) if isinstance(value, msgspec.Struct) else value


def _each(values: tuple[Any, ...] | list[Any], redactor: Redactor) -> Any:
    told: list[Any] = []
    for each in values:
        told += _groups(each, redactor) if isinstance(each, FindingGroup) else [_replaced(each, redactor)]
    return type(values)(told)


def _groups(group: FindingGroup, redactor: Redactor) -> list[FindingGroup]:
    """The group, its texts made anew for each subject: a text may continue a name that is put into it."""
    findings = [redacted(each, redactor) for each in group.findings()]
    new = [each.new for each in group.subjects]
    again = grouped(findings)
    if len(again) == 1:
        return [_marked(again[0], group, new)]
    return [_marked(grouped([each])[0], group, [mark]) for each, mark in zip(findings, new, strict=True)]


def _marked(group: FindingGroup, original: FindingGroup, new: list[bool]) -> FindingGroup:
    subjects = tuple(msgspec.structs.replace(each, new=mark) for each, mark in zip(group.subjects, new, strict=True))
    count = original.count if len(new) == len(original.subjects) else len(new)
    return msgspec.structs.replace(
        group, subjects=subjects, count=count, new=None if original.new is None else sum(new)
    )

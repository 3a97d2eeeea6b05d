"""A report as the files that a submission to CNCF's Kubernetes AI Conformance programme holds.

https://github.com/cncf/k8s-ai-conformance/blob/main/instructions.md. Which of its requirements ours show is in
``programme``; what none of ours judges is left for the owners to state. An entry is called implemented only where all
that shows it passed, on every subject, on hardware. The tests have our own names, so that nobody takes them for the
programme's, and the artefacts hold what is evidence and nothing else, since one failure in them voids all.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import yaml

from conformance.report.formats.cncf import artefacts
from conformance.report.formats.cncf.programme import VERSIONS, Entry, of_version
from conformance.report.formats.refusing import FormatRefused
from conformance.report.model import Report, Verdict
from conformance.report.visible import visible
from conformance.verdict import EvidenceKind, Status

PRODUCT = "PRODUCT.yaml"
_MINOR = re.compile(r"v?(\d+\.\d+)")
_TO_FILL_IN = (
    "platformName", "platformVersion", "vendorName", "websiteUrl", "repoUrl", "documentationUrl", "productLogoUrl",
    "description", "contactEmailAddress", "k8sConformanceUrl",
)  # fmt: skip
_HEAD = """\
# Which requirements of the Kubernetes AI Conformance programme run {run} shows, and with which evidence.
# Made by gpu-conformance {version} on the cluster {cluster}. Whoever submits it states the rest and answers for all:
# fill in what stands in brackets and what has no status, and keep the descriptions of the programme's own template.
"""


class Stated(msgspec.Struct, frozen=True):
    """What a run says about one requirement of the programme."""

    status: str
    evidence: tuple[str, ...]
    notes: str


def why_refused(report: Report) -> str:
    """Why a report cannot be evidence for the programme, and what to do; empty where it can."""
    if report.cluster.evidence is not EvidenceKind.HARDWARE:
        return (
            f"the evidence of this report is {report.cluster.evidence}: no GPU took part, so it shows nothing that the "
            "CNCF programme requires; run the suites on the cluster itself, with --gpu-mode verify or full"
        )
    if _version(report) not in VERSIONS:
        return (
            f"the version of Kubernetes is {_plain(report.cluster.server_version) or 'unknown'}; "
            f"the requirements of the CNCF programme are known for {', '.join(VERSIONS)}"
        )
    return ""


def render(report: Report) -> Mapping[str, str]:
    """The files by name. Raises FormatRefused for evidence that is not of hardware and for an unknown version."""
    if refused := why_refused(report):
        raise FormatRefused(refused)
    version = _version(report)
    verdicts = {verdict.requirement: verdict for verdict in report.requirements}
    stated = {entry.id: state(entry, verdicts) for entry, _ in of_version(version)}
    shown = [verdicts[id] for id in sorted({id for each in stated.values() for id in each.evidence})]
    files = artefacts.written(shown, report) if shown else {}
    return {PRODUCT: _product(report, version, stated), **files}


def _version(report: Report) -> str:
    found = _MINOR.match(report.cluster.server_version)
    return found[1] if found else ""


def state(entry: Entry, verdicts: Mapping[str, Verdict]) -> Stated:
    """What the verdicts show of a requirement of the programme."""
    if entry.proof is None:
        return Stated("", (), "No requirement of gpu-conformance is about this: state it with evidence of your own.")
    for way in entry.proof.ways:
        if all(id in verdicts and _holds_everywhere(verdicts[id]) for id in way):
            return _shown(way, entry.proof.not_shown)
    judged = [verdicts[id] for way in entry.proof.ways for id in way if id in verdicts]
    passed = tuple(each.requirement for each in judged if each.status is Status.PASSED)
    return Stated(_status(judged, passed), passed, _why(entry.proof.ways, verdicts))


def _shown(way: Sequence[str], not_shown: str) -> Stated:
    if not_shown:
        return Stated("Partially Implemented", tuple(way), f"Shown by {', '.join(way)}; not shown: {not_shown}.")
    return Stated("Implemented", tuple(way), f"Shown by {', '.join(way)}, on every subject.")


def _status(judged: Iterable[Verdict], passed: Sequence[str]) -> str:
    if any(each.status is Status.FAILED for each in judged):
        return "Not Implemented"
    return "Partially Implemented" if passed else ""


def _why(ways: Iterable[Sequence[str]], verdicts: Mapping[str, Verdict]) -> str:
    told = [", ".join(_ended(id, verdicts.get(id)) for id in way) for way in ways]
    return f"Would be shown by {'; or by '.join(told)}."


def _ended(id: str, verdict: Verdict | None) -> str:
    if verdict is None:
        return f"{id} (not in this run)"
    if verdict.status is Status.PASSED and verdict.unseen:
        return f"{id} (passed, but {verdict.unseen} subjects were not looked at)"
    if verdict.status is Status.PASSED and verdict.evidence is not EvidenceKind.HARDWARE:
        return f"{id} (passed, on {verdict.evidence} evidence)"
    return f"{id} ({verdict.status})"


def _holds_everywhere(verdict: Verdict) -> bool:
    return verdict.status is Status.PASSED and not verdict.unseen and verdict.evidence is EvidenceKind.HARDWARE


def _product(report: Report, version: str, stated: Mapping[str, Stated]) -> str:
    spec: dict[str, list[dict[str, object]]] = {}
    for entry, level in of_version(version):
        own = stated[entry.id]
        links = [f"{file}#{id}" for id in own.evidence for file in artefacts.FILES]
        told: dict[str, object] = {"id": entry.id, "level": level, "status": own.status}
        spec.setdefault(entry.section, []).append({**told, "evidence": links, "notes": own.notes})
    metadata = {"kubernetesVersion": f"v{version}", **{name: f"[fill in: {name}]" for name in _TO_FILL_IN}}
    head = _HEAD.format(
        run=_plain(report.run.id), version=_plain(report.run.version), cluster=_plain(report.cluster.name)
    )
    return head + yaml.safe_dump({"metadata": metadata, "spec": spec}, sort_keys=False, allow_unicode=True, width=120)


def _plain(text: str) -> str:
    """A text in a comment: one line."""
    return " ".join(visible(text).split())

"""Runs made by hand for the tests that compare reports: one requirement after another, each with its broken objects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from conformance.catalog import MUST, READS, Requirement
from conformance.report.causes import causes_of
from conformance.report.model import ClusterFacts, PoolFacts, Report, RunFacts, Verdict, exit_code, summarise
from conformance.sources import SOURCES
from conformance.subjects import ObjectReference
from conformance.verdict import EvidenceKind, Finding, Status, Unseen

LABEL = "the label of the pool is missing"


def node(name: str) -> ObjectReference:
    return ObjectReference.of("Node", name)


def pod(name: str, on: str = "") -> ObjectReference:
    return ObjectReference.of("Pod", name, namespace="team-a", node=on)


def broken(*objects: ObjectReference, cause: str = LABEL) -> list[Finding]:
    """A finding on each of the objects, with one cause."""
    return [
        Finding(each, False, "as declared", "not so", cause, remedy=f"mend {each.name}", inspect=f"look at {each.name}")
        for each in objects
    ]


def verdict(
    id: str,
    findings: Iterable[Finding] | Status = (),
    *,
    status: Status | None = None,
    reason: str = "",
    evidence: EvidenceKind = EvidenceKind.HARDWARE,
    unseen: Iterable[ObjectReference] = (),
    waits_for: str = "",
    effect: object = READS,
) -> Verdict:
    """A verdict: failed where something is broken, else passed, or the status given."""
    if isinstance(findings, Status):
        findings, status = (), findings
    told = list(findings)
    profile = {"POOL": "pools", "DRA": "dra", "OBS": "observability"}[id.partition("-")[0]]
    rule = Requirement(id, f"Title of {id}", MUST, profile, effect, (SOURCES["guide-1"],), f"Mend {id}.")
    return Verdict.of(
        rule, status or (Status.FAILED if told else Status.PASSED), told, evidence=evidence, reason=reason,
        unseen=[Unseen(each, "busy") for each in unseen], waits_for=waits_for,
    )  # fmt: skip


@dataclass(frozen=True)
class Night:
    """The run of a night on a cluster."""

    day: int
    cluster: str = "prod-gpu"
    kind: str = "kubeconfig"
    reference: str = "h100-fleet"
    mode: str = "audit"
    nodes: tuple[str, ...] = ("gpu-1", "gpu-2", "gpu-3")
    settings: Mapping[str, str] = field(default_factory=dict)
    uid: str | None = None

    def __call__(self, *verdicts: Verdict) -> Report:
        """Its report."""
        code, outcome = exit_code(verdicts, other_failures=False)
        ordered = tuple(sorted(verdicts, key=lambda each: each.requirement))
        evidence = ordered[0].evidence if ordered else EvidenceKind.STATIC
        return Report(
            RunFacts(f"run-{self.cluster}-{self.day}", "0.1.0", self.mode, f"2026-11-{self.day:02}T01:00:00+00:00",
                     f"2026-11-{self.day:02}T01:10:00+00:00", dict(self.settings)),
            ClusterFacts(self.cluster, self.kind, "v1.36.3", evidence, len(self.nodes), len(self.nodes), {},
                         self.uid),
            self.reference, outcome, code, causes_of(ordered), summarise(ordered), ordered,
            fleet=(PoolFacts("h100", 1, "h100", "whole devices", self.nodes, 0, 0, {}, {}),),
        )  # fmt: skip


def renamed(report: Report, run: str) -> Report:
    """The report of a run with another id."""
    return replace(report, run=replace(report.run, id=run))

"""Reports made by hand for the tests of formats: an ordinary one, and one whose names are as hostile as can be."""

import msgspec

from conformance.catalog import MUST, READS, SHOULD, Requirement
from conformance.explaining import Stage, WaitingGroup, WaitingPods
from conformance.report.causes import causes_of
from conformance.report.comparing.difference import compare
from conformance.report.model import (
    ClusterFacts,
    Decision,
    Excused,
    PoolFacts,
    Report,
    RunFacts,
    Upgrade,
    Verdict,
    exit_code,
    summarise,
)
from conformance.sources import SOURCES
from conformance.subjects import ObjectReference
from conformance.timeline import Step
from conformance.upgrading.forecast import Away, Capacity, Displaced, Fate
from conformance.verdict import EvidenceKind, Finding, Status

HOSTILE = "</script><script>alert(1)</script>]]>&lt;\x1b[2J=cmd|' /C calc'!A1\n# x\n[a](javascript:b) `c` *d* | e \"f\\"
"""What free text (a message, an annotation) may hold; names of objects are tamer."""

_RULES = (
    ("POOL-01", "pools", MUST, "Every declared pool has its nodes"),
    ("POOL-02", "pools", MUST, "Every GPU node has the labels of its pool"),
    ("POOL-03", "pools", SHOULD, "Every GPU node has its taints"),
    ("DRA-01", "dra", MUST, "The DRA driver publishes the GPUs of every node"),
    ("DRA-02", "dra", MUST, "Every device class can choose a device"),
    ("OBS-01", "observability", SHOULD, "Every GPU node has an exporter"),
    ("OBS-02", "observability", SHOULD, "Every GPU has its metrics"),
)


def made_report(
    *, evidence: EvidenceKind = EvidenceKind.STATIC, broken_nodes: int = 7, text: str = "", run: str = "abcdefghij"
) -> Report:
    """A run on the cluster prod-gpu: POOL-02 failed on nodes, DRA waits for POOL-01, OBS-02 was not run.

    ``text`` is put where free text of the cluster comes into a report.
    """
    label = "the node group lacks the label" + text
    broken = [
        Finding(
            ObjectReference.of("Node", f"gpu-{number}"), False, "gpu-pool=h100", f"no label{text}", label,
            "pods that select the pool stay away" + text,
            f"kubectl label node gpu-{number} gpu-pool=h100{text}",
            f"kubectl get node gpu-{number} --show-labels{text}",
        )
        for number in range(broken_nodes)
    ]  # fmt: skip
    held = Finding(ObjectReference.of("Pool", "h100", declared=True), True, "8 nodes", "8 nodes")
    missing = Finding(ObjectReference.of("Pool", "h100-dra", declared=True), False, "2 nodes", f"none{text}")
    cause = f"pool h100-dra has no node{text}"
    verdicts = (
        _verdict(0, Status.ERROR, evidence, f"nodes could not be listed{text}", findings=[missing]),
        _verdict(1, Status.FAILED if broken else Status.PASSED, evidence, findings=[*broken, held]),
        _verdict(2, Status.PASSED, evidence, findings=[held], timeline=_timeline(text)),
        _verdict(3, Status.WAITING, evidence, cause, "POOL-01"),
        _verdict(4, Status.WAITING, evidence, cause, "POOL-01"),
        _verdict(5, Status.WAIVED, evidence, f"waived by obs until 2027-01-31{text}", findings=broken[:1]),
        _verdict(6, Status.NOT_RUN, evidence, "its effect is creates; mode audit goes up to reads"),
    )
    code, outcome = exit_code(verdicts, other_failures=False)
    return Report(
        RunFacts(run, "0.1.0", "audit", "2026-11-24T06:00:00+00:00", "2026-11-24T06:01:10+00:00", {"timeout": "60"}),
        ClusterFacts(f"prod-gpu{text}", "kubeconfig", "v1.36.3", evidence, 13, 10, {"pods": f"Forbidden{text}"},
                     f"6f1c0a52-0001-4000-8000-00000000abcd{text}"),
        f"h100-fleet{text}", outcome, code, causes_of(verdicts), summarise(verdicts), verdicts,
        (f"a note{text}",),
        (Excused(f"GKE{text}", (f"kube-system{text}",), 12, (f"gmp-critical{text}",)),),
        (
            PoolFacts("h100", 8, "h100", f"MIG layout{text}", tuple(f"gpu-{number}" for number in range(8)), 1, 0,
                      {"nvidia.com/gpu": 64}, {"nvidia.com/gpu": 56}, {"nvidia.com/gpu": 14}),
            PoolFacts(f"h100-dra{text}", 2, "h100", "by DRA", (), 0, 0, {}, {}),
        ),
        waiting_pods=_waiting_pods(text),
    )  # fmt: skip


def before_an_upgrade(report: Report, text: str = "") -> Report:
    """The report as that of a run that was asked about an upgrade, for which a pod would evict others."""
    evicting = Displaced(
        owner=f"Job team-a/train{text}", pods=1, priority=100, fate=Fate.PREEMPTS, node=f"gpu-2{text}", instead=3,
        victims=(f"pod team-b/worker{text}",),
    )  # fmt: skip
    evicted = Displaced(
        owner=f"ReplicaSet team-b/serve{text}", pods=1, priority=0, fate=Fate.UNKNOWN, evicted_by=f"pod a/b{text}",
        why=f"it is scheduled by another scheduler{text}",
    )  # fmt: skip
    away = Away(nodes=(f"gpu-1{text}",), pods=2, displaced=(*(evicted,) * 5, evicting))
    capacity = Capacity(at_once=1, pods=2, moves=0, preempts=1, waits=0, lost=0, unknown=1, evicted=1, away=(away,))
    asked = Upgrade(f"driver 595.91.07{text}", Decision.NO_GO, ("POOL-02",), capacity=capacity)
    return msgspec.structs.replace(report, upgrade=asked)


def _waiting_pods(text: str) -> WaitingPods:
    """A Job whose pods find no room, and a Deployment whose pods are refused."""
    full = WaitingGroup(
        owner=ObjectReference.of("Job", f"train{text}", namespace=f"team-a{text}"), pods=12, example=f"train-0{text}",
        stage=Stage.UNSCHEDULABLE, cause=f"too little room: it wants 8 nvidia.com/gpu{text}", nearest=f"gpu-1{text}",
        missing=(f"8 nvidia.com/gpu asked for, 2 of 8 free{text}",), eviction=f"nobody can be evicted for it{text}",
        remedy=f"Wait until pods end{text}", inspect=f"kubectl describe pod train-0 -n team-a{text}",
    )  # fmt: skip
    server = ObjectReference.of("Deployment", "server", namespace="team-a")
    refused = WaitingGroup(owner=server, pods=1, stage=Stage.REFUSED, cause=f"1 of its pods are not made{text}")
    return WaitingPods(
        pods=16, groups=(full, refused), groups_left=1, pods_left=3, not_computed=2,
        unreadable={"Event": f"you may not list events{text}"},
    )  # fmt: skip


def _timeline(text: str) -> tuple[Step, ...]:
    """A pod that preempts another."""
    return (
        Step("2026-11-24T06:00:10.100+00:00", "borrowed", "Node", "gpu-1", detail=f"fenced by a=b:NoSchedule{text}"),
        Step("2026-11-24T06:00:10.250+00:00", "created", "Pod", "low-1", f"gpuc-a-1{text}", detail="1 fake"),
        Step("2026-11-24T06:00:10.900+00:00", "running", "Pod", "low-1", f"gpuc-a-1{text}", "gpu-1"),
        Step("2026-11-24T06:00:12.500+00:00", "created", "Pod", "high-1", "gpuc-a-1", detail="1 fake, priority -5"),
        Step(
            "2026-11-24T06:00:12.750+00:00", "evicted", "Pod", "low-1", f"gpuc-a-1{text}", f"gpu-1{text}",
            f"pod gpuc-a-1/high-1{text}", f"PreemptionByScheduler{text}",
        ),
    )  # fmt: skip


def hostile_report() -> Report:
    """The same with hostile text wherever a cluster's text can come in."""
    return made_report(text=HOSTILE)


def since_baseline(report: Report) -> Report:
    """The report with a former run as its baseline, on which fewer nodes were broken."""
    return msgspec.structs.replace(report, baseline=compare([made_report(broken_nodes=3, run="older")], report))


def with_status(report: Report, requirement: str, status: Status) -> Report:
    """The report with another status of one requirement; what follows from it is computed anew."""
    verdicts = tuple(
        msgspec.structs.replace(each, status=status) if each.requirement == requirement else each
        for each in report.requirements
    )
    code, outcome = exit_code(verdicts, other_failures=False)
    return msgspec.structs.replace(
        report, requirements=verdicts, causes=causes_of(verdicts), profiles=summarise(verdicts), exit_code=code,
        outcome=outcome,
    )  # fmt: skip


def _verdict(
    number: int,
    status: Status,
    evidence: EvidenceKind,
    reason: str = "",
    waits_for: str = "",
    findings: list[Finding] | None = None,
    timeline: tuple[Step, ...] = (),
) -> Verdict:
    id, profile, level, title = _RULES[number]
    rule = Requirement(id, title, level, profile, READS, (SOURCES["guide-1"],), "Bring it into the state declared.")
    found = Verdict.of(
        rule, status, findings or [], evidence=evidence, reason=reason, duration=0.25, waits_for=waits_for
    )
    return msgspec.structs.replace(found, timeline=timeline, steps_left=len(timeline) and 3)

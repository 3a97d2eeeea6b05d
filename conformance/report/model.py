"""What a report says: the run, the cluster, each requirement's verdict, and what they add up to by profile."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from conformance.catalog import PROFILES, Level, Requirement, Source
from conformance.explaining import WaitingPods
from conformance.kube.effects import Effect
from conformance.report.comparing.changes import Difference
from conformance.report.grouping import FindingGroup, grouped
from conformance.timeline import Step
from conformance.upgrading.forecast import Capacity
from conformance.verdict import EXAMPLES, EvidenceKind, Finding, Status, Unseen

API_VERSION = "gpu-conformance.io/v1alpha1"
KIND = "ConformanceReport"

# The statuses from worst to best: what a group of verdicts comes to is the first that occurs in it.
SEVERITY = (
    Status.FAILED,
    Status.ERROR,
    Status.UNKNOWN,
    Status.WAITING,
    Status.NOT_RUN,
    Status.WAIVED,
    Status.PASSED,
    Status.UNSUPPORTED,
    Status.NOT_APPLICABLE,
)


class Verdict(msgspec.Struct, frozen=True, rename="camel"):
    """How one requirement ended, and why. ``duration`` is in seconds; ``judged`` counts the subjects.

    ``groups`` are the findings (``findings`` in report.json): all that are broken, and a few examples of the others.
    ``unseen`` counts those that could not be looked at, a busy node for example: nobody knows whether they pass.
    ``since`` says in words what changed since the baseline of the run, where it has one.
    One that is ``waiting`` has the cause as its ``reason``; ``waits_for`` is the requirement that judges the cause.
    ``timeline`` is what a scenario did and saw, step by step; ``steps_left`` counts the steps that are not kept.
    """

    requirement: str
    title: str
    level: Level
    profile: str
    feature: str
    effect: str
    status: Status
    evidence: EvidenceKind
    reason: str
    judged: int
    broken: int
    groups: tuple[FindingGroup, ...] = msgspec.field(name="findings")
    remedy: str
    sources: tuple[Source, ...]
    duration: float
    unseen: int = 0
    unseen_examples: tuple[Unseen, ...] = ()
    waits_for: str = ""
    since: str = ""
    timeline: tuple[Step, ...] = ()
    steps_left: int = 0

    @classmethod
    def of(
        cls,
        rule: Requirement,
        status: Status,
        findings: Iterable[Finding],
        *,
        evidence: EvidenceKind,
        judged: int | None = None,
        reason: str = "",
        duration: float = 0.0,
        unseen: Sequence[Unseen] = (),
        waits_for: str = "",
    ) -> "Verdict":
        """The verdict on ``rule``. Keeps every broken finding, and of all else a few examples.

        ``judged`` counts the subjects where ``findings`` are less than all.
        """
        every = list(findings)
        broken = [finding for finding in every if not finding.ok]
        examples = [finding for finding in every if finding.ok][:EXAMPLES]
        return cls(
            rule.id, rule.title, rule.level, rule.profile, rule.feature, rule.effect.label, status, evidence, reason,
            len(every) if judged is None else judged, len(broken), grouped((*broken, *examples)), rule.remedy,
            rule.sources, round(duration, 3), len(unseen), tuple(unseen[:_UNSEEN_EXAMPLES]), waits_for,
        )  # fmt: skip

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all groups, each in its own words."""
        return tuple(finding for group in self.groups for finding in group.findings())

    @property
    def causes(self) -> tuple[FindingGroup, ...]:
        """The groups of what is broken."""
        return tuple(group for group in self.groups if not group.ok)


_UNSEEN_EXAMPLES = 20


class ProfileResult(StrEnum):
    """What the verdicts of a profile add up to."""

    CONFORMANT = "conformant"
    REHEARSED = "rehearsed"
    AUDITED = "audited"
    PARTIAL = "partial"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    NOT_APPLICABLE = "not-applicable"


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    """One profile's result, its counts by status, and the ids behind the counts that somebody must act on.

    ``partly`` are requirements that passed, but for less than all subjects: some could not be looked at. ``waiting``
    ones are told by their causes.
    """

    name: str
    result: ProfileResult
    counts: dict[str, int]
    failed: tuple[str, ...]
    unjudged: tuple[str, ...]
    partly: tuple[str, ...]
    waiting: tuple[str, ...]


class Cause(msgspec.Struct, frozen=True, rename="camel"):
    """What keeps requirements from being judged, and which ones wait for it.

    ``requirement`` judges the cause itself, and ``status`` is how it ended in this run (not-run where it has no
    verdict); both are empty where no requirement judges it.
    """

    requirement: str
    status: str
    cause: str
    waiting: tuple[str, ...]

    @property
    def told_by_its_requirement(self) -> bool:
        """Whether the requirement that judges the cause tells of it as a failure, so that nobody else has to."""
        return self.status in (Status.FAILED, Status.ERROR, Status.UNKNOWN)


class RunFacts(msgspec.Struct, frozen=True, rename="camel"):
    """Which run this was. Times are UTC in RFC 3339."""

    id: str
    version: str
    mode: str
    started: str
    finished: str
    settings: dict[str, str]


class ClusterFacts(msgspec.Struct, frozen=True, rename="camel"):
    """Which cluster was judged.

    ``uid`` is that of the namespace kube-system, by which one cluster is told from another whatever it is called
    (https://opentelemetry.io/docs/specs/semconv/resource/k8s/#cluster). None where it could not be read, and of a
    cluster that was made for runs, whose UID is another one each time.
    """

    name: str
    kind: str
    server_version: str
    evidence: EvidenceKind
    nodes: int
    gpu_nodes: int
    unreadable: dict[str, str]
    uid: str | None = None


class Excused(msgspec.Struct, frozen=True, rename="camel"):
    """What requirements about owners' pods and classes leave out, because it is somebody else's.

    ``platform`` is the system that it belongs to, ``pods`` the number of its pods on GPU nodes, in ``namespaces``;
    ``priority_classes`` are those of its classes that stand above the highest declared one.
    """

    platform: str
    namespaces: tuple[str, ...] = ()
    pods: int = 0
    priority_classes: tuple[str, ...] = ()


class PoolFacts(msgspec.Struct, frozen=True, rename="camel"):
    """What the cluster has of a declared pool, with GPUs by resource name; nodes with GPUs of no pool have no ``name``.

    ``declared_nodes`` is how many it has at least, ``model`` and ``layout`` are what it declares of its GPUs.
    ``requested`` is how many of the allocatable ones the pods on its nodes request; None where pods could not be read,
    and in reports of versions that did not keep it.
    """

    name: str
    declared_nodes: int
    model: str
    layout: str
    nodes: tuple[str, ...]
    not_ready: int
    cordoned: int
    capacity: dict[str, int]
    allocatable: dict[str, int]
    requested: dict[str, int] | None = None


class Decision(StrEnum):
    """Whether an upgrade may begin, or is done."""

    GO = "go"
    NO_GO = "no-go"
    DONE = "done"
    NOT_DONE = "not-done"
    UNDECIDED = "undecided"

    @property
    def good(self) -> bool:
        """Whether it is what one wants to hear."""
        return self in (Decision.GO, Decision.DONE)


class Upgrade(msgspec.Struct, frozen=True, rename="camel"):
    """What a run says of an upgrade that it was asked about.

    ``failed`` are the requirements that speak against it, ``unjudged`` those that nobody could judge, ``unknown`` those
    of which a part or all is unknown. ``baseline`` is the file with what the cluster had; empty where none was written.
    ``capacity`` is what becomes of pods with GPUs while nodes are away, where that is asked and could be computed.
    ``slower`` are figures that are lower after the upgrade than the baseline tolerates, in words.
    """

    target: str
    decision: Decision
    failed: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    baseline: str = ""
    capacity: Capacity | None = None
    slower: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The decision as it is shown."""
        return self.decision.upper().replace("NOT-", "NOT ")

    def parts(self) -> dict[str, tuple[str, ...]]:
        """What it rests on, by how it is called; what there is none of is left out."""
        told = {
            "speaks against it": self.failed,
            "could not be judged": self.unjudged,
            "not known everywhere": self.unknown,
            "slower than before": self.slower,
            "baseline": (self.baseline,) if self.baseline else (),
        }
        return {called: found for called, found in told.items() if found}

    def __str__(self) -> str:
        """The decision as the first line of a summary."""
        told = [f"{self.word} for {self.target}"]
        if self.failed:
            told.append(f"failed: {', '.join(self.failed)}")
        elif self.unjudged:
            told.append(f"not judged: {', '.join(self.unjudged)}")
        elif self.decision is Decision.UNDECIDED and "UPG-11" in self.unknown:
            told.append("whether nodes that are gone were scaled down is not known")
        elif self.decision is Decision.UNDECIDED and self.target.startswith("driver "):
            told.append("the operator upgrades none of these drivers, and how they get to their nodes is not known")
        elif self.decision is Decision.UNDECIDED:
            known = "UPG-22" not in self.unknown
            told.append("nothing tells that it is installed" if known else "whether a way leads there is not known")
        if self.slower:
            told.append(
                f"slower than before: {self.slower[0]}" + f" and {len(self.slower) - 1} more" * (len(self.slower) > 1)
            )
        if self.unknown:
            told.append(f"not known everywhere: {', '.join(self.unknown)}")
        return "; ".join(told)


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """The whole report, as report.json holds it. ``baseline`` is what changed since an earlier run that was named.

    ``upgrade`` is there only where the run was asked about one, ``waiting_pods`` where it was asked for them.
    """

    run: RunFacts
    cluster: ClusterFacts
    reference: str
    outcome: str
    exit_code: int
    causes: tuple[Cause, ...]
    profiles: tuple[Profile, ...]
    requirements: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    excused: tuple[Excused, ...] = ()
    fleet: tuple[PoolFacts, ...] = ()
    baseline: Difference | None = None
    api_version: str = API_VERSION
    kind: str = KIND
    upgrade: Upgrade | msgspec.UnsetType = msgspec.UNSET
    waiting_pods: WaitingPods | msgspec.UnsetType = msgspec.UNSET


def summarise(verdicts: Iterable[Verdict]) -> tuple[Profile, ...]:
    """One Profile for each profile that has a verdict, in the order of the catalogue."""
    by_name: dict[str, list[Verdict]] = {name: [] for name in PROFILES.values()}
    for verdict in verdicts:
        by_name.setdefault(verdict.profile, []).append(verdict)  # one that somebody else's suites declared
    return tuple(_profile(name, members) for name, members in by_name.items() if members)


def _profile(name: str, verdicts: list[Verdict]) -> Profile:
    counts = Counter(verdict.status for verdict in verdicts)
    partly = tuple(each.requirement for each in verdicts if each.status is Status.PASSED and each.unseen)
    return Profile(
        name,
        _result(counts, {verdict.evidence for verdict in verdicts}, partly=bool(partly)),
        {str(status): counts[status] for status in SEVERITY if counts[status]},
        tuple(verdict.requirement for verdict in verdicts if verdict.status is Status.FAILED),
        tuple(verdict.requirement for verdict in verdicts if verdict.status in UNJUDGED),
        partly,
        tuple(verdict.requirement for verdict in verdicts if verdict.status is Status.WAITING),
    )


# Nobody could say whether these hold.
UNJUDGED = (Status.ERROR, Status.UNKNOWN, Status.NOT_RUN)


def _result(counts: Counter[Status], evidence: set[EvidenceKind], *, partly: bool) -> ProfileResult:
    if counts[Status.FAILED]:
        return ProfileResult.FAILED
    if counts[Status.ERROR] or counts[Status.UNKNOWN] or counts[Status.WAITING]:
        return ProfileResult.INCOMPLETE
    if not counts[Status.PASSED]:
        nothing_to_judge = counts[Status.NOT_APPLICABLE] and not counts[Status.NOT_RUN]
        return ProfileResult.NOT_APPLICABLE if nothing_to_judge else ProfileResult.PARTIAL
    if counts[Status.NOT_RUN] or counts[Status.WAIVED] or partly:
        return ProfileResult.PARTIAL
    if EvidenceKind.SIMULATED in evidence:
        return ProfileResult.REHEARSED
    return ProfileResult.AUDITED if EvidenceKind.STATIC in evidence else ProfileResult.CONFORMANT


EXIT_INCOMPLETE = 10


def exit_code(verdicts: Iterable[Verdict], *, other_failures: bool) -> tuple[int, str]:
    """The run's exit code and the sentence that goes with it.

    1 when a requirement (or another test of the session) failed, 10 when nothing failed but something could not be
    judged or nothing was evaluated at all, 0 otherwise. What the mode or a selection left out on purpose does not
    make a run incomplete, but it keeps its profile from being conformant.
    """
    counts = Counter(verdict.status for verdict in verdicts)
    failed, waiting = counts[Status.FAILED], counts[Status.WAITING]
    unjudged = counts[Status.ERROR] + counts[Status.UNKNOWN] + waiting
    if failed:
        return 1, f"{_requirements(failed)} failed" + (f", and {waiting} wait for a cause" if waiting else "")
    if other_failures:
        return 1, "no requirement failed, but something else did: see the notes and the failed tests"
    if unjudged:
        return EXIT_INCOMPLETE, f"nothing failed, but {_requirements(unjudged)} could not be judged"
    if not counts[Status.PASSED] and not counts[Status.WAIVED]:
        return EXIT_INCOMPLETE, "nothing was evaluated"
    return 0, "every requirement that was evaluated holds"


def _requirements(number: int) -> str:
    return "1 requirement" if number == 1 else f"{number} requirements"


def not_run(rule: Requirement, limit: Effect, mode: str) -> str:
    """Why ``rule`` is beyond ``mode``, in words."""
    return f"its effect is {rule.effect.label}; mode {mode} goes up to {limit.label}"

"""Runs about driver upgrades: what they select, the driver or the baseline that is meant, what verdicts come to.

A run that nobody asks about an upgrade selects and says nothing of it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from conformance.catalog import PROFILES, Requirement
from conformance.facts import Node
from conformance.gpu.drivers import DriverVersion
from conformance.gpu.kubernetes_releases import release_in
from conformance.gpu.operator_releases import written
from conformance.options import (
    POST_UPGRADE,
    PRE_UPGRADE,
    PRE_UPGRADE_KUBERNETES,
    PRE_UPGRADE_OPERATOR,
    UPGRADE_QUESTIONS,
    Settings,
)
from conformance.reference import Reference
from conformance.reference.expected import gpu_resources
from conformance.report.model import EXIT_INCOMPLETE, UNJUDGED, Decision, Report, Upgrade, Verdict
from conformance.session.of_cluster import OfCluster
from conformance.session.upgrade_figures import figures_of, slower_since
from conformance.session.upgrade_probes import probes_of, told_of, worse_since
from conformance.upgrading.baseline import Baseline, load, require_cluster, take, write
from conformance.upgrading.forecast import Capacity
from conformance.verdict import Inconclusive, Status

PROFILE = PROFILES["UPG"]
CORE, AFTER = "core", "post-upgrade"
"""The features of the requirements on the next driver, and of those that compare with a baseline."""

OPERATOR, KUBERNETES = "operator-upgrade", "kubernetes-upgrade"
"""The features of the requirements on the next GPU Operator, and on the next Kubernetes."""

COMPANIONS = ("OPER-02", "OPER-12", "OPER-13", "OPER-18", "POOL-10")
"""Requirements of other profiles that are a part of every question: the stack is healthy, and so are its nodes."""

PODS_ARE_MADE_ANEW = ("OPER-06", "OPER-07", "OPER-10")
"""Those of all questions before an upgrade: what runs now was admitted once, and an upgrade makes each pod anew."""

_COMPANIONS_OF = {
    CORE: (*PODS_ARE_MADE_ANEW, "OPER-19"),
    OPERATOR: PODS_ARE_MADE_ANEW,
    KUBERNETES: PODS_ARE_MADE_ANEW,
    AFTER: ("OBS-01", "OPER-14", "WORK-14"),
}
"""Before one of drivers also who would stay on a node; after one validators, metrics, and the driver in pods."""

KEYS = {CORE: "UPG-02", AFTER: "UPG-11", OPERATOR: "UPG-22", KUBERNETES: "UPG-27"}
"""The requirements, by feature, without whose verdict nobody knows whether there is an upgrade at all."""

_T = TypeVar("_T")
_NO_BASELINE = "no baseline of the upgrade was written"
_KUBERNETES_VERSION = re.compile(r"v?1\.\d{1,3}(\.\d+([-+][\w.+-]+)?)?", re.ASCII)
"""A release, a version, or a version as clouds name it: 1.36, v1.36.2, v1.36.3-gke.100, v1.36.2+k3s1."""

_OPERATOR_VERSION = re.compile(r"v?(\d{2})\.(\d{1,2})\.(\d+)", re.ASCII)
_ASK = (
    f"is judged only where an upgrade is asked about: {PRE_UPGRADE.flag} VERSION, such as 595.91.07, or "
    f"{POST_UPGRADE.flag} BASELINE"
)


class Asked(NamedTuple):
    """What a run is asked about an upgrade: before one to a driver, an operator or a Kubernetes, or after one."""

    driver: DriverVersion | None = None
    baseline: Baseline | None = None
    file: Path = Path()
    operator: tuple[int, int, int] | None = None
    kubernetes: tuple[int, int] | None = None

    @classmethod
    def by(cls, settings: Settings) -> "Asked":
        """What the options say. Raises ValueError for what is no version or baseline, and for several at once."""
        return cls.of({each.flag: settings.value(each.key) for each in UPGRADE_QUESTIONS})

    @classmethod
    def of(cls, values: Mapping[str, str | None]) -> "Asked":
        """What the values of the options say, by option. Raises ValueError as ``by`` does."""
        # An empty value was given, by a variable of a script that nobody set: no run may take that for no question.
        given = [(option, value) for option, value in values.items() if value is not None]
        if len(given) > 1:
            names = " and ".join(option for option, _ in given)
            raise ValueError(f"{names} are questions about different upgrades, or times: give one of them")
        return next((cls._one(option, value) for option, value in given), cls())

    @classmethod
    def _one(cls, option: str, value: str) -> "Asked":
        try:
            if option == POST_UPGRADE.flag:
                return cls(baseline=load(Path(value)), file=Path(value))
            if option == PRE_UPGRADE_OPERATOR.flag:
                return cls(operator=_operator_version(value))
            if option == PRE_UPGRADE_KUBERNETES.flag:
                return cls(kubernetes=_kubernetes_release(value))
            return cls(driver=DriverVersion.parse(value))
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from None

    def __bool__(self) -> bool:
        return self.feature != ""

    @property
    def feature(self) -> str:
        """The feature of the profile's requirements that answer; empty where nothing is asked."""
        asked = {
            CORE: self.driver, OPERATOR: self.operator, KUBERNETES: self.kubernetes, AFTER: self.baseline,
        }  # fmt: skip
        return next((feature for feature, what in asked.items() if what is not None), "")

    @property
    def required_driver(self) -> DriverVersion:
        """The driver that is to be installed, for requirements that only a run before an upgrade judges."""
        return _required(self.driver)

    @property
    def required_operator(self) -> tuple[int, int, int]:
        """The operator that is to be installed, for requirements that only a run before its upgrade judges."""
        return _required(self.operator)

    @property
    def required_kubernetes(self) -> tuple[int, int]:
        """The Kubernetes that is to be installed, for requirements that only a run before its upgrade judges."""
        return _required(self.kubernetes)

    @property
    def required_baseline(self) -> Baseline:
        """What was there before, for requirements that only a run after an upgrade judges."""
        return _required(self.baseline)

    @property
    def target(self) -> str:
        """What is or was to be upgraded to, in words."""
        if self.baseline is not None:
            return self.baseline.target
        if self.operator is not None:
            return f"GPU Operator v{'.'.join(map(str, self.operator))}"
        return f"Kubernetes {written(self.kubernetes)}" if self.kubernetes is not None else f"driver {self.driver}"

    @property
    def companions(self) -> tuple[str, ...]:
        """The requirements of other profiles that answer, too."""
        return (*COMPANIONS, *_COMPANIONS_OF.get(self.feature, ()))

    def admits(self, rule: Requirement) -> bool:
        """Whether a requirement may be judged: those of the profile only where that is asked."""
        return rule.profile != PROFILE or (bool(self) and rule.feature == self.feature)

    def names(self, rule: Requirement) -> bool:
        """Whether a requirement answers what is asked."""
        return bool(self) and self.admits(rule) and (rule.profile == PROFILE or rule.id in self.companions)

    def refusal(self, profiles: Iterable[str], ids: Iterable[str]) -> str:
        """What of a selection only a run about an upgrade judges, and how to ask for it; empty without such."""
        if self:
            return ""
        prefix = next(prefix for prefix, name in PROFILES.items() if name == PROFILE)
        named = [f"profile {name}" for name in profiles if name == PROFILE]
        named += [each for each in ids if each.startswith(f"{prefix}-")]
        return f"{', '.join(named)} {_ASK}" if named else ""

    def require_cluster(self, nodes: Iterable[str], uid: str | None) -> None:
        """Raise ValueError where the baseline is of another cluster."""
        if self.baseline is not None:
            require_cluster(self.baseline, self.file, nodes, uid)


def decided(asked: Asked, verdicts: Sequence[Verdict], baseline: str = "") -> Upgrade:
    """What the verdicts say of the upgrade that was asked about; ``baseline`` is the file that was written.

    Go is an answer of its own: whatever could not be judged keeps it away, and so does an operator that upgrades none
    of the drivers. Probes that passed before an upgrade and fail after it speak against its being done, and so do
    figures that are lower than the baseline tolerates.
    """
    worse = worse_since(asked.baseline.probes, verdicts) if asked.baseline is not None else ()
    slower = _slower(asked, verdicts)
    every = [
        each
        for each in verdicts
        if each.profile == PROFILE or each.requirement in asked.companions or each.requirement in worse
    ]
    failed = _ids(every, Status.FAILED)
    unjudged = tuple(each.requirement for each in every if each.status in (*UNJUDGED, Status.WAITING))
    partly = (each.requirement for each in every if each.status is Status.UNSUPPORTED or each.unseen)
    unknown = tuple(each for each in partly if each not in (*failed, *unjudged))
    good, bad, key = Decision.GO, Decision.NO_GO, KEYS.get(asked.feature, "")
    if asked.baseline is not None:
        good, bad = Decision.DONE, Decision.NOT_DONE
    known = any(
        each.requirement == key
        and each.status in (Status.PASSED, Status.WAIVED)
        # Whether a node is lost that nobody can tell of must not be read as done.
        and not (each.unseen and asked.baseline is not None)
        for each in every
    )
    decision = bad if failed or slower else good if known and not unjudged else Decision.UNDECIDED
    return Upgrade(asked.target, decision, failed, unjudged, unknown, baseline, slower=slower)


def with_decision(
    report: Report, asked: Asked, baseline: Path | None, capacity: Capacity | None = None, notes: Sequence[str] = ()
) -> Report:
    """The report with what it says of the upgrade: as a section, in front of its outcome, and in its exit code.

    ``notes`` are why there is no baseline or no forecast; how probes went since the baseline is told beside them.
    """
    upgrade = decided(asked, report.requirements, str(baseline or ""))
    undecided = upgrade.decision is Decision.UNDECIDED and not report.exit_code
    probes = _told_of_probes(asked.baseline, report.requirements) if asked.baseline is not None else ()
    return msgspec.structs.replace(
        report,
        upgrade=msgspec.structs.replace(upgrade, capacity=capacity),
        outcome=f"{upgrade}: {report.outcome}",
        exit_code=EXIT_INCOMPLETE if undecided else report.exit_code,
        notes=(*report.notes, *notes, *probes),
    )


def _told_of_probes(before: Baseline, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """How probes went since the baseline, in words."""
    told = told_of(before.probes, verdicts)
    again = {*before.figures} & {*figures_of(verdicts)}
    if before.figures:
        told += (
            f"of {len(before.figures)} figures of the baseline {len(again)} were measured again; "
            f"{before.tolerance:.0%} less is tolerated",
        )
    return told


def keep_baseline(asked: Asked, run: OfCluster, folder: Path, earlier: Report | None = None) -> tuple[Path | None, str]:
    """Write what the cluster has before the upgrade beside the report: the file, or why there is none.

    ``earlier`` is the report of a run before this one, whose results of probes are kept with it.
    """
    if not asked or asked.baseline is not None:
        return None, ""
    if run.redacts:
        return None, f"{_NO_BASELINE}: under the names that --gpu-redact gives its nodes nothing could be compared"
    try:
        taken = take(
            run.facts,
            gpu_resources(run.reference),
            cluster=run.cluster.name,
            target=asked.target,
            pool_of=lambda node: _pool_of(node, run.reference),
            uid=run.facts.cluster_uid or "",
        )
    except Inconclusive as error:
        return None, f"{_NO_BASELINE}: {error}"
    if earlier is not None:
        probes, figures = probes_of(earlier.requirements), figures_of(earlier.requirements)
        taken = msgspec.structs.replace(taken, probes=probes, figures=figures)
    return write(taken, folder), ""


def _pool_of(node: Node, reference: Reference) -> str:
    """The first declared GPU pool that has a node; empty where none does."""
    return next((pool.name for pool in reference.gpu_pools if pool.holds(node.labels)), "")


def _slower(asked: Asked, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """The figures that an upgrade lost, where a baseline has some."""
    if asked.baseline is None or not asked.baseline.figures:
        return ()
    return slower_since(asked.baseline.figures, figures_of(verdicts), asked.baseline.tolerance)


def _operator_version(text: str) -> tuple[int, int, int]:
    match = _OPERATOR_VERSION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no version of the GPU Operator such as v26.7.0")
    return int(match[1]), int(match[2]), int(match[3])


def _kubernetes_release(text: str) -> tuple[int, int]:
    release = release_in(text.strip()) if _KUBERNETES_VERSION.fullmatch(text.strip()) else None
    if release is None:
        raise ValueError(f"{text!r} is no release of Kubernetes such as 1.36 or v1.36.2")
    return release


def _required(asked: _T | None) -> _T:
    if asked is None:
        raise RuntimeError("the run was not asked about such an upgrade")
    return asked


def _ids(verdicts: Iterable[Verdict], status: Status) -> tuple[str, ...]:
    return tuple(each.requirement for each in verdicts if each.status is status)

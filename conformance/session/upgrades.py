"""Runs about driver upgrades: what they select, the driver or the baseline that is meant, what verdicts come to.

A run that nobody asks about an upgrade selects and says nothing of it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from conformance.catalog import PROFILES, Requirement
from conformance.facts import Facts
from conformance.gpu.drivers import DriverVersion
from conformance.options import Settings
from conformance.reference import Reference
from conformance.reference.expected import gpu_resources
from conformance.report.model import EXIT_INCOMPLETE, UNJUDGED, Decision, Report, Upgrade, Verdict
from conformance.session.cluster import OpenCluster
from conformance.upgrading.baseline import Baseline, load, require_nodes, take, write
from conformance.verdict import Inconclusive, Status

PROFILE = PROFILES["UPG"]
AFTER = "post-upgrade"
"""The feature of the requirements that compare with a baseline."""

COMPANIONS = ("OPER-02", "OPER-12", "OPER-13", "OPER-18", "POOL-10")
"""Requirements of other profiles that are a part of both questions: the stack is healthy, and so are its nodes."""

BEFORE_ONLY, AFTER_ONLY = ("OPER-19",), ("OBS-01", "OPER-14", "WORK-14")
"""Those of one: who would stay on a node; whether validators pass, metrics flow, and pods have the new driver."""

POLICY, BACK = "UPG-02", "UPG-11"
"""The requirements without whose verdict nobody knows whether there is an upgrade at all."""

_NO_BASELINE = "no baseline of the upgrade was written"
_PRE_UPGRADE, _POST_UPGRADE = "--gpu-pre-upgrade", "--gpu-post-upgrade"
_ASK = (
    f"is judged only where an upgrade is asked about: {_PRE_UPGRADE} VERSION, such as 595.91.07, or {_POST_UPGRADE} "
    "BASELINE"
)


class Asked(NamedTuple):
    """What a run is asked about an upgrade: before one to a ``driver``, after one by a ``baseline``, or nothing."""

    driver: DriverVersion | None = None
    baseline: Baseline | None = None
    file: Path = Path()

    @classmethod
    def by(cls, settings: Settings) -> "Asked":
        """What the options say. Raises ValueError for what is no driver version or baseline, and for both at once."""
        version, file = settings.value("pre_upgrade"), settings.value("post_upgrade")
        if version and file:
            raise ValueError(f"{_PRE_UPGRADE} and {_POST_UPGRADE} ask about one cluster at two times: give one of them")
        try:
            if version:
                return cls(driver=DriverVersion.parse(version))
            return cls(baseline=load(Path(file)), file=Path(file)) if file else cls()
        except ValueError as error:
            raise ValueError(f"{_PRE_UPGRADE if version else _POST_UPGRADE}: {error}") from None

    def __bool__(self) -> bool:
        return self.driver is not None or self.baseline is not None

    @property
    def required_driver(self) -> DriverVersion:
        """The driver that is to be installed, for requirements that only a run before an upgrade judges."""
        if self.driver is None:
            raise RuntimeError("the run was not asked about an upgrade that is to come")
        return self.driver

    @property
    def required_baseline(self) -> Baseline:
        """What was there before, for requirements that only a run after an upgrade judges."""
        if self.baseline is None:
            raise RuntimeError("the run was not asked about an upgrade that is over")
        return self.baseline

    @property
    def target(self) -> str:
        """What is or was to be upgraded to, in words."""
        return self.baseline.target if self.baseline is not None else f"driver {self.driver}"

    @property
    def companions(self) -> tuple[str, ...]:
        """The requirements of other profiles that answer, too."""
        return (*COMPANIONS, *(BEFORE_ONLY if self.baseline is None else AFTER_ONLY))

    def admits(self, rule: Requirement) -> bool:
        """Whether a requirement may be judged: those of the profile only where that is asked."""
        return rule.profile != PROFILE or (bool(self) and (rule.feature == AFTER) is (self.baseline is not None))

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

    def require_nodes(self, nodes: Iterable[str]) -> None:
        """Raise ValueError where the baseline is of another cluster."""
        if self.baseline is not None:
            require_nodes(self.baseline, self.file, nodes)


def decided(asked: Asked, verdicts: Iterable[Verdict], baseline: str = "") -> Upgrade:
    """What the verdicts say of the upgrade that was asked about; ``baseline`` is the file that was written.

    Go is an answer of its own: whatever could not be judged keeps it away, and so does an operator that upgrades none
    of the drivers.
    """
    every = [each for each in verdicts if each.profile == PROFILE or each.requirement in asked.companions]
    failed = _ids(every, Status.FAILED)
    unjudged = tuple(each.requirement for each in every if each.status in (*UNJUDGED, Status.WAITING))
    partly = (each.requirement for each in every if each.status is Status.UNSUPPORTED or each.unseen)
    unknown = tuple(each for each in partly if each not in (*failed, *unjudged))
    good, bad, key = Decision.GO, Decision.NO_GO, POLICY
    if asked.baseline is not None:
        good, bad, key = Decision.DONE, Decision.NOT_DONE, BACK
    known = any(each.requirement == key and each.status in (Status.PASSED, Status.WAIVED) for each in every)
    decision = bad if failed else good if known and not unjudged else Decision.UNDECIDED
    return Upgrade(asked.target, decision, failed, unjudged, unknown, baseline)


def with_decision(report: Report, asked: Asked, baseline: Path | None, why_not: str = "") -> Report:
    """The report with what it says of the upgrade: as a section, in front of its outcome, and in its exit code.

    ``why_not`` is why there is no baseline, which the notes tell.
    """
    upgrade = decided(asked, report.requirements, str(baseline or ""))
    undecided = upgrade.decision is Decision.UNDECIDED and not report.exit_code
    return msgspec.structs.replace(
        report,
        upgrade=upgrade,
        outcome=f"{upgrade}: {report.outcome}",
        exit_code=EXIT_INCOMPLETE if undecided else report.exit_code,
        notes=(*report.notes, *([why_not] if why_not else [])),
    )


class OfCluster(Protocol):
    """What of a run a baseline is made of."""

    @property
    def asked(self) -> Asked:
        """What it is asked about an upgrade."""

    @property
    def cluster(self) -> OpenCluster:
        """The open cluster."""

    @property
    def facts(self) -> Facts:
        """What was read."""

    @property
    def reference(self) -> Reference:
        """The declared set-up."""

    @property
    def redacts(self) -> bool:
        """Whether names of machines are replaced in all that is written."""


def keep_baseline(run: OfCluster, folder: Path) -> tuple[Path | None, str]:
    """Write what the cluster has before the upgrade beside the report: the file, or why there is none."""
    if run.asked.driver is None:
        return None, ""
    if run.redacts:
        return None, f"{_NO_BASELINE}: under the names that --gpu-redact gives its nodes nothing could be compared"
    try:
        taken = take(run.facts, gpu_resources(run.reference), cluster=run.cluster.name, target=run.asked.target)
    except Inconclusive as error:
        return None, f"{_NO_BASELINE}: {error}"
    return write(taken, folder), ""


def _ids(verdicts: Iterable[Verdict], status: Status) -> tuple[str, ...]:
    return tuple(each.requirement for each in verdicts if each.status is status)

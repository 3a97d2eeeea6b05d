"""Runs about driver upgrades: what they select, the driver that is meant, and what the verdicts come to.

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
from conformance.upgrading.baseline import take, write
from conformance.verdict import Inconclusive, Status

PROFILE = PROFILES["UPG"]
COMPANIONS = ("OPER-02", "OPER-12", "OPER-13", "OPER-18", "OPER-19", "POOL-10")
"""Requirements of other profiles that judge a part of the same question: the stack, its nodes, pods that hold GPUs."""

POLICY = "UPG-02"
"""The requirement without whose verdict nobody knows whether there is an upgrade at all."""

_NO_BASELINE = "no baseline of the upgrade was written"
_PRE_UPGRADE = "--gpu-pre-upgrade"
_ASK = f"is judged only where an upgrade is asked about: {_PRE_UPGRADE} VERSION, such as 595.91.07"


class Asked(NamedTuple):
    """What a run is asked about an upgrade; without a ``driver`` nothing."""

    driver: DriverVersion | None = None

    @classmethod
    def by(cls, settings: Settings) -> "Asked":
        """What the options say. Raises ValueError for what is no driver version."""
        version = settings.value("pre_upgrade")
        if not version:
            return cls()
        try:
            return cls(DriverVersion.parse(version))
        except ValueError as error:
            raise ValueError(f"{_PRE_UPGRADE}: {error}") from None

    def __bool__(self) -> bool:
        return self.driver is not None

    @property
    def target(self) -> str:
        """What is to be upgraded to, in words."""
        return f"driver {self.driver}"

    def admits(self, rule: Requirement) -> bool:
        """Whether a requirement may be judged: those of the profile only where an upgrade is asked about."""
        return bool(self) or rule.profile != PROFILE

    def names(self, rule: Requirement) -> bool:
        """Whether a requirement answers what is asked."""
        return bool(self) and (rule.profile == PROFILE or rule.id in COMPANIONS)

    def refusal(self, profiles: Iterable[str], ids: Iterable[str]) -> str:
        """What of a selection only a run about an upgrade judges, and how to ask for it; empty without such."""
        if self:
            return ""
        prefix = next(prefix for prefix, name in PROFILES.items() if name == PROFILE)
        named = [f"profile {name}" for name in profiles if name == PROFILE]
        named += [each for each in ids if each.startswith(f"{prefix}-")]
        return f"{', '.join(named)} {_ASK}" if named else ""


def decided(asked: Asked, verdicts: Iterable[Verdict], baseline: str = "") -> Upgrade:
    """What the verdicts say of the upgrade that was asked about; ``baseline`` is the file that was written.

    Go is an answer of its own: whatever could not be judged keeps it away, and so does an operator that upgrades none
    of the drivers.
    """
    every = [each for each in verdicts if each.profile == PROFILE or each.requirement in COMPANIONS]
    failed = _ids(every, Status.FAILED)
    unjudged = tuple(each.requirement for each in every if each.status in (*UNJUDGED, Status.WAITING))
    unknown = tuple(each.requirement for each in every if each.status is Status.UNSUPPORTED or each.unseen)
    begins = any(each.requirement == POLICY and each.status in (Status.PASSED, Status.WAIVED) for each in every)
    decision = Decision.NO_GO if failed else Decision.GO if begins and not unjudged else Decision.UNDECIDED
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
    if run.redacts:
        return None, f"{_NO_BASELINE}: under the names that --gpu-redact gives its nodes nothing could be compared"
    try:
        taken = take(run.facts, gpu_resources(run.reference), cluster=run.cluster.name, target=run.asked.target)
    except Inconclusive as error:
        return None, f"{_NO_BASELINE}: {error}"
    return write(taken, folder), ""


def _ids(verdicts: Iterable[Verdict], status: Status) -> tuple[str, ...]:
    return tuple(each.requirement for each in verdicts if each.status is status)

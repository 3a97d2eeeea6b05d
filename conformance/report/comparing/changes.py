"""The words in which one run differs from another, as diff.json and ``baseline`` of report.json hold them."""

from enum import StrEnum

import msgspec

from conformance.catalog import Level
from conformance.report.grouping import FindingGroup
from conformance.verdict import EvidenceKind

API_VERSION = "gpu-conformance.io/v1alpha1"
KIND = "ConformanceReportDiff"


class Change(StrEnum):
    """What became of findings: of an object in a requirement, with a cause."""

    NEW = "new"
    OTHER_CAUSE = "other-cause"
    UNJUDGED = "not-judged-now"
    FIXED = "fixed"
    GONE = "gone"
    KNOWN = "known"


class Turn(StrEnum):
    """What became of a requirement's verdict."""

    NEWLY_FAILED = "newly-failed"
    NO_LONGER_JUDGED = "no-longer-judged"
    WEAKER = "evidence-weaker"
    WAIVER = "waiver-changed"
    NEWLY_JUDGED = "newly-judged"
    HOLDS_AGAIN = "holds-again"
    STRONGER = "evidence-stronger"


class Compared(msgspec.Struct, frozen=True, rename="camel"):
    """Which run was compared. Times are UTC in RFC 3339; ``cluster_uid`` is None where its report has none."""

    run: str
    cluster: str
    reference: str
    mode: str
    evidence: EvidenceKind
    started: str
    outcome: str
    exit_code: int
    cluster_uid: str | None = None


class Unlike(msgspec.Struct, frozen=True, rename="camel"):
    """Something in which the runs themselves differ. Where it is ``grave``, differences may come from it alone."""

    what: str
    old: str
    new: str
    grave: bool = False


class ChangedFindings(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Findings of one requirement with the same cause that changed alike.

    ``findings`` has the texts of the newer run, or of the older one where it is no longer found; of what is known only
    the first subject is in it. ``was`` is the cause that it had before, ``flapping`` counts subjects that came and
    went, ``remedy`` is the requirement's own.
    """

    requirement: str
    title: str
    level: Level
    change: Change
    findings: FindingGroup
    waived: bool = False
    flapping: int = 0
    was: str = ""
    remedy: str = ""

    @property
    def count(self) -> int:
        """How many subjects."""
        return self.findings.count


class ChangedVerdict(msgspec.Struct, frozen=True, rename="camel"):
    """A requirement whose verdict changed, and why. ``old`` and ``new`` are statuses, or kinds of evidence."""

    requirement: str
    title: str
    level: Level
    turn: Turn
    old: str
    new: str
    why: str


class Difference(msgspec.Struct, frozen=True, rename="camel"):
    """What a run differs in from those before it; the last of ``old`` is the one it is compared with.

    ``counts`` has findings by Change, and ``flapping``; what is covered by waivers is not counted as new.
    """

    old: tuple[Compared, ...]
    new: Compared
    unlike: tuple[Unlike, ...]
    counts: dict[str, int]
    findings: tuple[ChangedFindings, ...]
    requirements: tuple[ChangedVerdict, ...]
    api_version: str = API_VERSION
    kind: str = KIND

    @property
    def grave(self) -> tuple[Unlike, ...]:
        """The differences of the runs that make a comparison doubtful."""
        return tuple(each for each in self.unlike if each.grave)

    def count(self, *changes: Change) -> int:
        """How many findings changed like this."""
        return sum(self.counts.get(change, 0) for change in changes)

    def of(self, *changes: Change) -> tuple[ChangedFindings, ...]:
        """The findings that changed like this."""
        return tuple(each for each in self.findings if each.change in changes)

    def turned(self, *turns: Turn) -> tuple[ChangedVerdict, ...]:
        """The requirements whose verdicts turned like this."""
        return tuple(each for each in self.requirements if each.turn in turns)

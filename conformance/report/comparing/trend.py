"""The runs of one cluster over time: how each ended, and the history of each requirement."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from conformance.catalog import Level
from conformance.report.comparing.flapping import FLAPS, Seen, changes, flapping
from conformance.report.comparing.runs import other_cluster
from conformance.report.comparing.verdicts import JUDGED, by_id
from conformance.report.letters import ABSENT, LETTERS
from conformance.report.model import SEVERITY, Report, Verdict
from conformance.report.reading import ReportError
from conformance.verdict import EvidenceKind, Status

API_VERSION = "gpu-conformance.io/v1alpha1"
KIND = "ConformanceTrend"
_LEVELS = tuple(Level)
_BAD = (Status.FAILED, Status.ERROR, Status.UNKNOWN, Status.WAITING)
BROKEN, WHOLE, NOT_JUDGED = "F", ".", "-"


class Point(msgspec.Struct, frozen=True, rename="camel"):
    """One run. Times are UTC in RFC 3339; ``counts`` are requirements by status, ``broken`` counts subjects."""

    run: str
    started: str
    cluster: str
    reference: str
    mode: str
    evidence: EvidenceKind
    version: str
    outcome: str
    exit_code: int
    counts: dict[str, int]
    broken: int

    def other_than(self, before: "Point") -> list[str]:
        """What makes it hard to compare with the run before it."""
        return [
            f"{name} {old} -> {new}"
            for name, old, new in (
                ("reference", before.reference, self.reference),
                ("mode", before.mode, self.mode),
                ("evidence", before.evidence, self.evidence),
                ("gpu-conformance", before.version, self.version),
            )
            if old != new
        ]


class History(msgspec.Struct, frozen=True, rename="camel"):
    """One requirement over the runs: a letter for each, as LETTERS has them, a space where a run does not know it.

    ``changes`` counts how often it changed between failed and not; runs that did not judge it say nothing of that.
    ``status`` is how it ended last, ``since`` when it first ended like this without a change until now.
    """

    requirement: str
    title: str
    level: Level
    profile: str
    history: str
    changes: int
    status: str
    since: str

    @property
    def flaps(self) -> bool:
        """Whether it came and went."""
        return self.changes >= FLAPS

    @property
    def steady(self) -> bool:
        """Whether it ended the same in every run."""
        return len(set(self.history)) == 1


class ObjectHistory(msgspec.Struct, frozen=True, rename="camel"):
    """A subject that came and went: F where it was broken, a dot where not, - where its requirement was not judged."""

    requirement: str
    subject: str
    history: str
    changes: int


class Trend(msgspec.Struct, frozen=True, rename="camel"):
    """The runs of a cluster, the oldest first; requirements and subjects that flap come first.

    ``left_out`` says what of the folder is not in it, and why.
    """

    cluster: str
    runs: tuple[Point, ...]
    requirements: tuple[History, ...]
    subjects: tuple[ObjectHistory, ...]
    letters: dict[str, str]
    left_out: tuple[str, ...] = ()
    api_version: str = API_VERSION
    kind: str = KIND

    @property
    def told(self) -> dict[str, list[History]]:
        """The requirements that are not steadily fine, under what can be said of them."""
        return {
            "flapping": [each for each in self.requirements if each.flaps],
            "changed": [each for each in self.requirements if not each.flaps and not each.steady],
            "never held, or never judged": [each for each in self.requirements if each.steady and each.status in _BAD],
        }

    @property
    def steady(self) -> int:
        """How many requirements ended the same in every run, and well or not for this cluster."""
        return sum(each.steady and each.status not in _BAD for each in self.requirements)


def of_cluster(reports: Sequence[Report], name: str | None) -> list[Report]:
    """The reports of one cluster, by its name or its UID.

    Raises ReportError where there are several and none is named, or a wrong one.
    """
    there = sorted({report.cluster.name for report in reports})
    if name is not None:
        kept = [report for report in reports if name in (report.cluster.name, report.cluster.uid)]
        if not kept:
            raise ReportError(f"there is no report of {name}; there are those of {', '.join(there)}")
        return _of_one(kept)
    return _of_one(reports)


def _of_one(reports: Sequence[Report]) -> list[Report]:
    newest = reports[-1]
    if any(other_cluster(report, newest) for report in reports):
        several = {report.cluster.name: report for report in reports}
        if len(several) == 1:
            uids = sorted({report.cluster.uid for report in reports if report.cluster.uid})
            raise ReportError(
                f"these are reports of several clusters that are all called {newest.cluster.name}: choose one by its "
                f"UID with --cluster; there are {', '.join(uids)}"
            )
        there = sorted(several)
        raise ReportError(
            f"these are reports of several clusters ({', '.join(there)}): choose one with --cluster; "
            "gpu-conformance report merge shows several side by side"
        )
    return list(reports)


def trend_of(reports: Sequence[Report], left_out: Iterable[str] = ()) -> Trend:
    """The trend of one cluster's reports, which are given in the order of their runs."""
    ids = dict.fromkeys(verdict.requirement for report in reversed(reports) for verdict in report.requirements)
    verdicts = [by_id(report) for report in reports]
    histories = [_history(id, verdicts, reports) for id in ids]
    letters = {letter: str(status) for status, letter in LETTERS.items()}
    return Trend(
        reports[-1].cluster.name, tuple(map(_point, reports)), tuple(sorted(histories, key=_rank)),
        tuple(_subjects(reports)), letters, tuple(left_out),
    )  # fmt: skip


def _point(report: Report) -> Point:
    counts = Counter(verdict.status for verdict in report.requirements)
    run = report.run
    return Point(
        run.id, run.started, report.cluster.name, report.reference, run.mode, report.cluster.evidence, run.version,
        report.outcome, report.exit_code, {str(status): counts[status] for status in SEVERITY if counts[status]},
        sum(verdict.broken for verdict in report.requirements if verdict.status is Status.FAILED),
    )  # fmt: skip


def _history(id: str, verdicts: Sequence[Mapping[str, Verdict]], reports: Sequence[Report]) -> History:
    told = [each.get(id) for each in verdicts]
    letters = "".join(LETTERS[each.status] if each else ABSENT for each in told)
    failed = [each.status is Status.FAILED if each and each.status in JUDGED else None for each in told]
    newest = next(each for each in reversed(told) if each is not None)
    last = letters[-1]
    start = len(letters.rstrip(last)) if last != ABSENT else len(letters) - 1
    status = str(told[-1].status) if told[-1] else "absent"
    return History(
        id, newest.title, newest.level, newest.profile, letters, changes(failed), status, reports[start].run.started
    )


def _subjects(reports: Sequence[Report]) -> Iterable[ObjectHistory]:
    runs = [Seen.in_report(report) for report in reports]
    found = []
    for key in flapping(runs):
        seen = [run.of(key) for run in runs]
        letters = "".join(NOT_JUDGED if each is None else BROKEN if each else WHOLE for each in seen)
        found.append(ObjectHistory(*key, letters, changes(seen)))
    return sorted(found, key=lambda each: (-each.changes, each.requirement, each.subject))


def _rank(history: History) -> tuple[object, ...]:
    """Those that flap first, then those that fail now or cannot be judged, then those that changed."""
    status = SEVERITY.index(Status(history.status)) if history.status in list(Status) else len(SEVERITY)
    bad = history.status in _BAD
    flaps = history.changes if history.flaps else 0
    return -flaps, not bad, history.steady, status, _LEVELS.index(history.level), history.requirement

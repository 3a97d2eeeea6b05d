"""Reports of several clusters as one: how each stands, and which requirement holds where."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from conformance.catalog import Level
from conformance.report.comparing.runs import with_uid
from conformance.report.comparing.shards import Shard, merged
from conformance.report.model import EXIT_INCOMPLETE, SEVERITY, ProfileResult, Report, Verdict
from conformance.report.owners import who_acts
from conformance.report.reading import ReportError
from conformance.report.story import waits_for
from conformance.verdict import EvidenceKind, Status

API_VERSION = "gpu-conformance.io/v1alpha1"
KIND = "ConformanceFleet"

_LEVELS = tuple(Level)
# Somebody has to do something, or nobody knows whether. What waits is told by its cause.
ATTENTION = (Status.FAILED, Status.ERROR, Status.UNKNOWN)


def rank(exit_code: int) -> int:
    """0 for a run that failed, 1 for one that is incomplete, 2 for one without a failure."""
    return 2 if exit_code == 0 else 1 if exit_code == EXIT_INCOMPLETE else 0


class OfCluster(msgspec.Struct, frozen=True, rename="camel"):
    """How one cluster stands. Times are UTC in RFC 3339; ``profiles`` are results by name, ``counts`` by status."""

    cluster: str
    run: str
    reference: str
    mode: str
    evidence: EvidenceKind
    server_version: str
    nodes: int
    gpu_nodes: int
    started: str
    outcome: str
    exit_code: int
    counts: dict[str, int]
    profiles: dict[str, ProfileResult]
    uid: str | None = None


class Cell(msgspec.Struct, frozen=True, rename="camel"):
    """One requirement on one cluster; ``why`` is the cause of most that is broken, or why it was not judged.

    ``owner`` says who has to act on all that is broken, where that is known.
    """

    cluster: str
    status: Status
    evidence: EvidenceKind
    judged: int
    broken: int
    unseen: int
    why: str
    remedy: str
    owner: str = ""


class OfRequirement(msgspec.Struct, frozen=True, rename="camel"):
    """One requirement on each cluster that has a verdict on it."""

    requirement: str
    title: str
    level: Level
    profile: str
    clusters: tuple[Cell, ...]

    @property
    def attention(self) -> tuple[Cell, ...]:
        """The clusters on which somebody has to look after it."""
        return tuple(cell for cell in self.clusters if cell.status in ATTENTION)

    @property
    def alike(self) -> list[list[Cell]]:
        """Those clusters, together where they have the same cause."""
        alike: dict[tuple[Status, str, str, str], list[Cell]] = {}
        for cell in self.attention:
            alike.setdefault((cell.status, cell.why, cell.remedy, cell.owner), []).append(cell)
        return list(alike.values())

    def on(self, cluster: str) -> Cell | None:
        """The requirement on a cluster."""
        return next((cell for cell in self.clusters if cell.cluster == cluster), None)


class Waiting(NamedTuple):
    """What requirements wait for, which ones, and on which clusters."""

    why: str
    requirements: tuple[str, ...]
    clusters: tuple[str, ...]


class Fleet(msgspec.Struct, frozen=True, rename="camel"):
    """Clusters together. The requirements that most clusters fail come first."""

    outcome: str
    exit_code: int
    clusters: tuple[OfCluster, ...]
    requirements: tuple[OfRequirement, ...]
    api_version: str = API_VERSION
    kind: str = KIND

    @property
    def worst_first(self) -> list[OfCluster]:
        """The clusters that failed, then those that are incomplete, then the others."""
        return sorted(self.clusters, key=lambda each: (rank(each.exit_code), each.cluster))

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Each cause for which requirements wait, once; what most requirements wait for first."""
        found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
        for row in self.requirements:
            for cell in row.clusters:
                if cell.status is Status.WAITING:
                    ids, clusters = found.setdefault(cell.why, ({}, {}))
                    ids[row.requirement] = None
                    clusters[cell.cluster] = None
        told = [Waiting(why, tuple(sorted(ids)), tuple(clusters)) for why, (ids, clusters) in found.items()]
        return tuple(sorted(told, key=lambda each: (-len(each.requirements), each.why)))


def by_cluster(shards: Iterable[Shard]) -> list[Report]:
    """One report for each cluster: several of one are its shards. Raises ReportError where they are not.

    Clusters of one name that have different UIDs are told apart by these.
    """
    every = list(shards)
    uids: dict[str, set[str]] = {}
    for shard in every:
        uids.setdefault(shard.report.cluster.name, set()).update(filter(None, [shard.report.cluster.uid]))
    clusters: dict[str, list[Shard]] = {}
    for shard in every:
        clusters.setdefault(_name(shard, uids[shard.report.cluster.name]), []).append(shard)
    found = [(name, merged(of_one)) for name, of_one in clusters.items()]
    return [replace(report, cluster=replace(report.cluster, name=name)) for name, report in found]


def _name(shard: Shard, uids: Collection[str]) -> str:
    """How the cluster of a shard is called among the others. ``uids`` are those of all clusters of its name."""
    cluster = shard.report.cluster
    if len(uids) < 2:
        return cluster.name
    if cluster.uid is None:
        raise ReportError(
            f"{shard.file} does not say which of the {len(uids)} clusters called {cluster.name} it is of: its run "
            "could not read the namespace kube-system, or is of an older version; leave it out"
        )
    return with_uid(shard.report)


def fleet_of(reports: Sequence[Report]) -> Fleet:
    """The fleet of clusters with one report each."""
    code, outcome = _outcome(reports)
    return Fleet(outcome, code, tuple(map(_cluster, reports)), tuple(sorted(_requirements(reports), key=_rank)))


def _outcome(reports: Sequence[Report]) -> tuple[int, str]:
    """A fleet stands as its worst cluster does."""
    failed = [report for report in reports if report.exit_code not in (0, EXIT_INCOMPLETE)]
    unfinished = [report for report in reports if report.exit_code == EXIT_INCOMPLETE]
    holds = len(reports) - len(failed) - len(unfinished)
    told = f"{len(reports)} clusters: {len(failed)} failed, {len(unfinished)} incomplete, {holds} without a failure"
    return (1 if failed else EXIT_INCOMPLETE if unfinished else 0), told


def _cluster(report: Report) -> OfCluster:
    counts = Counter(verdict.status for verdict in report.requirements)
    return OfCluster(
        report.cluster.name, report.run.id, report.reference, report.run.mode, report.cluster.evidence,
        report.cluster.server_version, report.cluster.nodes, report.cluster.gpu_nodes, report.run.started,
        report.outcome, report.exit_code, {str(status): counts[status] for status in SEVERITY if counts[status]},
        {profile.name: profile.result for profile in report.profiles}, report.cluster.uid,
    )  # fmt: skip


def _requirements(reports: Iterable[Report]) -> list[OfRequirement]:
    found: dict[str, tuple[Verdict, list[Cell]]] = {}
    for report in reports:
        for verdict in report.requirements:
            found.setdefault(verdict.requirement, (verdict, []))[1].append(_cell(report.cluster.name, verdict))
    return [
        OfRequirement(id, about.title, about.level, about.profile, tuple(cells)) for id, (about, cells) in found.items()
    ]


def _cell(cluster: str, verdict: Verdict) -> Cell:
    why, remedy = _why(verdict)
    return Cell(
        cluster, verdict.status, verdict.evidence, verdict.judged, verdict.broken, verdict.unseen, why, remedy,
        who_acts(verdict.causes),
    )  # fmt: skip


def _why(verdict: Verdict) -> tuple[str, str]:
    """Why it does not hold, and the remedy; of several causes that of most subjects."""
    if verdict.status is Status.FAILED and verdict.causes:
        first = max(verdict.causes, key=lambda group: group.count).first
        return first.cause or f"{first.subject}: expected {first.expected}, found {first.actual}", (
            first.remedy or verdict.remedy
        )
    if verdict.status is Status.WAITING:
        return f"waits for {waits_for(verdict)}", ""
    return verdict.reason, verdict.remedy if verdict.status is Status.FAILED else ""


def _rank(row: OfRequirement) -> tuple[Any, ...]:
    failed = sum(cell.status is Status.FAILED for cell in row.clusters)
    return -failed, -len(row.attention), _LEVELS.index(row.level), row.requirement

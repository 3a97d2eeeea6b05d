"""Which runs are compared, and in what they themselves differ: nobody may take two clusters for two nights of one."""

from collections.abc import Iterator

from conformance.report.comparing.changes import Compared, Unlike
from conformance.report.model import Report

# Settings that say where a run found or put something, not what it judged.
_OF_THE_MACHINE = ("cluster", "report", "report_formats", "kubeconfig", "clusters_file", "assets", "baseline", "redact")
_SNAPSHOT = "snapshot"
# What a report has that was recovered from a stream which did not say.
_UNKNOWN = "unknown"


def compared(report: Report) -> Compared:
    """Which run a report is of."""
    run, cluster = report.run, report.cluster
    return Compared(
        run.id, cluster.name, report.reference, run.mode, cluster.evidence, run.started, report.outcome,
        report.exit_code, cluster.uid,
    )  # fmt: skip


def nodes_of(report: Report) -> set[str]:
    """The nodes of the fleet, as far as the report names them."""
    return {node for pool in report.fleet for node in pool.nodes}


def other_cluster(old: Report, new: Report) -> bool:
    """Whether the reports are of different clusters: by their UIDs where both have one, else by their names.

    Files of snapshots have names of their own: these are of one cluster where they share nodes.
    """
    if old.cluster.uid and new.cluster.uid:
        return old.cluster.uid != new.cluster.uid
    if old.cluster.name == new.cluster.name:
        return False
    if _SNAPSHOT in (old.cluster.kind, new.cluster.kind):
        return not nodes_of(old) & nodes_of(new)
    return True


def unlike(old: Report, new: Report) -> tuple[Unlike, ...]:
    """In what the runs differ, the grave first."""
    return tuple(sorted(_unlike(old, new), key=lambda each: not each.grave))


def _unlike(old: Report, new: Report) -> Iterator[Unlike]:
    if other_cluster(old, new):
        yield Unlike("cluster", *_told_apart(old, new), grave=True)
    elif nodes_of(old) and nodes_of(new) and not nodes_of(old) & nodes_of(new):
        yield Unlike("nodes", "none of these", "is among these", grave=True)
    if old.reference != new.reference:
        yield Unlike("reference", old.reference, new.reference, grave=_UNKNOWN not in (old.reference, new.reference))
    if new.run.started < old.run.started:
        yield Unlike("order", f"began {old.run.started}", f"began {new.run.started}, before it", grave=True)
    yield from _where_different("mode", old.run.mode, new.run.mode)
    yield from _where_different("evidence", str(old.cluster.evidence), str(new.cluster.evidence))
    yield from _where_different("gpu-conformance", old.run.version, new.run.version)
    yield from _where_different("Kubernetes", old.cluster.server_version, new.cluster.server_version)
    yield from _where_different("nodes with GPUs", str(old.cluster.gpu_nodes), str(new.cluster.gpu_nodes))
    for name in sorted({*old.run.settings, *new.run.settings} - {*_OF_THE_MACHINE, "mode", "reference"}):
        yield from _where_different(f"setting {name}", _set(old, name), _set(new, name))


def _told_apart(old: Report, new: Report) -> tuple[str, str]:
    """The names of two clusters, with their UIDs where the names are the same."""
    if old.cluster.name != new.cluster.name:
        return old.cluster.name, new.cluster.name
    return with_uid(old), with_uid(new)


def with_uid(report: Report) -> str:
    """The name of a cluster with its UID."""
    return f"{report.cluster.name} (UID {report.cluster.uid})"


def _where_different(what: str, old: str, new: str) -> Iterator[Unlike]:
    if old != new:
        yield Unlike(what, old or "unknown", new or "unknown")


def _set(report: Report, name: str) -> str:
    """What a setting was set to, without by whom."""
    return report.run.settings.get(name, "not set").rpartition(" (from ")[0] or "not set"

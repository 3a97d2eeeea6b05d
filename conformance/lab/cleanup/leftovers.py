"""Removing what killed runs left: their objects by label, node changes and releases by record, and only theirs.

The same steps end an ordinary run, so that there is one way in which a run is cleaned up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec

from conformance.deploy.helm.releases import Installed
from conformance.deploy.installing import Installer
from conformance.deploy.uninstalling import Outcome, uninstalled
from conformance.kube.client import Client
from conformance.kube.errors import Forbidden, KubeError, NotFound
from conformance.kube.names import HOME_NAMESPACE, MANAGED_BY, MANAGED_BY_US, RUN_LABEL, is_run_id
from conformance.kube.nodechange import NodeChange, restore
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.lab import records_namespace
from conformance.lab.advice import clean_command
from conformance.lab.cleanup.deletion import KINDS, delete_all, labelled, named, wait_until_gone
from conformance.lab.journal import OwnerRecord, owner_records
from conformance.lab.lease import is_alive
from conformance.lab.pods import at_once
from conformance.remains import Left

__all__ = ["Cleaned", "InstalledStack", "Leftovers", "clean", "clean_up", "find_leftovers"]

# A run that has entered but has no Lease yet is given this long to take one.
_STARTING = timedelta(seconds=60)


class Leftovers(msgspec.Struct, frozen=True):
    """What a cluster still holds of one run."""

    run_id: str
    alive: bool
    holder: str = ""
    started_at: str = ""
    node_changes: tuple[NodeChange, ...] = ()
    objects: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()

    def __str__(self) -> str:
        who = f" of {self.holder}" if self.holder else ""
        since = f", started {self.started_at}" if self.started_at else ""
        state = "is going on" if self.alive else "has ended without cleaning up"
        stack = f", {', '.join(self.releases)}" if self.releases else ""
        return (
            f"run {self.run_id}{who}{since} {state}: {len(self.objects)} objects, "
            f"{len({change.node for change in self.node_changes})} nodes changed{stack}"
        )


class Cleaned(msgspec.Struct, frozen=True):
    """What cleaning did. ``left`` says what is still there and why, ``skipped`` which runs were left alone."""

    runs: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    namespace_removed: bool = False


class InstalledStack(msgspec.Struct, frozen=True):
    """The GPU stack that a run installed: the releases on record, and who can take them away."""

    releases: tuple[Installed, ...] = ()
    installer: Installer | None = None


class _Look(msgspec.Struct, frozen=True):
    """One look at everything that runs have left, and who is alive by the server's clock."""

    records: dict[str, OwnerRecord]
    leases: tuple[dict[str, Any], ...]
    entries: dict[str, datetime]
    objects: dict[str, list[dict[str, Any]]]
    unseen: tuple[Left, ...]
    now: datetime

    @property
    def run_ids(self) -> list[str]:
        of_leases = {_run_of(lease) for lease in self.leases}
        return sorted(filter(is_run_id, {*self.records, *self.entries, *self.objects, *of_leases}))

    def alive(self, run_id: str, duration: float) -> bool:
        own = [lease for lease in self.leases if _run_of(lease) == run_id]
        if own:
            return any(is_alive(lease, self.now, duration) for lease in own)
        entered = self.entries.get(run_id)
        return entered is not None and self.now - entered < _STARTING

    def leftovers(self, run_id: str, duration: float) -> Leftovers:
        record = self.records.get(run_id) or OwnerRecord(run_id)
        owner = record.owner
        return Leftovers(
            run_id,
            self.alive(run_id, duration),
            owner.holder if owner else "",
            owner.started_at if owner else "",
            record.node_changes,
            tuple(named(obj) for obj in self.objects.get(run_id, ())),
            tuple(str(release) for release in record.releases),
        )


def find_leftovers(client: Client, *, timeouts: Timeouts | None = None) -> list[Leftovers]:
    """What every run has on the cluster, runs that are going on included. Reads only."""
    look = _look(client)
    duration = (timeouts or client.timeouts).lease
    return [look.leftovers(run_id, duration) for run_id in look.run_ids]


def clean(
    client: Client,
    run_id: str | None = None,
    *,
    force: bool = False,
    timeouts: Timeouts | None = None,
    installer: Installer | None = None,
) -> Cleaned:
    """Remove what the named run left, or what every run left that is not alive.

    A run that is alive is skipped, unless it is named and ``force`` is given. What carries no run label and is in no
    owner record is never touched. May be repeated, and interrupted anywhere. ``installer`` takes away the GPU stack
    that a run installed; without one it is left, with what to do about it.
    """
    limits = timeouts or client.timeouts
    look = _look(client, run_id)
    chosen = [run_id] if run_id else look.run_ids
    total = Cleaned(left=look.unseen)
    for each in chosen:
        leftovers = look.leftovers(each, limits.lease)
        if leftovers.alive and not (force and run_id):
            advice = f"wait for its end, or {clean_command(each, force=True)}"
            total = msgspec.structs.replace(total, skipped=(*total.skipped, f"{leftovers}; {advice}"))
            continue
        record = look.records.get(each) or OwnerRecord(each)
        objects, stack = look.objects.get(each, ()), InstalledStack(record.releases, installer)
        total = _sum(total, clean_up(client, each, objects, record.node_changes, limits, stack))
    if not total.namespace_removed and records_namespace.remove_if_abandoned(client):
        records_namespace.wait_until_gone(client, timeout=limits.namespace_deleted)
        total = msgspec.structs.replace(total, namespace_removed=True)
    return total


def restore_nodes(client: Client, changes: Iterable[NodeChange]) -> tuple[tuple[str, ...], list[Left]]:
    """Take recorded node changes back, last one first; the names of the nodes and what could not be restored."""
    by_node: dict[str, list[NodeChange]] = {}
    for change in changes:
        by_node.setdefault(change.node, []).insert(0, change)
    failures = at_once(lambda name: _restore_node(client, name, by_node[name]), list(by_node))
    return tuple(by_node), [failure for failure in failures if failure]


def forget_run(client: Client, run_id: str) -> bool:
    """Remove a run's record, its Leases and its entry; True when the records namespace went with the last run.

    The record goes before the Leases and the entry goes last: as long as anything is there, the run can be found.
    The records namespace, if it goes, is not waited for.
    """
    selector = f"{RUN_LABEL}={run_id}"
    for kind in ("ConfigMap", "Lease"):
        try:
            found = client.list(path(kind, namespace=HOME_NAMESPACE), label_selector=selector)
        except NotFound:
            return False
        for obj in found:
            target = path(kind, namespace=HOME_NAMESPACE, name=obj["metadata"]["name"])
            client.delete(target, uid=obj["metadata"]["uid"])
    return records_namespace.leave(client, run_id)


def clean_up(
    client: Client,
    run_id: str,
    objects: Iterable[Mapping[str, Any]],
    changes: Sequence[NodeChange],
    timeouts: Timeouts,
    stack: InstalledStack | None = None,
) -> Cleaned:
    """Remove a run's stack and objects, put its nodes back, forget the run, and wait until its namespaces are gone.

    The record is kept when a release is left or a node could not be put back: without it nobody could try again.
    Objects that were not deleted can be found again by their label.
    """
    secrets = _secrets(client, run_id, stack)
    outcomes = _remove_releases(client, stack, changes, timeouts)
    removed = tuple(str(each.installed) for each in outcomes if not each.words)
    stuck = [each.words for each in outcomes if each.words and not each.settled]
    # What a release that could not be removed still needs, its namespace first of all, stays until it can.
    deletion = delete_all(
        client, [obj for obj in (*objects, *secrets) if not stuck or not _needed(obj, stack)], timeouts
    )
    nodes, failures = restore_nodes(client, changes)
    failures += stuck
    namespace_removed = False
    if not failures:
        try:
            namespace_removed = forget_run(client, run_id)
        except KubeError as error:
            failures.append(Left(f"record of run {run_id}", error))
    said = [each.words for each in outcomes if each.settled and each.words]
    left = [*deletion.left, *said, *failures, *wait_until_gone(client, deletion.going, timeouts.namespace_deleted)]
    if namespace_removed:
        records_namespace.wait_until_gone(client, timeout=timeouts.namespace_deleted)
    return Cleaned((run_id,), (), (*removed, *deletion.deleted), nodes, tuple(left), namespace_removed)


def _remove_releases(
    client: Client, stack: InstalledStack | None, changes: Sequence[NodeChange], timeouts: Timeouts
) -> list[Outcome]:
    if stack is None:
        return []
    return list(uninstalled(client, stack.releases, stack.installer, changes, timeouts))


def _secrets(client: Client, run_id: str, stack: InstalledStack | None) -> list[dict[str, Any]]:
    """The copies of a pull secret that the run put beside its releases.

    Only there: an account that cleans need not be allowed to read the Secrets of the whole cluster.
    """
    selector = f"{RUN_LABEL}={run_id},{MANAGED_BY}={MANAGED_BY_US}"
    found: list[dict[str, Any]] = []
    for namespace in dict.fromkeys(each.namespace for each in stack.releases) if stack is not None else ():
        with suppress(NotFound, Forbidden):
            found += client.list(path("Secret", namespace=namespace), label_selector=selector)
    return found


def _needed(obj: Mapping[str, Any], stack: InstalledStack | None) -> bool:
    homes = {each.namespace for each in stack.releases} if stack is not None else set()
    return (obj["metadata"].get("namespace") or obj["metadata"]["name"]) in homes


def _restore_node(client: Client, name: str, changes: Sequence[NodeChange]) -> Left | None:
    try:
        for change in changes:
            # What somebody else has changed since is theirs now: no failure, and nothing to try again.
            restore(client, change)
    except KubeError as error:
        return Left(f"node {name}", error)
    return None


def _look(client: Client, run_id: str | None = None) -> _Look:
    found = labelled(client, run_id, KINDS)
    in_home = path("Lease", namespace=HOME_NAMESPACE)
    leases: list[dict[str, Any]] = _or_nothing(lambda: client.list(in_home, label_selector=RUN_LABEL), [])
    records = _or_nothing(lambda: owner_records(client), {})
    now = records_namespace.server_now(client)
    return _Look(records, tuple(leases), records_namespace.entered_at(client), found.by_run, found.unseen, now)


def _or_nothing(read: Callable[[], Any], nothing: Any) -> Any:
    try:
        return read()
    except NotFound:
        return nothing


def _run_of(lease: Mapping[str, Any]) -> str:
    return str((lease["metadata"].get("labels") or {}).get(RUN_LABEL, ""))


def _sum(one: Cleaned, other: Cleaned) -> Cleaned:
    return Cleaned(
        one.runs + other.runs,
        one.skipped + other.skipped,
        one.deleted + other.deleted,
        one.nodes + other.nodes,
        one.left + other.left,
        one.namespace_removed or other.namespace_removed,
    )

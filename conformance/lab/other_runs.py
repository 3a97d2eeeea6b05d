"""Other runs on a cluster that is being judged: what they have put on it is named, and not judged as the cluster's.

A full run beside an audit borrows nodes and makes namespaces, classes and pods; one that was killed leaves them. All of
it carries the run's label, and changes of nodes are in its record, so that facts can be told as if it were not there.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from conformance.facts import Facts, Node
from conformance.facts.tenancy import Namespace
from conformance.gpu.taints import Taint
from conformance.kube.client import Client
from conformance.kube.errors import KubeError, NotFound
from conformance.kube.names import DOMAIN, HOME_NAMESPACE, RUN_LABEL, is_run_id
from conformance.kube.nodechange import NodeChange
from conformance.kube.paths import path
from conformance.lab.advice import clean_command
from conformance.lab.borrowing import FENCE
from conformance.lab.journal import OwnerRecord, owner_records
from conformance.lab.lease import is_alive, lease_name
from conformance.verdict import join_limited

__all__ = ["OtherRun", "find_other_runs", "without_runs"]

_FAKE = f"{DOMAIN}/fake-"


class OtherRun(msgspec.Struct, frozen=True):
    """A run that has something on the cluster. ``alive`` is None where nobody could say whether it is going on."""

    run_id: str
    objects: int
    nodes: tuple[str, ...]
    alive: bool | None
    record: OwnerRecord
    unread: str = ""

    def told(self, cluster: str) -> str:
        """Who runs, since when, what is left out because of it, and the command that removes what it leaves."""
        left_out = f"; this audit leaves out its {self._what}" if self._what else ""
        return f"{self._who}{left_out}{self._stack}. {self._advice(cluster)}"

    @property
    def _who(self) -> str:
        owner = self.record.owner
        who = f" of {owner.holder}, since {owner.started_at}, mode {owner.mode}," if owner else ""
        if self.alive is None:
            return f"run {self.run_id}{who} {self.unread}"
        return f"run {self.run_id}{who} {'is going on' if self.alive else 'has ended without cleaning up'}"

    @property
    def _what(self) -> str:
        parts = [f"{self.objects} {'object' if self.objects == 1 else 'objects'}"] if self.objects else []
        parts += [f"changes of node {join_limited(self.nodes)}"] if self.nodes else []
        return " and ".join(parts)

    @property
    def _stack(self) -> str:
        releases = join_limited([str(each) for each in self.record.releases])
        return f"; it has installed {releases}, which this audit cannot tell from yours" if releases else ""

    def _advice(self, cluster: str) -> str:
        if self.alive:
            return f"If it never ends, run: {clean_command(self.run_id, cluster, force=True)}"
        return f"Run: {clean_command(self.run_id, cluster)}"


def find_other_runs(facts: Facts, own: Collection[str], client: Client | None, lease_seconds: float) -> list[OtherRun]:
    """The runs, but for the ``own`` ones, that facts tell of, by id; who they are is asked only where there are any.

    ``client`` None is a snapshot, behind which there is nobody to ask.
    """
    objects: dict[str, int] = {}
    nodes: dict[str, set[str]] = {}
    for fact in facts.every():
        labels = getattr(fact, "labels", None) or {}
        if isinstance(fact, Node):
            for run_id in _borrowers(fact):
                nodes.setdefault(run_id, set()).add(fact.name)
        elif RUN_LABEL in labels:
            objects[labels[RUN_LABEL]] = objects.get(labels[RUN_LABEL], 0) + 1
    others = [run_id for run_id in sorted({*objects, *nodes}) if is_run_id(run_id) and run_id not in own]
    if not others and not any(isinstance(fact, Namespace) and fact.name == HOME_NAMESPACE for fact in facts.every()):
        return []
    records, leases, now, unread = _asked(client)
    others += [run_id for run_id in sorted(records) if run_id not in (*others, *own)]
    found = []
    for run_id in others:
        record = records.get(run_id) or OwnerRecord(run_id)
        changed = nodes.get(run_id, set()) | {change.node for change in record.node_changes}
        alive = _alive(run_id, leases, now, lease_seconds)
        found.append(OtherRun(run_id, objects.get(run_id, 0), tuple(sorted(changed)), alive, record, unread))
    return found


def without_runs(facts: Facts, runs: Iterable[OtherRun]) -> Facts:
    """The facts as they would be without what these runs have put on the cluster."""
    every = list(runs)
    ids = {each.run_id for each in every}
    gone = {each.name for each in facts.every() if isinstance(each, Namespace) and each.labels.get(RUN_LABEL) in ids}
    changes: dict[str, list[NodeChange]] = {}
    for each in every:
        for change in each.record.node_changes:
            changes.setdefault(change.node, []).append(change)

    def kept(fact: Any) -> Any:
        if isinstance(fact, Node):
            return _restored(fact, changes.get(fact.name, ()), ids)
        ours = (getattr(fact, "labels", None) or {}).get(RUN_LABEL) in ids
        return None if ours or getattr(fact, "namespace", "") in gone else fact

    return facts.told_as(kept)


def _borrowers(node: Node) -> set[str]:
    return {taint.value for taint in node.taints if taint.key == FENCE} | (
        {node.labels[FENCE]} if FENCE in node.labels else set()
    )


def _asked(client: Client | None) -> tuple[dict[str, OwnerRecord], list[dict[str, Any]] | None, datetime | None, str]:
    """The records of all runs, their Leases, the server's time, and in words what of it could not be read."""
    if client is None:
        return {}, None, None, "was on the cluster when the snapshot was taken"
    records: dict[str, OwnerRecord] = {}
    try:
        records = owner_records(client)
        leases = client.list(path("Lease", namespace=HOME_NAMESPACE), label_selector=RUN_LABEL)
    except NotFound:
        return records, [], client.server_time(), ""
    except KubeError as error:
        changed = "" if records else "; labels and taints that it changed are judged as yours"
        return (
            records,
            None,
            None,
            f"has something on the cluster (whether it is going on could not be read: {error}{changed})",
        )
    return records, list(leases), client.server_time(), ""


def _alive(
    run_id: str, leases: Iterable[Mapping[str, Any]] | None, now: datetime | None, seconds: float
) -> bool | None:
    if leases is None or now is None:
        return None
    own = [lease for lease in leases if lease["metadata"]["name"] == lease_name(run_id)]
    return any(is_alive(lease, now, seconds) for lease in own)


def _restored(node: Node, changes: Iterable[NodeChange], ids: Collection[str]) -> Node:
    """The node before the changes of these runs, as clean-up would leave it."""
    fenced = bool(_borrowers(node) & set(ids))
    if not changes and not fenced:
        return node
    labels, taints = dict(node.labels), list(node.taints)
    for change in reversed(list(changes)):
        for key, ours in change.labels_after.items():
            if labels.get(key) == ours:
                _set(labels, key, change.labels_before.get(key))
        taints = [taint for taint in taints if taint not in change.taints_added]
        slots = {(taint.key, taint.effect) for taint in taints}
        taints += [taint for taint in change.taints_removed if (taint.key, taint.effect) not in slots]
    labels = {key: value for key, value in labels.items() if key != FENCE}
    return msgspec.structs.replace(
        node,
        labels=labels,
        taints=tuple(taint for taint in taints if not _is_fence(taint)),
        capacity=_without_fakes(node.capacity),
        allocatable=_without_fakes(node.allocatable),
    )


def _set(labels: dict[str, str], key: str, value: str | None) -> None:
    if value is None:
        labels.pop(key, None)
    else:
        labels[key] = value


def _is_fence(taint: Taint) -> bool:
    return taint.key == FENCE


def _without_fakes(amounts: Mapping[str, str]) -> dict[str, str]:
    return {name: amount for name, amount in amounts.items() if not name.startswith(_FAKE)}

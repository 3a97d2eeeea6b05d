"""Deploying a reference set-up: node labels and taints, its objects by server-side apply, and its GPU stack.

What is not ours is never overwritten or evicted: every conflict is found before the first write. Deploying again
changes nothing.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import msgspec

from conformance.deploy import node_marks, ownership
from conformance.deploy.errors import ForeignObject
from conformance.deploy.installing import Installer, InstallError, StackPlan, definitions
from conformance.deploy.node_marks import Journal, NodeRecords
from conformance.deploy.ownership import Owner
from conformance.deploy.readiness import (
    wait_until_gpus_allocatable,
    wait_until_stack_ready,
    wait_until_workloads_ready,
)
from conformance.kube.client import Client
from conformance.kube.errors import ApiError, Conflict, Forbidden, NotFound
from conformance.kube.nodechange import NodeChange, store
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import until_accepted
from conformance.reference.model import Reference
from conformance.reference.objects import STAGES, WORKLOADS, Object, name_of, objects

__all__ = ["Deployed", "Foreseen", "Journal", "deploy", "foresee"]

# Enough to hide the round trips of a set-up of some fifty objects, little enough for a small API server.
CONCURRENT = 8
# Until the admission plugins of every API server know a new namespace and a new quota.
_RACE_SECONDS = 5.0
# Nodes that a note names; the suites name all of them.
_NAMED = 5

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Deployed(msgspec.Struct, frozen=True):
    """What deploying did, each thing by its name.

    ``not_ready`` are quotas and workloads that were not ready in time, ``not_allocatable`` nodes without the declared
    GPUs, each with why. ``releases`` are those of the GPU stack; ``left_alone`` says which stack was there already
    and was not touched.
    """

    reference: str
    nodes: tuple[str, ...]
    created: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    not_ready: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    not_allocatable: tuple[str, ...] = ()
    left_alone: str = ""

    @property
    def notes(self) -> list[str]:
        """What whoever judges the cluster has to know of the deployment, in words."""
        notes = [self.left_alone] if self.left_alone else []
        if self.not_allocatable:
            more = f"; and {len(self.not_allocatable) - _NAMED} more" if len(self.not_allocatable) > _NAMED else ""
            notes.append(f"GPUs did not come as declared: {'; '.join(self.not_allocatable[:_NAMED])}{more}")
        return notes

    def __str__(self) -> str:
        return (
            f"{self.reference}: {len(self.nodes)} nodes changed, {len(self.created)} objects created, "
            f"{len(self.updated)} updated, {len(self.unchanged)} unchanged"
        )


class Foreseen(msgspec.Struct, frozen=True, rename="camel"):
    """What deploying for a run would do, each thing by its name; withdrawing takes all of it back.

    ``updated`` are objects that a deployment of the same set-up left, ``nodes`` those that get labels or taints,
    ``releases`` those of the GPU stack. ``definitions`` are CRDs of the stack's kinds that are there already, and stay;
    those that the charts bring go with them. ``refused`` is why a run would deploy nothing and end.
    """

    created: tuple[str, ...]
    updated: tuple[str, ...]
    nodes: tuple[str, ...]
    releases: tuple[str, ...]
    definitions: tuple[str, ...]
    left_alone: str
    refused: tuple[str, ...]


def foresee(client: Client, reference: Reference, installer: Installer | None) -> Foreseen:
    """What ``deploy`` would do for a new run, from reads alone. Raises what reading the cluster raises.

    Whether others have Helm releases of the same names is not asked: Helm keeps that in Secrets.
    """
    owner = Owner(reference.name, "the planned one")
    refused: list[str] = []
    stack = StackPlan()
    try:
        stack = StackPlan.of(client, reference, installer, ())
    except InstallError as error:
        refused.append(str(error))
    planned = _plan(client, [*objects(reference), *stack.objects])
    changes = node_marks.planned(reference, client.list(path("Node")))
    refused += _conflicts(client, owner, planned, changes)
    return Foreseen(
        created=tuple(name_of(each.made) for each in planned if each.present is None),
        updated=tuple(name_of(each.made) for each in planned if each.present is not None),
        nodes=tuple(change.node for change in changes),
        releases=tuple(map(str, stack.releases)),
        definitions=tuple(sorted(each["metadata"]["name"] for each in definitions(client))) if stack.releases else (),
        left_alone=stack.left_alone,
        refused=tuple(refused),
    )


class _Planned(NamedTuple):
    """One object to write, and what is there under its name."""

    made: Object
    present: dict[str, Any] | None


def deploy(
    client: Client,
    reference: Reference,
    journal: Journal | None = None,
    run_id: str | None = None,
    *,
    timeouts: Timeouts | None = None,
    installer: Installer | None = None,
) -> Deployed:
    """Make the cluster what the set-up declares, and wait until its workloads run.

    With ``run_id`` everything created belongs to that run; without it the set-up stays, and each changed node keeps
    its own record. Objects that an earlier deployment made stay with their owner. Workloads that do not run within
    ``timeouts.running`` are reported, not raised: whether they ought to is for the suites to say. The same holds for
    nodes that do not offer their GPUs within ``timeouts.stack``; what is left of that time goes to the stack's pods.
    ``installer`` installs the declared GPU stack; without one it is left to others, and so is one that is there.
    Raises ForeignObject, before anything is written, for whatever is there and may not be overwritten and for pods
    that a declared NoExecute taint would evict, and InstallError when the stack cannot be installed.
    """
    limits = timeouts or client.timeouts
    owner = Owner(reference.name, run_id)
    records = journal or NodeRecords(client)
    stack = StackPlan.of(client, reference, installer, records.installed if installer is not None else ())
    planned = _plan(client, [*objects(reference), *stack.objects])
    changes = node_marks.planned(reference, client.list(path("Node")))
    if conflicts := _conflicts(client, owner, planned, changes):
        raise ForeignObject(owner.reference, conflicts)
    in_parallel(lambda change: _change_node(client, records, change), changes)
    outcomes: list[tuple[str, str]] = []
    releases: tuple[str, ...] = ()
    not_allocatable: tuple[str, ...] = ()
    for kinds in STAGES:
        if kinds == WORKLOADS:
            # After the configurations that it reads. Its pods are ready before others may take GPUs: one that is
            # held cannot be cut into MIG devices any more, and counts as whole in the pod that holds it.
            releases = stack.install(client, records, limits)
            not_allocatable = _wait_for_stack(client, reference, stack, limits.stack) if releases else ()
        stage = [each for each in planned if each.made["kind"] in kinds]
        outcomes += in_parallel(lambda each: _write(client, owner, records, each), stage)
    if stack.objects and not releases:
        not_allocatable = _wait_for_stack(client, reference, stack, limits.stack)
    return Deployed(
        reference=reference.name,
        nodes=tuple(change.node for change in changes),
        created=_with(outcomes, "created"),
        updated=_with(outcomes, "updated"),
        unchanged=_with(outcomes, "unchanged"),
        not_ready=wait_until_workloads_ready(client, reference, limits.running),
        releases=releases,
        not_allocatable=not_allocatable,
        left_alone=stack.left_alone,
    )


def _wait_for_stack(client: Client, reference: Reference, stack: StackPlan, limit: float) -> tuple[str, ...]:
    """Wait until the GPUs are there, and for what tells of them, both together up to ``limit`` seconds."""
    deadline = time.monotonic() + limit
    not_allocatable = wait_until_gpus_allocatable(client, reference, limit)
    if not not_allocatable:
        left = max(1.0, deadline - time.monotonic())
        wait_until_stack_ready(client, reference, stack.namespaces, left)
    return not_allocatable


def in_parallel(do: Callable[[_In], _Out], members: Iterable[_In]) -> list[_Out]:
    """Do the same for every member, several at a time; results in order. The first error is raised after all ended."""
    with ThreadPoolExecutor(max_workers=CONCURRENT) as pool:
        return list(pool.map(do, members))


def _plan(client: Client, made: list[Object]) -> list[_Planned]:
    return in_parallel(lambda each: _Planned(each, present(client, each)), made)


def _conflicts(client: Client, owner: Owner, planned: list[_Planned], changes: list[NodeChange]) -> list[str]:
    conflicts = [
        conflict
        for each in planned
        if each.present is not None
        for conflict in owner.conflicts(each.made, each.present)
    ]
    conflicts += ownership.second_default([each.made for each in planned], client.list(path("PriorityClass")))
    return conflicts + node_marks.evictions(client, changes)


def present(client: Client, made: Object) -> dict[str, Any] | None:
    """What is there under the name of an object, None when nothing is."""
    try:
        return client.get(client.path_of(made))
    except NotFound:
        return None


def _change_node(client: Client, journal: Journal, change: NodeChange) -> None:
    journal.will_change_node(change)
    store(client, change)


def _write(client: Client, owner: Owner, journal: Journal, planned: _Planned) -> tuple[str, str]:
    made, before = owner.marked(planned.made, planned.present), planned.present
    if before is None:
        journal.will_create(made)
    after = _apply(client, made, force=before is not None)
    if before is None:
        return name_of(made), "created"
    same = before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
    return name_of(made), "unchanged" if same else "updated"


def _apply(client: Client, made: Object, *, force: bool) -> dict[str, Any]:
    """Apply an object, again while a namespace made a moment ago is not known everywhere.

    ``force`` takes fields back that others changed on an object of ours. A new object is applied without it, so that
    one which somebody else creates meanwhile under the same name makes a conflict instead of being overwritten.
    """
    namespaced = "namespace" in made["metadata"]
    return until_accepted(
        lambda: client.apply(made, force=force), lambda error: _may_pass(error, namespaced), timeout=_RACE_SECONDS
    )


def _may_pass(error: ApiError, namespaced: bool) -> bool:
    if isinstance(error, Conflict):
        # Two writers met; a conflict about who owns a field does not pass.
        return not error.causes
    return namespaced and isinstance(error, (Forbidden, NotFound))


def _with(outcomes: list[tuple[str, str]], wanted: str) -> tuple[str, ...]:
    return tuple(name for name, outcome in outcomes if outcome == wanted)

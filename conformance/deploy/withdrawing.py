"""Withdrawing a reference set-up: removing exactly what deploying made, in reverse order."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from conformance.deploy.deploying import in_parallel, present
from conformance.deploy.installing import Installer
from conformance.deploy.node_marks import Journal, NodeRecords
from conformance.deploy.ownership import Owner, labels_of
from conformance.deploy.uninstalling import uninstalled
from conformance.kube.client import Client
from conformance.kube.errors import Conflict, WaitTimeout
from conformance.kube.keeping import kept_by_others
from conformance.kube.names import MANAGED_BY, MANAGED_BY_US
from conformance.kube.nodechange import NodeChange, restore
from conformance.kube.paths import path
from conformance.kube.timeouts import Timeouts
from conformance.kube.waits import wait_for
from conformance.reference.model import Reference
from conformance.reference.objects import STAGES, WORKLOADS, Object, name_of, objects
from conformance.reference.stack_objects import stack_objects
from conformance.remains import Left

_LEAST_GRACE = 1


class Withdrawn(msgspec.Struct, frozen=True):
    """What withdrawing did: objects deleted, nodes put back, and in words what was left and why."""

    deleted: tuple[str, ...]
    nodes: tuple[str, ...]
    left: tuple[Left, ...]


def withdraw(
    client: Client,
    reference: Reference,
    journal: Journal | None = None,
    run_id: str | None = None,
    *,
    timeouts: Timeouts | None = None,
    installer: Installer | None = None,
) -> Withdrawn:
    """Delete what ``deploy`` with the same set-up and run made, wait until it is gone, and put the nodes back.

    Objects of others stay, and so does a namespace in which others keep something: deleting it would delete that.
    A node's labels and taints go back key by key; what somebody changed since is left and named.
    The GPU stack goes after the workloads, by the ``installer`` that brought it.
    Raises WaitTimeout when a namespace is not gone within ``timeouts.namespace_deleted``. May be repeated.
    """
    owner = Owner(reference.name, run_id)
    limits = timeouts or client.timeouts
    records = journal or NodeRecords(client)
    deleted: list[str] = []
    left: list[Left] = []
    stack = [each for each in stack_objects(reference) if _is_made_by(client, owner, each)]
    homes = {each["metadata"].get("namespace") or each["metadata"]["name"] for each in stack}
    installed = [each for each in records.installed if journal is not None or each.namespace in homes]

    def remove_stack() -> None:
        for outcome in uninstalled(client, installed, installer, records.outstanding, limits):
            if outcome.settled:
                records.uninstalled(outcome.installed)
            if outcome.words:
                left.append(outcome.words)
            else:
                deleted.append(str(outcome.installed))

    try:
        made = [*objects(reference), *stack]
        _remove_objects(client, owner, made, limits, deleted, left, after_workloads=remove_stack)
    finally:
        # Also when a namespace does not go: a node must never stay changed because of that.
        nodes, kept = _restore_nodes(client, records)
    return Withdrawn(tuple(deleted), nodes, (*left, *kept))


def _is_made_by(client: Client, owner: Owner, made: Object) -> bool:
    there = present(client, made)
    return there is not None and owner.made(there)


def _remove_objects(
    client: Client,
    owner: Owner,
    made: list[Object],
    limits: Timeouts,
    deleted: list[str],
    left: list[Left],
    *,
    after_workloads: Callable[[], None],
) -> None:
    """Delete what is ours, stage by stage, writing into ``deleted`` and ``left`` as it goes."""
    for kinds in reversed(STAGES):
        stage = [each for each in made if each["kind"] in kinds]
        for name, why in in_parallel(lambda each: _delete(client, owner, each), stage):
            if why is None:
                deleted.append(name)
            elif why:
                left.append(Left(name, why))
        if kinds == WORKLOADS:
            _let_workloads_go(client, owner, [each for each in stage if name_of(each) in deleted], limits)
            after_workloads()
    _wait_until_gone(client, owner, [each for each in made if name_of(each) in deleted], limits)


def _delete(client: Client, owner: Owner, made: Object) -> tuple[str, str | None]:
    """Delete one object if it is ours. Returns its name and why it was left; an empty reason if it was not there."""
    name, there = name_of(made), present(client, made)
    if there is None:
        return name, ""
    if not owner.made(there):
        return name, "is not of this deployment"
    if made["kind"] == "Namespace":
        strangers = kept_by_others(client, made["metadata"]["name"], _is_ours)
        if strangers:
            return name, f"others keep things in it: {', '.join(strangers)}"
    try:
        client.delete(client.path_of(made), uid=str(there["metadata"]["uid"]), propagation="Foreground")
    except Conflict:
        return name, "somebody replaced it meanwhile"
    return name, None


def _let_workloads_go(client: Client, owner: Owner, workloads: list[Object], limits: Timeouts) -> None:
    """Wait until deleted workloads are gone, which they are, deleted in the foreground, after their pods.

    A namespace that still holds pods when it is deleted is looked at again only after half of their grace period,
    15 seconds by default, however soon they end (kubernetes: pkg/controller/namespace). Pods that stay longer than
    ``deleted`` allows are left to the namespace. Pods that a run brought need not end gracefully: nobody used them.
    """

    def remaining() -> list[str]:
        if owner.run_id is not None:
            for workload in workloads:
                hasten(client, workload)
        return _still_there(client, workloads)

    with suppress(WaitTimeout):
        wait_for(remaining, lambda names: not names, what="the set-up's workloads are gone", timeout=limits.deleted)


def hasten(client: Client, workload: Mapping[str, Any]) -> None:
    """Shorten the grace period of a deleted workload's pods to the least one that lets a kubelet confirm their end."""
    namespace, selector = workload["metadata"]["namespace"], _pods_of(workload)
    if not selector:
        return
    for pod in client.list(path("Pod", namespace=namespace), label_selector=selector):
        metadata = pod["metadata"]
        if int(metadata.get("deletionGracePeriodSeconds") or 0) > _LEAST_GRACE:
            place = path("Pod", namespace=namespace, name=metadata["name"])
            with suppress(Conflict):
                client.delete(place, grace_seconds=_LEAST_GRACE, uid=str(metadata["uid"]))


def _pods_of(workload: Mapping[str, Any]) -> str:
    """The label selector of a workload's pods. Jobs get their label from the control plane."""
    if workload["kind"] == "Job":
        return f"batch.kubernetes.io/job-name={workload['metadata']['name']}"
    labels = ((workload.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _still_there(client: Client, made: list[Object]) -> list[str]:
    return [name_of(each) for each in made if present(client, each) is not None]


def _wait_until_gone(client: Client, owner: Owner, made: list[Object], limits: Timeouts) -> None:
    cluster_scoped = [each for each in made if "namespace" not in each["metadata"]]
    wait_for(
        lambda: _still_there(client, cluster_scoped),
        lambda remaining: not remaining,
        what=f"everything of {owner.reference} is gone",
        timeout=limits.namespace_deleted,
        format_seen=lambda remaining: f"{', '.join(remaining)} still there",
    )


def _restore_nodes(client: Client, journal: Journal) -> tuple[tuple[str, ...], list[Left]]:
    """Undo the recorded changes of nodes, the last one first; the changes of one node must not overtake."""
    by_node: dict[str, list[NodeChange]] = {}
    for change in reversed(journal.outstanding):
        by_node.setdefault(change.node, []).append(change)
    kept = in_parallel(lambda changes: _restore(client, journal, changes), by_node.values())
    return tuple(by_node), [words for each in kept for words in each]


def _restore(client: Client, journal: Journal, changes: list[NodeChange]) -> list[Left]:
    left = []
    for change in changes:
        foreign = restore(client, change)
        left += [Left(f"node {change.node}", f"{each} was changed by somebody else") for each in foreign]
        journal.took_back(change)
    return left


def _is_ours(found: dict[str, Any]) -> bool:
    return labels_of(found).get(MANAGED_BY) == MANAGED_BY_US

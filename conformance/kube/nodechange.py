"""One change of one node, kept so that it can be undone key by key, by this run or by ``gpu-conformance clean``.

A change is planned from what the node is, recorded by whoever owns the record, and only then stored. Storing and
restoring read the node, compute, and patch on the condition that nobody wrote in between; both may be repeated.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from conformance.gpu.taints import Taint, taint_from
from conformance.kube.client import Client
from conformance.kube.errors import Conflict, Invalid, NotFound
from conformance.kube.paths import path

__all__ = ["NodeChange", "plan", "restore", "store"]

# Somebody else (a kubelet, a controller) may write a busy node several times a second, never for long.
ATTEMPTS = 20


class NodeChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run changes on one node: enough to make the change and to take exactly it back.

    ``labels_before`` and ``labels_after`` have the same keys, None standing for an absent label.
    ``taints_removed`` were there before; ``taint_times`` keeps their ``timeAdded`` by ``key:effect``.
    ``resources_added`` are extended resources (name to count) that neither capacity nor allocatable had.
    """

    node: str
    labels_before: dict[str, str | None] = {}
    labels_after: dict[str, str | None] = {}
    taints_added: tuple[Taint, ...] = ()
    taints_removed: tuple[Taint, ...] = ()
    taint_times: dict[str, str] = {}
    resources_added: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Whether the change changes anything."""
        return bool(self.labels_after or self.taints_added or self.taints_removed or self.resources_added)

    def __str__(self) -> str:
        """The change in words: ``node a: label x=y, taint k=v:NoSchedule, without taint ..``."""
        words = [f"label {key}" + ("" if value is None else f"={value}") for key, value in self.labels_after.items()]
        words += [f"taint {taint}" for taint in self.taints_added]
        words += [f"without taint {taint}" for taint in self.taints_removed]
        words += [f"{count} {name}" for name, count in self.resources_added.items()]
        return f"node {self.node}: {', '.join(words) or 'nothing'}"


def plan(
    node: Mapping[str, Any],
    *,
    labels: Mapping[str, str | None] | None = None,
    add_taints: Iterable[Taint] = (),
    remove_taints: Iterable[Taint] = (),
    resources: Mapping[str, int] | None = None,
) -> NodeChange:
    """The change that gives the node object what is asked for; what it already has is left out.

    A taint whose key and effect the node already carries with another value replaces it.
    Raises ValueError for a resource that the node has already: its true amount must not be overwritten.
    """
    has = dict(node["metadata"].get("labels") or {})
    wanted = {key: value for key, value in (labels or {}).items() if has.get(key) != value}
    added, removed = _taints_to_change(_taints(node), tuple(add_taints), tuple(remove_taints))
    name = str(node["metadata"]["name"])
    for resource in resources or {}:
        if resource in _amounts(node, "capacity") or resource in _amounts(node, "allocatable"):
            raise ValueError(f"node {name} has {resource} already: adding it would overwrite the true amount")
    return NodeChange(
        node=name,
        labels_before={key: has.get(key) for key in wanted},
        labels_after=wanted,
        taints_added=added,
        taints_removed=removed,
        taint_times=_times(node, removed),
        resources_added=dict(resources or {}),
    )


def store(client: Client, change: NodeChange) -> dict[str, Any]:
    """Make the change and return the node; what is there already is left as it is.

    Raises NotFound when the node is gone, Conflict when it was never still for the length of a write.
    """
    if change.resources_added:
        _write(client, change.node, lambda node: _resources_to_store(change, node), _add_resources)
    return _write(client, change.node, lambda node: _metadata_to_store(change, node), _patch_metadata)


def restore(client: Client, change: NodeChange) -> tuple[str, ...]:
    """Take the change back, key by key; return in words what was left because somebody else changed it since.

    A node that is gone needs nothing. Raises Conflict as ``store`` does.
    """
    foreign: list[str] = []
    try:
        _write(client, change.node, lambda node: _metadata_to_restore(change, node, foreign), _patch_metadata)
        if change.resources_added:
            _write(client, change.node, lambda node: _resources_to_remove(change, node), _remove_resources)
    except NotFound:
        return ()
    return tuple(foreign)


def _write(
    client: Client,
    name: str,
    wanted: Callable[[dict[str, Any]], dict[str, Any] | None],
    write: Callable[[Client, dict[str, Any], dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Read the node and write what ``wanted`` computes from it, again when somebody wrote in between."""
    for attempt in range(ATTEMPTS):
        node = client.get(path("Node", name=name))
        update = wanted(node)
        if not update:
            return node
        try:
            return write(client, node, update)
        except (Conflict, Invalid):
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _patch_metadata(client: Client, node: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    # The taint list is replaced as a whole, so a taint that a controller adds meanwhile must make the write fail.
    update.setdefault("metadata", {})["resourceVersion"] = node["metadata"]["resourceVersion"]
    return client.patch(path("Node", name=node["metadata"]["name"]), update)


def _add_resources(client: Client, node: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    target = path("Node", name=node["metadata"]["name"], subresource="status")
    return client.patch(target, {"status": {"capacity": update, "allocatable": update}})


def _remove_resources(client: Client, node: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    # Both in one write: a kubelet that sees a capacity alone copies it back into allocatable.
    target = path("Node", name=node["metadata"]["name"], subresource="status")
    operations = [
        {"op": "remove", "path": f"/status/{field}/{name.replace('~', '~0').replace('/', '~1')}"}
        for field, names in update.items()
        for name in names
    ]
    return client.patch(target, operations, kind="json")


def _metadata_to_store(change: NodeChange, node: dict[str, Any]) -> dict[str, Any]:
    labels = node["metadata"].get("labels") or {}
    new_labels = {key: value for key, value in change.labels_after.items() if labels.get(key) != value}
    taints = _raw_taints(node)
    kept = [taint for taint in taints if taint_from(taint) not in change.taints_removed]
    there = {taint_from(taint) for taint in kept}
    new_taints = kept + [_raw(taint) for taint in change.taints_added if taint not in there]
    return _update(new_labels, new_taints if new_taints != taints else None)


def _metadata_to_restore(change: NodeChange, node: dict[str, Any], foreign: list[str]) -> dict[str, Any]:
    foreign.clear()
    labels = node["metadata"].get("labels") or {}
    new_labels: dict[str, str | None] = {}
    for key, ours in change.labels_after.items():
        before, now = change.labels_before.get(key), labels.get(key)
        if now == ours:
            new_labels[key] = before
        elif now != before:
            foreign.append(f"label {key}={now}")
    taints = _raw_taints(node)
    kept = [taint for taint in taints if taint_from(taint) not in change.taints_added]
    slots = {(taint["key"], taint["effect"]) for taint in kept}
    back = [
        _raw(taint, change.taint_times.get(f"{taint.key}:{taint.effect}"))
        for taint in change.taints_removed
        if (taint.key, taint.effect) not in slots
    ]
    return _update(new_labels, kept + back if kept + back != taints else None)


def _resources_to_store(change: NodeChange, node: dict[str, Any]) -> dict[str, Any]:
    has = _amounts(node, "allocatable")
    return {name: str(count) for name, count in change.resources_added.items() if name not in has}


def _resources_to_remove(change: NodeChange, node: dict[str, Any]) -> dict[str, Any]:
    fields = ("capacity", "allocatable")
    update = {field: [name for name in change.resources_added if name in _amounts(node, field)] for field in fields}
    return update if any(update.values()) else {}


def _update(labels: Mapping[str, str | None], taints: list[dict[str, Any]] | None) -> dict[str, Any]:
    update: dict[str, Any] = {}
    if labels:
        update["metadata"] = {"labels": dict(labels)}
    if taints is not None:
        update["spec"] = {"taints": taints or None}
    return update


def _taints_to_change(
    has: tuple[Taint, ...], add: tuple[Taint, ...], remove: tuple[Taint, ...]
) -> tuple[tuple[Taint, ...], tuple[Taint, ...]]:
    added = tuple(taint for taint in add if taint not in has)
    slots = {(taint.key, taint.effect) for taint in added}
    replaced = (taint for taint in has if (taint.key, taint.effect) in slots or taint in remove)
    return added, tuple(taint for taint in replaced if taint not in add)


def _times(node: Mapping[str, Any], removed: tuple[Taint, ...]) -> dict[str, str]:
    return {
        f"{taint['key']}:{taint['effect']}": str(taint["timeAdded"])
        for taint in _raw_taints(node)
        if taint.get("timeAdded") and taint_from(taint) in removed
    }


def _taints(node: Mapping[str, Any]) -> tuple[Taint, ...]:
    return tuple(taint_from(taint) for taint in _raw_taints(node))


def _raw_taints(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(node.get("spec", {}).get("taints") or ())


def _raw(taint: Taint, time_added: str | None = None) -> dict[str, Any]:
    raw = {"key": taint.key, "effect": taint.effect}
    if taint.value:
        raw["value"] = taint.value
    if time_added:
        raw["timeAdded"] = time_added
    return raw


def _amounts(node: Mapping[str, Any], field: str) -> dict[str, Any]:
    return dict(node.get("status", {}).get(field) or {})

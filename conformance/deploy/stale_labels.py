"""What a GPU stack leaves on nodes when it is uninstalled: labels and annotations that nobody keeps up any more.

The operator never removes its labels, and Node Feature Discovery only some of its own (its chart has a hook for it).
They would make the next stack, and every suite, believe what is no longer so.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from conformance.deploy.helm.releases import Marks
from conformance.gpu.labels import NFD, NFD_ANNOTATIONS, NVIDIA
from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.nodechange import NodeChange
from conformance.kube.paths import path

__all__ = ["before", "unmark"]

PREFIXES = (NVIDIA, NFD, NFD_ANNOTATIONS)
"""Under these the operator, GPU Feature Discovery, the MIG manager and Node Feature Discovery write."""

_FIELDS = ("labels", "annotations")
_CONCURRENT = 8
# A record has to fit into a ConfigMap beside others; see lab/journal.py, SHARD_BYTES.
_RECORDED = 200_000


def before(client: Client, changes: Sequence[NodeChange]) -> tuple[tuple[Marks, ...], bool]:
    """The marks that nodes had without our own ``changes``, and whether they are too many to be recorded."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for node, keys in _before_by_node(client, changes).items():
        alike.setdefault(tuple(sorted(keys)), []).append(node)
    marks = tuple(Marks(tuple(sorted(nodes)), keys) for keys, nodes in sorted(alike.items()) if keys)
    return ((), True) if len(msgspec.json.encode(marks)) > _RECORDED else (marks, False)


def unmark(client: Client, changes: Sequence[NodeChange], marks: Sequence[Marks] = ()) -> None:
    """Remove them from all nodes, those that were there before the stack (``marks``) aside.

    What our own ``changes`` gave or replaced stays as well, and is put back by their record.
    """
    kept = {(node, key) for each in marks for node in each.nodes for key in each.keys} | _changed(changes)

    def take(marked: tuple[str, dict[str, Any]]) -> None:
        name, metadata = marked
        try:
            client.patch(path("Node", name=name), {"metadata": metadata})
        except NotFound:
            return

    _each(take, _to_remove(client, kept))


def _before_by_node(client: Client, changes: Sequence[NodeChange]) -> dict[str, set[str]]:
    """By node the keys of its marks: those that it has and we did not give, and those that we replaced or removed."""
    changed = _changed(changes)
    found: dict[str, set[str]] = {}
    for node in client.list(path("Node")):
        name = str(node["metadata"]["name"])
        keys = {key for field in _FIELDS for key in node["metadata"].get(field) or {}}
        found[name] = {key for key in keys if _is_mark(name, key, changed)}
    first: dict[tuple[str, str], str | None] = {}
    for change in changes:
        for key, value in change.labels_before.items():
            first.setdefault((change.node, key), value)
    for (name, key), value in first.items():
        if value is not None and key.startswith(PREFIXES):
            found.setdefault(name, set()).add(key)
    return found


def _changed(changes: Sequence[NodeChange]) -> set[tuple[str, str]]:
    return {(change.node, key) for change in changes for key in change.labels_after}


def _to_remove(client: Client, kept: set[tuple[str, str]]) -> list[tuple[str, dict[str, Any]]]:
    """By node the patch that removes the marks; nodes without any are left out."""
    found = []
    for node in client.list(path("Node")):
        name = str(node["metadata"]["name"])
        patch = {
            field: keys
            for field in _FIELDS
            if (keys := {key: None for key in node["metadata"].get(field) or {} if _is_mark(name, key, kept)})
        }
        if patch:
            found.append((name, patch))
    return found


def _is_mark(node: str, key: str, kept: set[tuple[str, str]]) -> bool:
    return key.startswith(PREFIXES) and (node, key) not in kept


def _each(do: Callable[[tuple[str, dict[str, Any]]], None], members: list[tuple[str, dict[str, Any]]]) -> None:
    with ThreadPoolExecutor(max_workers=_CONCURRENT) as pool:
        list(pool.map(do, members))

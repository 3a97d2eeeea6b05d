"""What a GPU stack leaves on nodes when it is uninstalled: labels and annotations that nobody keeps up any more.

The operator never removes its labels, and node feature discovery only some of its own (its chart has a hook for it).
They would make the next stack, and every suite, believe what is no longer so.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conformance.kube.client import Client
from conformance.kube.errors import NotFound
from conformance.kube.nodechange import NodeChange
from conformance.kube.paths import path

__all__ = ["are_marked", "unmark"]

PREFIXES = ("nvidia.com/", "feature.node.kubernetes.io/", "nfd.node.kubernetes.io/")
"""Under these the operator, GPU Feature Discovery, the MIG manager and node feature discovery write."""

_CONCURRENT = 8


def are_marked(client: Client, changes: Sequence[NodeChange]) -> bool:
    """Whether nodes carry such labels or annotations, those that our own changes gave them aside."""
    return bool(_marks(client, changes))


def unmark(client: Client, changes: Sequence[NodeChange]) -> None:
    """Remove them from all nodes; what our own ``changes`` gave or replaced stays, and is put back by their record."""

    def take(marked: tuple[str, dict[str, Any]]) -> None:
        name, metadata = marked
        try:
            client.patch(path("Node", name=name), {"metadata": metadata})
        except NotFound:
            return

    _each(take, _marks(client, changes))


def _marks(client: Client, changes: Sequence[NodeChange]) -> list[tuple[str, dict[str, Any]]]:
    """By node the patch that removes the marks; nodes without any are left out."""
    ours = {(change.node, key) for change in changes for key in change.labels_after}
    found = []
    for node in client.list(path("Node")):
        name = str(node["metadata"]["name"])
        patch = {
            field: keys
            for field in ("labels", "annotations")
            if (keys := {key: None for key in node["metadata"].get(field) or {} if _is_mark(name, key, ours)})
        }
        if patch:
            found.append((name, patch))
    return found


def _is_mark(node: str, key: str, ours: set[tuple[str, str]]) -> bool:
    return key.startswith(PREFIXES) and (node, key) not in ours


def _each(do: Callable[[tuple[str, dict[str, Any]]], None], members: list[tuple[str, dict[str, Any]]]) -> None:
    with ThreadPoolExecutor(max_workers=_CONCURRENT) as pool:
        list(pool.map(do, members))

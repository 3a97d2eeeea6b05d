"""Following a Node object at the API server, for the plugin that runs on that node."""

from __future__ import annotations

import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from conformance.kube.errors import KubeError, NotFound
from conformance.kube.paths import path

from .inventory import Inventory, inventory_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from conformance.kube.client import Client

_LONG = 10**9
_AGAIN = 0.5
_log = logging.getLogger(__name__)


def follow(
    client: Client,
    node: str,
    tell: Callable[[Inventory | None], None],
    annotations: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Tell what a node has, now and with each change, for ever. Whatever goes wrong is tried again.

    ``annotations`` are taken for the node's, in place of those that it has under these names.
    """
    last: Inventory | None = None
    while True:
        try:
            for event in client.watch(path("Node"), field_selector=f"metadata.name={node}", timeout=_LONG):
                now = None if event.type == "DELETED" else _read(_with(event.object, annotations), last)
                if now != last:
                    tell(now)
                last = now
        except NotFound:
            tell(None)
        except KubeError as error:
            _log.warning("node %s cannot be read: %s", node, error)
        time.sleep(_AGAIN)


def _with(node: dict[str, Any], annotations: Mapping[str, str]) -> dict[str, Any]:
    metadata = node["metadata"]
    return {**node, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **annotations}}}


def _read(node: dict[str, Any], before: Inventory | None) -> Inventory | None:
    """What a node says; what it said before where nobody can read that."""
    try:
        return inventory_of(node)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        _log.warning("an annotation of node %s cannot be read: %s", node["metadata"]["name"], error)
        return before

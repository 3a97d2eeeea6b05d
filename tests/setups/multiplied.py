"""A deployed cluster as it would be with many times its nodes: each node, and what DaemonSets run on it, copied."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

Object = dict[str, Any]

_COUNTS = (
    "currentNumberScheduled",
    "desiredNumberScheduled",
    "numberAvailable",
    "numberReady",
    "updatedNumberScheduled",
)


def multiplied(objects: Iterable[Object], times: int) -> list[Object]:
    """All objects, and ``times`` - 1 copies of each node with its pods; DaemonSets count them."""
    found = list(objects)
    nodes = [obj["metadata"]["name"] for obj in found if obj["kind"] == "Node"]
    own = defaultdict(list)
    for obj in found:
        if obj["kind"] == "Node":
            own[obj["metadata"]["name"]].append(obj)
        elif obj["kind"] == "Pod" and _is_daemon(obj):
            own[obj["spec"].get("nodeName")].append(obj)
    copies = [copy for name in nodes for obj in own[name] for copy in _copies(obj, name, times)]
    return [_counting(obj, times) if obj["kind"] == "DaemonSet" else obj for obj in found] + copies


def _copies(obj: Object, node: str, times: int) -> Iterator[Object]:
    """All copies of a node, or of a pod on it; its text is made once."""
    text = msgspec.json.encode(obj)
    of_node = f'"{node}"'.encode()
    for number in range(1, times):
        made: Object = msgspec.json.decode(text.replace(of_node, f'"{node}-{number}"'.encode()))
        metadata = made["metadata"]
        metadata["uid"] = f"{metadata['uid']}-{number}"
        if made["kind"] == "Pod":
            metadata["name"] = f"{metadata['name']}-{number}"
        yield made


def _is_daemon(pod: Object) -> bool:
    return any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences") or ())


def _counting(daemon_set: Object, times: int) -> Object:
    status = daemon_set.get("status") or {}
    return {**daemon_set, "status": {key: value * times if key in _COUNTS else value for key, value in status.items()}}

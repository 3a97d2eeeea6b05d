"""Snapshots that can be shown to others: the names of machines replaced, so that judging gives the same verdicts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from conformance.facts.snapshot import Snapshot
from conformance.redaction import Redactor

# Members that say what an object is, in words of Kubernetes; a node may be called like one of them.
_KEPT = frozenset({"apiVersion", "kind", "type", "reason", "status", "operator", "effect", "key", "op"})
_HOST_NAMES = ("Hostname", "InternalDNS", "ExternalDNS")
_PLACES_OF_IMAGES = ("containers", "initContainers")


def redacted(snapshot: Snapshot, redactor: Redactor) -> Snapshot:
    """The snapshot with replacements in all texts of its objects, but for what names kinds, labels and states."""
    decoded = {kind: [msgspec.json.decode(raw) for raw in raws] for kind, raws in snapshot.objects.items()}
    for node in decoded.get("Node", ()):
        redactor.learn("node", _names_of_node(node))
    for pod in decoded.get("Pod", ()):
        redactor.learn("host", _registries(pod))
    objects = {
        kind: [msgspec.Raw(msgspec.json.encode(_replaced(obj, redactor))) for obj in found]
        for kind, found in decoded.items()
    }
    unreadable, without = (
        {kind: redactor.text(why) for kind, why in reasons.items()}
        for reasons in (snapshot.unreadable, snapshot.without)
    )
    return msgspec.structs.replace(snapshot, objects=objects, unreadable=unreadable, without=without)


def _names_of_node(node: Mapping[str, Any]) -> Iterator[str]:
    metadata, spec, status = (node.get(part) or {} for part in ("metadata", "spec", "status"))
    yield str(metadata.get("name") or "")
    yield str((metadata.get("labels") or {}).get("kubernetes.io/hostname") or "")
    yield str(spec.get("providerID") or "").rpartition("/")[2]
    for each in status.get("addresses") or ():
        if each.get("type") in _HOST_NAMES:
            yield str(each.get("address") or "")


def _registries(pod: Mapping[str, Any]) -> Iterable[str]:
    spec = pod.get("spec") or {}
    for place in _PLACES_OF_IMAGES:
        for container in spec.get(place) or ():
            first, slash, _ = str(container.get("image") or "").partition("/")
            if slash and set(".:") & set(first):
                yield first.partition(":")[0]


def _replaced(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, list):
        return [_replaced(each, redactor) for each in value]
    if isinstance(value, dict):
        return {
            name: each if name in _KEPT and isinstance(each, str) else _replaced(each, redactor)
            for name, each in value.items()
        }
    return value

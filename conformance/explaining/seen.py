"""What an explanation is computed from: plain objects, as the API server or a snapshot has them."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from conformance.gpu.placement import Manifest, bound_by_node

KINDS = ("Node", "Pod", "ResourceQuota", "PriorityClass", "PodDisruptionBudget", "ReplicaSet")
"""What is read besides the object that is explained; the last four may be unreadable."""
MAY_BE_UNREADABLE = KINDS[2:]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


class Seen:
    """Objects by kind; ``unreadable`` says why a kind is missing."""

    def __init__(
        self, objects: Mapping[str, list[dict[str, Any]]], unreadable: Mapping[str, str] | None = None
    ) -> None:
        self.objects = objects
        self.unreadable = dict(unreadable or {})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The objects of a kind; none where it could not be read."""
        return self.objects.get(kind, [])

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, None when there is none."""
        wanted = (namespace, name)
        found = (each for each in self.of(kind) if _named(each) == wanted)
        return next(found, None)

    @cached_property
    def nodes(self) -> dict[str, Manifest]:
        """The nodes, by name."""
        return {str(each["metadata"]["name"]): each for each in self.of("Node")}

    @cached_property
    def bound(self) -> dict[str, list[Manifest]]:
        """The unfinished pods that are bound to a node, by its name."""
        return bound_by_node(self.of("Pod"))

    def pods_of(self, owner: Manifest) -> list[dict[str, Any]]:
        """The pods that an object owns, a Deployment through its ReplicaSets."""
        owners = {str(owner["metadata"].get("uid"))}
        owners |= {str(each["metadata"].get("uid")) for each in self.of("ReplicaSet") if _owned_by(each, owners)}
        return [pod for pod in self.of("Pod") if _owned_by(pod, owners)]


def seen_from(objects: Iterable[dict[str, Any]], unreadable: Mapping[str, str] | None = None) -> Seen:
    """The same from objects of all kinds, each with its kind."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for each in objects:
        by_kind.setdefault(str(each.get("kind")), []).append(each)
    return Seen(by_kind, unreadable)


def has_condition(obj: Manifest, *types: str) -> bool:
    """Whether one of these conditions is true of an object."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(each.get("type") in types and each.get("status") == "True" for each in conditions)


def _named(obj: Manifest) -> tuple[str, str]:
    return str(obj["metadata"].get("namespace") or ""), str(obj["metadata"].get("name"))


def _owned_by(obj: Manifest, owners: set[str]) -> bool:
    return any(each.get("uid") in owners for each in obj["metadata"].get("ownerReferences") or ())

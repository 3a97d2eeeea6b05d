"""What objects look like in the API server's JSON: the shapes that several kinds share, read tolerantly.

Every member may be absent or null, numbers may be text, and what nobody asks for is skipped while decoding. Objects
that fail a whole list of typed models are ordinary here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any, TypeAlias

import msgspec

Quantities: TypeAlias = dict[str, str | int | float]

# Kept out of memory and snapshots: the whole object once more, as kubectl applied it.
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Wire(msgspec.Struct, gc=False, rename="camel"):
    """Base of what is decoded: camelCase in JSON, unknown members ignored."""


class Owner(Wire):
    """An entry of ``metadata.ownerReferences``."""

    kind: str = ""
    name: str = ""
    controller: bool | None = None


class Metadata(Wire):
    """``metadata``. The name is the one member that an object must have."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[Owner, ...] | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] | None = None
    generation: int | None = None

    @property
    def owner(self) -> tuple[str, str]:
        """Kind and name of the controller that owns the object, of its first owner otherwise, or two empty texts."""
        owners = self.owner_references or ()
        for owner in owners:
            if owner.controller:
                return owner.kind, owner.name
        return (owners[0].kind, owners[0].name) if owners else ("", "")

    @property
    def kept_annotations(self) -> dict[str, str]:
        """The annotations without the copy of the object that ``kubectl apply`` leaves among them."""
        annotations = self.annotations or {}
        if LAST_APPLIED in annotations:
            return {key: value for key, value in annotations.items() if key != LAST_APPLIED}
        return annotations


class Condition(Wire):
    """An entry of ``status.conditions``."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    last_transition_time: datetime | None = None


class Requirements(Wire):
    """``resources`` of a container or a pod."""

    requests: Quantities | None = None
    limits: Quantities | None = None


def statuses(conditions: Sequence[Condition] | None) -> dict[str, str]:
    """Conditions as type to status, such as ``{"Available": "True"}``."""
    return {condition.type: condition.status for condition in conditions or ()}


def changes(conditions: Sequence[Condition] | None) -> dict[str, datetime]:
    """When each condition got its status, by type, of those that say it."""
    return {each.type: each.last_transition_time for each in conditions or () if each.last_transition_time}


def texts(quantities: Mapping[str, Any] | None) -> dict[str, str]:
    """Quantities as text, also where YAML without quotes made numbers of them. Equal ones are one dict, held once."""
    return _texts(tuple(quantities.items())) if quantities else {}


def shared(mapping: Mapping[str, str] | None) -> dict[str, str]:
    """Labels whose texts are held once for all objects that have them: nodes of a pool differ in few of 70 labels."""
    return {intern(key): intern(value) for key, value in mapping.items()} if mapping else {}


@lru_cache(maxsize=4096)
def _texts(items: tuple[tuple[str, str | int | float], ...]) -> dict[str, str]:
    return {intern(name): str(amount) for name, amount in items}

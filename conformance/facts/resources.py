"""Objects of which suites look at more than a few members: they are kept whole, with their head made ready.

Custom kinds change their members with every version of their operator, so what is looked at is read from ``body``.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from conformance.facts.wire import LAST_APPLIED, Metadata, Wire
from conformance.kube.paths import PLACES, kind_in_api
from conformance.subjects import ObjectReference

WORDS: Mapping[str, str] = {
    "ClusterPolicy": "cluster policy",
    "GPUCluster": "GPU cluster",
    "NVIDIADriver": "NVIDIA driver",
    "ComputeDomain": "compute domain",
    "CustomResourceDefinition": "CRD",
    "RuntimeClass": "runtime class",
    "ConfigMap": "config map",
    "ResourceSlice": "resource slice",
    "DeviceClass": "device class",
    "DeviceTaintRule": "device taint rule",
    "ResourceClaim": "resource claim",
    "ResourceClaimTemplate": "resource claim template",
    "Queue": "queue",
    "PodGroup": "pod group",
    "ClusterQueue": "cluster queue",
    "LocalQueue": "local queue",
    "ClusterResourceQuota": "cluster resource quota",
    "VolcanoQueue": "Volcano queue",
    "VolcanoPodGroup": "Volcano pod group",
    "MutatingWebhookConfiguration": "mutating webhook configuration",
    "MutatingAdmissionPolicy": "mutating admission policy",
    "MutatingAdmissionPolicyBinding": "mutating admission policy binding",
}
"""The kinds that are kept whole, and what one object is called in a message."""

DEFINITION = "CustomResourceDefinition"


class Writer(NamedTuple):
    """A program that writes an object, empty where nothing tells it, and the API version that it speaks."""

    api_version: str
    program: str


class Resource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One object. ``body`` is all of it as the API server sent it, managed fields and kubectl's copy left out.

    Of a CustomResourceDefinition ``body`` has metadata.name, metadata.creationTimestamp, spec.group and spec.names
    only. ``namespace`` is empty for cluster-scoped kinds. ``changed`` is when anything but the status was last
    written, as managed fields tell, ``created`` when they do not. ``writers`` are the API versions through which it
    was written, with the program that did; snapshots keep no programs, and older ones neither.
    """

    kind: str
    api_version: str = ""
    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    created: datetime | None = None
    changed: datetime | None = None
    deletion: datetime | None = None
    finalizers: tuple[str, ...] = ()
    uid: str = ""
    body: dict[str, Any] = {}
    writers: tuple["Writer", ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of(
            self.kind, self.name, namespace=self.namespace, api_version=self.api_version, text=str(self)
        )

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{WORDS.get(self.kind, self.kind)} {place}"

    def __hash__(self) -> int:
        """By name, so that what follows from an object can be worked out once: its body is a mapping without a hash."""
        return hash((self.kind, self.namespace, self.name))

    @property
    def spec(self) -> dict[str, Any]:
        """``spec``, empty when there is none or it is no mapping."""
        return self._member("spec")

    @property
    def status(self) -> dict[str, Any]:
        """``status``, empty when there is none or it is no mapping."""
        return self._member("status")

    def _member(self, name: str) -> dict[str, Any]:
        member = self.body.get(name)
        return member if isinstance(member, dict) else {}


class _Managed(Wire):
    time: datetime | None = None
    subresource: str | None = None
    manager: str | None = None
    api_version: str | None = None


class _Metadata(Metadata):
    managed_fields: tuple[_Managed, ...] | None = None

    @property
    def changed(self) -> datetime | None:
        times = [each.time for each in self.managed_fields or () if each.time and each.subresource != "status"]
        return max(times, default=self.creation_timestamp)

    @property
    def writers(self) -> tuple[Writer, ...]:
        found = {Writer(each.api_version, each.manager or "") for each in self.managed_fields or () if each.api_version}
        return tuple(sorted(found))


class _Headed(Wire):
    metadata: _Metadata
    api_version: str | None = None


class _Names(Wire):
    kind: str = ""
    plural: str = ""
    singular: str | None = None
    list_kind: str | None = None
    short_names: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None


class _DefinitionMetadata(Wire):
    name: str
    creation_timestamp: datetime | None = None


class _DefinitionSpec(Wire):
    group: str = ""
    names: _Names | None = None


class _Definition(Wire):
    metadata: _DefinitionMetadata
    spec: _DefinitionSpec | None = None


# Made before any thread needs them; see decoding.py.
_HEADS = msgspec.json.Decoder(_Headed, strict=False)
_BODIES = msgspec.json.Decoder(dict[str, Any])
_DEFINITIONS = msgspec.json.Decoder(_Definition, strict=False)


def reader(kind: str) -> Callable[[msgspec.Raw], Resource]:
    """What makes the resource of an object in JSON that says its kind or, as in a list, does not.

    It raises msgspec.ValidationError naming the member that is odd.
    """
    place = PLACES[kind]

    def resource(raw: msgspec.Raw) -> Resource:
        head, body = _HEADS.decode(raw), _BODIES.decode(raw)
        metadata = head.metadata
        _leave_out_copies(body["metadata"])
        api_version = head.api_version or place.group_version
        return Resource(
            kind=kind,
            api_version=api_version,
            name=metadata.name,
            namespace=metadata.namespace or "default" if place.namespaced else "",
            labels=metadata.labels or {},
            annotations=metadata.kept_annotations,
            created=metadata.creation_timestamp,
            changed=metadata.changed,
            deletion=metadata.deletion_timestamp,
            finalizers=metadata.finalizers or (),
            uid=metadata.uid or "",
            body={**body, "apiVersion": api_version, "kind": kind_in_api(kind)},
            writers=metadata.writers,
        )

    return resource


def definition(raw: msgspec.Raw) -> Resource:
    """A CustomResourceDefinition without its schemas, which can be longer than all else in a cluster together.

    Raises msgspec.ValidationError naming the member that is odd.
    """
    found = _DEFINITIONS.decode(raw)
    api_version, metadata, spec = PLACES[DEFINITION].group_version, found.metadata, found.spec or _DefinitionSpec()
    return Resource(
        kind=DEFINITION,
        api_version=api_version,
        name=metadata.name,
        created=metadata.creation_timestamp,
        changed=metadata.creation_timestamp,
        body={
            "apiVersion": api_version,
            "kind": DEFINITION,
            "metadata": _without_nulls(metadata),
            "spec": {"group": spec.group, "names": _without_nulls(spec.names or _Names())},
        },
    )


def _leave_out_copies(metadata: dict[str, Any]) -> None:
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations:
        annotations.pop(LAST_APPLIED, None)


def _without_nulls(struct: msgspec.Struct) -> dict[str, Any]:
    members = msgspec.to_builtins(struct)
    return {name: member for name, member in members.items() if member is not None}

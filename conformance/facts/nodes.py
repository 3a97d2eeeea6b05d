"""Nodes as the suites see them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from conformance.facts.wire import Condition, Metadata, Quantities, Wire, changes, shared, statuses, texts
from conformance.gpu.affinity import node_matches
from conformance.gpu.quantities import as_count
from conformance.gpu.resources import GPU, is_gpu_resource
from conformance.gpu.taints import CORDON, Taint, Toleration, repelling, untolerated
from conformance.subjects import ObjectReference

SIMULATED_ANNOTATION = "kwok.x-k8s.io/node"
"""By this annotation KWOK knows the nodes that it has to play."""


class Node(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One node: labels, taints, what it has and what it offers. Quantities are text as the API server says them.

    ``created`` is when it joined the cluster, ``deletion`` when somebody deleted it, ``conditions`` its conditions,
    status by type, ``changed`` when they got it. ``tainted`` is when its taints were put, by key: as they say, or of
    those that do not say and are there for a while, when the node's taints were written last, which is no earlier.
    ``runtime`` is its container runtime with the version, such as containerd://2.1.5, ``os_image`` its operating system
    in its own words.
    """

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    ready: bool = False
    conditions: dict[str, str] = {}
    changed: dict[str, datetime] = {}
    tainted: dict[str, datetime] = {}
    kernel: str = ""
    kubelet: str = ""
    runtime: str = ""
    os_image: str = ""
    provider_id: str = ""
    simulated: bool = False
    created: datetime | None = None
    deletion: datetime | None = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Node", self.name)

    def __str__(self) -> str:
        return f"node {self.name}"

    def gpus(self, resource: str = GPU) -> int:
        """How many devices of ``resource`` pods can be given here (allocatable). Raises ValueError for no quantity."""
        return as_count(self.allocatable.get(resource, "0"))

    def gpu_capacity(self, resource: str = GPU) -> int:
        """How many devices of ``resource`` the kubelet counts, unhealthy ones included (capacity)."""
        return as_count(self.capacity.get(resource, "0"))

    @property
    def gpu_resources(self) -> tuple[str, ...]:
        """The GPU resource names that the node advertises, also with a count of 0, sorted."""
        return _gpu_names(tuple(self.capacity), tuple(self.allocatable))

    @property
    def lasting_taints(self) -> tuple[Taint, ...]:
        """The taints that somebody put to reserve the node; cordon, not-ready, pressure and the like left out."""
        return _lasting(self.taints) if self.taints else ()

    def repels(self, tolerations: Sequence[Toleration]) -> bool:
        """Whether the lasting taints keep a pod with these tolerations away, or evict it after its tolerationSeconds.

        A cordon or a not-ready taint does not count: an unprotected node is unprotected also while it is cordoned.
        Whether a pod can come right now is what ``untolerated`` and ``admits`` say.
        """
        return bool(repelling(tolerations, self.lasting_taints))

    def untolerated(self, tolerations: Sequence[Toleration]) -> tuple[Taint, ...]:
        """Every taint, lifecycle and cordon included, that keeps a new pod with these tolerations away now."""
        taints: Iterable[Taint] = self.taints
        if self.unschedulable and CORDON not in self.taints:
            taints = (*self.taints, CORDON)
        return untolerated(tolerations, taints)

    def matches(self, node_selector: Mapping[str, str], node_affinity: Mapping[str, Any] | None = None) -> bool:
        """Whether the node meets a pod's nodeSelector and required node affinity."""
        return node_matches(self.labels, self.name, node_selector, node_affinity)


# The nodes of a fleet have few sets of taints and of resources between them.
@lru_cache(maxsize=4096)
def _lasting(taints: tuple[Taint, ...]) -> tuple[Taint, ...]:
    return tuple(taint for taint in taints if not taint.is_lifecycle)


@lru_cache(maxsize=4096)
def _gpu_names(capacity: tuple[str, ...], allocatable: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(name for name in {*capacity, *allocatable} if is_gpu_resource(name)))


class _Taint(Wire):
    key: str
    value: str | None = None
    effect: str | None = None
    time_added: datetime | None = None


class _Spec(Wire):
    taints: tuple[_Taint, ...] | None = None
    unschedulable: bool | None = None
    provider_id: str | None = msgspec.field(name="providerID", default=None)


class _System(Wire):
    kernel_version: str | None = None
    kubelet_version: str | None = None
    container_runtime_version: str | None = None
    os_image: str | None = None


class _Status(Wire):
    capacity: Quantities | None = None
    allocatable: Quantities | None = None
    conditions: tuple[Condition, ...] | None = None
    node_info: _System | None = None


class _SpecFields(Wire):
    taints: dict[str, Any] | None = msgspec.field(name="f:taints", default=None)


class _Fields(Wire):
    spec: _SpecFields | None = msgspec.field(name="f:spec", default=None)


class _Managed(Wire):
    time: datetime | None = None
    fields: _Fields | None = msgspec.field(name="fieldsV1", default=None)


class _Metadata(Metadata):
    managed_fields: tuple[_Managed, ...] | None = None

    @property
    def taints_written(self) -> datetime | None:
        """By when ``spec.taints`` was as it is: its last writer has changed nothing of its own on the node since."""
        every = [(each.time, each.fields.spec) for each in self.managed_fields or () if each.time and each.fields]
        times = [time for time, spec in every if spec is not None and spec.taints is not None]
        return max(times, default=None)


class WireNode(Wire):
    """A Node in JSON."""

    metadata: _Metadata
    spec: _Spec | None = None
    status: _Status | None = None

    def fact(self) -> Node:
        """The node as the suites see it."""
        spec, status = self.spec or _Spec(), self.status or _Status()
        system = status.node_info or _System()
        annotations = self.metadata.kept_annotations
        conditions = statuses(status.conditions)
        return Node(
            name=self.metadata.name,
            labels=shared(self.metadata.labels),
            annotations=annotations,
            taints=tuple(Taint(each.key, each.value or "", each.effect or "") for each in spec.taints or ()),
            unschedulable=bool(spec.unschedulable),
            capacity=texts(status.capacity),
            allocatable=texts(status.allocatable),
            ready=conditions.get("Ready") == "True",
            conditions=conditions,
            changed=changes(status.conditions),
            tainted=_tainted(spec.taints or (), self.metadata),
            kernel=system.kernel_version or "",
            kubelet=system.kubelet_version or "",
            runtime=system.container_runtime_version or "",
            os_image=system.os_image or "",
            provider_id=spec.provider_id or "",
            simulated=SIMULATED_ANNOTATION in annotations,
            created=self.metadata.creation_timestamp,
            deletion=self.metadata.deletion_timestamp,
        )


def _tainted(taints: Sequence[_Taint], metadata: _Metadata) -> dict[str, datetime]:
    """When taints were put, by key. Karpenter and AWS' termination handler put theirs without ``timeAdded``."""
    told = {each.key: each.time_added for each in taints if each.time_added}
    silent = [each.key for each in taints if not each.time_added and Taint(each.key).is_lifecycle]
    written = metadata.taints_written if silent else None
    return told if written is None else {**dict.fromkeys(silent, written), **told}


def node_from(obj: Mapping[str, Any]) -> Node:
    """The node that a plain object describes. Raises msgspec.ValidationError naming the member that is odd."""
    return msgspec.convert(obj, WireNode, strict=False).fact()

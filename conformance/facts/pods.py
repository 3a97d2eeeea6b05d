"""Pods and pod templates as the suites see them, with what they ask for."""

import math
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from sys import intern
from typing import Any, TypeAlias

import msgspec

from conformance.facts.nodes import Node
from conformance.facts.wire import Condition, Metadata, Quantities, Requirements, Wire, shared, statuses, texts
from conformance.gpu.requests import Asking, effective_requests, pod_requests
from conformance.gpu.resources import GPU, is_gpu_resource
from conformance.gpu.taints import Toleration

STATIC_ANNOTATION = "kubernetes.io/config.mirror"
"""A kubelet marks the mirror of a static pod with it."""

TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - the path, not the token
"""Where the ServiceAccount admission plugin mounts a pod's API token."""


_Items: TypeAlias = tuple[tuple[str, str | int | float], ...]


class Container(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One container: quantities are text, by resource name, as its author wrote them."""

    name: str = ""
    image: str = ""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    restartable: bool = False
    mounts_token: bool = False

    @property
    def asking(self) -> Asking:
        """What the container asks for after defaulting requests from limits."""
        return Asking(effective_requests(self.requests, self.limits), self.restartable)


class PodSpec(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a pod and the template of a workload have in common."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    priority_class: str = ""
    priority: int | None = None
    preemption_policy: str = ""
    scheduler: str = ""
    service_account: str = ""
    automounts_token: bool | None = None
    tolerations: tuple[Toleration, ...] = ()
    node_selector: dict[str, str] = {}
    affinity: dict[str, Any] = {}
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    pod_level_requests: dict[str, str] = {}
    overhead: dict[str, str] = {}
    runtime_class: str = ""
    grace_seconds: int | None = None
    gates: tuple[str, ...] = ()

    @property
    def node_affinity(self) -> dict[str, Any] | None:
        """``affinity.nodeAffinity`` as it stands, None without one."""
        affinity: dict[str, Any] | None = self.affinity.get("nodeAffinity")
        return affinity

    def requests(self) -> dict[str, Fraction]:
        """What the scheduler reserves for the pod, by resource. Raises ValueError where a quantity is none."""
        return pod_requests(
            (container.asking for container in self.containers),
            [container.asking for container in self.init_containers],
            self.pod_level_requests,
            self.overhead,
        )

    def gpus(self, resource: str = GPU) -> int:
        """How many devices of ``resource`` the scheduler reserves for the pod."""
        if not any(resource in each.limits or resource in each.requests for each in self._every_container):
            return 0
        return math.ceil(self.requests().get(resource, 0))

    def gpu_requests(self) -> dict[str, int]:
        """The devices that the scheduler reserves for the pod, by GPU resource name, sorted; counts of 0 left out."""
        if not any(is_gpu_resource(name) for each in self._every_container for name in (*each.limits, *each.requests)):
            return {}
        counts = {name: math.ceil(amount) for name, amount in self.requests().items() if is_gpu_resource(name)}
        return {name: counts[name] for name in sorted(counts) if counts[name]}

    def tolerates(self, node: Node) -> bool:
        """Whether the pod tolerates every lasting taint of the node: it may run there once the node is healthy."""
        return not node.repels(self.tolerations)

    def selects(self, node: Node) -> bool:
        """Whether the node meets the pod's nodeSelector and required node affinity."""
        return node.matches(self.node_selector, self.node_affinity)

    @property
    def mounts_token(self) -> bool:
        """Whether a container has the API token mounted where the ServiceAccount admission plugin puts it."""
        return any(container.mounts_token for container in self._every_container)

    @property
    def _every_container(self) -> tuple[Container, ...]:
        return self.containers + self.init_containers


class PodTemplate(PodSpec, frozen=True, kw_only=True, gc=False):
    """The pod template of a workload. Unlike a pod it is neither defaulted nor given a priority by admission."""


class Pod(PodSpec, frozen=True, kw_only=True, gc=False):
    """One pod as admitted, with where and how it is."""

    name: str
    namespace: str = "default"
    uid: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    node: str = ""
    nominated_node: str = ""
    phase: str = ""
    reason: str = ""
    ready: bool = False
    deleting: bool = False
    static: bool = False
    created: datetime | None = None

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"

    @property
    def finished(self) -> bool:
        """Whether the pod has ended and holds no devices any more (phase Succeeded or Failed)."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def gated(self) -> bool:
        """Whether scheduling gates keep the scheduler from looking at the pod."""
        return bool(self.gates) and not self.node


class _Mount(Wire):
    mount_path: str | None = None


class WireContainer(Wire):
    """A container in JSON."""

    name: str | None = None
    image: str | None = None
    resources: Requirements | None = None
    restart_policy: str | None = None
    volume_mounts: tuple[_Mount, ...] | None = None

    def fact(self) -> Container:
        """The container as the suites see it."""
        resources = self.resources or _NO_REQUIREMENTS
        return _container(
            self.name or "",
            self.image or "",
            tuple((resources.requests or {}).items()),
            tuple((resources.limits or {}).items()),
            self.restart_policy == "Always",
            any(mount.mount_path == TOKEN_MOUNT for mount in self.volume_mounts or ()),
        )


class _Gate(Wire):
    name: str = ""


class _Toleration(Wire):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None

    def fact(self) -> Toleration:
        return Toleration(
            self.key or "", self.operator or "", self.value or "", self.effect or "", self.toleration_seconds
        )


class WirePodSpec(Wire):
    """``spec`` of a pod or of a template in JSON."""

    node_name: str | None = None
    priority: int | None = None
    priority_class_name: str | None = None
    preemption_policy: str | None = None
    scheduler_name: str | None = None
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    tolerations: tuple[_Toleration, ...] | None = None
    node_selector: dict[str, str] | None = None
    affinity: msgspec.Raw = msgspec.Raw(b"null")
    containers: tuple[WireContainer, ...] | None = None
    init_containers: tuple[WireContainer, ...] | None = None
    resources: Requirements | None = None
    overhead: Quantities | None = None
    runtime_class_name: str | None = None
    termination_grace_period_seconds: int | None = None
    scheduling_gates: tuple[_Gate, ...] | None = None

    def members(self, labels: dict[str, str] | None, annotations: dict[str, str]) -> dict[str, Any]:
        """The members of PodSpec, by name."""
        return {
            "labels": shared(labels),
            "annotations": annotations,
            "priority_class": intern(self.priority_class_name or ""),
            "priority": self.priority,
            "preemption_policy": self.preemption_policy or "",
            "scheduler": intern(self.scheduler_name or ""),
            "service_account": intern(self.service_account_name or ""),
            "automounts_token": self.automount_service_account_token,
            "tolerations": _one(tuple(toleration.fact() for toleration in self.tolerations or ())),
            "node_selector": self.node_selector or {},
            "affinity": _affinity(bytes(self.affinity)),
            "containers": tuple(container.fact() for container in self.containers or ()),
            "init_containers": tuple(container.fact() for container in self.init_containers or ()),
            "pod_level_requests": _requested(self.resources),
            "overhead": texts(self.overhead),
            "runtime_class": self.runtime_class_name or "",
            "grace_seconds": self.termination_grace_period_seconds,
            "gates": tuple(gate.name for gate in self.scheduling_gates or ()),
        }


class _Status(Wire):
    phase: str | None = None
    reason: str | None = None
    nominated_node_name: str | None = None
    conditions: tuple[Condition, ...] | None = None


class WirePod(Wire):
    """A Pod in JSON."""

    metadata: Metadata
    spec: WirePodSpec | None = None
    status: _Status | None = None

    def fact(self) -> Pod:
        """The pod as the suites see it."""
        metadata, spec, status = self.metadata, self.spec or WirePodSpec(), self.status or _Status()
        annotations = metadata.kept_annotations
        owner_kind, owner_name = metadata.owner
        return Pod(
            name=metadata.name,
            namespace=intern(metadata.namespace or "default"),
            uid=metadata.uid or "",
            owner_kind=intern(owner_kind),
            owner_name=intern(owner_name),
            node=intern(spec.node_name or ""),
            nominated_node=status.nominated_node_name or "",
            phase=intern(status.phase or ""),
            reason=status.reason or "",
            ready=statuses(status.conditions).get("Ready") == "True",
            deleting=metadata.deletion_timestamp is not None,
            static=STATIC_ANNOTATION in annotations,
            created=metadata.creation_timestamp,
            **spec.members(metadata.labels, annotations),
        )


class _TemplateMetadata(Wire):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class WireTemplate(Wire):
    """``spec.template`` of a workload in JSON."""

    metadata: _TemplateMetadata | None = None
    spec: WirePodSpec | None = None

    def fact(self) -> PodTemplate:
        """The template as the suites see it."""
        metadata, spec = self.metadata or _TemplateMetadata(), self.spec or WirePodSpec()
        return PodTemplate(**spec.members(metadata.labels, metadata.annotations or {}))


_NO_REQUIREMENTS = Requirements()


# The pods of one workload are alike: what is equal in them is built and held once.


@lru_cache(maxsize=4096)
def _container(
    name: str, image: str, requests: _Items, limits: _Items, restartable: bool, mounts_token: bool
) -> Container:
    return Container(
        name=name,
        image=image,
        requests=texts(dict(requests)),
        limits=texts(dict(limits)),
        restartable=restartable,
        mounts_token=mounts_token,
    )


@lru_cache(maxsize=4096)
def _one(tolerations: tuple[Toleration, ...]) -> tuple[Toleration, ...]:
    return tolerations


# Made before any thread needs it; see decoding.py.
_AFFINITIES = msgspec.json.Decoder(dict[str, Any] | None)


@lru_cache(maxsize=4096)
def _affinity(raw: bytes) -> dict[str, Any]:
    try:
        return _AFFINITIES.decode(raw) or {}
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{error} - at `$.spec.affinity`") from error


def _requested(resources: Requirements | None) -> dict[str, str]:
    return {} if resources is None else effective_requests(texts(resources.requests), texts(resources.limits))


def pod_from(obj: Mapping[str, Any]) -> Pod:
    """The pod that a plain object describes. Raises msgspec.ValidationError naming the member that is odd."""
    return msgspec.json.decode(msgspec.json.encode(obj), type=WirePod, strict=False).fact()

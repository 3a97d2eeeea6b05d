"""What a pod and the template of a workload have in common: whom it asks for what, and where it may run."""

import math
from fractions import Fraction
from functools import lru_cache
from sys import intern
from typing import Any

import msgspec

from conformance.facts.containers import Container, WireContainer, requested
from conformance.facts.nodes import Node
from conformance.facts.volumes import PodClaim, Volume, WirePodClaim, WireVolume, volume_from
from conformance.facts.wire import Quantities, Requirements, Wire, shared, texts
from conformance.gpu.requests import pod_requests
from conformance.gpu.resources import GPU, is_gpu_resource
from conformance.gpu.taints import Toleration


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
    volumes: tuple[Volume, ...] = ()
    claims: tuple[PodClaim, ...] = ()
    host_users: bool | None = None
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False

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
        if not any(resource in each.limits or resource in each.requests for each in self.every_container):
            return 0
        return math.ceil(self.requests().get(resource, 0))

    def gpu_requests(self) -> dict[str, int]:
        """The devices that the scheduler reserves for the pod, by GPU resource name, sorted; counts of 0 left out."""
        if not any(is_gpu_resource(name) for each in self.every_container for name in (*each.limits, *each.requests)):
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
        return any(container.mounts_token for container in self.every_container)

    @property
    def every_container(self) -> tuple[Container, ...]:
        """The containers and the init containers."""
        return self.containers + self.init_containers


class PodTemplate(PodSpec, frozen=True, kw_only=True, gc=False):
    """The pod template of a workload. Unlike a pod it is neither defaulted nor given a priority by admission."""


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
    volumes: tuple[WireVolume, ...] | None = None
    resource_claims: tuple[WirePodClaim, ...] | None = None
    host_users: bool | None = None
    host_network: bool | None = None
    host_pid: bool | None = msgspec.field(name="hostPID", default=None)
    host_ipc: bool | None = msgspec.field(name="hostIPC", default=None)

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
            "pod_level_requests": requested(self.resources),
            "overhead": texts(self.overhead),
            "runtime_class": self.runtime_class_name or "",
            "grace_seconds": self.termination_grace_period_seconds,
            "gates": tuple(gate.name for gate in self.scheduling_gates or ()),
            "volumes": tuple([volume_from(volume) for volume in self.volumes]) if self.volumes else (),
            "claims": tuple([claim.fact() for claim in self.resource_claims]) if self.resource_claims else (),
            "host_users": self.host_users,
            "host_network": bool(self.host_network),
            "host_pid": bool(self.host_pid),
            "host_ipc": bool(self.host_ipc),
        }


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


# The pods of one workload are alike: what is equal in them is built and held once.
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

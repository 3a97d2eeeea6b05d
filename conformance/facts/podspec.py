"""What a pod and the template of a workload have in common: whom it asks for what, and where it may run."""

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from sys import intern
from typing import Any, TypeAlias, TypeVar

import msgspec

from conformance.facts.containers import Container, containers_from, requested
from conformance.facts.nodes import Node
from conformance.facts.volumes import PodClaim, Volume, WirePodClaim, volumes_from
from conformance.facts.wire import Quantities, Requirements, Wire, shared, texts
from conformance.gpu.affinity import node_matcher
from conformance.gpu.requests import pod_requests
from conformance.gpu.resources import GPU, is_gpu_resource
from conformance.gpu.taints import Toleration

_Understood = TypeVar("_Understood")


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
        return dict(_reserved(self._asking))

    def gpus(self, resource: str = GPU) -> int:
        """How many devices of ``resource`` the scheduler reserves for the pod."""
        if not any(resource in each.limits or resource in each.requests for each in self.every_container):
            return 0
        return math.ceil(_reserved(self._asking).get(resource, 0))

    def gpu_requests(self, others: frozenset[str] = frozenset()) -> dict[str, int]:
        """The devices that the scheduler reserves for the pod, by GPU resource name, sorted; counts of 0 left out.

        Of ``others``, which are not NVIDIA's names and come after these, as well.
        """
        return dict(_reserved_gpus(self._asking, others))

    def tolerates(self, node: Node) -> bool:
        """Whether the pod tolerates every lasting taint of the node: it may run there once the node is healthy."""
        return not node.repels(self.tolerations)

    def selects(self, node: Node) -> bool:
        """Whether the node meets the pod's nodeSelector and required node affinity."""
        return node.matches(self.node_selector, self.node_affinity)

    def selected(self, nodes: Iterable[Node]) -> tuple[Node, ...]:
        """Those of many nodes that meet the pod's nodeSelector and required node affinity."""
        matches = node_matcher(self.node_selector, self.node_affinity)
        return tuple(node for node in nodes if matches(node.labels, node.name))

    @property
    def mounts_token(self) -> bool:
        """Whether a container has the API token mounted where the ServiceAccount admission plugin puts it."""
        return any(container.mounts_token for container in self.every_container)

    @property
    def every_container(self) -> tuple[Container, ...]:
        """The containers and the init containers."""
        return self.containers + self.init_containers

    @property
    def _asking(self) -> "_Asking":
        """All that decides about what the scheduler reserves."""
        return (
            self.containers,
            self.init_containers,
            tuple(self.pod_level_requests.items()) if self.pod_level_requests else (),
            tuple(self.overhead.items()) if self.overhead else (),
        )


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
    # Kept as they are: the pods of a workload have the same, which are then understood once.
    tolerations: msgspec.Raw = msgspec.Raw(b"null")
    node_selector: dict[str, str] | None = None
    affinity: msgspec.Raw = msgspec.Raw(b"null")
    containers: msgspec.Raw = msgspec.Raw(b"null")
    init_containers: msgspec.Raw = msgspec.Raw(b"null")
    resources: Requirements | None = None
    overhead: Quantities | None = None
    runtime_class_name: str | None = None
    termination_grace_period_seconds: int | None = None
    scheduling_gates: tuple[_Gate, ...] | None = None
    volumes: msgspec.Raw = msgspec.Raw(b"null")
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
            "tolerations": _tolerations(bytes(self.tolerations)),
            "node_selector": self.node_selector or {},
            "affinity": _affinity(bytes(self.affinity)),
            "containers": _placing("containers", containers_from, self.containers),
            "init_containers": _placing("initContainers", containers_from, self.init_containers),
            "pod_level_requests": requested(self.resources),
            "overhead": texts(self.overhead),
            "runtime_class": self.runtime_class_name or "",
            "grace_seconds": self.termination_grace_period_seconds,
            "gates": tuple([gate.name for gate in self.scheduling_gates]) if self.scheduling_gates else (),
            "volumes": _placing("volumes", volumes_from, self.volumes),
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


_Asking: TypeAlias = tuple[
    tuple[Container, ...], tuple[Container, ...], tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]
]


# The pods of one workload are alike: what is equal in them is built and held once, and added up once.
@lru_cache(maxsize=4096)
def _reserved(asking: _Asking) -> Mapping[str, Fraction]:
    containers, init_containers, pod_level, overhead = asking
    return pod_requests(
        (container.asking for container in containers),
        [container.asking for container in init_containers],
        dict(pod_level),
        dict(overhead),
    )


@lru_cache(maxsize=4096)
def _reserved_gpus(asking: _Asking, others: frozenset[str]) -> Mapping[str, int]:
    containers, init_containers, *_ = asking
    named = {name for each in containers + init_containers for name in (*each.limits, *each.requests)}
    if not any(is_gpu_resource(name) or name in others for name in named):
        return {}
    counts = {name: math.ceil(amount) for name, amount in _reserved(asking).items()}
    own = sorted(name for name in counts if is_gpu_resource(name))
    further = sorted(name for name in named & others if not is_gpu_resource(name))
    return {name: counts[name] for name in (*own, *further) if counts.get(name)}


# Made before any thread needs them; see decoding.py.
_AFFINITIES = msgspec.json.Decoder(dict[str, Any] | None)
_TOLERATIONS = msgspec.json.Decoder(tuple[_Toleration, ...] | None, strict=False)


def _placing(member: str, understood: Callable[[msgspec.Raw], _Understood], raw: msgspec.Raw) -> _Understood:
    try:
        return understood(raw)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(_placed(error, member)) from error


@lru_cache(maxsize=4096)
def _tolerations(raw: bytes) -> tuple[Toleration, ...]:
    try:
        return tuple(toleration.fact() for toleration in _TOLERATIONS.decode(raw) or ())
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(_placed(error, "tolerations")) from error


@lru_cache(maxsize=4096)
def _affinity(raw: bytes) -> dict[str, Any]:
    try:
        return _AFFINITIES.decode(raw) or {}
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{error} - at `$.spec.affinity`") from error


def _placed(error: msgspec.ValidationError, member: str) -> str:
    """What is odd, with its place in the pod: the error has the place in the member (``... - at `$[0].key```)."""
    what, _, place = str(error).partition(" - at `$")
    return f"{what} - at `$.spec.{member}{place.rstrip('`')}`"

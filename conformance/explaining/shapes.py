"""Which object is not shaped as an API server has it, for files that somebody wrote or changed by hand.

What an API server sends is of these shapes, so nothing is looked at before an explanation fails. Only members that
explanations go by are looked at, and of custom kinds those that every object has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from conformance.explaining.seen import Seen
from conformance.gpu.quantities import quantity

Labels: TypeAlias = dict[str, str] | None
Amounts: TypeAlias = dict[str, str | int | float] | None
Anything: TypeAlias = dict[str, Any]


class _Owner(msgspec.Struct):
    kind: str
    name: str
    uid: str | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str | None = None
    uid: str | None = None
    labels: Labels = None
    annotations: Labels = None
    owner_references: list[_Owner] | None = None
    finalizers: list[str] | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class _Condition(msgspec.Struct):
    type: str
    status: str
    reason: str | None = None
    message: str | None = None


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata
    spec: Anything | None = None
    status: _Status | None = None


class _Resources(msgspec.Struct):
    requests: Amounts = None
    limits: Amounts = None


class _Port(msgspec.Struct, rename="camel"):
    host_port: int | None = None
    host_ip: str | None = msgspec.field(name="hostIP", default=None)
    protocol: str | None = None


class _Container(msgspec.Struct, rename="camel"):
    name: str
    image: str | None = None
    resources: _Resources | None = None
    ports: list[_Port] | None = None
    restart_policy: str | None = None


class _PodSpec(msgspec.Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    node_name: str | None = None
    node_selector: Labels = None
    scheduler_name: str | None = None
    priority: int | None = None
    overhead: Amounts = None
    resources: _Resources | None = None
    affinity: Anything | None = None
    tolerations: list[Anything] | None = None
    topology_spread_constraints: list[Anything] | None = None
    scheduling_gates: list[Anything] | None = None
    readiness_gates: list[Anything] | None = None
    volumes: list[Anything] | None = None
    resource_claims: list[Anything] | None = None


class _ContainerStatus(msgspec.Struct, rename="camel"):
    name: str
    state: dict[str, Anything | None] | None = None
    last_state: dict[str, Anything | None] | None = None
    restart_count: int | None = None


class _PodStatus(_Status, rename="camel"):
    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    resource_claim_statuses: list[Anything] | None = None


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: _PodSpec
    status: _PodStatus | None = None


class _Template(msgspec.Struct):
    metadata: Anything | None = None
    spec: _PodSpec | None = None


class _WorkloadSpec(msgspec.Struct, rename="camel"):
    template: _Template | None = None
    replicas: int | None = None
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None


class _Workload(msgspec.Struct):
    metadata: _Metadata
    spec: _WorkloadSpec | None = None
    status: Anything | None = None


class _Taint(msgspec.Struct):
    key: str
    value: str | None = None
    effect: str | None = None


class _NodeSpec(msgspec.Struct):
    taints: list[_Taint] | None = None
    unschedulable: bool | None = None


class _NodeStatus(_Status):
    allocatable: Amounts = None
    capacity: Amounts = None


class _Node(msgspec.Struct):
    metadata: _Metadata
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


class _Event(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    involved_object: dict[str, str | None]
    type: str | None = None
    reason: str | None = None
    message: str | None = None
    source: Anything | None = None
    series: Anything | None = None


_SHAPES: Mapping[str, type[msgspec.Struct]] = {
    "Pod": _Pod,
    "Node": _Node,
    "Event": _Event,
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), _Workload),
}


def odd_object(seen: Seen) -> str:
    """The first object that is not as an API server has it, with what is wrong; empty where none is found."""
    every = ((kind, obj) for kind, objects in seen.objects.items() for obj in objects)
    return next((f"{_named(kind, obj)}: {why}" for kind, obj in every if (why := _wrong(kind, obj))), "")


def _wrong(kind: str, obj: Any) -> str:
    try:
        shaped = msgspec.convert(obj, _SHAPES.get(kind, _Object), strict=True)
    except msgspec.ValidationError as error:
        return str(error)
    said = obj.get("kind", kind)
    if said != kind:
        return f"its kind is {said!r}"
    return next((str(error) for error in _failures(_amounts_of(shaped), quantity)), "")


def _failures(values: Iterable[Any], read: Callable[[Any], object]) -> Iterator[ValueError]:
    for value in values:
        try:
            read(value)
        except ValueError as error:
            yield error


def _amounts_of(shaped: Any) -> Iterator[str | int | float]:
    if isinstance(shaped, _Node) and shaped.status is not None:
        yield from (*(shaped.status.allocatable or {}).values(), *(shaped.status.capacity or {}).values())
    spec = shaped.spec if isinstance(shaped, _Pod) else _spec_of_template(shaped)
    if spec is not None:
        yield from (spec.overhead or {}).values()
        every = (spec, *(spec.containers or ()), *(spec.init_containers or ()))
        for resources in (each.resources for each in every if each.resources is not None):
            yield from (*(resources.requests or {}).values(), *(resources.limits or {}).values())


def _spec_of_template(shaped: Any) -> _PodSpec | None:
    template = shaped.spec.template if isinstance(shaped, _Workload) and shaped.spec is not None else None
    return template.spec if template is not None else None


def _named(kind: str, obj: Any) -> str:
    metadata = obj.get("metadata") if isinstance(obj, Mapping) else None
    named = metadata if isinstance(metadata, Mapping) else {}
    namespace = named.get("namespace")
    return f"{kind.lower()} {f'{namespace}/' if namespace else ''}{named.get('name') or 'without a name'}"

"""What a pod asks a node for, added up as kube-scheduler and the quota controller add it up."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

import msgspec

from conformance.gpu.quantities import quantity

Amounts: TypeAlias = dict[str, Fraction]

# The resources that pod-level requests (spec.resources) may name; an extended resource is not among them.
_POD_LEVEL = ("cpu", "memory")
_POD_LEVEL_PREFIX = "hugepages-"


class Asking(msgspec.Struct, frozen=True):
    """The requests of one container, quantities by resource name."""

    requests: Mapping[str, str]
    restartable: bool = False
    """True for an init container with restartPolicy Always: a sidecar, which keeps running beside the others."""


def effective_requests(requests: Mapping[str, str], limits: Mapping[str, str]) -> dict[str, str]:
    """A container's requests after defaulting: a limit without a request is its request.

    The API server does this for pods and not for pod templates (SetDefaults_Pod), so a template that names limits
    only asks for as much as its pods will.
    """
    return {**limits, **requests}


def pod_requests(
    containers: Iterable[Asking],
    init_containers: Sequence[Asking] = (),
    pod_level: Mapping[str, str] | None = None,
    overhead: Mapping[str, str] | None = None,
) -> Amounts:
    """What the scheduler reserves for a pod, by resource name (component-helpers/resource, PodRequests).

    Containers and sidecars run together and are summed; an ordinary init container runs alone beside the sidecars
    that were started before it; the greater of both counts. Pod-level requests then replace the sum for cpu, memory
    and huge pages, and overhead comes on top. Raises ValueError for a quantity that is none.
    """
    together: Amounts = {}
    for container in containers:
        _add(together, container.requests)
    sidecars: Amounts = {}
    starting: Amounts = {}
    for container in init_containers:
        at_once = dict(sidecars)
        _add(at_once, container.requests)
        if container.restartable:
            sidecars = at_once
            _add(together, container.requests)
        _raise_to(starting, at_once)
    _raise_to(together, starting)
    for resource, amount in (pod_level or {}).items():
        if resource in _POD_LEVEL or resource.startswith(_POD_LEVEL_PREFIX):
            together[resource] = quantity(amount)
    _add(together, overhead or {})
    return together


def _add(amounts: Amounts, more: Mapping[str, str]) -> None:
    for resource, amount in more.items():
        amounts[resource] = amounts.get(resource, Fraction(0)) + quantity(amount)


def _raise_to(amounts: Amounts, floor: Amounts) -> None:
    for resource, amount in floor.items():
        amounts[resource] = max(amount, amounts.get(resource, amount))

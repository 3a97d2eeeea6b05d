"""Whether quotas and limit ranges of a namespace let pods of a template in, computed from the objects alone.

Sources: kubernetes/plugin/pkg/admission/limitranger/admission.go (defaults first, then minimum, maximum and ratio for
containers, minimum and maximum for pods), pkg/quota/v1/evaluator/core/pods.go (scopes).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from conformance.facts.limits import PodTraits, WireResourceQuota
from conformance.gpu.placement import Manifest, requests_of
from conformance.gpu.quantities import quantity

_ON_CPU_AND_MEMORY = ("cpu", "memory")
_Amounts = Mapping[str, str]


def quotas_that_count(template: Manifest, quotas: Iterable[dict[str, Any]], default_class: str) -> list[dict[str, Any]]:
    """The quotas whose scopes such pods meet; ``default_class`` is the priority class of pods that name none."""
    traits = _traits(template, default_class)
    return [each for each in quotas if msgspec.convert(each, WireResourceQuota, strict=False).fact().counts(traits)]


def limit_refusal(template: Manifest, ranges: Iterable[Manifest]) -> str:
    """What a limit range forbids of pods of a template; empty when it allows them."""
    return next((words for each in ranges for words in _forbidden(template, each)), "")


def _traits(template: Manifest, default_class: str) -> PodTraits:
    spec = template["spec"]
    affinity = spec.get("affinity") or {}
    terms = [term for which in ("podAffinity", "podAntiAffinity") for term in _terms(affinity.get(which) or {})]
    asked = requests_of(template)
    return PodTraits(
        priority_class=str(spec.get("priorityClassName") or default_class),
        terminating=spec.get("activeDeadlineSeconds") is not None,
        best_effort=not any(asked.get(each) for each in _ON_CPU_AND_MEMORY),
        crosses_namespaces=any(term.get("namespaces") or term.get("namespaceSelector") for term in terms),
    )


def _terms(rules: Manifest) -> Iterator[Manifest]:
    yield from rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    for each in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
        yield each.get("podAffinityTerm") or {}


def _forbidden(template: Manifest, limit_range: Manifest) -> Iterator[str]:
    items = (limit_range.get("spec") or {}).get("limits") or ()
    spec = template["spec"]
    every = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    of_containers = [each for each in items if each.get("type") == "Container"]
    asked = {str(each.get("name")): _defaulted(each.get("resources") or {}, of_containers) for each in every}
    name = f"limit range {limit_range['metadata']['name']}"
    for item in items:
        if item.get("type") == "Container":
            for container, (requests, limits) in asked.items():
                yield from (f"{name}: {words} of container {container}" for words in _broken(item, requests, limits))
        elif item.get("type") == "Pod" and not spec.get("initContainers"):
            requests, limits = (_sum([both[at] for both in asked.values()]) for at in (0, 1))
            yield from (f"{name}: {words} of the pod" for words in _broken(item, requests, limits))


def _defaulted(resources: Manifest, items: Sequence[Manifest]) -> tuple[_Amounts, _Amounts]:
    """Requests and limits of a container as they are after defaulting: a limit is a request, then the range's own."""
    limits = dict(resources.get("limits") or {})
    requests = {**limits, **(resources.get("requests") or {})}
    for item in items:
        limits = {**(item.get("default") or {}), **limits}
        requests = {**(item.get("defaultRequest") or {}), **requests}
    return requests, limits


def _sum(amounts: Sequence[_Amounts]) -> _Amounts:
    """The sum by resource, of those that every container states."""
    stated = set.intersection(*(set(each) for each in amounts)) if amounts else set()
    return {key: str(sum((quantity(each[key]) for each in amounts), Fraction(0))) for key in stated}


def _broken(item: Manifest, requests: _Amounts, limits: _Amounts) -> Iterator[str]:
    for key, most in (item.get("max") or {}).items():
        if key in limits and _number(limits[key]) > quantity(most):
            yield f"at most {most} {key} is allowed as limit, {_told(limits[key])} is that"
    for key, least in (item.get("min") or {}).items():
        if key in requests and _number(requests[key]) < quantity(least):
            yield f"at least {least} {key} has to be requested, {_told(requests[key])} is the request"
    for key, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        both = key in limits and key in requests and _number(requests[key])
        if both and _number(limits[key]) / _number(requests[key]) > quantity(ratio):
            words = f"{_told(limits[key])} is the limit and {_told(requests[key])} the request"
            yield f"the limit of {key} may be {ratio} times the request, {words}"


def _number(amount: str) -> Fraction:
    return Fraction(amount) if amount.replace("/", "").isdigit() else quantity(amount)


def _told(amount: str) -> str:
    return f"{float(_number(amount)):.10g}" if "/" in amount else amount

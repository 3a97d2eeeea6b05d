"""Whether a device is one that the selectors of a DeviceClass and of a request want.

kube-scheduler evaluates one selector after the other, those of the class first, until one is false. A selector that
reads what the device lacks is an error, and an error ends the whole attempt to schedule the pod: no other device and
no other node is looked at. Sources: kubernetes.io, Dynamic Resource Allocation; kubernetes/kubernetes,
staging/src/k8s.io/dynamic-resource-allocation: structured (isSelectable), cel/compile.go (what ``device`` has).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from conformance.gpu.cel import Answer, Domains, Program, Quantity, program, version
from conformance.gpu.quantities import quantity


class Match(Enum):
    """What the selectors say of a device."""

    YES = "it matches"
    NO = "it does not match"
    PERHAPS = "a selector is not understood"
    ERROR = "a selector cannot be evaluated"


def expressions(selectors: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The CEL of each selector of a request or DeviceClass; empty for one that is written in another language."""
    return tuple(str((each.get("cel") or {}).get("expression") or "") for each in selectors)


def match(selectors: Sequence[str], driver: str, device: Mapping[str, Any]) -> Match:
    """What the selectors, in the order in which they are evaluated, say of a device."""
    if not selectors:
        return Match.YES
    seen = _as_cel_has_it(driver, device)
    sure = True
    for each in selectors:
        answer = _answer(program(each), seen)
        if answer is Match.NO or (answer is Match.ERROR and sure):
            return answer
        if answer is Match.ERROR:
            return Match.PERHAPS
        sure = sure and answer is Match.YES
    return Match.YES if sure else Match.PERHAPS


def _answer(of: Program, seen: Mapping[str, Any]) -> Match:
    value = of(seen)
    if isinstance(value, bool):
        return Match.YES if value else Match.NO
    return Match.PERHAPS if value is Answer.UNKNOWN else Match.ERROR


def _as_cel_has_it(driver: str, device: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "driver": driver,
        "attributes": _by_domain(driver, device.get("attributes") or {}, _attribute),
        "capacity": _by_domain(driver, device.get("capacity") or {}, _capacity),
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
    }


def _by_domain(driver: str, named: Mapping[str, Any], value: Callable[[Any], Any]) -> Domains:
    """Names without a domain are in that of the driver."""
    found: dict[str, dict[str, Any]] = {}
    for name, typed in named.items():
        domain, _, identifier = name.rpartition("/")
        found.setdefault(domain or driver, {})[identifier] = value(typed)
    return Domains(found)


def _attribute(typed: Any) -> Any:
    if not isinstance(typed, Mapping) or len(typed) != 1:
        return Answer.UNKNOWN
    ((kind, value),) = typed.items()
    if kind == "version":
        return version(str(value))
    return value if kind in ("string", "int", "bool") else Answer.UNKNOWN


def _capacity(typed: Any) -> Any:
    try:
        return Quantity(quantity(typed["value"]))
    except (KeyError, TypeError, ValueError):
        return Answer.UNKNOWN

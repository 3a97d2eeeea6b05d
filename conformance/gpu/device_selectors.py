"""Whether a device is one that the selectors of a DeviceClass and of a request want.

kube-scheduler evaluates one selector after the other, those of the class first, until one is false. A selector that
reads what the device lacks is an error, and an error ends the whole attempt to schedule the pod: no other device and
no other node is looked at. Sources: kubernetes.io, Dynamic Resource Allocation; kubernetes/kubernetes,
staging/src/k8s.io/dynamic-resource-allocation: structured (isSelectable), cel/compile.go (what ``device`` has).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from conformance.gpu.cel import Answer, Domains, Program, Quantity, names_in, program, version
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
    return Matching(selectors).of(driver, device)


class Matching:
    """Selectors for many devices: those of which they read the same are evaluated once."""

    def __init__(self, selectors: Sequence[str]) -> None:
        self._selectors = selectors
        names = [names_in(each) for each in selectors]
        self._names = None if None in names else frozenset().union(*(each for each in names if each is not None))
        self._known: dict[tuple[Any, ...], Match] = {}

    def of(self, driver: str, device: Mapping[str, Any]) -> Match:
        """What the selectors say of a device."""
        try:
            key = self._read_of(driver, device)
            if key not in self._known:
                self._known[key] = _evaluated(self._selectors, driver, device)
            return self._known[key]
        except (TypeError, AttributeError):
            # A name that is computed, or a value that is more than one.
            return _evaluated(self._selectors, driver, device)

    def _read_of(self, driver: str, device: Mapping[str, Any]) -> tuple[Any, ...]:
        names = self._names
        if names is None:
            raise TypeError
        members = (*(device.get("attributes") or {}).items(), None, *(device.get("capacity") or {}).items())
        read = (
            each and (each[0], *each[1].items()) for each in members if not each or each[0].rpartition("/")[2] in names
        )
        return (driver, device.get("allowMultipleAllocations"), *read)


def _evaluated(selectors: Sequence[str], driver: str, device: Mapping[str, Any]) -> Match:
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
        "attributes": Domains(driver, device.get("attributes") or {}, _attribute),
        "capacity": Domains(driver, device.get("capacity") or {}, _capacity),
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
    }


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

"""Whether a device is one that the selectors of a DeviceClass and of a request want.

kube-scheduler evaluates one selector after the other, those of the class first, until one is false. A selector that
reads what the device lacks is an error, and an error ends the whole attempt to schedule the pod: no other device and
no other node is looked at. Sources: kubernetes.io, Dynamic Resource Allocation; kubernetes/kubernetes,
staging/src/k8s.io/dynamic-resource-allocation: structured (isSelectable), cel/compile.go (what ``device`` has).
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from conformance.gpu.cel import Answer, amount, evaluated, names_in, texts_in, version

# A domain that the device has nothing of is there, and empty; whether it is there, or how many are, is not evaluated.
_ALL_DOMAINS = re.compile(r"device\.(attributes|capacity)\b(?!\s*[\[.])")


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
        self._named: dict[tuple[str, ...], Sequence[str]] = {}

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
        """What the selectors may read of a device."""
        if self._names is None:
            raise TypeError
        attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
        return (
            driver,
            device.get("allowMultipleAllocations"),
            *[(name, *attributes[name].items()) for name in self._named_of(tuple(attributes))],
            None,
            *[(name, *capacity[name].items()) for name in self._named_of(tuple(capacity))],
        )

    def _named_of(self, members: tuple[str, ...]) -> Sequence[str]:
        """Those members of which a selector has the name; most devices have members of the same names."""
        if members not in self._named:
            self._named[members] = [each for each in members if each.rpartition("/")[2] in (self._names or ())]
        return self._named[members]


def _evaluated(selectors: Sequence[str], driver: str, device: Mapping[str, Any]) -> Match:
    sure = True
    for each in selectors:
        answer = _answer(each, driver, device)
        if answer is Match.NO or (answer is Match.ERROR and sure):
            return answer
        if answer is Match.ERROR:
            return Match.PERHAPS
        sure = sure and answer is Match.YES
    return Match.YES if sure else Match.PERHAPS


def _answer(selector: str, driver: str, device: Mapping[str, Any]) -> Match:
    if _ALL_DOMAINS.search(selector):
        return Match.PERHAPS
    try:
        seen = _as_cel_has_it(selector, driver, device)
    except (KeyError, TypeError, ValueError):
        # A value of a kind that came after this was written.
        return Match.PERHAPS
    found = evaluated(selector, {"device": seen})
    if isinstance(found, bool):
        return Match.YES if found else Match.NO
    return Match.PERHAPS if found is Answer.UNKNOWN else Match.ERROR


def _as_cel_has_it(selector: str, driver: str, device: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variable ``device``: with every domain that the selector names, and of members those that it may read."""
    names, domains = names_in(selector), {driver, *texts_in(selector)}
    return {
        "driver": driver,
        "attributes": _by_domain(driver, domains, names, device.get("attributes"), _attribute),
        "capacity": _by_domain(driver, domains, names, device.get("capacity"), lambda typed: amount(typed["value"])),
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
    }


def _by_domain(
    driver: str,
    domains: Iterable[str],
    names: Collection[str] | None,
    members: Mapping[str, Any] | None,
    value: Callable[[Any], Any],
) -> dict[str, dict[str, Any]]:
    """Members by domain and identifier; the driver's own need not name their domain."""
    found: dict[str, dict[str, Any]] = {domain: {} for domain in domains}
    for name, typed in (members or {}).items():
        domain, _, identifier = name.rpartition("/")
        if names is None or identifier in names:
            found.setdefault(domain or driver, {})[identifier] = value(typed)
    return found


def _attribute(typed: Mapping[str, Any]) -> Any:
    ((kind, value),) = typed.items()
    if kind == "version":
        return version(value)
    if kind not in ("string", "int", "bool"):
        raise ValueError(f"an attribute of kind {kind}")
    return value

"""What a CEL selector of a DeviceClass or a claim surely says of a device, without evaluating CEL.

Only conjunctions of comparisons are understood: ``device.driver == "gpu.nvidia.com" && device.attributes[...].type ==
"gpu"``. Every other part could be true. So a device is out surely, in surely, or perhaps in; nothing is guessed.
Language: kubernetes.io, Dynamic Resource Allocation (DeviceRequest, selectors).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_STRING = r"(?:'[^']*'|\"[^\"]*\")"
_DRIVER = re.compile(rf"device\.driver\s*==\s*(?P<value>{_STRING})")
_ATTRIBUTE = re.compile(
    rf"device\.attributes\[(?P<domain>{_STRING})\]\.(?P<name>\w+)\s*==\s*(?P<value>{_STRING}|\d+|true|false)"
)
_OPAQUE = re.compile(r"\|\||[?]|!(?!=)")


def expressions(selectors: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The CEL of each selector of a request or DeviceClass; empty for one that is written in another language."""
    return tuple(str((each.get("cel") or {}).get("expression") or "") for each in selectors)


def holds(expression: str, driver: str, device: Mapping[str, Any]) -> bool | None:
    """Whether the selector holds for a device: True or False where that is sure, None where it could be either."""
    if _OPAQUE.search(re.sub(_STRING, "''", expression)):
        return None
    answers = [_part(part.strip(), driver, device) for part in _conjuncts(expression)]
    if False in answers:
        return False
    return None if None in answers else True


def _conjuncts(expression: str) -> list[str]:
    """The parts between ``&&``; one that is within quotes or parentheses stays within its part."""
    parts, depth, quote, begin = [], 0, "", 0
    for at, sign in enumerate(expression):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        elif depth == 0 and expression.startswith("&&", at):
            parts.append(expression[begin:at])
            begin = at + 2
    return [*parts, expression[begin:]]


def _part(part: str, driver: str, device: Mapping[str, Any]) -> bool | None:
    of_driver = _DRIVER.fullmatch(part)
    if of_driver:
        return _unquoted(of_driver["value"]) == driver
    of_attribute = _ATTRIBUTE.fullmatch(part)
    if of_attribute is None:
        return None
    domain, name = _unquoted(of_attribute["domain"]), of_attribute["name"]
    attributes = device.get("attributes") or {}
    short = attributes.get(name) if domain == driver else None
    typed = attributes.get(f"{domain}/{name}") or short
    if not isinstance(typed, Mapping) or len(typed) != 1:
        return False  # reading what a device lacks is an error in CEL, and a device with an error is not taken
    (value,) = typed.values()
    return _as_written(value) == _unquoted(of_attribute["value"])


def _as_written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unquoted(text: str) -> str:
    return text[1:-1] if text[:1] in "'\"" else text

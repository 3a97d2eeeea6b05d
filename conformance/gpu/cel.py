"""CEL in which selectors of devices are written: a library's evaluation, with the functions that Kubernetes adds.

What this does not know (another function, optional values, iteration) is UNKNOWN; reading what is not there, and
comparing what cannot be compared, is an ERROR, which ``&&`` and ``||`` take in where the other side decides.
Sources: google/cel-spec (doc/langdef.md); kubernetes.io, Common Expression Language in Kubernetes (quantity, semver);
hardbyte/python-common-expression-language.
"""

import logging
import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from conformance.gpu.quantities import quantity

if TYPE_CHECKING:
    import cel

Value: TypeAlias = Any
"""What an expression sees: texts, numbers, truth, mappings of them, and what amount() and version() make."""

_AMOUNT, _VERSION = "an amount", "a version"
_OPERATORS = frozenset(
    ("_&&_", "_||_", "!_", "-_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "_[_]", "_?_:_")
)
_OF_TEXTS = frozenset(("startsWith", "endsWith", "contains", "matches"))
"""The library's own; it calls one of them undefined for what is no text."""
_COMPUTED = re.compile(r"\[\s*[^\s\d'\"\]]|[^\s'\"]\s+in\s+[^\s\[]")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([\w.-]+))?(?:\+[\w.-]+)?", re.ASCII)


class Answer(Enum):
    """What is no truth: an error of CEL, or what this does not evaluate."""

    ERROR = "an error"
    UNKNOWN = "not evaluated"


def amount(text: object) -> Value:
    """A capacity, or ``quantity('40Gi')``. Raises ValueError for what is no quantity."""
    return {_AMOUNT: str(quantity(_text(text)))}


def version(text: object) -> Value:
    """A version of an attribute, or ``semver('1.2.3')``. Raises ValueError for what is none."""
    if not _SEMVER.fullmatch(_text(text)):
        raise ValueError(f"{text} is no version of three numbers")
    return {_VERSION: text}


def evaluated(expression: str, variables: Mapping[str, Value]) -> bool | Answer:
    """What an expression says of these variables."""
    program = _program(expression)
    if program is None:
        return Answer.UNKNOWN
    try:
        found = program.execute(_context(variables))
    except (KeyError, TypeError, ValueError, RuntimeError):
        # In this order: nothing of that name, no such comparison, out of range, what a function raises.
        return Answer.ERROR
    return found if isinstance(found, bool) else Answer.ERROR


@lru_cache(maxsize=1024)
def names_in(expression: str) -> frozenset[str] | None:
    """Every name and text in an expression: it reads members of these names only. None where a name is computed."""
    return None if _COMPUTED.search(expression) else frozenset(re.findall(r"\w+", expression))


def texts_in(expression: str) -> frozenset[str]:
    """Every text in an expression that stands between quotes."""
    return frozenset(one or other for one, other in re.findall(r"\"([^\"]*)\"|'([^']*)'", expression))


@lru_cache(maxsize=1024)
def _program(expression: str) -> "cel.Program | None":
    """An expression made ready; None for one that is not understood."""
    import cel  # brings a command line of its own, which takes longer to import than an audit without claims to judge

    # It warns of what a function raises, which is an answer here.
    logging.getLogger(cel.__name__).setLevel(logging.ERROR)
    try:
        program = cel.compile(expression)
    except ValueError:
        return None
    return program if _OPERATORS | _OF_TEXTS | _FUNCTIONS.keys() >= set(program.functions()) else None


def _context(variables: Mapping[str, Value]) -> "cel.Context":
    import cel

    return cel.Context(variables=dict(variables), functions=dict(_FUNCTIONS))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value} is no text")
    return value


def _compared(one: Value, other: Value) -> int:
    """-1, 0 or 1 of two amounts or two versions."""
    left, right = _ordered(one), _ordered(other)
    if left[0] != right[0]:
        raise ValueError("an amount and a version are not compared")
    return (left > right) - (left < right)


def _ordered(value: Value) -> tuple[Any, ...]:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(f"{value} is neither an amount nor a version")
    ((kind, text),) = value.items()
    if kind == _AMOUNT:
        return kind, quantity(text)
    if kind == _VERSION:
        return kind, *_precedence(text)
    raise ValueError(f"{value} is neither an amount nor a version")


@lru_cache(maxsize=1024)
def _precedence(text: str) -> tuple[Any, ...]:
    """The order of Semantic Versioning 2.0.0, item 11: a release comes after its candidates, numbers before words."""
    found = _SEMVER.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no version of three numbers")
    numbers = tuple(int(each) for each in found.groups()[:3])
    if not found[4]:
        return *numbers, 1
    marks = ((0, int(each), "") if each.isdecimal() else (1, 0, each) for each in found[4].split("."))
    return *numbers, 0, tuple(marks)


def _lower(text: object) -> str:
    return "".join(each.lower() if each.isascii() else each for each in _text(text))


def _upper(text: object) -> str:
    return "".join(each.upper() if each.isascii() else each for each in _text(text))


_FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "quantity": amount,
    "semver": version,
    "compareTo": _compared,
    "isGreaterThan": lambda one, other: _compared(one, other) > 0,
    "isLessThan": lambda one, other: _compared(one, other) < 0,
    "lowerAscii": _lower,
    "upperAscii": _upper,
}

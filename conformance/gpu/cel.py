"""The part of CEL in which selectors of devices are written, evaluated as kube-scheduler does.

Comparisons, ``&&``, ``||``, ``!``, ``in``, ``has()``, functions of strings, quantities and versions. What is not among
them (macros, optional values, arithmetic) is UNKNOWN; reading what is not there, and comparing what cannot be
compared, is an ERROR, which ``&&`` and ``||`` take in where the other side decides.
Sources: google/cel-spec (doc/langdef.md); kubernetes.io, Common Expression Language in Kubernetes (quantity, semver).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

import msgspec

from conformance.gpu.quantities import quantity

_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"[^\"\\\n]*\"|'[^'\\\n]*')|(?P<number>\d+(?:\.\d+)?)(?![\w.])|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>&&|\|\||[=!<>]=|[<>!()\[\],.-]))"
)
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)


class Answer(Enum):
    """What is no value: an error of CEL, or what this does not evaluate."""

    ERROR = "an error"
    UNKNOWN = "not evaluated"


class Quantity(msgspec.Struct, frozen=True):
    """An amount of a capacity, or of ``quantity('40Gi')``."""

    amount: Fraction


class Version(msgspec.Struct, frozen=True):
    """A version of three numbers, of an attribute or of ``semver('1.2.3')``."""

    parts: tuple[int, int, int]


class Domain(msgspec.Struct, frozen=True):
    """The attributes or the capacities of one domain; their values are converted as they are read."""

    name: str
    of: "Domains"

    def typed(self, identifier: str) -> Any:
        """A member as the API has it, None where there is none; the driver's own need not name their domain."""
        found = self.of.members.get(f"{self.name}/{identifier}")
        if found is None and self.name == self.of.driver:
            return self.of.members.get(identifier)
        return found


class Domains(msgspec.Struct, frozen=True):
    """Attributes or capacities of a device of ``driver``; a domain that is not there has nothing in it.

    ``members`` are as the API has them, ``value`` makes of one what CEL has.
    """

    driver: str
    members: Mapping[str, Any]
    value: Callable[[Any], Any]


_NOT_COMPARED = (dict, Domain, Domains, tuple)
_Value: TypeAlias = Any
Program: TypeAlias = Callable[[Mapping[str, _Value]], _Value]
"""Evaluates an expression with what ``device`` has: driver, attributes, capacity."""


class _NotUnderstood(Exception):
    pass


def version(text: str) -> _Value:
    """A version; UNKNOWN for one with more than three numbers, whose order is another matter."""
    found = _VERSION.fullmatch(text)
    return Version((int(found[1]), int(found[2]), int(found[3]))) if found else Answer.UNKNOWN


@lru_cache(maxsize=1024)
def program(expression: str) -> Program:
    """An expression made ready; one that is not understood evaluates to UNKNOWN."""
    try:
        return _Parser(expression).whole()
    except _NotUnderstood:
        return lambda _: Answer.UNKNOWN


@lru_cache(maxsize=1024)
def names_in(expression: str) -> frozenset[str] | None:
    """Every name and text in an expression: of a device it reads members of these names only.

    None where a name may be computed (an index or the left side of ``in`` that is no text), and what is no CEL.
    """
    try:
        tokens = list(_tokens(expression))
    except _NotUnderstood:
        return None
    for before, (kind, text), after in zip([("", ""), *tokens], tokens, [*tokens[1:], ("", "")], strict=False):
        if (kind, text) == ("sign", "[") and after[0] not in ("text", "number"):
            return None
        if (kind, text) == ("name", "in") and before[0] != "text" and after[1] != "[":
            return None
    return frozenset(text[1:-1] if kind == "text" else text for kind, text in tokens if kind in ("text", "name"))


class _Parser:
    """Reads by descent, the loosest operator first; each method returns the program of what it has read."""

    def __init__(self, expression: str) -> None:
        self._tokens = list(_tokens(expression))
        self._at = 0

    def whole(self) -> Program:
        found = self._either()
        if self._at < len(self._tokens):
            raise _NotUnderstood
        return found

    def _either(self) -> Program:
        parts = [self._all()]
        while self._takes("||"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else _joined(parts, decides=True)

    def _all(self) -> Program:
        parts = [self._relation()]
        while self._takes("&&"):
            parts.append(self._relation())
        return parts[0] if len(parts) == 1 else _joined(parts, decides=False)

    def _relation(self) -> Program:
        left = self._unary()
        for sign, compare in _RELATIONS.items():
            if self._takes(sign):
                return _applied(compare, left, self._unary())
        return left

    def _unary(self) -> Program:
        if self._takes("!"):
            return _applied(lambda value: not value if isinstance(value, bool) else Answer.ERROR, self._unary())
        if self._takes("-"):
            return _applied(lambda value: -value if _is_number(value) else Answer.ERROR, self._unary())
        return self._member()

    def _member(self) -> Program:
        found = self._primary()
        while True:
            if self._takes("["):
                found = _applied(_read, found, self._either())
                self._needs("]")
            elif self._takes("."):
                found = self._of(found)
            else:
                return found

    def _of(self, owner: Program) -> Program:
        name = self._name()
        if not self._takes("("):
            return _applied(_read, owner, lambda _: name)
        arguments = self._arguments()
        method = _METHODS.get((name, len(arguments)))
        return _applied(method, owner, *arguments) if method else lambda _: Answer.UNKNOWN

    def _primary(self) -> Program:
        if self._takes("("):
            found = self._either()
            self._needs(")")
            return found
        if self._takes("["):
            members = self._arguments("]")
            return _applied(lambda *values: values, *members)
        kind, text = self._next()
        if kind == "text":
            return lambda _: text[1:-1]
        if kind == "number":
            number = float(text) if "." in text else int(text)
            return lambda _: number
        return self._named(text) if kind == "name" else self._fails()

    def _named(self, name: str) -> Program:
        if name in ("true", "false"):
            return lambda _: name == "true"
        if name == "device":
            return lambda device: device
        if name == "has" and self._takes("("):
            return self._has()
        if name in _FUNCTIONS and self._takes("("):
            arguments = self._arguments()
            return _applied(_FUNCTIONS[name], arguments[0]) if len(arguments) == 1 else self._fails()
        return self._fails()

    def _has(self) -> Program:
        """``has(x.y)``: whether the member that is read last is there."""
        found = self._member()
        self._needs(")")

        def is_there(device: Mapping[str, _Value]) -> _Value:
            value = found(device)
            return value if value is Answer.UNKNOWN else value is not Answer.ERROR

        return is_there

    def _arguments(self, end: str = ")") -> list[Program]:
        found: list[Program] = []
        while not self._takes(end):
            if found:
                self._needs(",")
            found.append(self._either())
        return found

    def _takes(self, sign: str) -> bool:
        there = self._at < len(self._tokens) and self._tokens[self._at][1] == sign
        there = there and self._tokens[self._at][0] in ("sign", "name")
        self._at += there
        return there

    def _needs(self, sign: str) -> None:
        if not self._takes(sign):
            raise _NotUnderstood

    def _name(self) -> str:
        kind, text = self._next()
        return text if kind == "name" else self._fails()

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise _NotUnderstood
        self._at += 1
        return self._tokens[self._at - 1]

    def _fails(self) -> NoReturn:
        raise _NotUnderstood


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at, expression = 0, expression.strip()
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise _NotUnderstood
        kind = str(found.lastgroup)
        yield kind, found[kind]
        at = found.end()


def _joined(parts: list[Program], *, decides: bool) -> Program:
    """``||`` and ``&&``: one part that decides is enough, whatever the others are."""

    def evaluate(device: Mapping[str, _Value]) -> _Value:
        left: set[_Value] = set()
        for each in parts:
            value = each(device)
            if value is decides:
                return decides
            left.add(value if isinstance(value, (bool, Answer)) else Answer.ERROR)
        return next((each for each in (Answer.UNKNOWN, Answer.ERROR) if each in left), not decides)

    return evaluate


def _applied(function: Callable[..., _Value], *arguments: Program) -> Program:
    """A function of values; of what is none, nothing can be computed."""

    def evaluate(device: Mapping[str, _Value]) -> _Value:
        values, unknown = [], False
        for each in arguments:
            value = each(device)
            if value is Answer.ERROR:
                return value
            unknown = unknown or value is Answer.UNKNOWN
            values.append(value)
        return Answer.UNKNOWN if unknown else function(*values)

    return evaluate


def _read(owner: _Value, key: _Value) -> _Value:
    if isinstance(owner, Domains):
        return Domain(key, owner) if isinstance(key, str) else Answer.ERROR
    if isinstance(owner, Domain):
        typed = owner.typed(key) if isinstance(key, str) else None
        return Answer.ERROR if typed is None else owner.of.value(typed)
    if isinstance(owner, dict):
        return owner.get(key, Answer.ERROR) if isinstance(key, str) else Answer.ERROR
    return Answer.ERROR if isinstance(owner, (str, int, Quantity, Version)) else Answer.UNKNOWN


def _equal(one: _Value, other: _Value) -> _Value:
    """Values of different kinds are not equal, which is no error; numbers are of one kind."""
    if isinstance(one, _NOT_COMPARED) or isinstance(other, _NOT_COMPARED):
        return Answer.UNKNOWN
    alike = type(one) is type(other) or (_is_number(one) and _is_number(other))
    return alike and one == other


def _unequal(one: _Value, other: _Value) -> _Value:
    found = _equal(one, other)
    return not found if isinstance(found, bool) else found


def _is_in(key: _Value, where: _Value) -> _Value:
    if isinstance(where, tuple):
        answers = [_equal(key, each) for each in where]
        return True if True in answers else next((each for each in answers if isinstance(each, Answer)), False)
    if isinstance(where, Domain):
        return isinstance(key, str) and where.typed(key) is not None
    return Answer.UNKNOWN


def _is_number(value: _Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[_Value, _Value], _Value]:
    def compare(one: _Value, other: _Value) -> _Value:
        numbers = _is_number(one) and _is_number(other)
        alike = numbers or (type(one) is type(other) and isinstance(one, (str, bool)))
        return test(one, other) if alike else Answer.ERROR

    return compare


def _compared(one: _Value, other: _Value) -> _Value:
    """-1, 0 or 1 of two quantities or two versions."""
    if isinstance(one, Quantity) and isinstance(other, Quantity):
        return (one.amount > other.amount) - (one.amount < other.amount)
    if isinstance(one, Version) and isinstance(other, Version):
        return (one.parts > other.parts) - (one.parts < other.parts)
    return Answer.ERROR


def _if_compared(test: Callable[[int], bool]) -> Callable[[_Value, _Value], _Value]:
    def compare(one: _Value, other: _Value) -> _Value:
        found = _compared(one, other)
        return found if isinstance(found, Answer) else test(found)

    return compare


def _of_text(function: Callable[..., _Value]) -> Callable[..., _Value]:
    def evaluate(*values: _Value) -> _Value:
        return function(*values) if all(isinstance(each, str) for each in values) else Answer.ERROR

    return evaluate


@lru_cache(maxsize=1024)
def _matches(text: str, pattern: str) -> _Value:
    try:
        return re.search(pattern, text, re.ASCII) is not None
    except re.error:
        return Answer.UNKNOWN


@lru_cache(maxsize=1024)
def _lower(text: str) -> str:
    return "".join(each.lower() if each.isascii() else each for each in text)


@lru_cache(maxsize=1024)
def _upper(text: str) -> str:
    return "".join(each.upper() if each.isascii() else each for each in text)


def _quantity(text: str) -> _Value:
    try:
        return Quantity(quantity(text))
    except ValueError:
        return Answer.ERROR


_RELATIONS: Mapping[str, Callable[[_Value, _Value], _Value]] = {
    "==": _equal,
    "!=": _unequal,
    "<=": _ordered(lambda one, other: one <= other),
    ">=": _ordered(lambda one, other: one >= other),
    "<": _ordered(lambda one, other: one < other),
    ">": _ordered(lambda one, other: one > other),
    "in": _is_in,
}
_METHODS: Mapping[tuple[str, int], Callable[..., _Value]] = {
    ("startsWith", 1): _of_text(str.startswith),
    ("endsWith", 1): _of_text(str.endswith),
    ("contains", 1): _of_text(lambda text, part: part in text),
    ("matches", 1): _of_text(_matches),
    ("lowerAscii", 0): _of_text(_lower),
    ("upperAscii", 0): _of_text(_upper),
    ("compareTo", 1): _compared,
    ("isGreaterThan", 1): _if_compared(lambda found: found > 0),
    ("isLessThan", 1): _if_compared(lambda found: found < 0),
}
_FUNCTIONS: Mapping[str, Callable[[_Value], _Value]] = {
    "quantity": _of_text(_quantity),
    "semver": _of_text(version),
}

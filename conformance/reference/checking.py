"""Checking plain values against the types of the model, reporting every problem instead of the first."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from conformance.reference.sources import Trail

Complaint = tuple[Trail, str]


def complaints(value: Any, wanted: type) -> Iterator[Complaint]:
    """Everything in ``value`` that keeps it from being a ``wanted``, as a path and what is wrong there."""
    yield from _check(value, inspect.type_info(wanted), ())


def _check(value: Any, wanted: inspect.Type, path: Trail) -> Iterator[Complaint]:
    says = ""
    while isinstance(wanted, inspect.Metadata):
        says = str((wanted.extra or {}).get("says", says))
        wanted = wanted.type
    if isinstance(wanted, inspect.UnionType):
        if value is None:
            return
        wanted = next(member for member in wanted.types if not isinstance(member, inspect.NoneType))
        yield from _check(value, wanted, path)
        return
    check = _CHECKS.get(type(wanted))
    if check is not None:
        yield from check(value, wanted, path, says)


def _struct(value: Any, wanted: inspect.StructType, path: Trail, says: str) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        yield path, f"needs a mapping with {_listed(field.name for field in wanted.fields)}; found {found(value)}"
        return
    fields = {field.encode_name: field for field in wanted.fields}
    for name, field in fields.items():
        if name in value:
            yield from _check(value[name], field.type, (*path, name))
        elif field.required:
            yield path, f"needs {name!r}"
    for key in value:
        if key not in fields:
            yield (*path, str(key)), f"is no key here.{guess(str(key), fields)} Allowed: {_listed(fields)}"


def _mapping(value: Any, wanted: inspect.DictType, path: Trail, says: str) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        yield path, f"needs a mapping; found {found(value)}"
        return
    if wanted.min_length and len(value) < wanted.min_length:
        yield path, "must not be empty"
    for key, member in value.items():
        place = (*path, str(key))
        yield from ((place, f"as a key {text}") for _, text in _check(key, wanted.key_type, place))
        yield from _check(member, wanted.value_type, place)


def _sequence(value: Any, wanted: inspect.VarTupleType, path: Trail, says: str) -> Iterator[Complaint]:
    if not isinstance(value, list):
        yield path, f"needs a list; found {found(value)}"
        return
    if wanted.min_length and len(value) < wanted.min_length:
        yield path, "must not be empty"
    for index, member in enumerate(value):
        yield from _check(member, wanted.item_type, (*path, index))


def _text(value: Any, wanted: inspect.StrType, path: Trail, says: str) -> Iterator[Complaint]:
    if not isinstance(value, str):
        quotes = f'; write it in quotes: "{_as_written(value)}"' if isinstance(value, (bool, int, float)) else ""
        yield path, f"needs text; found {found(value)}{quotes}"
    elif wanted.min_length and len(value) < wanted.min_length:
        yield path, "must not be empty"
    elif _malformed(value, wanted):
        yield path, f"is {value!r}; allowed: {says or wanted.pattern}"


def _malformed(value: str, wanted: inspect.StrType) -> bool:
    too_long = wanted.max_length is not None and len(value) > wanted.max_length
    return too_long or (wanted.pattern is not None and re.search(wanted.pattern, value) is None)


def _whole_number(value: Any, wanted: inspect.IntType, path: Trail, says: str) -> Iterator[Complaint]:
    if isinstance(value, bool) or not isinstance(value, int):
        yield path, f"needs a whole number; found {found(value)}"
    elif wanted.ge is not None and value < wanted.ge:
        yield path, f"is {value}; the least is {wanted.ge}"
    elif wanted.le is not None and value > wanted.le:
        yield path, f"is {value}; the greatest is {wanted.le}"


def _truth(value: Any, wanted: inspect.BoolType, path: Trail, says: str) -> Iterator[Complaint]:
    if not isinstance(value, bool):
        yield path, f"needs true or false; found {found(value)}"


def _choice(value: Any, wanted: inspect.LiteralType, path: Trail, says: str) -> Iterator[Complaint]:
    if value not in wanted.values:
        choices = [str(choice) for choice in wanted.values]
        yield path, f"is {_as_written(value)!r}.{guess(str(value), choices)} Allowed: {_listed(choices)}"


# Each kind of type with its own check. Unlisted kinds (Any) allow everything.
_CHECKS: dict[type[inspect.Type], Callable[[Any, Any, Trail, str], Iterator[Complaint]]] = {
    inspect.StructType: _struct,
    inspect.DictType: _mapping,
    inspect.VarTupleType: _sequence,
    inspect.StrType: _text,
    inspect.IntType: _whole_number,
    inspect.BoolType: _truth,
    inspect.LiteralType: _choice,
}


def found(value: Any) -> str:
    """What a value is, in words for somebody who wrote YAML."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return _as_written(value)
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__} ({value})"


def guess(wrong: str, known: Iterable[str]) -> str:
    """`` Did you mean X?`` when one of ``known`` is close to ``wrong``, else nothing."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _as_written(value: Any) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, (bool, int, float)) else str(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)

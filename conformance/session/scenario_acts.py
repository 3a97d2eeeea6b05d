"""What a requirement does in the lab, read from its own text: the plan of a run cannot differ from what the run does.

Followed are the test function, its fixtures, and every function and class of the suites that one of them names: all
calls on a lab are found, also those of a branch that is not taken. A plan may name more than a run does, never less.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from conformance.lab.creating import BORROWS, CREATES, OF_A_NAMESPACE, WHATEVER_IT_IS_GIVEN
from conformance.lab.workloads import workload_object

_SUITES = "suites"
_LABS = ("lab", "_lab")


class Acts(msgspec.Struct, frozen=True):
    """The methods of the lab that a requirement may call, and the kinds of objects that its text spells out."""

    methods: frozenset[str]
    spelled: frozenset[str]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of objects that it may create."""
        made = {kind for method in self.methods for kind in CREATES.get(method, ())}
        if self.methods & set(WHATEVER_IT_IS_GIVEN):
            made |= {*self.spelled, *OF_A_NAMESPACE}
        return frozenset(made)

    @property
    def borrows(self) -> bool:
        """Whether it may have a node to itself for a while."""
        return bool(self.methods & set(BORROWS))


def acts_of(function: Any, conftests: Sequence[ModuleType], folders: Sequence[Path] = ()) -> Acts:
    """What the test function of a requirement may do.

    ``conftests`` have the fixtures that suites share, the nearest first. Followed is what the shipped suites define,
    and what files in ``folders`` do: suites of one's own.
    """
    methods: set[str] = set()
    spelled: set[str] = set()
    seen: set[int] = set()
    waiting = [function]
    while waiting:
        each = _unwrapped(waiting.pop())
        if id(each) in seen:
            continue
        seen.add(id(each))
        text = _text(each)
        methods |= text.methods
        spelled |= text.spelled
        waiting += (found for found in _named(each, text.names) if _is_of_suites(found, folders))
        if inspect.isfunction(each):
            waiting += _fixtures(each, conftests)
    return Acts(frozenset(methods), frozenset(spelled))


def _unwrapped(each: Any) -> Any:
    """The function behind a fixture, a cache, a property or a decorator."""
    fixture = getattr(each, "_get_wrapped_function", None)
    return inspect.unwrap(fixture() if fixture is not None else each)


class _Text(msgspec.Struct, frozen=True):
    """What is in the text of a function or class: methods of the lab that it calls, kinds of objects, all names."""

    methods: frozenset[str]
    spelled: frozenset[str]
    names: frozenset[str]


@cache
def _text(each: Any) -> _Text:
    """Read once, however many requirements come by: most share the same few fixtures and helpers."""
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(each)))))
    return _Text(
        methods=frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_lab(node.value)),
        spelled=frozenset(kind for node in nodes for kind in _kinds(node)),
        names=frozenset(node.id for node in nodes if isinstance(node, ast.Name)),
    )


def _is_lab(value: ast.expr) -> bool:
    if isinstance(value, ast.Name):
        return value.id in _LABS
    return isinstance(value, ast.Attribute) and value.attr in _LABS


def _kinds(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "kind" and isinstance(value, ast.Constant):
                yield str(value.value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == workload_object.__name__:
        yield from (str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant))


def _named(each: Any, names: frozenset[str]) -> Iterator[Any]:
    """The functions and classes that a text names, its annotations included."""
    scope = _scope(each)
    for name in names:
        found = scope.get(name)
        if inspect.isroutine(found) or inspect.isclass(found):
            yield found


def _is_of_suites(found: Any, folders: Sequence[Path]) -> bool:
    module = str(getattr(found, "__module__", ""))
    if module.partition(".")[0] == _SUITES:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and any(Path(file).is_relative_to(folder) for folder in folders)


def _scope(each: Any) -> Mapping[str, Any]:
    """What the names in a function or class stand for. Several files may be modules of one name, such as conftest."""
    return getattr(each, "__globals__", None) or vars(sys.modules[each.__module__])


def _fixtures(function: Any, conftests: Sequence[ModuleType]) -> Iterator[Any]:
    scopes = (_scope(function), *map(vars, conftests))
    for name in inspect.signature(function).parameters:
        found = next((scope[name] for scope in scopes if name in scope), None)
        if hasattr(found, "_get_wrapped_function"):
            yield found

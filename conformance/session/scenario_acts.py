"""What a requirement does in the lab, read from its own text: the plan of a run cannot differ from what the run does.

Followed are the test function, its fixtures, and every function and class of the suites that one of them names: all
calls on a lab are found, also those of a branch that is not taken. A plan may name more than a run does, never less.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
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


def acts_of(function: Any, conftest: ModuleType) -> Acts:
    """What the test function of a requirement may do. ``conftest`` has the fixtures that suites share."""
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
        waiting += _named(each, text.names)
        if inspect.isfunction(each):
            waiting += _fixtures(each, conftest)
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
    """The functions and classes of the suites that a text names, its annotations included."""
    scope = vars(sys.modules[each.__module__])
    for name in names:
        found = scope.get(name)
        if (inspect.isroutine(found) or inspect.isclass(found)) and _is_ours(found):
            yield found


def _is_ours(found: Any) -> bool:
    return str(getattr(found, "__module__", "")).partition(".")[0] == _SUITES


def _fixtures(function: Any, conftest: ModuleType) -> Iterator[Any]:
    own = vars(sys.modules[function.__module__])
    for name in inspect.signature(function).parameters:
        found = own.get(name, vars(conftest).get(name))
        if hasattr(found, "_get_wrapped_function"):
            yield found

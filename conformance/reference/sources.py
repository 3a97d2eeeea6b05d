"""Reading YAML so that everything in it still knows its file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Trail = tuple[str | int, ...]

# The one in C is ten times as fast; PyYAML has it where it was built with libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Position(NamedTuple):
    """A place in a file; lines count from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Problem(NamedTuple):
    """Something wrong in a set-up: where it was written, where that is in the set-up, and what is wrong."""

    position: Position
    path: Trail
    text: str

    def __str__(self) -> str:
        where = path_text(self.path)
        return f"{self.position}  {where}: {self.text}" if where else f"{self.position}  {self.text}"


class Document(NamedTuple):
    """One YAML document: its plain value, the position of every part by path, and what was wrong with it."""

    value: Any
    positions: dict[Trail, Position]
    problems: tuple[Problem, ...]


def path_text(path: Trail) -> str:
    """A path as people write it: ``pools[0].taints[1].effect``, keys with dots or slashes in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "." in part or "/" in part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text


def read(file: Path) -> Document:
    """Read the one document of a YAML file. Unreadable and malformed files come back as problems, never as errors."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return _hopeless(file, 1, f"cannot be read: {_reason(error)}")
    try:
        root = yaml.compose(text, Loader=_LOADER)
        if root is None:
            return _hopeless(file, 1, "is empty")
        doubled = tuple(_doubled_keys(file, root, ()))
        # Constructing merges `<<` into the nodes themselves, so that the walk below sees the merged keys.
        value = yaml.SafeLoader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _hopeless(file, mark.line + 1 if mark else 1, f"is not YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError) as error:
        return _hopeless(file, 1, f"is not YAML: {error}")
    return Document(value, dict(_positions(file, root, ())), doubled)


def _hopeless(file: Path, line: int, text: str) -> Document:
    return Document(None, {(): Position(file, line)}, (Problem(Position(file, line), (), text),))


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8 text"


def _children(node: yaml.Node, path: Trail) -> Iterator[tuple[Trail, yaml.Node, yaml.Node]]:
    """The members of a node: path, the node that marks its place, its value."""
    if isinstance(node, yaml.MappingNode):
        for key, member in node.value:
            yield (*path, str(key.value)), key, member
    elif isinstance(node, yaml.SequenceNode):
        for index, member in enumerate(node.value):
            yield (*path, index), member, member


def _positions(file: Path, node: yaml.Node, path: Trail) -> Iterator[tuple[Trail, Position]]:
    if not path:
        yield path, Position(file, node.start_mark.line + 1)
    for place, mark, member in _children(node, path):
        yield place, Position(file, mark.start_mark.line + 1)
        yield from _positions(file, member, place)


def _doubled_keys(file: Path, node: yaml.Node, path: Trail) -> Iterator[Problem]:
    """Keys written twice in one mapping: YAML would silently keep the last."""
    seen: dict[str, int] = {}
    for place, mark, member in _children(node, path):
        line = mark.start_mark.line + 1
        key = str(place[-1])
        if isinstance(node, yaml.MappingNode) and key != "<<":
            if key in seen:
                yield Problem(Position(file, line), place, f"is written twice, first in line {seen[key]}")
            seen.setdefault(key, line)
        yield from _doubled_keys(file, member, place)

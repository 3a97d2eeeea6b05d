"""Loading a reference set-up from YAML, telling every problem with its file and line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from conformance.reference import checking, relations, sources
from conformance.reference.errors import InvalidReference
from conformance.reference.model import Reference
from conformance.reference.sources import Document, Position, Problem, Trail
from conformance.reference.stack import DEFAULTS_BY_KIND

__all__ = ["Placed", "load", "load_placed"]

_ENDINGS = (".yaml", ".yml")
_WITH_MANIFESTS = ("workloads", "test_pods")


class Placed(NamedTuple):
    """A set-up, the plain value that was written, and where each part of it was written.

    The value tells what was left to its default.
    """

    reference: Reference
    value: dict[str, Any]
    position: Callable[[Trail], Position]


def load(path: Path | str) -> Reference:
    """Load a set-up from a YAML file, or from all ``*.yaml`` and ``*.yml`` files directly in a directory.

    Files of a directory are merged by top-level key; lists under the same key are joined in the order of the file
    names. The ``manifest`` of a workload or test pod may be the path of another file, relative to the file that names
    it. Raises InvalidReference with all problems, each with file, line, path in the set-up and allowed values.
    """
    return load_placed(path).reference


def load_placed(path: Path | str) -> Placed:
    """The same, with what was written and where. Raises InvalidReference as ``load`` does."""
    place = Path(path)
    files = _files(place)
    if not files:
        what = "has no *.yaml file" if place.is_dir() else "does not exist"
        raise InvalidReference(place, [Problem(Position(place, 1), (), what)])
    setup = _Setup(files)
    problems = [*setup.problems, *setup.complaints()]
    if problems:
        raise InvalidReference(place, sorted(problems, key=lambda problem: problem.position))
    return Placed(msgspec.convert(setup.value, Reference), setup.value, setup.position)


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(file for file in place.iterdir() if file.suffix in _ENDINGS)
    return [place] if place.exists() else []


class _Setup:
    """The plain value of a set-up put together from its files, and the position of every part."""

    def __init__(self, files: list[Path]) -> None:
        self.value: dict[str, Any] = {}
        self.positions: dict[Trail, Position] = {(): Position(files[0], 1)}
        self.problems: list[Problem] = []
        for file in files:
            self._merge(file, sources.read(file))
        self._fill_in()

    def complaints(self) -> Iterator[Problem]:
        """What is wrong with the whole: forms first, then relations."""
        for complaints in (checking.complaints(self.value, Reference), relations.complaints(self.value)):
            for path, text in complaints:
                yield Problem(self.position(path), path, text)

    def _merge(self, file: Path, document: Document) -> None:
        self.problems += document.problems
        if document.value is None:
            return
        if not isinstance(document.value, dict):
            text = f"needs a mapping with keys such as pools and teams; found {checking.found(document.value)}"
            self.problems.append(Problem(document.positions[()], (), text))
            return
        for key, part in document.value.items():
            self._add(file, str(key), part, document)

    def _add(self, file: Path, key: str, part: Any, document: Document) -> None:
        present = self.value.get(key)
        offset = len(present) if isinstance(present, list) else 0
        if key not in self.value:
            self.value[key] = part
        elif isinstance(present, list) and isinstance(part, list):
            present.extend(part)
        else:
            first = self.positions[(key,)]
            self.problems.append(Problem(document.positions[(key,)], (key,), f"is already declared at {first}"))
            return
        for path, position in document.positions.items():
            if path and path[0] == key:
                self.positions.setdefault(_shifted(path, offset), position)
        if key in _WITH_MANIFESTS and isinstance(part, list):
            self._read_manifests(file, key, part, offset)

    def _read_manifests(self, file: Path, key: str, members: list[Any], offset: int) -> None:
        for index, member in enumerate(members):
            if isinstance(member, dict) and isinstance(member.get("manifest"), str):
                self._read_manifest(file.parent / member["manifest"], member, (key, index + offset))

    def _read_manifest(self, file: Path, workload: dict[str, Any], path: Trail) -> None:
        document = sources.read(file)
        for problem in document.problems:
            # A file that does not exist is a mistake of the line that names it.
            position = problem.position if file.exists() else self.position((*path, "manifest"))
            text = problem.text if file.exists() else f"{file} does not exist"
            self.problems.append(Problem(position, (*path, "manifest", *problem.path), text))
        workload["manifest"] = document.value
        for place, position in document.positions.items():
            self.positions[(*path, "manifest", *place)] = position

    def _fill_in(self) -> None:
        """Put in what may be left out because another part says it, and write numbers as the amounts they mean."""
        for path, gpu in relations.matches(self.value, "pools.*.gpu"):
            if isinstance(gpu, dict):
                self._rename(path, gpu, "shares", "replicas")
                if "gpu_resource" in self.value:
                    gpu.setdefault("resource", self.value["gpu_resource"])
        for _, hard in relations.matches(self.value, "teams.*.quotas.*.hard"):
            if isinstance(hard, dict):
                hard.update({key: str(value) for key, value in hard.items() if type(value) is int})
        stack = self.value.get("stack")
        if isinstance(stack, dict):
            for key, value in DEFAULTS_BY_KIND.get(str(stack.get("kind")), {}).items():
                stack.setdefault(key, value)

    def _rename(self, path: Trail, part: dict[str, Any], former: str, key: str) -> None:
        """Read a key under its former name; where both are written, the former one stays and is refused."""
        if former in part and key not in part:
            part[key] = part.pop(former)
            self.positions[(*path, key)] = self.positions[(*path, former)]

    def position(self, path: Trail) -> Position:
        """Where a part was written, or the nearest part around it that was."""
        while path not in self.positions:
            path = path[:-1]
        return self.positions[path]


def _shifted(path: Trail, offset: int) -> Trail:
    match path:
        case (key, int(index), *rest):
            return (key, index + offset, *rest)
    return path

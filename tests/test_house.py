"""What import contracts cannot say of the code's structure: they name layers, this holds every pair of modules."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp


def import_cycle(graph: grimp.ImportGraph) -> list[str]:
    """One cycle of imports, its first module repeated at the end; empty when there is none."""
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as found:
        return list(reversed(found.args[1]))
    return []


def test_no_import_runs_in_a_circle() -> None:
    # Imports inside functions and for type checkers count, too: a module that needs them cannot be read on its own.
    graph = grimp.build_graph("conformance", "suites", exclude_type_checking_imports=False, cache_dir=None)
    assert not import_cycle(graph)


def test_an_import_cycle_is_named_module_by_module() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "b")):
        graph.add_import(importer=importer, imported=imported)
    assert set(import_cycle(graph)) == {"b", "c"}


ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Module:
    """What a module is asked about: its file, its texts, and the names that it gives.

    Names are those of functions, classes, parameters, variables and attributes.
    """

    file: str
    texts: frozenset[str]
    names: frozenset[str]


@cache
def modules() -> tuple[Module, ...]:
    """The modules of the product that may have what is asked for below, each read once: parsing all takes a second."""
    files = [file for top in ("conformance", "suites") for file in sorted((ROOT / top).rglob("*.py"))]
    sources = ((file, file.read_text(encoding="utf-8")) for file in files)
    return tuple(_module(file, source) for file, source in sources if _MAY_BE_ASKED_FOR.search(source))


def _module(file: Path, source: str) -> Module:
    names: set[str] = set()
    texts: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name):
                names.add(name)
            case ast.Constant(value=str(text)):
                texts.add(text)
    return Module(file.relative_to(ROOT).as_posix(), frozenset(texts), frozenset(names))


_KEY = re.compile(r"(nvidia\.com|feature\.node\.kubernetes\.io)/[a-z0-9][\w.-]*")
_OWN_KEYS = ("conformance/gpu/labels.py", "conformance/gpu/resources.py")


def test_every_key_of_a_label_stands_once() -> None:
    elsewhere = {
        f"{module.file}: {text}"
        for module in modules()
        if module.file not in _OWN_KEYS
        # The simulator has its own on purpose, and programs that run inside pods import nothing of ours.
        if not module.file.startswith(("conformance/simulator/", "conformance/probes/"))
        for text in module.texts
        if _KEY.fullmatch(text)
    }
    assert not elsewhere


# The field's words took their place (docs/glossary.md): failure, pod problem, leftovers, replicas, cause, inspect.
_FORMER_WORDS = {"trouble", "troubles", "ailment", "ailments", "leavings", "shares", "mendable", "disproved"}
_FORMER_NAMES = {"CouldNotLook", "first_broken_link", "why_it_hides", "in_words"}
_MAY_BE_ASKED_FOR = re.compile("|".join(["nvidia.com/", "feature.node.kube", *_FORMER_WORDS, *_FORMER_NAMES]), re.I)


def test_no_name_is_a_word_of_our_own_where_the_field_has_one() -> None:
    found = {
        f"{module.file}: {name}"
        for module in modules()
        for name in module.names
        if name.strip("_") in _FORMER_NAMES
        or _FORMER_WORDS & {*re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")}
    }
    assert not found

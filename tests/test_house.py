"""What import contracts cannot say of the code's structure: they name layers, this holds every pair of modules."""

import ast
import re
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


_KEY = re.compile(r"(nvidia\.com|feature\.node\.kubernetes\.io)/[a-z0-9][\w.-]*")
_OWN_KEYS = ("conformance/gpu/labels.py", "conformance/gpu/resources.py")


def test_every_key_of_a_label_stands_once() -> None:
    root = Path(__file__).parents[1]
    modules = [file for top in ("conformance", "suites") for file in sorted((root / top).rglob("*.py"))]
    elsewhere = {
        f"{name}: {node.value}"
        for file in modules
        if (name := file.relative_to(root).as_posix()) not in _OWN_KEYS
        # The simulator has its own on purpose, and programs that run inside pods import nothing of ours.
        if not name.startswith(("conformance/simulator/", "conformance/probes/"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _KEY.fullmatch(node.value)
    }
    assert not elsewhere


# The field's words took their place (docs/glossary.md): failure, pod problem, leftovers, replicas, cause, inspect.
_FORMER_WORDS = {"trouble", "troubles", "ailment", "ailments", "leavings", "shares", "mendable", "disproved"}
_FORMER_NAMES = {"CouldNotLook", "first_broken_link", "why_it_hides", "in_words"}


def names_in(module: ast.AST) -> set[str]:
    """The names that a module gives to functions, classes, parameters, variables and attributes."""
    found: set[str] = set()
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name):
                found.add(name)
    return found


def test_no_name_is_a_word_of_our_own_where_the_field_has_one() -> None:
    root = Path(__file__).parents[1]
    found = {
        f"{file.relative_to(root).as_posix()}: {name}"
        for top in ("conformance", "suites")
        for file in sorted((root / top).rglob("*.py"))
        for name in names_in(ast.parse(file.read_text(encoding="utf-8")))
        if name.strip("_") in _FORMER_NAMES
        or _FORMER_WORDS & {*re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")}
    }
    assert not found

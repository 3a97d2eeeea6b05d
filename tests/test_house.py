"""What import contracts cannot say of the code's structure: they name layers, this holds every pair of modules."""

from graphlib import CycleError, TopologicalSorter

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

"""Requirements of the owners' own, found as pytest finds them: with the profiles that their conftest.py declares."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from conformance.catalog import Requirement, requirement_of


class OwnSuites(NamedTuple):
    """The requirements with their test functions, the conftest modules beside them, and the folders of all that."""

    functions: tuple[tuple[Requirement, object], ...] = ()
    conftests: tuple[ModuleType, ...] = ()
    folders: tuple[Path, ...] = ()


NO_SUITES = OwnSuites()


class _Collector:
    """A plugin that keeps what pytest collected."""

    def __init__(self) -> None:
        self.found = NO_SUITES
        self.errors: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a file could not be read."""
        if report.failed:
            self.errors.append(str(report.longrepr).strip().rpartition("\n")[2])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the requirements."""
        functions = [item.function for item in session.items if isinstance(item, pytest.Function)]
        rules = {rule.id: (rule, function) for function in functions if (rule := requirement_of(function))}
        plugins = session.config.pluginmanager.get_plugins()
        conftests = [each for each in plugins if Path(getattr(each, "__file__", None) or "").name == "conftest.py"]
        conftests.sort(key=lambda each: -len(Path(each.__file__).parts))
        self.found = OwnSuites(tuple(rules.values()), tuple(conftests))


def own_suites(paths: Sequence[Path]) -> OwnSuites:
    """What pytest collects in these folders and files.

    Raises ValueError for a path that is not there, and for suites that pytest cannot collect.
    """
    for path in paths:
        if not path.exists():
            raise ValueError(f"--gpu-suites: {path} is not there; name a folder or file of requirements")
    if not paths:
        return NO_SUITES
    collector = _Collector()
    quiet = ["--collect-only", "-p", "no:terminal", "-p", "no:cacheprovider"]
    code = pytest.main([*quiet, *map(str, paths)], plugins=[collector])
    if collector.errors or code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        why = "; ".join(collector.errors) or f"pytest ended with {int(code)}"
        raise ValueError(f"--gpu-suites: {', '.join(map(str, paths))} cannot be collected: {why}")
    folders = (path if path.is_dir() else path.parent for path in map(Path.absolute, paths))
    return collector.found._replace(folders=tuple(folders))

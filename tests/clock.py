"""Where a session's time went, so that its growth is seen: with ``--durations=N``, also the time of each area.

An area is a folder of tests/. Setup, call and teardown count alike: much of what cluster tests cost is their fixtures.
"""

from collections import Counter

import pytest

HERE = "tests/"


class Clock:
    """Adds up what the phases of tests took, by area."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one phase; under xdist the controller hears of the phases of all processes."""
        area = area_of(report.nodeid)
        self.seconds[area] += report.duration
        self.tests[area] += report.when == "call"

    def lines(self) -> list[str]:
        """One line for each area, the dearest first, and one for all of them."""
        every = [(area, seconds, self.tests[area]) for area, seconds in self.seconds.most_common()]
        total = ("all areas", self.seconds.total(), self.tests.total())
        return [f"{seconds:9.2f}s {tests:5} tests  {area}" for area, seconds, tests in (*every, total)]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it after the slowest tests. Side by side, the sum is longer than the session was."""
        if self.seconds:
            terminalreporter.section("time per area")
            for line in self.lines():
                terminalreporter.write_line(line)


def area_of(nodeid: str) -> str:
    """``tests/kube`` of ``tests/kube/test_kube_paths.py::test_name``; whatever lies elsewhere is one area."""
    folder, slash, _ = nodeid.removeprefix(HERE).partition("/")
    return f"{HERE}{folder}" if nodeid.startswith(HERE) and slash else "elsewhere"


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count, in the one process that tells."""
    if config.option.durations is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Clock())

"""Where a session's time went, so that its growth is seen: with ``--durations=N``, also the time of each area.

An area is a folder of tests/. Setup, call and teardown count alike: much of what cluster tests cost is their fixtures.
Beside the clock stands what the processors did, which other work on the machine hardly changes: of the test, of what it
started, and of clusters that run meanwhile in its process. Whatever has left the test's process tree is not seen.
"""

import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

HERE = "tests/"
_TICKS = os.sysconf("SC_CLK_TCK")
_LOOKS = 3


class Clock:
    """Adds up what the phases of tests took, by area."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.processors: Counter[str] = Counter()
        self.tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one phase; under xdist the controller hears of the phases of all processes."""
        area = area_of(report.nodeid)
        self.seconds[area] += report.duration + getattr(report, "untold", 0.0)
        self.processors[area] += getattr(report, "processors", 0.0)
        self.tests[area] += report.when == "call"

    def lines(self) -> list[str]:
        """One line for each area, the dearest first, and one for all of them."""
        every = [
            (area, seconds, self.processors[area], self.tests[area]) for area, seconds in self.seconds.most_common()
        ]
        total = ("all areas", self.seconds.total(), self.processors.total(), self.tests.total())
        return [
            f"{clock:9.2f}s {busy:9.2f}s of CPU {tests:5} tests  {area}" for area, clock, busy, tests in (*every, total)
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it after the slowest tests. Side by side, the sum is longer than the session was."""
        if self.seconds:
            terminalreporter.section("time per area")
            for line in self.lines():
                terminalreporter.write_line(line)


class Processors:
    """Notes in each report what the processors did since the one before, in this process and in all below it."""

    def __init__(self) -> None:
        self._before = busy()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the seconds as an attribute, which xdist carries to the process that tells."""
        report = yield
        now = busy()
        if now < self._before:
            # Linux may leave out children while others come and go (Documentation/filesystems/proc.rst, 3.7): all that
            # they ever did would be counted when they are seen again. What is less for good has left the tree.
            now = max(now, *(busy() for _ in range(_LOOKS)))
        report.processors = max(0.0, now - self._before)
        self._before = now
        return report


def busy() -> float:
    """The CPU seconds, user and system, of this process and its descendants, living or waited for.

    Of descendants that live only where Linux lists the children of a process.
    """
    below = sum(_busy(process) for process in _below(os.getpid())) if _has_children() else 0.0
    # All are sums of ticks: what is equal must not differ by the order in which it was added.
    return round(sum(os.times()[:4]) + below, 3)


def _has_children() -> bool:
    """Whether this process has any, for a thousandth of what it takes to ask each of its threads for theirs."""
    if sys.platform != "linux":
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _below(process: int) -> Iterator[int]:
    try:
        children = [
            int(child)
            for thread in Path(f"/proc/{process}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield child
        yield from _below(child)


def _busy(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # utime, stime, cutime and cstime: see proc_pid_stat(5), https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    return sum(map(int, fields[11:15])) / _TICKS


def area_of(nodeid: str) -> str:
    """``tests/kube`` of ``tests/kube/test_kube_paths.py::test_name``; whatever lies elsewhere is one area."""
    folder, slash, _ = nodeid.removeprefix(HERE).partition("/")
    return f"{HERE}{folder}" if nodeid.startswith(HERE) and slash else "elsewhere"


def pytest_configure(config: pytest.Config) -> None:
    """Begin to measure, in each process that tests, and to count, in the one that tells."""
    if config.option.durations is None:
        return
    config.pluginmanager.register(Processors())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Clock())

"""What a process of xdist does not tell the one that waits for it: that a test begins, and phases that say nothing.

xdist sends six messages for each test, which cost as much as many a test does. Two suffice where one passes: the report
of its call, and that it is done. What setup and teardown took goes with it, for the time of each area (clock.py).
"""

from collections.abc import Sequence

import pytest
from _pytest.runner import runtestprotocol

# What pytest itself passes over when it lists the slowest tests, unless --durations-min or -vv asks for it.
HIDDEN = 0.005


def pytest_configure(config: pytest.Config) -> None:
    """Be brief in processes of xdist, where nobody wants each phase: with -vv, and in JUnit's file, all are told."""
    if hasattr(config, "workerinput") and not config.option.xmlpath and config.get_verbosity() < 2:
        least = config.option.durations_min
        config.pluginmanager.register(_Brief(HIDDEN if least is None else least))


class _Brief:
    """Runs a test as pytest does, and tells of it when it is over."""

    def __init__(self, least: float) -> None:
        self._least = least

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Take the place of pytest's own, which would announce the test and tell each phase."""
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        for report in told(reports, self._least):
            item.ihook.pytest_runtest_logreport(report=report)
        return True


def told(reports: Sequence[pytest.TestReport], least: float) -> list[pytest.TestReport]:
    """The reports of a test that say something; the first of them has the time of the others as ``untold``."""
    told = [report for report in reports if not _says_nothing(report, least)] or list(reports[:1])
    untold = [report for report in reports if report not in told]
    told[0].untold = sum(report.duration for report in untold)
    told[0].processors = sum(getattr(report, "processors", 0.0) for report in (told[0], *untold))
    return told


def _says_nothing(report: pytest.TestReport, least: float) -> bool:
    return report.when != "call" and report.passed and not report.sections and report.duration < least

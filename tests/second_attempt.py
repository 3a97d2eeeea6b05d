"""Which failed tests may be tried once more: a few of clusters, with ``--second-attempt-of FILE``.

Tests of clusters run beside each other on a machine that is too small for them, and a controller that comes too late
there says little about what the test is for. ``ci/test`` runs those that FILE then names alone, and says so whatever
comes out (docs/decisions/0013-a-second-attempt-is-told.md). A session in which any other test failed, more than a few,
or which ended early, leaves no FILE.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from whole_runs import CLUSTER, RECORDED

MOST = 5
"""How many failed tests can be put down to the machine. More are a fault of what they have in common."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option to those of the project's own tests."""
    parser.getgroup("tests of gpu-conformance").addoption(
        "--second-attempt-of",
        type=Path,
        metavar="FILE",
        help="if only a few tests of clusters fail, write the arguments that try them again to FILE, one a line",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Note what fails, in the one process that hears of all tests."""
    if config.option.second_attempt_of is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(config.option.second_attempt_of))


class _Failures:
    """The tests that failed, and whether each of them needs a cluster."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._failed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a phase that failed; a process of xdist that died has reports without markers."""
        if report.failed:
            self._failed[report.nodeid] = CLUSTER in report.keywords and RECORDED not in report.keywords

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What cannot be collected fails for no want of time."""
        if report.failed:
            self._failed[report.nodeid] = False

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write FILE, or remove the one of an earlier session."""
        self._file.unlink(missing_ok=True)
        whole = exitstatus == pytest.ExitCode.TESTS_FAILED and not session.shouldfail and not session.shouldstop
        if whole and may_be_tried_again(tuple(self._failed.values())):
            option = session.config.option
            drawn = [f"--seed={option.seed}", f"--kills={option.kills}"]
            self._file.write_text("".join(f"{each}\n" for each in (*drawn, *self._failed)))


def may_be_tried_again(needed_clusters: Sequence[bool]) -> bool:
    """Whether failures are few and all of tests of clusters; each is told by whether it was one."""
    return 0 < len(needed_clusters) <= MOST and all(needed_clusters)

"""Processes of xdist are brief, and whoever waits for them learns all that pytest would have told."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import fewer_messages
import pytest
from clock import Clock
from fewer_messages import told
from whole_runs import whole_run

pytest.importorskip("xdist")

TESTS = """
import time
import pytest

@pytest.fixture
def slow(): time.sleep(0.1)

@pytest.fixture
def broken():
    yield
    raise ValueError("broken at its end")

def test_fast(): pass
def test_slow(slow): pass
def test_broken(broken): print("what it said")
def test_fails(): assert not "fails"
@pytest.mark.skip(reason="not wanted")
def test_skipped(): pass
"""
COUNTS = """
from collections import Counter

got = Counter()

def pytest_runtest_logstart(nodeid): got["begun"] += 1
def pytest_runtest_logreport(report): got["reports"] += 1

def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"begun {got['begun']}, reports {got['reports']}")
"""


@pytest.fixture
def distributed(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(fewer_messages.__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(TESTS)
    pytester.makeconftest(COUNTS)
    return lambda *options: pytester.runpytest_subprocess("-p", "xdist", "-p", "fewer_messages", "-n1", *options)


@whole_run
def test_what_says_something_is_told_and_nothing_else(distributed):
    said = distributed("--durations=9", "--durations-min=0.09")

    said.assert_outcomes(passed=3, failed=1, errors=1, skipped=1)
    said.stdout.fnmatch_lines(["*ValueError: broken at its end", "what it said"])
    said.stdout.re_match_lines([r"0\.\d+s setup +\S+::test_slow"])
    # Five calls or what is in place of one, a slow setup, and a teardown that failed; two more may be slow by chance.
    said.stdout.re_match_lines(["begun 0, reports [789]"])


@whole_run
def test_who_asks_for_each_phase_gets_it(distributed, pytester):
    said = distributed("--junitxml=junit.xml")

    said.stdout.fnmatch_lines(["begun 5, reports 14"])
    cases = ElementTree.parse(pytester.path / "junit.xml").findall(".//testcase")
    assert {case.get("name") for case in cases} == {
        "test_fast", "test_slow", "test_broken", "test_fails", "test_skipped"
    }  # fmt: skip


def phase(when, duration, processors, sections=()):
    report = pytest.TestReport(
        "tests/a/b.py::c", ("b.py", 0, "c"), {}, "passed", None, when, sections=sections, duration=duration
    )
    report.processors = processors
    return report


def test_the_time_of_what_is_not_told_is():
    [report] = told([phase("setup", 0.001, 0.25), phase("call", 2.0, 1.0), phase("teardown", 0.002, 0.5)], 0.005)

    clock = Clock()
    clock.pytest_runtest_logreport(report)
    assert report.when == "call"
    assert clock.seconds["tests/a"] == pytest.approx(2.003)
    assert clock.processors["tests/a"] == 1.75


def test_a_phase_that_took_long_or_wrote_something_is_told():
    setup, call = phase("setup", 0.01, 0.0), phase("call", 0.0, 0.0)
    teardown = phase("teardown", 0.0, 0.0, sections=[("Captured stdout teardown", "written")])

    assert told([setup, call, teardown], 0.005) == [setup, call, teardown]
    assert told([setup, call, teardown], 0.02) == [call, teardown]

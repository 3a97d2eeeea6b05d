"""Where the time of a session went is told by area."""

import subprocess
import sys
from pathlib import Path

import clock
import pytest
from clock import Clock, area_of, busy
from whole_runs import whole_run

# Until its own CPU time has reached what it is told to use.
BUSY = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass\nprint(flush=True)\ninput()"


def phase(nodeid, when, duration, processors):
    report = pytest.TestReport(nodeid, ("file", 0, "name"), {}, "passed", None, when, duration=duration)
    report.processors = processors
    return report


def test_an_area_is_a_folder_of_tests():
    assert area_of("tests/kube/test_kube_paths.py::test_name[x/y]") == "tests/kube"
    assert area_of("tests/faults/deep/test_x.py::test_name") == "tests/faults"
    assert area_of("tests/test_x.py::test_name") == "elsewhere"
    assert area_of("suites/pools/test_pools.py::test_name") == "elsewhere"


def test_all_phases_count_and_each_test_once():
    told = Clock()

    for nodeid, when, seconds, processors in [
        ("tests/lab/a.py::one", "setup", 2.0, 1.0),
        ("tests/lab/a.py::one", "call", 1.0, 0.5),
        ("tests/lab/a.py::one", "teardown", 0.5, 0.25),
        ("tests/kube/b.py::two", "call", 4.0, 0.75),
    ]:
        told.pytest_runtest_logreport(phase(nodeid, when, seconds, processors))

    assert told.lines() == [
        "     4.00s      0.75s of CPU     1 tests  tests/kube",
        "     3.50s      1.75s of CPU     1 tests  tests/lab",
        "     7.50s      2.50s of CPU     2 tests  all areas",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the children of a process")
def test_what_a_process_below_does_counts_while_it_runs_and_once_after_it_has_ended():
    before = busy()

    # Linux counts time as a user and in the kernel in ticks of their own, each rounded down: what is asked is less.
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, "0.35"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        running = busy() - before
        process.communicate("\n")

    assert running >= 0.29
    assert running <= busy() - before < running + 0.3


@pytest.fixture
def one_is_busy(pytester):
    """Tests of two areas, of which one computes for some time."""
    loop = "import time\ndef test_it():\n    end = time.process_time() + 0.2\n    while time.process_time() < end: pass"
    pytester.makepyfile(**{"tests/one/test_it": loop, "tests/two/test_that": "def test_that(): pass"})
    return r".*s +(0\.[2-9]|[1-9]).*s of CPU +1 tests  tests/one"


def test_each_report_says_what_its_test_cost(pytester, one_is_busy):
    told = pytester.runpytest_inprocess("-p", "clock", "--durations=15")

    told.stdout.re_match_lines([one_is_busy])


@whole_run
def test_each_report_says_it_beside_others_too(pytester, monkeypatch, one_is_busy):
    monkeypatch.setenv("PYTHONPATH", str(Path(clock.__file__).parent))
    # What else is installed costs each of the processes more than the tests themselves.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    told = pytester.runpytest_subprocess("-p", "clock", "-p", "xdist", "-n2", "--durations=15")

    told.stdout.re_match_lines([one_is_busy])


def test_areas_are_told_together_with_the_slowest_tests(pytester):
    pytester.makepyfile(**{"tests/one/test_it": "def test_it(): pass", "tests/two/test_that": "def test_that(): pass"})

    told = pytester.runpytest_inprocess("-p", "clock", "--durations=15")

    told.stdout.fnmatch_lines(["*time per area*", "*s of CPU     1 tests  tests/*", "*s of CPU     2 tests  all areas"])


def test_without_durations_nobody_is_told(pytester):
    pytester.makepyfile("def test_it(): pass")

    told = pytester.runpytest_inprocess("-p", "clock")

    told.stdout.no_fnmatch_line("*time per area*")

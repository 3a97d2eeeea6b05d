"""Where the time of a session went is told by area."""

import pytest
from clock import Clock, area_of


def phase(nodeid, when, duration):
    return pytest.TestReport(nodeid, ("file", 0, "name"), {}, "passed", None, when, duration=duration)


def test_an_area_is_a_folder_of_tests():
    assert area_of("tests/kube/test_kube_paths.py::test_name[x/y]") == "tests/kube"
    assert area_of("tests/faults/deep/test_x.py::test_name") == "tests/faults"
    assert area_of("tests/test_x.py::test_name") == "elsewhere"
    assert area_of("suites/pools/test_pools.py::test_name") == "elsewhere"


def test_all_phases_count_and_each_test_once():
    clock = Clock()

    for nodeid, when, seconds in [
        ("tests/lab/a.py::one", "setup", 2.0),
        ("tests/lab/a.py::one", "call", 1.0),
        ("tests/lab/a.py::one", "teardown", 0.5),
        ("tests/kube/b.py::two", "call", 4.0),
    ]:
        clock.pytest_runtest_logreport(phase(nodeid, when, seconds))

    assert clock.lines() == [
        "     4.00s     1 tests  tests/kube",
        "     3.50s     1 tests  tests/lab",
        "     7.50s     2 tests  all areas",
    ]


def test_areas_are_told_together_with_the_slowest_tests(pytester):
    pytester.makepyfile(**{"tests/one/test_it": "def test_it(): pass", "tests/two/test_that": "def test_that(): pass"})

    told = pytester.runpytest_inprocess("-p", "clock", "--durations=15")

    told.stdout.fnmatch_lines(["*time per area*", "*s     1 tests  tests/*", "*s     2 tests  all areas"])


def test_without_durations_nobody_is_told(pytester):
    pytester.makepyfile("def test_it(): pass")

    told = pytester.runpytest_inprocess("-p", "clock")

    told.stdout.no_fnmatch_line("*time per area*")

"""Tests side by side: groups apart, one group together."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
import side_by_side
from whole_runs import whole_run

pytest.importorskip("xdist")

FILE = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_function(number): pass

class TestClass:
    def test_one(self): pass
    def test_two(self): pass

@pytest.mark.parametrize("word", ["a@together", "b@together"])
def test_named(word): pass
"""
# What else is installed costs each of the processes more than the tests themselves.
PLUGINS = ("-p", "xdist", "-p", "side_by_side")
LINE = re.compile(r"\[(?P<process>gw\d)\].* PASSED (?P<file>[^: ]+)::(?P<test>\S+)")


@pytest.fixture
def distributed(pytester, monkeypatch):
    """Run the tests of the folder in so many processes; gives what pytest said of each."""
    monkeypatch.setenv("PYTHONPATH", str(Path(side_by_side.__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(processes):
        return pytester.runpytest_subprocess(*PLUGINS, f"-n{processes}", "--dist=loadgroup", "-v")

    return run


@whole_run
def test_a_group_stays_in_one_process(pytester, distributed):
    pytester.makepyfile(**{f"test_{name}": FILE for name in ("a", "b", "c")})

    told = distributed(2)

    told.assert_outcomes(passed=24)
    where = defaultdict(set)
    for line in LINE.finditer(told.stdout.str()):
        where[side_by_side.group_of(f"{line['file']}::{line['test']}")].add(line["process"])
    files = {f"test_{name}.py" for name in ("a", "b", "c")}
    assert set(where) == {*files, *(f"{file}::TestClass" for file in files), "together"}
    assert all(len(processes) == 1 for processes in where.values())


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/lab/test_a.py::test_it", "tests/lab/test_a.py"),
        ("tests/lab/test_a.py::test_it[one::two]", "tests/lab/test_a.py"),
        ("tests/lab/test_a.py::TestClass::test_it[1]", "tests/lab/test_a.py::TestClass"),
        ("tests/lab/test_a.py::test_it[one-two@name of a group]", "name of a group"),
        ("tests/lab/test_a.py::test_it[one@alone]", "tests/lab/test_a.py::test_it[one@alone]"),
        ("tests/lab/test_a.py::test_it[user@]", "tests/lab/test_a.py"),
        ("tests/realnode/test_a.py::TestClass::test_it[1]", "tests/realnode"),
        ("tests/containers/test_b.py::test_it", "tests/containers"),
        ("tests/containers/test_b.py::test_it[one@alone]", "tests/containers/test_b.py::test_it[one@alone]"),
    ],
)
def test_a_group_is_a_name_or_a_folder_or_a_class_or_a_file(nodeid, group):
    assert side_by_side.group_of(nodeid) == group


@whole_run
def test_what_takes_longest_comes_first_and_what_needs_no_cluster_last_and_no_group_is_torn(pytester, distributed):
    of_clusters = "import pytest\n\ndef test_other(): pass\n\n@pytest.mark.cluster\ndef test_it(): pass\n"
    pytester.makeini("[pytest]\nmarkers =\n    cluster")
    pytester.makepyfile(**{f"tests/{name}/test_{name}": "def test_it(): pass" for name in ("gpu", "kill", "setups")})
    pytester.makepyfile(**{"tests/lab/test_lab": of_clusters})

    told = distributed(1)

    tests = [f"{line['file']}::{line['test']}" for line in LINE.finditer(told.stdout.str())]
    assert tests == [
        "tests/kill/test_kill.py::test_it",
        "tests/setups/test_setups.py::test_it",
        "tests/lab/test_lab.py::test_other",
        "tests/lab/test_lab.py::test_it",
        "tests/gpu/test_gpu.py::test_it",
    ]


def test_in_one_process_nothing_is_grouped_or_moved(pytester):
    pytester.makepyfile(**{"tests/gpu/test_gpu": "def test_it(): pass", "tests/kill/test_kill": "def test_it(): pass"})

    told = pytester.runpytest_inprocess("-p", "side_by_side", "-v")

    told.stdout.fnmatch_lines(["tests/gpu/test_gpu.py::test_it PASSED*", "tests/kill/test_kill.py::test_it PASSED*"])


@pytest.mark.parametrize(
    ("selected", "gigabytes", "processes"),
    [("not cluster", 64, 5), ("not cluster", 1, 5), ("", 64, 6), ("cluster", 64, 6), ("", 7, 3), ("", 1, 1)],
)
def test_tests_that_wait_get_more_processes_than_cpus_where_memory_allows(
    pytester, monkeypatch, selected, gigabytes, processes
):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": gigabytes << 18, "SC_PAGE_SIZE": 4096}.__getitem__)
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    config = pytester.parseconfig("-m", selected)

    assert side_by_side.pytest_xdist_auto_num_workers(config) == processes

"""Tests in processes forked after collection: what each has of its own, and what becomes of those that die."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
import side_by_side

CONFTEST = """
import os
import pytest

@pytest.fixture(scope="session")
def of_the_process():
    print("MADE in", os.getpid())
    yield
    with open(os.environ["UNDONE"], "a") as file: file.write(f"{os.getpid()}\\n")
"""
OF_ONE_FILE = """
import os
import pytest

COLLECTED = os.getpid()

@pytest.mark.parametrize("number", range(3))
def test_number(number, tmp_path, of_the_process):
    assert os.getppid() == COLLECTED
    print("RUN in", os.getpid(), "AT", tmp_path)
    os.write(1, b"said past Python\\n")
"""
DIES = """
import os
import pytest

@pytest.mark.parametrize("number", range(4))
def test_number(number):
    if number == 1: os._exit(3)
"""


@pytest.fixture
def ran(pytester, monkeypatch, tmp_path):
    """Run the tests of the folder in processes; gives what pytest said."""
    monkeypatch.setenv("PYTHONPATH", str(Path(side_by_side.__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("UNDONE", str(tmp_path / "undone"))

    def run(*options, processes=2):
        told = pytester.runpytest_subprocess("-p", "processes", f"--processes={processes}", *options)
        assert "Traceback" not in told.stderr.str(), told.stderr.str()
        return told

    return run


def test_a_process_inherits_what_was_collected_and_owns_its_fixtures_folders_and_output(pytester, ran, tmp_path):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(**{f"test_{name}": OF_ONE_FILE for name in ("a", "b", "c")})

    told = ran("-rA")

    told.assert_outcomes(passed=9)
    text = told.stdout.str()
    assert text.count("said past Python") == 9
    at = defaultdict(set)
    for process, folder in re.findall(r"RUN in (\d+) AT (\S+)/test_number", text):
        at[process].add(folder)
    assert 1 <= len(at) <= 2
    assert all(len(folders) == 1 for folders in at.values())
    assert len(set.union(*at.values())) == len(at)
    # A fixture of a session is one of each process, and undone there.
    assert sorted(re.findall(r"MADE in (\d+)", text)) == sorted(at)
    assert sorted((tmp_path / "undone").read_text().split()) == sorted(at)


def test_failures_are_told_as_where_they_are_run_one_after_another(pytester, ran):
    pytester.makepyfile(
        test_a="import pytest\n"
        "def test_wrong(): assert [1, 2] == [1, 3]\n"
        "def test_left_out(): pytest.skip('no reason')\n"
        "@pytest.fixture\ndef broken(): raise OSError('not made')\n"
        "def test_without(broken): ...\n",
        test_b="def test_right(): ...\n",
    )

    told = ran("-rs")

    assert told.ret == pytest.ExitCode.TESTS_FAILED
    told.assert_outcomes(passed=1, failed=1, skipped=1, errors=1)
    told.stdout.fnmatch_lines(["*OSError: not made", "E * assert [[]1, 2[]] == [[]1, 3[]]", "SKIPPED * no reason"])


def test_a_process_that_dies_costs_the_test_that_it_ran(pytester, ran):
    pytester.makepyfile(test_a=DIES, test_b="def test_right(): ...\n")

    told = ran()

    told.assert_outcomes(passed=4, failed=1)
    told.stdout.fnmatch_lines(["*the process ended (exit code 3) while it ran test_a.py::test_number[[]1[]]"])


def test_after_the_first_failure_no_other_group_begins_where_that_is_wanted(pytester, ran):
    pytester.makepyfile(test_a="def test_wrong(): assert False\n", test_b="def test_right(): ...\n")

    told = ran("-x", processes=1)

    told.assert_outcomes(failed=1)
    told.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_what_cannot_be_collected_fails_the_session(pytester, ran):
    pytester.makepyfile(test_a="import nothing_of_that_name", test_b="def test_right(): ...\n")

    told = ran()

    assert told.ret == pytest.ExitCode.INTERRUPTED
    told.stdout.fnmatch_lines(["*1 files cannot be collected*"])

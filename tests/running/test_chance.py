"""What is drawn by chance can be drawn again."""

from pathlib import Path

import chance
import pytest
from whole_runs import whole_run

DRAWS = """
import pytest

def test_one(chance):
    print("one drew", chance.random())

def test_other(chance):
    print("other drew", chance.random())
"""
ORDERED = """
import pytest

@pytest.mark.any_order
@pytest.mark.parametrize("number", range(20))
def test_moved(number): pass

def test_last(): pass
"""

# What else is installed costs each of the processes more than the tests themselves.
PLUGINS = ("-p", "xdist", "-p", "chance")


def drawn(pytester, *arguments):
    told = pytester.runpytest_inprocess("-p", "chance", "-s", *arguments).stdout.str()
    header = next(line for line in told.splitlines() if line.startswith("chance: "))
    return header, [line.partition(" drew ")[2] for line in told.splitlines() if " drew " in line]


def order(pytester, *arguments):
    told = pytester.runpytest_inprocess("-p", "chance", "-v", *arguments).stdout.str()
    return [line.partition("::")[2].split()[0] for line in told.splitlines() if " PASSED " in line]


def test_the_header_names_the_seed_that_draws_the_same_again(pytester):
    pytester.makepyfile(DRAWS)

    header, first = drawn(pytester)
    _, again = drawn(pytester, header.split()[1])

    assert header.startswith("chance: --seed=")
    assert again == first
    assert len(set(first)) == 2


def test_each_session_draws_anew(pytester):
    pytester.makepyfile(DRAWS)

    assert len({tuple(drawn(pytester)[1]) for _ in range(3)}) > 1


def test_what_other_tests_draw_changes_nothing(pytester):
    pytester.makepyfile(DRAWS)

    _, both = drawn(pytester, "--seed=7")
    _, alone = drawn(pytester, "--seed=7", "-k", "test_other")

    assert alone == both[1:]


def test_only_tests_of_any_order_are_shuffled(pytester):
    pytester.makepyfile(ORDERED)

    as_written, shuffled = order(pytester), order(pytester, "--shuffle", "--seed=1")

    assert shuffled == order(pytester, "--shuffle", "--seed=1")
    assert sorted(shuffled) == sorted(as_written)
    assert shuffled != as_written
    assert shuffled[-1] == "test_last"


@whole_run
def test_processes_side_by_side_draw_from_the_seed_that_the_header_names(pytester, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.setenv("PYTHONPATH", str(Path(chance.__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(DRAWS, test_ordered=ORDERED)

    told = pytester.runpytest_subprocess(*PLUGINS, "--shuffle", "-n2", "-rP")

    told.assert_outcomes(passed=23)
    seed = next(line for line in told.outlines if line.startswith("chance: ")).split()[1]
    lines = [line for line in told.outlines if " drew " in line]
    again = pytester.runpytest_inprocess("-p", "chance", seed, "-rP")
    assert sorted(lines) == sorted(line for line in again.outlines if " drew " in line)
    assert len(lines) == 2

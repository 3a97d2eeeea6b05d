"""What a person sees while a run is on: at a terminal, in a log, quietly and verbosely."""

import io
import os
import pty
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from outcomes import environment
from whole_runs import whole_run

from conformance.facts import snapshot
from conformance.kube.current_waits import Wait, current_waits, waiting
from conformance.kube.waits import holds, wait_for
from conformance.session.live import Live, LiveHooks, Way, way_for
from conformance.session.standing import Standing
from conformance.verdict import Status


def test_a_wait_is_known_while_it_lasts():
    seen = []

    wait_for(lambda: seen.append(current_waits()), lambda _: len(seen) > 1, what="pod a runs", timeout=90)
    holds(lambda: seen.append(current_waits()), lambda _: True, window=0, what="pod a stays Pending")

    assert [(each.what, each.limit, each.holds) for [each] in seen] == [
        ("pod a runs", 90, False), ("pod a runs", 90, False), ("pod a stays Pending", 0, True)
    ]  # fmt: skip
    assert current_waits() == ()


def test_the_wait_that_began_first_is_told_first_whatever_thread_it_is_in():
    go_on = threading.Event()
    begun = threading.Event()

    def other() -> None:
        with waiting("second", 5):
            begun.set()
            go_on.wait(90)

    with waiting("first", 5):
        thread = threading.Thread(target=other)
        thread.start()
        begun.wait(90)
        assert [each.what for each in current_waits()] == ["first", "second"]
        go_on.set()
        thread.join()


def test_a_wait_that_raised_is_over():
    with pytest.raises(RuntimeError), waiting("pod a runs", 5):
        raise RuntimeError

    assert current_waits() == ()


def standing() -> Standing:
    standing = Standing()
    standing.total = 169
    for id, status in (("POOL-01", Status.PASSED), ("POOL-02", Status.FAILED), ("DRA-01", Status.WAITING)):
        standing.began(id, 0)
        standing.judged(id, status)
        standing.ended(id)
    standing.began("PRIO-03", 10)
    return standing


POD = "pod gpuc-uzynsa6q-prio-03-default-1/training-1 is running"


def test_the_line_counts_and_says_what_is_waited_for_and_for_how_long():
    waits = [Wait(POD, 16, 120), Wait("something else", 20, 5)]

    assert standing().told(24, waits) == (
        "3 of 169, 1 failed, 1 waiting | PRIO-03 14 s: 8 of 120 s until "
        "pod prio-03-default-1/training-1 is running (and 1 more)"
    )


def test_a_name_that_is_too_long_is_shortened_where_neither_its_kind_nor_what_must_come_is_lost():
    line = standing().told(24, [Wait(POD, 16, 120)], 90)

    assert len(line) <= 90
    assert line.endswith("is running")
    assert "8 of 120 s until pod" in line


def test_many_at_a_time_are_counted():
    some = standing()
    for id in ("A", "B", "C"):
        some.began(id, 24)

    assert some.told(24, []).endswith("| PRIO-03 14 s, A, B and 1 more")


@pytest.mark.parametrize(
    ("verbosity", "terminal", "way"),
    [(0, True, Way.LINE), (0, False, Way.PLAIN), (1, True, Way.PLAIN), (-1, True, Way.NONE), (-1, False, Way.NONE)],
)
def test_how_progress_is_shown(verbosity, terminal, way):
    assert way_for(verbosity, terminal=terminal) is way


def test_a_log_gets_a_plain_line_about_what_lasts_and_not_before():
    stream = io.StringIO()
    hooks = LiveHooks(Live(Way.PLAIN, stream))
    hooks.live.tick()
    hooks.live.standing.total = 2
    hooks.live.standing.began("PRIO-03", time.monotonic() - 9)
    hooks.live.tick()
    assert stream.getvalue() == ""

    hooks.live.standing.began("PRIO-04", time.monotonic() - 14)
    hooks.live.tick()
    hooks.live.tick()

    assert stream.getvalue() == "\n  0 of 2 | PRIO-03 9 s, PRIO-04 14 s\n"


def test_a_controller_of_workers_names_requirements_too():
    hooks = LiveHooks(Live(Way.NONE, None))
    hooks.pytest_xdist_node_collection_finished(["a", "b"])
    hooks.pytest_runtest_logstart("suites/priorities/test_preemption.py::test_training_preempts_experiments")

    assert hooks.live.standing.told(time.monotonic(), []).endswith("| PRIO-03")


def test_nothing_is_said_before_anything_is_collected():
    stream = io.StringIO()
    Live(Way.LINE, stream).tick()

    assert stream.getvalue() == ""


def test_failures_stand_above_the_line_as_they_happen_and_names_do_nothing_to_the_terminal():
    stream = io.StringIO()
    hooks = LiveHooks(Live(Way.LINE, stream))
    hooks.judged("x::test_a", Status.PASSED, "POOL-01 MUST  a")
    hooks.judged("x::test_b", Status.FAILED, "POOL-02 MUST  \x1b[2Jb")

    assert stream.getvalue() == "\r\x1b[2KFAILED POOL-02 MUST  ?[2Jb\n"


def test_a_terminal_that_has_gone_does_not_end_the_run():
    stream = io.StringIO()
    live = Live(Way.LINE, stream)
    stream.close()

    live.tick()
    live.clear()


SLOW = """
import time
from conformance.catalog import MUST, requirement
from conformance.kube.current_waits import waiting
from conformance.subjects import ObjectReference

NODE = ObjectReference.of("Node", "a")

@requirement("POOL-98", "This one holds", level=MUST, sources=["guide-1"], remedy="none")
def test_holds(judge):
    print("captured words")
    with waiting("pod a/b is running", 120):
        time.sleep(1.5)
    judge(NODE, ok=True, expected="a", actual="a")

@requirement("POOL-99", "This one does not", level=MUST, sources=["guide-1"], remedy="none")
def test_breaks(judge):
    judge(NODE, ok=False, expected="a", actual="b")
"""


def at_a_terminal(arguments: list[str], folder: Path) -> str:
    """All that pytest writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    variables = {**environment(), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    with subprocess.Popen(command, cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 90)[0]:
            try:
                written += os.read(ours, 65536)
            except OSError:
                break
        process.wait(90)
    os.close(ours)
    return written.decode()


@pytest.fixture
def slow(tmp_path: Path) -> list[str]:
    """Two requirements of one's own on a cluster without nodes: one that waits, one that fails."""
    suite, file = tmp_path / "test_slow.py", tmp_path / "empty.json.gz"
    suite.write_text(SLOW)
    snapshot.save(snapshot.Snapshot.of([]), file)
    return [str(suite), "--cluster", f"snapshot:{file}"]


@whole_run
def test_at_a_terminal_one_line_rewrites_itself(slow, tmp_path):
    written = at_a_terminal(slow, tmp_path)

    assert "\r\x1b[2K0 of 2 | POOL-98" in written
    assert "of 120 s until pod a/b is running" in written
    assert "\r\x1b[2KFAILED POOL-99 MUST  This one does not" in written
    assert "test_slow.py" not in written.partition("collected")[2].partition("FAILURES")[0]
    assert "captured words" not in written
    end = written.partition("GPU conformance")[2]
    assert "\x1b[2K" not in end
    assert len(end.splitlines()) < 24


@whole_run
def test_quietly_nothing_rewrites_itself(slow, tmp_path):
    assert "\x1b[2K" not in at_a_terminal(["-q", *slow], tmp_path)


@whole_run
def test_verbosely_each_requirement_has_its_line(slow, tmp_path):
    written = at_a_terminal(["-v", *slow], tmp_path).partition("collected")[2]

    assert "\x1b[2K" not in written
    assert "test_holds" in written
    assert "PASSED" in written


def test_into_a_pipe_everything_is_plain(slow, tmp_path, conform):
    outcome = conform(*slow)

    assert "\x1b" not in outcome.output
    assert "test_slow.py" in outcome.output
    assert outcome.exit_code == 1

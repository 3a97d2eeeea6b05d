"""What a waiting person sees."""

import io

import pytest

from conformance.progress import TerminalProgress, describe, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_per_step_and_one_every_ten_seconds():
    stream, clock = io.StringIO(), Clock()
    progress = TerminalProgress(stream, clock=clock)
    for second in range(25):
        clock.now = second
        progress.step("Building etcd", 1, 3)
    progress.step("Building kwok", 3, 3)

    assert stream.getvalue().splitlines() == [
        "Building etcd (1 of 3)",
        "Building etcd (1 of 3), 10 s",
        "Building etcd (1 of 3), 20 s",
        "Building kwok (3 of 3)",
    ]


def test_the_last_of_a_step_is_always_said_and_said_once():
    stream = io.StringIO()
    progress = TerminalProgress(stream, clock=Clock())
    for done in (1, 2, 3, 3, 3):
        progress.step("Creating nodes", done, 3)

    assert stream.getvalue().splitlines() == ["Creating nodes (1 of 3)", "Creating nodes (3 of 3)"]


def test_a_terminal_rewrites_one_line_and_keeps_notes():
    stream, clock = Terminal(), Clock()
    with TerminalProgress(stream, clock=clock) as progress:
        progress.step("Building etcd", detail="2 packages")
        clock.now = 65
        progress.step("Building etcd", detail="9 packages")
        progress.note("Built etcd")
        progress.step("Building kwok")

    assert stream.getvalue() == (
        "\r\x1b[2KBuilding etcd (2 packages)\r\x1b[2KBuilding etcd (9 packages), 1 min 5 s"
        "\r\x1b[2KBuilt etcd\n\r\x1b[2KBuilding kwok\n"
    )


def test_a_terminal_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    TerminalProgress(stream).step("Building kube-controller-manager")

    assert stream.getvalue() == "\r\x1b[2KBuilding kube-cont…"


def test_a_closed_stream_does_not_end_the_work():
    stream = io.StringIO()
    progress = TerminalProgress(stream)
    progress.note("first")
    stream.close()

    progress.warn("nobody reads this")


def test_a_warning_is_marked_as_one():
    stream = io.StringIO()
    TerminalProgress(stream).warn("it is not used")

    assert stream.getvalue() == "warning: it is not used\n"


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (59.9, "59 s"), (80, "1 min 20 s"), (3900, "1 h 5 min")])
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_a_step_without_a_total_says_how_many_so_far():
    assert describe("Reading", 12, None, detail="pods", elapsed=0) == "Reading (12, pods)"

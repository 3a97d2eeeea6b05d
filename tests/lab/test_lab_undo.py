import os
import signal

import pytest

from conformance.lab.cleanup.undo import TerminationInterrupts, UndoStack, interrupts_deferred
from conformance.verdict import Inconclusive


def test_the_last_thing_done_is_undone_first() -> None:
    undone: list[str] = []
    undoing = UndoStack()
    for what in ("first", "second", "third"):
        undoing.will(what, lambda what=what: undone.append(what))  # type: ignore[misc]
    undoing.undo(undoing.pending[1])

    assert undoing.undo_all() == []
    assert undone == ["second", "third", "first"]
    assert undoing.pending == []


def test_one_failure_does_not_keep_the_others_from_being_undone() -> None:
    undone: list[str] = []
    undoing = UndoStack()

    def fail() -> None:
        raise Inconclusive("the node is on fire")

    undoing.will("first", lambda: undone.append("first"))
    undoing.will("second", fail)

    assert undoing.undo_all() == ["second: the node is on fire"]
    assert undone == ["first"]
    assert [step.what for step in undoing.pending] == ["second"]


def test_the_first_interrupt_waits_for_the_end_of_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred("cleaning", lambda: "left"):
        signal.raise_signal(signal.SIGINT)
        done.append("all")

    assert done == ["all"]
    assert "cleaning; press Ctrl-C again to abort" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_interrupt_aborts_the_block_and_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred("cleaning", lambda: "two pods are left"):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("all")

    assert done == []
    assert "two pods are left" in capsys.readouterr().err


def test_termination_ends_a_run_as_ctrl_c_does() -> None:
    earlier = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), TerminationInterrupts():
        os.kill(os.getpid(), signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) == earlier

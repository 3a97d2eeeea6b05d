"""What a run has to undo, last done first, also when somebody presses Ctrl-C in the middle of it.

Every step is registered before its action is taken and may be undone although the action never happened: an
interruption between the two loses nothing.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from conformance.kube.errors import KubeError
from conformance.remains import Left
from conformance.verdict import Inconclusive

__all__ = ["Step", "TerminationInterrupts", "UndoStack", "interrupts_deferred"]


class Step:
    """One thing to undo: what it is in words, and how it is undone."""

    def __init__(self, what: str, undo: Callable[[], None]) -> None:
        self.what = what
        self.undo = undo


class UndoStack:
    """The steps that are still to be undone. Registering and undoing may happen in several threads."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._lock = threading.Lock()

    def will(self, what: str, undo: Callable[[], None]) -> Step:
        """Register what ``undo`` will undo; call this before the action itself."""
        step = Step(what, undo)
        with self._lock:
            self._steps.append(step)
        return step

    def undo(self, step: Step) -> None:
        """Undo one step now. It stays registered when undoing fails or is interrupted, and goes when done."""
        with self._lock:
            if step not in self._steps:
                return
        step.undo()
        with self._lock:
            self._steps.remove(step)

    def undo_all(self) -> list[Left]:
        """Undo everything, last registered first; return in words what could not be undone and why."""
        failures = []
        for step in reversed(self.pending):
            try:
                self.undo(step)
            except (KubeError, Inconclusive) as error:
                failures.append(Left(step.what, error))
        return failures

    @property
    def pending(self) -> list[Step]:
        """The steps that are still to be undone, in the order of their registration."""
        with self._lock:
            return list(self._steps)


@contextmanager
def interrupts_deferred(what: str, left: Callable[[], str]) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM inside the block wait until the block has ended, and the second one abort it.

    ``what`` says what is being done, ``left`` what remains and how to remove it; both are written to standard error.
    Outside the main thread no signal arrives and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = 0

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            _say(f"{what}; press Ctrl-C again to abort that")
            return
        _say(left())
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, on_interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    if pressed:
        raise KeyboardInterrupt


class TerminationInterrupts:
    """Makes SIGTERM, which CI systems send to a cancelled job, end the block as Ctrl-C does: with clean-up.

    Nothing happens where the block is not in the main thread, which alone may choose handlers of signals. It is no
    generator: one that is forgotten would set the handler back whenever, and in whichever thread, it is collected.
    """

    def __init__(self) -> None:
        self._earlier: Any = None
        self._set = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGTERM, self._on_termination)
            self._set = True

    def __exit__(self, *_: object) -> None:
        if self._set:
            self._set = False
            signal.signal(signal.SIGTERM, self._earlier if self._earlier is not None else signal.SIG_DFL)

    def _on_termination(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("terminated by SIGTERM")


def _say(text: str) -> None:
    sys.stderr.write(f"\ngpu-conformance: {text}\n")
    sys.stderr.flush()

"""What a long job tells the person who waits: what is being done, how far it is, since when."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol, TextIO

PLAIN_LINE_EVERY = 10.0
"""Seconds after which an unfinished step is said again where lines cannot be rewritten (a CI log)."""
REWRITE_EVERY = 0.1
"""Seconds between two updates of the line of a terminal; more is flicker."""


class Progress(Protocol):
    """Whoever works calls these; whoever started the work decides where they go."""

    def step(self, what: str, done: int | None = None, total: int | None = None, *, detail: str = "") -> None:
        """Say that ``what`` is under way, ``done`` of ``total``. Call it again, about every second, while it lasts."""

    def note(self, text: str) -> None:
        """Say something that is worth keeping, such as what a finished step has made."""

    def warn(self, text: str) -> None:
        """Say something that went another way than was asked for, though the work goes on."""


class SilentProgress:
    """Says nothing: for tests and for ``--quiet``."""

    def step(self, what: str, done: int | None = None, total: int | None = None, *, detail: str = "") -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""


class QuietProgress(SilentProgress):
    """Says only what went another way than was asked for, on standard error: for ``-q``."""

    def warn(self, text: str) -> None:
        """Write one line that stays and says that it is a warning."""
        TerminalProgress().warn(text)


class TerminalProgress:
    """Writes to standard error: one line that rewrites itself on a terminal, plain lines elsewhere."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._given = stream
        self._clock = clock
        self._what = ""
        self._since = 0.0
        self._done: int | None = None
        self._said_at = 0.0
        self._unfinished = False
        self._last: tuple[int | None, int | None, str] = (None, None, "")
        self._lock = threading.RLock()

    def __enter__(self) -> "TerminalProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, what: str, done: int | None = None, total: int | None = None, *, detail: str = "") -> None:
        """Show the step; calls that come faster than a reader can follow are left out."""
        with self._lock:
            self._last = (done, total, detail)
            self._say(what, done, total, detail)

    def again(self, waiting: str) -> None:
        """Show the step that lasts once more, with what it waits for at the moment; nothing where none lasts."""
        with self._lock:
            done, total, detail = self._last
            if self._what:
                self._say(self._what, done, total, ", ".join(filter(None, (detail, waiting))))

    def _say(self, what: str, done: int | None, total: int | None, detail: str) -> None:
        now = self._clock()
        new = what != self._what
        if new:
            self._what, self._since, self._done = what, now, None
        finished = done is not None and done == total != self._done
        pause = REWRITE_EVERY if self._rewrites() else PLAIN_LINE_EVERY
        if new or finished or now - self._said_at >= pause:
            self._said_at, self._done = now, done
            self._show(describe(what, done, total, detail=detail, elapsed=now - self._since))

    def note(self, text: str) -> None:
        """Write one line that stays."""
        self._write_line(text)

    def warn(self, text: str) -> None:
        """Write one line that stays and says that it is a warning."""
        self._write_line(f"warning: {text}")

    def close(self) -> None:
        """End the line that was being rewritten, so that what follows starts on its own line."""
        with self._lock:
            if self._unfinished:
                self._write("\n")
            self._unfinished = False
            self._what = ""

    def _rewrites(self) -> bool:
        return self._stream().isatty()

    def _stream(self) -> TextIO:
        # Looked up at each use: pytest and others exchange sys.stderr while a run goes on.
        return self._given or sys.stderr

    def _show(self, line: str) -> None:
        if not self._rewrites():
            self._write(f"{line}\n")
            return
        self._write(f"\r\x1b[2K{cut(line)}")
        self._unfinished = True

    def _write_line(self, text: str) -> None:
        with self._lock:
            clear = "\r\x1b[2K" if self._unfinished else ""
            self._unfinished = False
            self._what = ""
            self._write(f"{clear}{text}\n")

    def _write(self, text: str) -> None:
        try:
            self._stream().write(text)
            self._stream().flush()
        except (OSError, ValueError):
            # Nobody reads any more (a closed pipe): the work itself must not die of it.
            return


def describe(what: str, done: int | None, total: int | None, *, detail: str, elapsed: float) -> str:
    """One line: ``Building etcd (2 of 3, 412 packages), 1 min 20 s``. ``elapsed`` is in seconds."""
    far = [f"{done} of {total}" if total is not None else f"{done}"] if done is not None else []
    inside = ", ".join([*far, *([detail] if detail else [])])
    since = f", {duration(elapsed)}" if elapsed >= 1 else ""
    return f"{what} ({inside}){since}" if inside else f"{what}{since}"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``8 s``, ``1 min 20 s``, ``1 h 5 min``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def printable(text: str) -> str:
    """The text without what a terminal would act on; names and messages of a cluster may hold anything."""
    return "".join(each if each.isprintable() else "?" for each in text)


def cut(line: str) -> str:
    """As much of the line as the terminal shows on one, so that writing it again covers it."""
    import shutil

    width = shutil.get_terminal_size().columns - 1
    return line if len(line) <= width else line[: width - 1] + "…"

"""What a person sees while a run is on: one line that rewrites itself, or plain lines about what takes long.

A terminal gets the line, and above it what failed as it fails. A log, and ``-v``, where pytest writes a line for each
requirement, get a plain line about what lasts; ``-q`` gets nothing. The line goes straight to the terminal: what a
requirement prints is captured, and so would this be.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TextIO

import pytest

from conformance.catalog import requirement_of
from conformance.kube.current_waits import current_waits
from conformance.progress import PLAIN_LINE_EVERY, TerminalProgress, cut, printable
from conformance.session import catalogue
from conformance.session.standing import Standing
from conformance.verdict import Status

_EVERY = 0.5
_CLEAR = "\r\x1b[2K"


class Way(Enum):
    """How progress is shown."""

    LINE = "one line that rewrites itself"
    PLAIN = "lines about what lasts"
    NONE = "nothing"


def way_for(verbosity: int, *, terminal: bool) -> Way:
    """How progress is shown at pytest's ``verbosity`` (-q is -1) on a ``terminal`` or elsewhere."""
    if verbosity < 0:
        return Way.NONE
    return Way.LINE if terminal and verbosity == 0 else Way.PLAIN


class Live:
    """Shows the standing of a run until it is stopped. ``stream`` is where pytest writes, past its capturing.

    ``shown`` makes of a text what others may see of it.
    """

    def __init__(self, way: Way, stream: TextIO | None, shown: Callable[[str], str] = str) -> None:
        self.way = way if stream is not None else Way.NONE
        self.standing = Standing()
        self._stream = stream
        self._as_shown = shown
        self._shown = False
        self._said_at = 0.0
        self._lock = threading.RLock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show, from a thread, how the run stands while the block lasts."""
        if self.way is Way.NONE:
            yield
            return
        with every(_EVERY, self.tick):
            try:
                yield
            finally:
                self.clear()

    def tick(self) -> None:
        """Show what is to be seen at this moment."""
        now = time.monotonic()
        if not self.standing.total:
            return
        with self._lock:
            if self.way is Way.LINE:
                width = shutil.get_terminal_size().columns - 1
                self._write(_CLEAR + cut(printable(self._as_shown(self.standing.told(now, current_waits(), width)))))
                self._shown = True
            elif now - max(self._said_at, now - self.standing.lasts(now)) >= PLAIN_LINE_EVERY:
                # A line of pytest's may be unfinished; this one must not be taken for its end.
                self._write(f"\n  {printable(self._as_shown(self.standing.told(now, current_waits())))}\n")
                self._said_at = now

    def note(self, text: str) -> None:
        """Write a line that stays, above the one that rewrites itself; nothing where there is none."""
        if self.way is Way.LINE:
            with self._lock:
                self._write(f"{_CLEAR}{cut(printable(text))}\n")
                self._shown = False

    def clear(self) -> None:
        """Take the line away, so that somebody else can write."""
        with self._lock:
            if self._shown:
                self._write(_CLEAR)
            self._shown = False

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        # Nobody reads any more, or in another encoding: the run must not die of it.
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def close(self) -> None:
        """Let go of the stream."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
        self.way, self._stream = Way.NONE, None


class LiveHooks:
    """pytest's side of it: which requirement is on, and how it ended."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self._names: dict[str, str] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn how many there are, and which requirement each is; under xdist only the workers know."""
        rules = ((item.nodeid, requirement_of(getattr(item, "function", None))) for item in session.items)
        self._names = {nodeid: rule.id for nodeid, rule in rules if rule is not None}
        self.live.standing.total = self.live.standing.total or len(session.items)

    def _name(self, nodeid: str) -> str:
        function = nodeid.rpartition("::")[2]
        return self._names.get(nodeid) or self._names.get(function) or function

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Learn the same from a worker, for the shipped suites."""
        self.live.standing.total = len(ids)
        self._names = catalogue.ids_by_function()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Show progress while requirements are judged."""
        with self.live.shown():
            return (yield)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A requirement begins."""
        self.live.standing.began(self._name(nodeid), time.monotonic())

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A requirement has ended."""
        self.live.standing.ended(self._name(nodeid))

    def judged(self, nodeid: str, status: Status, heading: str) -> None:
        """A requirement has its verdict; what somebody has to look at is said at once."""
        self.live.standing.judged(self._name(nodeid), status)
        if status in (Status.FAILED, Status.ERROR, Status.UNKNOWN):
            self.live.note(f"{status.upper()} {heading}")


@contextmanager
def told(progress: TerminalProgress) -> Iterator[None]:
    """Have the step of ``progress`` say, about every second, what is waited for; for work that is one long call."""

    def again() -> None:
        waits = current_waits()
        progress.again(waits[0].told(time.monotonic()) if waits else "")

    with every(1.0, again):
        yield


@contextmanager
def every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` from a thread of its own, again and again, while the block lasts."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(seconds):
            act()

    thread = threading.Thread(target=work, name="gpu-conformance-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def stream_of_terminal() -> TextIO | None:
    """A stream of its own to where standard output goes now, None where that is no file (a test's, a notebook's)."""
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors="replace")
    except (OSError, ValueError, AttributeError):
        return None

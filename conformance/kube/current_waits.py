"""What this process is waiting for at this moment, for whoever shows it to a person."""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["Wait", "current_waits", "waiting"]


class Wait(NamedTuple):
    """One wait: until ``what`` is so, or, where it ``holds``, for as long as ``what`` has to stay so.

    ``since`` is a moment of ``time.monotonic``; ``limit`` is in seconds.
    """

    what: str
    since: float
    limit: float
    holds: bool = False

    def told(self, now: float) -> str:
        """How long it has lasted, of how long at most, and for what: ``8 of 120 s until pod a/b is running``."""
        word = "while" if self.holds else "until"
        return f"{now - self.since:.0f} of {self.limit:.0f} s {word} {self.what}"


_numbers = itertools.count()
_going: dict[int, Wait] = {}
_lock = threading.Lock()


@contextmanager
def waiting(what: str, limit: float, *, holds: bool = False) -> Iterator[None]:
    """Let others know, for the time of the block, that this thread waits until ``what``, ``limit`` seconds at most."""
    number = next(_numbers)
    with _lock:
        _going[number] = Wait(what, time.monotonic(), limit, holds)
    try:
        yield
    finally:
        with _lock:
            del _going[number]


def current_waits() -> tuple[Wait, ...]:
    """The waits that are going on in all threads, the one that began first in front."""
    with _lock:
        return tuple(_going.values())

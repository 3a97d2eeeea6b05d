"""How far a run is, in one line: how many requirements have ended and how, which one is on, and what it waits for."""

import re
from collections import Counter
from collections.abc import Sequence

from conformance.kube.current_waits import Wait
from conformance.progress import duration
from conformance.verdict import Status

# The counts that somebody who looks at a run wants to see grow, or not.
_COUNTED = (Status.FAILED, Status.ERROR, Status.UNKNOWN, Status.WAITING)
_AT_ONCE = 3
_SHORT, _LONG = 20, 1000
# What begins the names of all that a run makes (kube.names.own_prefix); it is the same in all of them.
_OWN_NAME = re.compile(r"\bgpuc-[a-z0-9]{8}-")


class Standing:
    """What of a run is over and what is on. Moments are those of ``time.monotonic``."""

    def __init__(self) -> None:
        self.total = 0
        self._ended: dict[str, Status | None] = {}
        self._running: dict[str, float] = {}

    def began(self, id: str, now: float) -> None:
        """Requirement ``id`` (or another test, by its name) is on."""
        self._running[id] = now

    def judged(self, id: str, status: Status) -> None:
        """Requirement ``id`` has its verdict; the last one counts."""
        self._ended[id] = status

    def ended(self, id: str) -> None:
        """Nothing of ``id`` is on any more."""
        self._running.pop(id, None)
        self._ended.setdefault(id, None)

    def lasts(self, now: float) -> float:
        """Seconds since the oldest of what is on began, 0 where nothing is."""
        return now - min(self._running.values(), default=now)

    def told(self, now: float, waits: Sequence[Wait], width: int = _LONG) -> str:
        """The line: ``12 of 169, 1 failed | PRIO-03 14 s: 8 of 120 s until pod a/b is running``, in ``width`` columns.

        What has to be shortened is what is waited for, in its middle: a name begins it, and what must come ends it.
        """
        counts = Counter(self._ended.values())
        bad = [f"{counts[status]} {status}" for status in _COUNTED if counts[status]]
        far = ", ".join([f"{len(self._ended)} of {self.total}", *bad])
        on = ", ".join(_since(id, now - since) for id, since in list(self._running.items())[:_AT_ONCE])
        more = f" and {len(self._running) - _AT_ONCE} more" if len(self._running) > _AT_ONCE else ""
        standing = f"{far} | {on}{more}" if on else far
        if not on or not waits:
            return standing
        return f"{standing}: {_shortened(self._wait(now, waits), max(_SHORT, width - len(standing) - 2))}"

    @staticmethod
    def _wait(now: float, waits: Sequence[Wait]) -> str:
        others = f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""
        return _OWN_NAME.sub("", waits[0].told(now)) + others


def _since(id: str, seconds: float) -> str:
    return f"{id} {duration(seconds)}" if seconds >= 1 else id


def _shortened(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    kept = width - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"

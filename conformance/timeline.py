"""What happened in a scenario, step by step: which pod came and ran, who was evicted when and by whom."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from conformance.subjects import ObjectReference

MOST = 60
"""So many steps of a scenario are kept: those with hundreds of pods repeat themselves."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One thing that was done or seen. ``time`` is when, in UTC (RFC 3339, milliseconds).

    ``did`` is what became of the object of ``kind`` and ``name``; ``node`` is where, ``by`` who brought it about, and
    ``detail`` what else was seen. What the cluster did is seen a moment after it happened, when it is looked at.
    """

    time: str
    did: str
    kind: str
    name: str
    namespace: str = ""
    node: str = ""
    by: str = ""
    detail: str = ""

    @property
    def object(self) -> str:
        """The object by its name."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Timeline:
    """The steps of one scenario. May be written to by several threads."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self.left_out = 0

    def add(self, did: str, about: ObjectReference, *, node: str = "", by: str = "", detail: str = "") -> None:
        """Note a step now. Beyond ``MOST`` steps they are counted only."""
        time = self._clock().isoformat(timespec="milliseconds")
        with self._lock:
            if len(self._steps) < MOST:
                self._steps.append(Step(time, did, about.kind, about.name, about.namespace, node, by, detail))
            else:
                self.left_out += 1

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was noted, in that order."""
        with self._lock:
            return tuple(self._steps)

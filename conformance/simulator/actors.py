"""The actors of the simulated stack, and the loop that has each of them look again at whatever changed."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from conformance.kube.errors import Conflict, KubeError, NotFound
from conformance.simulator.world import Object

_WORKERS = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_log = logging.getLogger(__name__)


class Actor(Protocol):
    """One actor: the operator, a node agent, a kubelet.

    ``watches`` are the kinds whose changes concern it. ``keys`` says which of its keys a change bears on, ``reconcile``
    brings what belongs to a key in order, from the state of the world and not from the change; it returns after how
    many seconds it wants to look again, None when only a change can make that necessary. An error is tried again.
    """

    @property
    def name(self) -> str:
        """What the log calls it."""

    @property
    def watches(self) -> tuple[str, ...]:
        """The kinds that it has to hear of."""

    def keys(self, kind: str, obj: Object, deleted: bool) -> Iterable[str]:
        """Its keys that a change bears on."""

    def reconcile(self, key: str) -> float | None:
        """Bring what belongs to a key in order. Raises KubeError for what is to be tried again."""


class Loop:
    """Hands keys to actors: each key once however often it changed, and never to two workers at a time."""

    def __init__(self, actors: Sequence[Actor] = ()) -> None:
        self._actors: dict[str, Actor] = {}
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, str, str]] = []
        self._when: dict[tuple[str, str], float] = {}
        self._running: set[tuple[str, str]] = set()
        self._failures: dict[tuple[str, str], int] = {}
        self._numbers = itertools.count()
        self.add(actors)

    def add(self, actors: Sequence[Actor]) -> None:
        """Take in actors, which may themselves know this loop; before start()."""
        self._actors |= {actor.name: actor for actor in actors}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that any actor watches."""
        return tuple(dict.fromkeys(kind for actor in self._actors.values() for kind in actor.watches))

    def changed(self, kind: str, obj: Object, deleted: bool) -> None:
        """Have every actor that a change concerns look again; for World.start."""
        for actor in self._actors.values():
            if kind in actor.watches:
                try:
                    keys = tuple(actor.keys(kind, obj, deleted))
                except Exception:  # one actor's mistake must not end the watch that all others live on
                    _log.exception("%s: %s %s", actor.name, kind, obj["metadata"]["name"])
                    continue
                for key in keys:
                    self.wake(actor.name, key)

    def wake(self, actor: str, key: str, after: float = 0.0) -> None:
        """Have a actor look at a key, in ``after`` seconds at the latest."""
        when = time.monotonic() + after
        with self._condition:
            known = self._when.get((actor, key))
            if known is None or when < known:
                self._when[actor, key] = when
                heapq.heappush(self._due, (when, next(self._numbers), actor, key))
                self._condition.notify()

    def start(self) -> None:
        """Start the workers."""
        for number in range(_WORKERS):
            threading.Thread(target=self._work, name=f"worker {number}", daemon=True).start()

    def _work(self) -> None:
        while True:
            actor, key = self._next()
            again = self._attempt(actor, key)
            with self._condition:
                self._running.discard((actor, key))
                self._condition.notify()
            if again is not None:
                self.wake(actor, key, again)

    def _next(self) -> tuple[str, str]:
        with self._condition:
            while True:
                now = time.monotonic()
                held = []
                while self._due and self._due[0][0] <= now:
                    when, number, actor, key = heapq.heappop(self._due)
                    if self._when.get((actor, key)) != when:
                        continue  # an earlier wish for the same key came after this one
                    if (actor, key) in self._running:
                        held.append((when, number, actor, key))
                        continue
                    for each in held:
                        heapq.heappush(self._due, each)
                    del self._when[actor, key]
                    self._running.add((actor, key))
                    return actor, key
                for each in held:
                    heapq.heappush(self._due, each)
                # What is held waits for its worker, which notifies; the rest for its time.
                later = min((when for when, *_ in self._due if when > now), default=None) if held else self._first()
                self._condition.wait(None if later is None else max(0.0, later - now))

    def _first(self) -> float | None:
        return self._due[0][0] if self._due else None

    def _attempt(self, actor: str, key: str) -> float | None:
        try:
            again = self._actors[actor].reconcile(key)
        except Exception as error:
            failures = self._failures[actor, key] = self._failures.get((actor, key), 0) + 1
            if not isinstance(error, Conflict | NotFound):
                _log.warning("%s: %s: %s", actor, key, error, exc_info=not isinstance(error, KubeError))
            return float(min(_FIRST_PAUSE * 2 ** min(failures, 10), _LONGEST_PAUSE))
        self._failures.pop((actor, key), None)
        return again

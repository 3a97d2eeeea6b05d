"""Waiting until something is so, and making sure that it stays so."""

import time
from collections.abc import Callable
from typing import TypeVar

from conformance.kube.current_waits import waiting
from conformance.kube.errors import ApiError, WaitTimeout

T = TypeVar("T")

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
_LONGEST_WORDS = 500
_BETWEEN_ATTEMPTS = 0.1


def wait_for(
    observe: Callable[[], T],
    until: Callable[[T], bool],
    *,
    what: str,
    timeout: float,
    give_up: Callable[[T], str | None] | None = None,
    format_seen: Callable[[T], str] = str,
) -> T:
    """Observe until ``until`` holds and return the observation for which it did.

    ``what`` names the awaited state for the error, ``timeout`` is in seconds, ``give_up`` returns why an observation
    can never get better. Observes at least once, however short the timeout. Raises WaitTimeout with the last
    observation, put ``format_seen``; errors of ``observe`` pass through.
    """
    with waiting(what, timeout):
        return _observed_until(observe, until, what, timeout, give_up, format_seen)


def _observed_until(
    observe: Callable[[], T],
    until: Callable[[T], bool],
    what: str,
    timeout: float,
    give_up: Callable[[T], str | None] | None,
    format_seen: Callable[[T], str],
) -> T:
    began = time.monotonic()
    pause = _FIRST_PAUSE
    while True:
        seen = observe()
        if until(seen):
            return seen
        spent = time.monotonic() - began
        hopeless = give_up(seen) if give_up else None
        if hopeless:
            raise WaitTimeout(what, spent, _shortened(format_seen(seen)), gave_up=hopeless)
        if spent >= timeout:
            raise WaitTimeout(what, timeout, _shortened(format_seen(seen)))
        time.sleep(min(pause, timeout - spent))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def holds(observe: Callable[[], T], expectation: Callable[[T], bool], *, window: float, what: str) -> T | None:
    """Observe for ``window`` seconds and return the first observation that violates the expectation, None if none does.

    For negative expectations ("stays Pending"). ``what`` says what is held, for whoever watches the run. The last
    observation is made when the window has passed, so that the expectation is held to its end. A expectation about
    observations that can be None themselves needs a wrapper: None means that it held.
    """
    with waiting(what, window, holds=True):
        return _violation(observe, expectation, window)


def _violation(observe: Callable[[], T], expectation: Callable[[T], bool], window: float) -> T | None:
    deadline = time.monotonic() + window
    pause = _FIRST_PAUSE
    while True:
        last = time.monotonic() >= deadline
        seen = observe()
        if not expectation(seen):
            return seen
        if last:
            return None
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def until_accepted(act: Callable[[], T], passes: Callable[[ApiError], bool], *, timeout: float) -> T:
    """Do something, again while the API server refuses it for a reason that ``passes``; return what it answered.

    For what was made a moment ago (a namespace, a class, a definition): not every part of the control plane knows of
    it at once. Raises what the server said last when ``timeout`` seconds are over, and at once what does not pass.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return act()
        except ApiError as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
        time.sleep(_BETWEEN_ATTEMPTS)


def _shortened(words: str) -> str:
    return words if len(words) <= _LONGEST_WORDS else words[:_LONGEST_WORDS] + "…"

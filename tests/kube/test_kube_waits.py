"""Waits and timeouts: conditions with a deadline and a last observation, claims held over a window."""

import itertools
from collections.abc import Callable

import pytest

from conformance.kube.errors import ApiError, Forbidden, Invalid, NotFound, WaitTimeout
from conformance.kube.timeouts import EMBEDDED, Timeouts
from conformance.kube.waits import holds, until_accepted, wait_for


def test_a_wait_returns_the_observation_for_which_it_came_true() -> None:
    counter = itertools.count()

    assert wait_for(lambda: next(counter), lambda seen: seen >= 3, what="three", timeout=5) == 3


def test_a_wait_that_runs_out_says_what_it_saw_last() -> None:
    with pytest.raises(WaitTimeout, match=r"pod demo/a is Running: not within 0\.05 s; last seen: Pending") as caught:
        wait_for(lambda: "Pending", lambda seen: seen == "Running", what="pod demo/a is Running", timeout=0.05)

    assert caught.value.last_observation == "Pending"


def test_a_hopeless_wait_is_given_up_at_once_with_the_reason() -> None:
    with pytest.raises(WaitTimeout, match="the image cannot be pulled; last seen: waiting") as caught:
        wait_for(
            lambda: "waiting", lambda _: False, what="x", timeout=60, give_up=lambda _: "the image cannot be pulled"
        )

    assert caught.value.seconds < 5


def test_a_wait_observes_at_least_once() -> None:
    assert wait_for(lambda: 1, lambda seen: seen == 1, what="one", timeout=0) == 1


def test_an_observation_is_put_in_the_words_of_the_caller() -> None:
    with pytest.raises(WaitTimeout, match="last seen: 2 of 3 pods"):
        wait_for(lambda: 2, lambda _: False, what="x", timeout=0, format_seen=lambda seen: f"{seen} of 3 pods")


def refusing(*errors: ApiError) -> Callable[[], str]:
    """A request that is refused with these errors, one by one, and then accepted."""
    left = list(errors)

    def act() -> str:
        if left:
            raise left.pop(0)
        return "accepted"

    return act


NEWS = Forbidden(403, "Forbidden", "no PriorityClass of that name", "POST", "/api/v1/pods")
WRONG = Invalid(422, "Invalid", "no", "POST", "/api/v1/pods")


def test_what_is_refused_for_a_passing_reason_is_tried_again() -> None:
    def passes(error: ApiError) -> bool:
        return isinstance(error, (Forbidden, NotFound))

    assert until_accepted(refusing(NEWS, NEWS), passes, timeout=5) == "accepted"
    with pytest.raises(Invalid):
        until_accepted(refusing(NEWS, WRONG), passes, timeout=5)
    with pytest.raises(Forbidden):
        until_accepted(refusing(*[NEWS] * 99), passes, timeout=0.05)


def test_a_claim_that_holds_for_the_whole_window_has_no_violation() -> None:
    assert holds(lambda: "Pending", lambda seen: seen == "Pending", window=0.05, what="stays Pending") is None


def test_a_claim_that_breaks_gives_the_first_violation() -> None:
    seen = iter(["Pending", "Pending", "Running", "Pending"])

    assert holds(lambda: next(seen), lambda phase: phase == "Pending", window=5, what="stays Pending") == "Running"


def test_the_embedded_cluster_holds_claims_for_a_shorter_time() -> None:
    assert EMBEDDED.hold == 1.0
    assert Timeouts().hold == 3


def test_timeouts_are_overridden_by_name() -> None:
    timeouts = Timeouts.parse(["hold=5", "running = 10m", "read=500ms"], EMBEDDED)

    assert (timeouts.hold, timeouts.running, timeouts.read) == (5, 600, 0.5)
    assert timeouts.scheduled == EMBEDDED.scheduled


@pytest.mark.parametrize("text", ["hodl=3", "hold", "=3", "parse=3", ""])
def test_a_timeout_that_does_not_exist_is_refused_with_those_that_do(text: str) -> None:
    with pytest.raises(ValueError, match="one of connect, read"):
        Timeouts.parse([text])


@pytest.mark.parametrize("value", ["", "0", "-1", "soon", "nan", "inf", "5x", "5ss"])
def test_a_timeout_that_is_no_positive_time_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no positive time"):
        Timeouts.parse([f"hold={value}"])

"""The API server's clock: its answers tell it, ours does not matter."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from fake_api import Answer, FakeApi, status

from conformance.kube.client import Client
from conformance.kube.clock import ServerClock
from conformance.kube.errors import Forbidden

POD = "/api/v1/namespaces/demo/pods/a"
SECOND = timedelta(seconds=1)


def dated(when: datetime, **more: object) -> Answer:
    return Answer(headers={"Date": format_datetime(when)}, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("skew", [timedelta(hours=-2), timedelta(), timedelta(days=3)])
def test_the_time_is_that_of_the_servers_answers(api: FakeApi, client: Client, skew: timedelta) -> None:
    server = datetime.now(UTC) + skew
    api.script(dated(server))
    client.get(POD)

    assert -SECOND <= client.server_time() - server < 10 * SECOND


def test_a_refusal_tells_the_time_too(api: FakeApi, client: Client) -> None:
    server = datetime(2031, 5, 1, tzinfo=UTC)
    refusal = status(403, "Forbidden")
    api.script(Answer(refusal.body, 403, {"Date": format_datetime(server)}))
    with pytest.raises(Forbidden):
        client.get(POD)

    assert client.with_token("another").server_time().date() == server.date()


@pytest.mark.parametrize("odd", [None, "", "yesterday", "Thu, 99 Abc 2031 99:00:00 GMT"])
def test_an_answer_without_a_date_leaves_the_clock_as_it_is(odd: str | None) -> None:
    clock = ServerClock()
    clock.hear(odd)
    assert abs(clock.now() - datetime.now(UTC)) < 10 * SECOND

    clock.hear("Thu, 01 May 2031 10:00:00 -0000")
    clock.hear(odd)
    assert clock.now().replace(second=0, microsecond=0) == datetime(2031, 5, 1, 10, tzinfo=UTC)

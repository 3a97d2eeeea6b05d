"""A client to a small API server that misbehaves on demand."""

from collections.abc import Iterator

import pytest
from fake_api import FakeApi

from conformance.kube.client import Client
from conformance.kube.connection import Connection
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.timeouts import Timeouts

RUN_ID = "abcdefgh"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    server = FakeApi()
    yield server
    server.close()


@pytest.fixture
def connection(api: FakeApi) -> Iterator[Connection]:
    with Connection(api.url) as opened:
        yield opened


@pytest.fixture
def client(connection: Connection) -> Client:
    """May do everything, as the run RUN_ID."""
    return Client(connection, Guard(Effect.DISRUPTIVE, RUN_ID), Timeouts(connect=1, read=1, retry=1))

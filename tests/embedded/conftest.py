"""A cluster of one's own for the tests of the embedded cluster."""

import re
from collections.abc import Iterator

import pytest
from embedded_pods import Pods
from patience import PATIENCE

from conformance.clusters.embedded import EmbeddedCluster, EmbeddedSpec, start
from conformance.kube.client import Client
from conformance.kube.waits import wait_for
from conformance.progress import TerminalProgress


@pytest.fixture(scope="module")
def embedded(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    """An embedded cluster with topology ``guide-image`` for this module alone."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        running = start(EmbeddedSpec(topology="guide-image"), TerminalProgress())
    with running:
        yield running


@pytest.fixture(scope="module")
def client(embedded: EmbeddedCluster) -> Iterator[Client]:
    with embedded.client() as client:
        yield client


@pytest.fixture
def pods(client: Client, request: pytest.FixtureRequest) -> Iterator[Pods]:
    """An empty namespace for one test."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    client.create("/api/v1/namespaces", {"metadata": {"name": name}})
    wait_for(
        lambda: client.list(f"/api/v1/namespaces/{name}/serviceaccounts"),
        bool,
        what="default account",
        timeout=PATIENCE,
    )
    yield Pods(client, name)
    client.delete(f"/api/v1/namespaces/{name}")

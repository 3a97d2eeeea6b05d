"""A Docker daemon for the tests of clusters in containers, or a loud reason why these tests do not run."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker_daemon
import pytest
from filelock import FileLock


@pytest.fixture(scope="module")
def docker_host() -> Iterator[str]:
    """The address of a daemon of this module's own, as DOCKER_HOST has it too. Modules take turns."""
    if lacks := docker_daemon.lacks():
        pytest.skip(f"NOT TESTED, clusters in containers: {'; '.join(lacks)}. 'ci/containers' installs what they need")
    lock = FileLock(Path(tempfile.gettempdir()) / "gpu-conformance-tests-docker.lock")
    with lock, docker_daemon.running() as address, pytest.MonkeyPatch.context() as patched:
        patched.setenv("DOCKER_HOST", address)
        yield address


@pytest.fixture
def no_containers(docker_host: str) -> Iterator[None]:
    """Nothing is left of a test: no container, no volume, no folder."""
    yield
    from conformance.clusters.docker.daemon import reached

    with reached() as client:
        assert [container.name for container in client.containers.list(all=True, ignore_removed=True)] == []
        assert client.volumes.list() == []

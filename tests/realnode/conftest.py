"""A machine that can run real nodes, or a loud reason why these tests do not run on this one."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from real_containers import Containers

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.clusters.embedded.binaries.assets import put
from conformance.clusters.embedded.binaries.cache import Cache, cache_root
from conformance.clusters.embedded.binaries.versions import DEFAULT_MINOR, artefacts, this_platform
from conformance.clusters.embedded.real import RealNodesUnavailable, required
from conformance.progress import TerminalProgress

CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")


@pytest.fixture(scope="module")
def machine() -> Iterator[None]:
    """Skip where real nodes cannot run. Modules take turns: some count what there is of real nodes on the machine."""
    try:
        required()
    except RealNodesUnavailable as lacking:
        pytest.skip(f"NOT TESTED, {lacking}")
    with FileLock(Path(tempfile.gettempdir()) / "gpu-conformance-tests-real-nodes.lock"):
        yield


@pytest.fixture(scope="module")
def gpu_machine(machine: None) -> None:
    """Skip where the simulated device plugin cannot run, or nothing could stand in for the driver's libraries."""
    try:
        required(gpus=True)
    except RealNodesUnavailable as lacking:
        pytest.skip(f"NOT TESTED, {lacking}")


@pytest.fixture(scope="module")
def cdi_assets(gpu_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A folder with a containerd that gives devices by CDI; None where the machine's does. Skip where there is none."""
    machines = required(gpus=True)
    if machines.cdi:
        return None
    cache = Cache(cache_root(None, os.environ))
    wanted = artefacts(DEFAULT_MINOR, CONTAINERD, this_platform())
    found = {each.name: path for each in wanted if (path := cache.find(each)) is not None}
    if len(found) < len(wanted):
        pytest.skip(
            f"NOT TESTED, devices by CDI: this machine has containerd {machines.containerd}, and a newer "
            f"one was not made: 'gpu-conformance binaries {' '.join(CONTAINERD)}' makes it"
        )
    return put(found, tmp_path_factory.mktemp("containerd"))["containerd"].parent


@pytest.fixture(scope="module")
def containers(machine: None, request: pytest.FixtureRequest) -> Iterator[Containers]:
    """A cluster of this module's own with two real nodes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        running = start(EmbeddedSpec(topology="single", real_nodes=2), TerminalProgress())
    with running, running.client() as client:
        yield Containers(running, client)

"""``--cluster container`` against a real Docker daemon."""

import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from leftovers import kill_a_run, new, things, until_nothing_is_left
from outcomes import environment

from conformance.clusters.docker import control_plane
from conformance.clusters.docker.attaching import attached
from conformance.clusters.docker.control_plane import ControlPlane, ControlPlaneSpec, running
from conformance.clusters.docker.daemon import reached
from conformance.clusters.docker.errors import ContainerClusterError
from conformance.kube.kubeconfig import server_of
from conformance.progress import SilentProgress

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("docker_host", "no_containers")]
USAGE = 4
PATIENCE = 90.0
# Where a cluster's own addresses are, and one outside: all of them unreachable, at once.
OUTSIDE = ["10.96.0.1", "10.128.0.1", "192.0.2.1"]
DIAL = """
import socket, sys, json
def dial(address):
    try:
        socket.create_connection((address, 443), timeout=20).close()
    except OSError as error:
        return error.errno
print(json.dumps({address: dial(address) for address in sys.argv[1:]}))
"""


def _until_no_container() -> None:
    with reached() as client:
        deadline = time.monotonic() + PATIENCE
        while client.containers.list(all=True, ignore_removed=True) and time.monotonic() < deadline:
            time.sleep(0.2)


def test_a_run_judges_a_cluster_in_a_container_and_leaves_nothing(conform):
    outcome = conform("--cluster", "container", "--gpu-requirement", "POOL-01,PRIO-03", "-n", "2")

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses["PRIO-03"] == "passed"
    assert outcome.report["cluster"]["kind"] == "container"
    assert outcome.report["cluster"]["evidence"] == "simulated"


def test_the_server_is_on_the_loopback_address_and_nothing_leaves_the_container():
    spec = ControlPlaneSpec(topology="single", name="gpu-conformance-test")
    with running(spec, SilentProgress()) as made, reached() as client:
        container = client.containers.get("gpu-conformance-test")
        code, output = container.exec_run(["python3", "-c", DIAL, *OUTSIDE])
        bound = container.attrs["NetworkSettings"]["Ports"]["6443/tcp"]

        assert (code, json.loads(output)) == (0, dict.fromkeys(OUTSIDE, 101))  # ENETUNREACH
        assert [each["HostIp"] for each in bound] == ["127.0.0.1"]
        assert server_of(made.kubeconfig, None) == f"https://127.0.0.1:{bound[0]['HostPort']}"
        assert made.kubeconfig.stat().st_mode & 0o77 == 0
    assert not made.kubeconfig.exists()


@pytest.mark.kills_in(10)
def test_a_killed_run_leaves_nothing(tmp_path: Path, kill: int, chance: random.Random):
    """The first one has a container in any case when it is killed."""
    before, moment = things(), chance.uniform(0.0, 15.0)

    def wait(run: subprocess.Popen[bytes]) -> None:
        if kill == 1:
            with reached() as client:
                deadline = time.monotonic() + PATIENCE
                while not client.containers.list() and time.monotonic() < deadline:
                    assert run.poll() is None
                    time.sleep(0.1)
                found = new(before)
            assert {each.partition(" ")[0] for each in found} >= {"container", "process", "mount", "folder"}, found
        time.sleep(moment)

    kill_a_run(tmp_path, chance, wait, "--cluster", "container")

    assert until_nothing_is_left(before) == set(), f"killed {moment:.2f} s after its start"


NEVER_STARTS = """
import time
from docker.models.containers import Container
from conformance.clusters.docker.control_plane import ControlPlaneSpec, running
from conformance.progress import SilentProgress
Container.start = lambda *_, **__: time.sleep(600)
with running(ControlPlaneSpec(), SilentProgress()):
    pass
"""


def test_a_run_that_is_killed_between_creating_and_starting_its_container_leaves_nothing():
    before = things()
    run = subprocess.Popen([sys.executable, "-c", NEVER_STARTS], env=environment())
    try:
        with reached() as client:
            deadline = time.monotonic() + PATIENCE
            while not client.containers.list(all=True, ignore_removed=True):
                assert run.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            [created] = client.containers.list(all=True)
            assert created.status == "created"
    finally:
        run.kill()
        run.wait()

    assert until_nothing_is_left(before) == set()


def test_a_container_that_nobody_attached_to_ends():
    with reached() as client:
        image = control_plane._present(client, ControlPlaneSpec(), SilentProgress())
        alone = client.containers.create(
            image, ["--kubernetes", "1.36"], stdin_open=True, auto_remove=True, cap_add=["NET_ADMIN"]
        )
        alone.start()
        with attached(alone):
            pass

    _until_no_container()


def test_a_name_that_is_taken_is_told_and_its_container_stays(conform):
    with reached() as client:
        image = control_plane._present(client, ControlPlaneSpec(), SilentProgress())
        other = client.containers.create(image, name="somebodys")
        try:
            outcome = conform("--cluster", "container:somebodys")
            assert outcome.exit_code == USAGE
            assert "Docker has a container named somebodys already" in outcome.output
            assert client.containers.get(other.id).name == "somebodys"
        finally:
            other.remove()


def test_a_port_that_is_taken_is_told(conform):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = conform("--cluster", "container", "--gpu-cluster-port", str(port))

    assert outcome.exit_code == USAGE
    assert f"port {port} of 127.0.0.1 is taken already" in outcome.output


def test_an_image_that_is_not_there_is_told(conform):
    # A registry on this machine's loopback address, where nobody listens: nothing is asked outside.
    outcome = conform("--cluster", "container", "--gpu-cluster-image", "localhost:1/nowhere/control-plane:1")

    assert outcome.exit_code == USAGE
    assert "Docker has no image localhost:1/nowhere/control-plane:1" in outcome.output


def test_a_control_plane_that_does_not_start_says_why():
    with pytest.raises(ContainerClusterError, match=r"did not start: .*1\.12"), _started(version="1.12"):
        pass


def _started(version: str) -> "control_plane.contextlib.AbstractContextManager[ControlPlane]":
    with reached() as client:
        image = control_plane._present(client, ControlPlaneSpec(), SilentProgress())
    return running(ControlPlaneSpec(version=version, image=image), SilentProgress())


def test_where_no_daemon_answers_one_message_says_so(conform, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    outcome = conform("--cluster", "container")

    assert outcome.exit_code == USAGE
    assert f"no Docker daemon answers at unix://{tmp_path}/docker.sock" in outcome.output
    assert "Traceback" not in outcome.output

"""What tests of several areas share: one embedded cluster for the whole session, and ways to run the plugin."""

import gc
import json
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import iri_grammar
import pytest
import yaml
from hypothesis import settings
from outcomes import Outcome, environment
from whole_runs import mark_whole_runs, needs_a_living_cluster

from conformance.clusters.embedded import EmbeddedSpec, start
from conformance.kube.client import Client
from conformance.kube.effects import Effect
from conformance.kube.guard import Guard
from conformance.kube.timeouts import EMBEDDED
from conformance.progress import TerminalProgress

iri_grammar.stand_in()

# Whoever starts tests in the background of a shell has SIGINT ignored, and every process of theirs inherits that; tests
# of interrupted runs, and the runs that they interrupt, need what a terminal gives.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Properties are tried on so many examples, in ci/soak on more. No deadline: machines that test are shared and slow.
settings.register_profile("tests", deadline=None, max_examples=60, database=None)
settings.register_profile("soak", deadline=None, max_examples=2000, database=None)
settings.load_profile("tests")

# Whatever is made until all tests are collected stays.
gc.disable()
_OBJECTS_MADE, _ROUNDS = 100_000, (20, 100)

pytest_plugins = ["pytester", "side_by_side", "fewer_messages", "clock", "chance", "second_attempt"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whole runs before ``-m`` selects."""
    mark_whole_runs(items)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that was imported and collected, which stays until the end.

    It would look through thousands of modules and tests whenever a test makes many objects, or runs a pytest within.
    Tests are short and their memory is small: to look more seldom than Python does saves a tenth of their time.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS_MADE, *_ROUNDS)
    gc.enable()


@dataclass(frozen=True)
class SharedCluster:
    """The session's embedded cluster, with the fleet of topology ``guide-image`` and nothing deployed."""

    client: Client
    kubeconfig: Path
    server: str


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[SharedCluster]:
    """One embedded cluster for all tests. Whoever changes it puts it back."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        running = start(EmbeddedSpec(topology="guide-image"), TerminalProgress())
    with running, running.connection() as connection:
        client = Client(connection, Guard(Effect.DISRUPTIVE, None), EMBEDDED, "gpu-conformance-tests")
        yield SharedCluster(client, running.kubeconfig, running.server)


@pytest.fixture
def somebody(cluster: SharedCluster, tmp_path: Path) -> Iterator[Callable[[str, list[dict[str, Any]]], Path]]:
    """Make a user of the shared cluster with a name and rules of their own; gives their kubeconfig."""
    undo = []

    def make(name: str, rules: list[dict[str, Any]]) -> Path:
        rbac = "rbac.authorization.k8s.io"
        subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
        objects = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}},
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
                "subjects": [subject],
            },
        ]
        for obj in objects:
            cluster.client.apply(obj, manager="tests")
            undo.append(cluster.client.path_of(obj))
        token = cluster.client.create(
            f"/api/v1/namespaces/default/serviceaccounts/{name}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}},
        )["status"]["token"]
        theirs = yaml.safe_load(cluster.kubeconfig.read_text())
        theirs["users"] = [{"name": name, "user": {"token": token}}]
        theirs["contexts"] = [{"name": name, "context": {"cluster": theirs["clusters"][0]["name"], "user": name}}]
        theirs["current-context"] = name
        file = tmp_path / f"{name}.kubeconfig"
        file.write_text(yaml.safe_dump(theirs))
        return file

    yield make
    for path in reversed(undo):
        cluster.client.delete(path)


@pytest.fixture(scope="session")
def forked() -> Iterator[Callable[..., int]]:
    """Run pytest in a process forked from one that has imported it all; gives the exit code (forking.py)."""
    with ExitStack() as held:
        forking: list[subprocess.Popen[str]] = []

        def run(arguments: Sequence[str], folder: Path, output: Path, timeout: float) -> int:
            if not forking:
                command = [sys.executable, str(Path(__file__).with_name("forking.py"))]
                started = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
                )
                forking.append(held.enter_context(started))
            [process] = forking
            assert process.stdin
            assert process.stdout
            asked = {"arguments": arguments, "folder": str(folder), "output": str(output)}
            process.stdin.write(json.dumps({**asked, "environment": environment()}) + "\n")
            process.stdin.flush()
            answered, _, _ = select.select([process.stdout], [], [], timeout)
            if not answered:
                process.kill()
                forking.clear()
                raise subprocess.TimeoutExpired(["pytest", *arguments], timeout, output.read_text())
            return int(process.stdout.readline())

        yield run


@pytest.fixture
def conform(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outcome]:
    """Run pytest with the plugin in a process of its own, in an empty folder, and read its report.

    Settings of whoever runs the tests do not reach it; where binaries are cached does. Runs on clusters start Python
    as a user does, all others fork a process that has the imports behind it.
    """
    forked = _forked(request)

    def process(arguments: Sequence[str], folder: Path, timeout: float) -> tuple[int, str]:
        snapshot = any(argument.startswith("snapshot:") for argument in arguments)
        living = needs_a_living_cluster(request.node) and not snapshot
        return (_started if living else forked)(arguments, folder, timeout)

    return _conforming(process, tmp_path)


@pytest.fixture
def conform_forked(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outcome]:
    """What ``conform`` gives, but without the start of Python on clusters too: for tests that make dozens of runs."""
    return _conforming(_forked(request), tmp_path)


def _conforming(process: Callable[..., tuple[int, str]], empty: Path) -> Callable[..., Outcome]:
    plugins = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]

    def run(*arguments: str, folder: Path = empty, timeout: float = 600) -> Outcome:
        code, output = process([*plugins, *arguments], folder, timeout)
        return Outcome.of(code, output, folder / "gpu-conformance-report")

    return run


def _started(arguments: Sequence[str], folder: Path, timeout: float) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def _forked(request: pytest.FixtureRequest) -> Callable[..., tuple[int, str]]:
    folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")

    def forked(arguments: Sequence[str], folder: Path, timeout: float) -> tuple[int, str]:
        output = folders.mktemp("forked") / "output.txt"
        code = request.getfixturevalue("forked")(arguments, folder, output, timeout)
        return code, output.read_text()

    return forked

"""kind, k3d and minikube through pytest-kubernetes: which commands are run, seen through programs that record them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.clusters.docker import local_providers, reaper
from conformance.clusters.docker.errors import ContainerClusterError
from conformance.clusters.docker.local_providers import (
    LocalCluster,
    LocalSpec,
    delete_command,
    program_of,
)
from conformance.clusters.docker.reaping import reaping

RECORDER = """#!{python}
import json, os, sys
with open({calls!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("KUBECONFIG")]) + "\\n")
if sys.argv[1:2] in (["version"], ["--version"]):
    print({version!r})
elif {fails!r} in sys.argv:
    print("ERROR: the reason", file=sys.stderr)
    sys.exit(1)
elif "get" in sys.argv:
    print("a kubeconfig")
"""


class Program:
    """A provider's program that does nothing but write down how it was called."""

    def __init__(self, folder: Path, name: str, version: str, fails: str = "-") -> None:
        self.path, self._calls = folder / name, folder / "calls.ndjson"
        text = RECORDER.format(python=sys.executable, calls=str(self._calls), version=version, fails=fails)
        self.path.write_text(text)
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[tuple[list[str], str | None]]:
        return [tuple(json.loads(line)) for line in self._calls.read_text().splitlines()]


def spec(program: Program, folder: Path, provider: str, config: Path | None = None) -> LocalSpec:
    return LocalSpec(provider, "my cluster's", "1.36.3", program.path, folder / "kube config", config, ("--retain",))


@pytest.mark.parametrize(
    ("provider", "version"),
    [("kind", "kind v0.33.0"), ("k3d", "k3d version v5.8.3"), ("minikube", "minikube version: v1.36.0")],
)
def test_a_cluster_is_a_manager_of_pytest_kubernetes(tmp_path, provider, version):
    cluster = LocalCluster(spec(Program(tmp_path, provider, version), tmp_path, provider))

    bases = {base.__module__ for base in type(cluster._manager).__mro__}
    assert f"pytest_kubernetes.providers.{provider}" in bases


def test_the_adapter_is_small():
    assert len(Path(local_providers.__file__).read_text().splitlines()) < 200


def test_kind_makes_and_deletes_what_its_config_says_with_a_kubeconfig_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/home/user/.kube/config")
    program = Program(tmp_path, "kind", "kind v0.33.0 go1.26 linux/amd64")
    config = tmp_path / "kind's config.json"
    config.write_text('{"name": "another"}')
    cluster = LocalCluster(spec(program, tmp_path, "kind", config))
    cluster.create()
    cluster.load("localhost/image:1")
    cluster.delete()

    kubeconfig = str(tmp_path / "kube config")
    assert [call for call, _ in program.calls] == [
        ["create", "cluster", "--retain", "--config", str(config), "--kubeconfig", kubeconfig],
        ["load", "docker-image", "localhost/image:1", "--name", "my cluster's"],
        ["delete", "cluster", "--name", "my cluster's"],
    ]
    assert {used for _, used in program.calls} == {kubeconfig}
    assert os.environ["KUBECONFIG"] == "/home/user/.kube/config"


def test_k3d_is_asked_as_a_new_one_whatever_its_version_sorts_as(tmp_path):
    program = Program(tmp_path, "k3d", "k3d version v10.0.0")
    local = spec(program, tmp_path, "k3d")
    cluster = LocalCluster(local)
    cluster.create()
    cluster.load("localhost/image:1")
    cluster.delete()

    assert [call for call, _ in program.calls] == [
        [
            "cluster", "create", "my cluster's", "--retain", "--image", "rancher/k3s:v1.36.3-k3s1",
            "--kubeconfig-update-default=0", "--wait", "--timeout=600s",
        ],
        ["kubeconfig", "get", "my cluster's"],
        ["image", "import", "localhost/image:1", "--cluster", "my cluster's"],
        ["cluster", "delete", "my cluster's"],
    ]  # fmt: skip
    assert local.kubeconfig.read_text() == "a kubeconfig\n"


def test_minikube_writes_into_our_kubeconfig_and_leaves_our_environment_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    program = Program(tmp_path, "minikube", "minikube version: v1.37.0")
    cluster = LocalCluster(spec(program, tmp_path, "minikube"))
    cluster.create()
    cluster.delete()

    [(start, kubeconfig), (delete, _)] = program.calls
    assert start[:3] == ["start", "-p", "my cluster's"]
    assert start[3:9] == ["--retain", "--driver", "docker", "--embed-certs", "--kubernetes-version", "v1.36.3"]
    assert delete == ["delete", "-p", "my cluster's"]
    assert kubeconfig == str(tmp_path / "kube config")
    assert "KUBECONFIG" not in os.environ


def test_what_a_program_complains_about_is_told(tmp_path):
    program = Program(tmp_path, "kind", "kind v0.33.0", fails="create")
    with pytest.raises(ContainerClusterError, match=r"create cluster .* ended with 1:\nERROR: the reason"):
        LocalCluster(spec(program, tmp_path, "kind")).create()


@pytest.mark.parametrize(
    ("provider", "said", "needed"),
    [
        ("kind", "kind v0.17.0 go1.19", "kind 0.31"),
        ("k3d", "k3d version v4.4.8", "k3d 5.0"),
        ("minikube", "minikube version: v1.9.2", "minikube 1.33"),
        ("kind", "nonsense", "kind 0.31"),
    ],
)
def test_an_old_program_is_refused_by_number(tmp_path, provider, said, needed):
    with pytest.raises(ContainerClusterError, match=f"{needed} or newer is needed"):
        program_of(provider, Program(tmp_path, provider, said).path)


def test_a_program_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContainerClusterError, match="no program k3d on PATH"):
        program_of("k3d")


def test_what_is_not_installed_is_named_with_the_command_that_brings_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pytest_kubernetes.providers", None)
    with pytest.raises(ContainerClusterError, match=r"gpu-conformance\[kind\]"):
        LocalCluster(spec(Program(tmp_path, "kind", ""), tmp_path, "kind"))


def test_the_reaper_does_nothing_when_all_is_done(tmp_path):
    program = Program(tmp_path, "kind", "kind v0.33.0")
    (tmp_path / "calls.ndjson").touch()
    with reaping(delete_command(spec(program, tmp_path, "kind"))) as watching:
        watching.done()

    assert program.calls == []


def test_the_reaper_of_a_killed_run_ends_its_command_and_deletes_its_cluster(tmp_path):
    """The run is a process that starts a reaper, names a group and is killed."""
    program = Program(tmp_path, "kind", "kind v0.33.0")
    command = delete_command(spec(program, tmp_path, "kind"))
    making = subprocess.Popen(["sleep", "600"], start_new_session=True)
    code = (
        "import sys, time\n"
        "from conformance.clusters.docker.reaping import reaping\n"
        "with reaping(sys.argv[2:]) as reaper:\n"
        "    reaper.watch(int(sys.argv[1])); print('up', flush=True); time.sleep(600)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(making.pid), *command], stdout=subprocess.PIPE, text=True)
    assert run.stdout
    assert run.stdout.readline() == "up\n"
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()

    assert making.wait(90) == -signal.SIGKILL
    deadline = time.monotonic() + 90
    while len((tmp_path / "calls.ndjson").read_text().splitlines() if (tmp_path / "calls.ndjson").exists() else ()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert program.calls[0][0] == command[1:]


def test_the_reaper_deletes_more_than_once(tmp_path, monkeypatch):
    program = Program(tmp_path, "kind", "kind v0.33.0")
    monkeypatch.setattr("sys.stdin", iter(()))
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    assert reaper.main(delete_command(spec(program, tmp_path, "kind")), pause=0) == 0
    assert len(program.calls) == 4

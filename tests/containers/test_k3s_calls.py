"""k3s through testcontainers: what Docker is asked, seen through a daemon that records it. No k3s ever runs here."""

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from conformance.clusters.docker import k3s, owned
from conformance.clusters.docker.errors import ContainerClusterError
from conformance.clusters.docker.k3s import K3sSpec, image_of
from conformance.clusters.embedded.binaries.versions import DEFAULT_MINOR, release
from conformance.clusters.errors import ClusterError
from conformance.clusters.named import resolve
from conformance.kube.effects import Mode
from conformance.options import OPTIONS, Setting, Settings
from conformance.progress import SilentProgress
from conformance.session.access import reading_access

pytest.importorskip("testcontainers.community.k3s")

KUBECONFIG = {
    "clusters": [
        {"name": "default", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "x"}}
    ],
    "users": [{"name": "default", "user": {"client-key-data": "secret"}}],
}


class Container:
    """A container that says what k3s says."""

    def __init__(self, docker: "Docker", name: str, labels: dict[str, str]) -> None:
        self.docker, self.name, self.status, self.short_id = docker, name, "created", "abc"
        self.labels: dict[str, str] = labels
        self.ports = {"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40123"}]}
        self._looks = 0

    def reload(self) -> None:
        if self.docker.ends:
            self.status = "exited"

    def logs(self) -> bytes:
        self._looks += 1
        ready = self._looks > 2 and not self.docker.ends
        return f"Starting k3s\n{k3s.READY if ready else 'flannel: no such device'}\n".encode()

    def exec_run(self, command: list[str]) -> tuple[int, bytes]:
        assert command == ["cat", k3s.KUBECONFIG]
        return 0, yaml.safe_dump(KUBECONFIG).encode()

    def remove(self, **options: Any) -> None:
        self.docker.calls.append(("remove", options))
        self.docker.present.remove(self)


class Server:
    """An API server with one node, which is ready at the third look."""

    def __init__(self) -> None:
        self.looks = 0
        self.becomes_ready = True

    def list(self, path: str) -> list[dict[str, Any]]:
        self.looks += 1
        status = "True" if self.becomes_ready and self.looks > 2 else "False"
        return [
            {"metadata": {"name": "k3s"}, "spec": {}, "status": {"conditions": [{"type": "Ready", "status": status}]}}
        ]

    def get(self, path: str) -> dict[str, Any]:
        return {}


class Docker:
    """What testcontainers and we ask a daemon, both as its client and as testcontainers' own."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.present: list[Container] = []
        self.ends, self.taken = False, False
        self.images = SimpleNamespace(get=lambda image: SimpleNamespace(labels={}))
        self.containers = SimpleNamespace(list=self._listed)
        self.client = self
        self.server = Server()

    def _listed(self, *, all: bool, filters: dict[str, str], ignore_removed: bool = False) -> list[Any]:
        if "name" in filters:
            return ["somebody's"] if self.taken else []
        key, _, value = filters["label"].partition("=")
        return [each for each in self.present if each.labels.get(key) == value]

    def create(self, image: str, **options: Any) -> Container:
        from docker.errors import APIError

        self.calls.append(("create", {"image": image, **options}))
        if self.taken:
            raise APIError("409 Client Error: Conflict", explanation=f"name {options['name']} is already in use")
        self.present.append(Container(self, options["name"], options["labels"]))
        return self.present[-1]

    def start(self, container: Container) -> None:
        container.status = "running"

    def host(self) -> str:
        return "localhost"

    def get_connection_mode(self) -> Any:
        from testcontainers.core.config import ConnectionMode

        return ConnectionMode.docker_host


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Docker:
    recorder = Docker()

    @contextlib.contextmanager
    def reached() -> Iterator[Docker]:
        yield recorder

    reapers: list[list[str]] = []

    @contextlib.contextmanager
    def reaping(command: list[str]) -> Iterator[Any]:
        reapers.append(command)
        yield SimpleNamespace(done=lambda: recorder.calls.append(("reaper done", {})))

    @contextlib.contextmanager
    def client_of(kubeconfig: Path) -> Iterator[Any]:
        yield recorder.server

    monkeypatch.setattr(k3s, "reached", reached)
    monkeypatch.setattr(k3s, "client_of", client_of)
    monkeypatch.setattr("conformance.clusters.docker.usable._LOOK_EVERY", 0.01)
    monkeypatch.setattr(k3s, "reaping", reaping)
    monkeypatch.setattr(k3s, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(owned, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(owned, "reached", reached)
    monkeypatch.setattr("testcontainers.core.container.DockerClient", lambda **_: recorder)
    recorder.reapers = reapers  # type: ignore[attr-defined]
    return recorder


def test_the_server_is_on_the_loopback_address_and_has_its_own_kubeconfig(docker: Docker) -> None:
    with k3s.running(K3sSpec(name="mine"), SilentProgress()) as cluster:
        content = json.loads(cluster.kubeconfig.read_text())
        assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600

    (_, asked) = docker.calls[0]
    assert asked["image"] == image_of("1.36.3")
    assert asked["name"] == "mine"
    assert asked["ports"] == {"6443/tcp": ("127.0.0.1", None)}
    assert asked["command"].startswith("server ")
    assert asked["privileged"] is True
    assert asked["labels"] == {k3s.OWNER_LABEL: "mine", owned.LABEL: docker.reapers[0][-1]}  # type: ignore[attr-defined]
    assert cluster.server == "https://127.0.0.1:40123"
    assert content["clusters"][0]["cluster"]["server"] == cluster.server
    assert content["users"] == KUBECONFIG["users"]
    assert not cluster.kubeconfig.exists()


def test_the_node_is_waited_for(docker: Docker) -> None:
    with k3s.running(K3sSpec(name="mine"), SilentProgress()):
        assert docker.server.looks == 3


def test_a_node_that_does_not_become_ready_is_told_and_the_container_removed(docker: Docker) -> None:
    docker.server.becomes_ready = False
    with (
        pytest.raises(ContainerClusterError, match=r"k3s in container mine was not ready within 0 s: 0 of 1 nodes"),
        k3s.running(K3sSpec(name="mine", timeout=0.2), SilentProgress()),
    ):
        pass
    assert not docker.present


def test_the_simulated_plugins_image_is_where_a_server_imports_it_from(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tmp_path / "simulated-plugin-1.tar"
    monkeypatch.setattr(k3s.simulated_plugin_image, "spec", lambda: None)
    monkeypatch.setattr(k3s.simulated_plugin_image, "archive", lambda image: archive)
    with k3s.running(K3sSpec(simulated_plugin=True), SilentProgress()):
        pass

    bound = docker.calls[0][1]["volumes"][str(archive)]
    assert bound == {"bind": f"/var/lib/rancher/k3s/agent/images/{archive.name}", "mode": "ro"}


def test_an_image_that_is_not_there_is_told_and_nothing_started(docker: Docker) -> None:
    from docker.errors import ImageNotFound, NotFound

    def get(image: str) -> None:
        raise ImageNotFound(image)

    def pull(image: str) -> None:
        raise NotFound(f"manifest of {image} unknown")

    docker.images = SimpleNamespace(get=get, pull=pull)
    with (
        pytest.raises(
            ContainerClusterError,
            match=r"Docker has no image .*k3s:v1\.36\.3-k3s1@sha256:\S+ and cannot pull it.*docker load",
        ),
        k3s.running(K3sSpec(), SilentProgress()),
    ):
        pass
    assert docker.calls == []


def test_an_image_of_k3s_is_not_made_here(docker: Docker) -> None:
    with (
        pytest.raises(ContainerClusterError, match="no image of k3s is made here: Load one into Docker"),
        k3s.running(K3sSpec(image="made-here"), SilentProgress()),
    ):
        pass
    assert docker.calls == []


def test_k3s_is_a_kind_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    plain, given = resolve("k3s"), resolve("k3s:lab", mode=Mode.AUDIT)

    assert (plain.kind, plain.given_name, plain.mode) == ("k3s", None, Mode.FULL)
    assert (given.kind, given.given_name, given.mode) == ("k3s", "lab", Mode.AUDIT)


def test_who_has_a_context_of_that_name_is_asked_which_one_is_meant(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}
    context = {"name": "k3s", "context": {"cluster": "c", "user": "u"}}
    users = [{"name": "u", "user": {}}]
    kubeconfig.write_text(yaml.safe_dump({"clusters": [cluster], "users": users, "contexts": [context]}))

    with pytest.raises(ClusterError, match=r"has a context k3s, .* say --cluster lab; for a container .* k3s:NAME"):
        resolve("k3s", kubeconfig=kubeconfig)
    assert resolve("k3s:lab", kubeconfig=kubeconfig).kind == "k3s"


def test_a_run_is_given_the_cluster_and_what_was_asked_for(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    from conformance.session import cluster as opening

    connected: list[Path | None] = []

    @contextlib.contextmanager
    def connect(kubeconfig: Path | None, context: str | None) -> Iterator[str]:
        connected.append(kubeconfig)
        yield "connection"

    monkeypatch.setattr(opening, "connect", connect)
    asked = {"cluster": "k3s:lab", "kubernetes": "1.35", "cluster_registry": "registry.example.com/mirror"}
    names = (option.ini.removeprefix("gpu_") for option in OPTIONS)
    settings = Settings({name: Setting(asked.get(name), "option") for name in names})

    with opening.open_cluster(settings, SilentProgress()) as opened:
        assert (opened.kind, opened.mode, opened.ephemeral, opened.deploys) == ("k3s", Mode.FULL, True, False)
        assert opened.images.registry == "registry.example.com/mirror"
        assert connected == [opened.kubeconfig]

    assert docker.calls[0][1]["image"] == "registry.example.com/mirror/rancher/k3s:v1.35.4-k3s1"
    assert docker.calls[0][1]["name"] == "lab"
    assert not docker.present


@pytest.mark.parametrize("name", ["k3s", "k3s:lab"])
def test_a_command_starts_no_container(name: str) -> None:
    with pytest.raises(ValueError, match="a cluster in containers ends with its run"), reading_access(name, None, None):
        pass


def test_the_container_goes_with_the_run_and_a_reaper_knows_how(docker: Docker) -> None:
    with pytest.raises(RuntimeError), k3s.running(K3sSpec(name="mine"), SilentProgress()):
        raise RuntimeError("the run fails")

    assert docker.calls[1:] == [("remove", {"force": True, "v": True}), ("reaper done", {})]
    assert docker.reapers == [owned.removal(docker.calls[0][1]["labels"][owned.LABEL])]  # type: ignore[attr-defined]
    assert not docker.present


def test_testcontainers_own_reaper_is_not_asked_for_and_its_setting_stays(docker: Docker) -> None:
    from testcontainers.core.config import testcontainers_config

    before = testcontainers_config.ryuk_disabled
    with k3s.running(K3sSpec(), SilentProgress()):
        pass
    assert testcontainers_config.ryuk_disabled == before


def test_a_server_that_ends_is_told_at_once_with_the_end_of_its_log_and_removed(docker: Docker) -> None:
    docker.ends = True
    with (
        pytest.raises(ContainerClusterError, match=r"(?s)mine is not up \(exited\).*no such device"),
        k3s.running(K3sSpec(name="mine"), SilentProgress()),
    ):
        pass
    assert not docker.present


def test_a_container_of_somebody_else_with_the_name_is_named_and_left(docker: Docker) -> None:
    docker.taken = True
    with (
        pytest.raises(ContainerClusterError, match="has a container named mine already"),
        k3s.running(K3sSpec(name="mine"), SilentProgress()),
    ):
        pass
    assert [name for name, _ in docker.calls] == ["create", "reaper done"]


def test_a_container_of_another_run_with_the_name_is_named_and_left(docker: Docker) -> None:
    docker.taken = True
    docker.present.append(Container(docker, "mine", {k3s.OWNER_LABEL: "mine", owned.LABEL: "another run"}))

    with (
        pytest.raises(ContainerClusterError, match="has a container named mine already"),
        k3s.running(K3sSpec(name="mine"), SilentProgress()),
    ):
        pass

    assert [each.name for each in docker.present] == ["mine"]


def test_what_a_killed_run_left_is_removed_by_the_label_of_its_owner(docker: Docker) -> None:
    docker.present.append(Container(docker, "mine", {k3s.OWNER_LABEL: "mine", owned.LABEL: "the run"}))
    docker.present.append(Container(docker, "another", {k3s.OWNER_LABEL: "mine", owned.LABEL: "another run"}))

    assert owned.main(["the run"]) == 0

    assert [each.name for each in docker.present] == ["another"]


@pytest.mark.parametrize(
    ("registry", "image"),
    [
        (None, "docker.io/rancher/k3s:v1.36.3-k3s1"),
        ("registry.example.com/mirror/", "registry.example.com/mirror/rancher/k3s:v1.36.3-k3s1"),
    ],
)
def test_the_image_comes_from_the_registry_that_was_named_and_is_pinned(registry: str | None, image: str) -> None:
    assert image_of("1.36.3", registry) == f"{image}@{k3s.DIGESTS['1.36.3']}"
    assert image_of(release(DEFAULT_MINOR)).partition("@")[2], "the default version has its digest"


def test_a_version_whose_digest_nobody_has_told_us_is_named_by_its_tag() -> None:
    assert image_of("1.35.4") == "docker.io/rancher/k3s:v1.35.4-k3s1"

"""What clusters in containers are made of, without a Docker daemon."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import docker_daemon
import pytest
import yaml
from filelock import FileLock
from whole_runs import whole_run

from conformance.cli import USAGE, main
from conformance.clusters.docker import (
    archive,
    control_plane,
    control_plane_image,
    daemon,
    folders,
    inside,
    simulated_plugin_image,
)
from conformance.clusters.docker.control_plane import ControlPlaneSpec
from conformance.clusters.docker.errors import ContainerClusterError
from conformance.clusters.errors import ClusterError
from conformance.clusters.named import resolve
from conformance.kube.effects import Mode
from conformance.reference import simulated_plugin

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0111A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0011A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_container_is_a_kind_of_its_own() -> None:
    plain, given = resolve("container"), resolve("container:demo", mode=Mode.AUDIT)

    assert (plain.kind, plain.given_name, plain.mode) == ("container", None, Mode.FULL)
    assert (given.kind, given.given_name, given.mode) == ("container", "demo", Mode.AUDIT)


def test_no_entry_of_a_clusters_file_is_called_container(tmp_path: Path) -> None:
    (tmp_path / "clusters.yaml").write_text("clusters:\n  container: {}\n")
    with pytest.raises(ClusterError, match="kinds of clusters, choose another name"):
        resolve("other", clusters_file=tmp_path / "clusters.yaml")


@pytest.mark.parametrize("module", ["conformance.clusters.docker.control_plane", "conformance.clusters.docker.kind"])
def test_a_run_needs_nothing_that_only_posix_has(module: str) -> None:
    """On Windows the programs run in containers alone; modules that it lacks must not be asked for."""
    code = (
        "import sys\n"
        "for name in ('fcntl', 'pwd', 'grp', 'termios', 'resource'): sys.modules[name] = None\n"
        "import conformance.plugin, conformance.session.hooks, conformance.session.cluster\n"
        "import conformance.clusters.embedded.fleet, conformance.clusters.embedded.simulated_installer\n"
        f"import {module}\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr


def test_only_routes_through_a_gateway_lead_out() -> None:
    [(destination, gateway, mask)] = inside.routes_out(ROUTES)

    assert (destination, gateway, mask) == (bytes(4), bytes([192, 168, 17, 1]), bytes(4))


@pytest.mark.parametrize("address", ["unix:///run/docker.sock", "http+docker://localhost", "http://127.0.0.1:2375"])
def test_a_daemon_of_this_machine_is_taken(address: str) -> None:
    daemon.refuse_remote(address)


@pytest.mark.parametrize("address", ["http://10.0.0.9:2375", "https://docker.example.com:2376"])
def test_a_daemon_of_another_machine_is_refused(address: str) -> None:
    with pytest.raises(ContainerClusterError, match="another machine"):
        daemon.refuse_remote(address)


def test_what_is_not_installed_is_named_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "testcontainers.core.docker_client", None)
    with pytest.raises(ContainerClusterError, match=r"gpu-conformance\[containers\]"), daemon.reached():
        pass


def test_an_archive_is_read_by_docker_and_by_containerd(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    image = archive.ImageSpec(
        "localhost/some/thing:1",
        "amd64",
        {"Entrypoint": ["/usr/bin/program"]},
        files={"usr/bin/program": tmp_path / "program"},
        texts={"etc/passwd": "root:x:0:0::/:\n"},
        folders={"tmp": 0o1777},
    )
    archive.write(tmp_path / "image.tar", image)

    with tarfile.open(tmp_path / "image.tar") as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    [docker], index = json.loads(read["manifest.json"]), json.loads(read["index.json"])
    [entry] = index["manifests"]
    manifest = json.loads(read[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    config = json.loads(read[docker["Config"]])
    layer = read[docker["Layers"][0]]
    assert docker["RepoTags"] == [entry["annotations"]["io.containerd.image.name"]] == ["localhost/some/thing:1"]
    assert manifest["layers"][0]["digest"] == config["rootfs"]["diff_ids"][0]
    assert manifest["layers"][0]["digest"] == f"sha256:{hashlib.sha256(layer).hexdigest()}"
    assert docker["Config"].endswith(manifest["config"]["digest"].removeprefix("sha256:"))
    (tmp_path / "layer.tar").write_bytes(layer)
    with tarfile.open(tmp_path / "layer.tar") as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes == {
        "tmp": 0o1777, "etc": 0o755, "etc/passwd": 0o644, "usr": 0o755, "usr/bin": 0o755, "usr/bin/program": 0o755
    }  # fmt: skip


def test_the_cache_keeps_the_images_that_were_used_last(tmp_path: Path) -> None:
    for age in range(5):
        (tmp_path / f"control-plane-{age}.tar").touch()
        os.utime(tmp_path / f"control-plane-{age}.tar", (1000 - age, 1000 - age))
    (tmp_path / "other.tar").touch()
    control_plane_image._prune(tmp_path)

    assert sorted(path.stem for path in tmp_path.iterdir()) == [*(f"control-plane-{age}" for age in range(3)), "other"]


def test_other_code_makes_another_image(tmp_path: Path) -> None:
    code, program = tmp_path / "code.py", tmp_path / "etcd"
    code.write_text("1")
    program.write_text("binary")
    files = {"usr/local/lib/x/code.py": code, f"{control_plane_image.BINARIES}/etcd": program}
    first = control_plane_image.key_of(files, {}, {})
    code.write_text("2")

    assert control_plane_image.key_of(files, {}, {}) != first
    code.write_text("1")
    assert control_plane_image.key_of(files, {}, {}) == first


def test_the_image_has_what_its_program_imports() -> None:
    packages = dict(control_plane_image.packages(control_plane_image._DISTRIBUTIONS))
    own = dict(control_plane_image.own_files())

    tops = {name.removeprefix(f"{control_plane_image._SITE}/").partition("/")[0] for name in packages}
    assert {"msgspec", "yaml", "urllib3", "cryptography", "filelock", "cffi"} <= tops
    assert f"{control_plane_image._SITE}/conformance/clusters/docker/inside.py" in own
    assert not [name for name in own if "__pycache__" in name]


@whole_run
def test_the_simulated_plugins_image_has_what_it_imports(tmp_path: Path) -> None:
    image = simulated_plugin_image.spec(tmp_path)

    site = f"{control_plane_image._SITE}/"
    tops = {name.removeprefix(site).partition("/")[0] for name in image.files if name.startswith(site)}
    assert {"msgspec", "urllib3", "grpc", "google", "conformance"} <= tops
    assert image.name == simulated_plugin.IMAGE
    assert image.settings["Entrypoint"][:4] == ["/usr/local/bin/python3", "-P", "-m", "conformance.deviceplugin"]
    assert simulated_plugin_image.content_of(image) == simulated_plugin_image.content_of(
        simulated_plugin_image.spec(tmp_path)
    )


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"NOT TESTED, a full disk: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@whole_run
def test_an_image_that_the_disk_has_no_room_for_is_told_and_nothing_of_it_left(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPU_CONFORMANCE_CACHE", str(full_disk))

    assert main(["cluster", "image", "simulated-plugin"]) == USAGE

    assert "gpu-conformance: the disk is full" in capsys.readouterr().err
    assert not [each for each in (full_disk / "images").iterdir() if each.name.startswith((".making", "simulated"))]


def test_the_kubeconfig_that_leaves_the_container_has_everything_in_it(tmp_path: Path) -> None:
    for name in ("ca.crt", "admin.crt", "admin.key"):
        (tmp_path / name).write_text(name)
    written = {
        "clusters": [{"cluster": {"server": "https://127.0.0.1:6443", "certificate-authority": f"{tmp_path}/ca.crt"}}],
        "users": [
            {"user": {"client-certificate": f"{tmp_path}/admin.crt", "client-key": f"{tmp_path}/admin.key"}}
        ],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(written))

    text = inside.kubeconfig(SimpleNamespace(kubeconfig=tmp_path / "kubeconfig"))  # type: ignore[arg-type]
    assert str(tmp_path) not in text
    assert json.loads(text)["users"][0]["user"]["client-key-data"] == "YWRtaW4ua2V5"


def test_the_folder_of_a_killed_run_is_removed_by_the_next(tmp_path: Path) -> None:
    dead, alive, born = (tmp_path / f"gpu-conformance-containers-{name}" for name in ("dead", "alive", "born"))
    for folder in (dead, alive, born):
        folder.mkdir()
    with FileLock(alive / "lock"):
        for folder in (dead, alive):
            _age(folder)
        with folders.own_folder(tmp_path) as own:
            assert own.is_dir()
            assert (dead.exists(), alive.exists(), born.exists()) == (False, True, True)
    assert not own.exists()


def _age(folder: Path) -> None:
    long_ago = time.time() - 3600
    os.utime(folder, (long_ago, long_ago))


def test_errors_of_creating_are_told_apart() -> None:
    spec = ControlPlaneSpec(port=6443)
    taken = SimpleNamespace(status_code=409, explanation='the container name "/x" is already in use')
    port = SimpleNamespace(status_code=500, explanation="listen tcp4 127.0.0.1:6443: bind: address already in use")
    other = SimpleNamespace(status_code=500, explanation="no space left on device")

    def why(error: object) -> str:
        return control_plane._why_not_created(error, "x", spec, "image:1")  # type: ignore[arg-type]

    assert "container named x already" in why(taken)
    assert "port 6443 of 127.0.0.1 is taken" in why(port)
    assert why(other) == "Docker does not start a container of image:1: no space left on device"


def test_a_runtime_hands_on_only_what_root_has() -> None:
    assert docker_daemon.missing_capabilities() >= 0

"""What stands in for images that a node cannot have: the registry, the change of the container, the program."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import PATIENCE

from conformance.clusters.embedded.real import images, settings
from conformance.deviceplugin.standins import program
from conformance.realnode import oci, registry


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "hello.py").write_text("print('hello')\n")
    images.write(tmp_path / "images.tar", {"hello.py": tmp_path / "hello.py"}, {})
    server = registry.serve(registry.Archive(str(tmp_path / "images.tar")), images.STAND_IN, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with closing(server):
        yield f"http://127.0.0.1:{server.server_address[1]}/v2"


@contextmanager
def closing(server: registry.ThreadingHTTPServer) -> Iterator[None]:
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def get(url: str) -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers["Docker-Content-Digest"]
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read(), ""


def test_every_image_is_the_one_that_stands_in_for_it(served: str) -> None:
    code, manifest, digest = get(f"{served}/nvidia/k8s-device-plugin/manifests/v0.20.0?ns=nvcr.io")

    assert code == 200
    assert get(f"{served}/vllm/vllm-openai/manifests/latest?ns=docker.io")[2] == digest
    for each in (json.loads(manifest)["config"], *json.loads(manifest)["layers"]):
        code, blob, _ = get(f"{served}/nvidia/k8s-device-plugin/blobs/{each['digest']}?ns=nvcr.io")
        assert (code, len(blob)) == (200, each["size"])
    config = json.loads(get(f"{served}/a/b/blobs/{json.loads(manifest)['config']['digest']}?ns=nvcr.io")[1])
    assert oci.MARK in config["config"]["Env"]
    assert config["config"]["User"] not in ("", "0")


def test_what_cannot_be_is_not_there(served: str) -> None:
    assert get(f"{served}/absent/manifests/1?ns=registry.example.com")[0] == 404
    assert get(f"{served}/nvidia/a/manifests/sha256:{'0' * 64}?ns=nvcr.io")[0] == 404


def specification(mark: bool, *mounts: str) -> dict:
    env = ["PATH=/bin", *([oci.MARK] if mark else [])]
    annotations = {"io.kubernetes.cri.container-name": "main", "io.kubernetes.cri.image-name": "nvcr.io/nvidia/a:1"}
    found = [{"destination": each} for each in mounts]
    return {
        "process": {"env": env, "args": ["serve", "--now"], "cwd": "/app"},
        "annotations": annotations,
        "mounts": found,
    }


def test_a_container_of_a_stand_in_runs_its_program_and_is_told_what_it_was_to_run() -> None:
    changed = specification(True, "/proc", "/", "/usr/local", "/run/nvidia", "/usr/local/nvidia/lib64")

    assert oci.change(changed)

    assert changed["process"]["args"] == [*oci.PROGRAM, "main", "nvcr.io/nvidia/a:1", "serve", "--now"]
    assert [each["destination"] for each in changed["mounts"]] == ["/proc", "/run/nvidia", "/usr/local/nvidia/lib64"]


def test_a_container_of_another_image_is_left_alone() -> None:
    changed = specification(False, "/")

    assert not oci.change(changed)

    assert changed == specification(False, "/")


def test_the_runtime_changes_what_is_created_and_hands_everything_on(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(specification(True)))
    runc = tmp_path / "real"
    runc.write_text('#!/bin/sh\necho "$@"\n')
    wrapper = tmp_path / "runc"
    wrapper.write_text(settings.runtime(runc, sys.executable))
    for each in (runc, wrapper):
        each.chmod(0o755)

    said = [
        subprocess.run([wrapper, *arguments], capture_output=True, text=True, check=True).stdout.strip()
        for arguments in (["--root", "/r", "create", "--bundle", str(tmp_path), "id"], ["delete", "id"])
    ]

    assert said == [f"--root /r create --bundle {tmp_path} id", "delete id"]
    assert json.loads((tmp_path / "config.json").read_text())["process"]["args"][:4] == oci.PROGRAM


@pytest.mark.parametrize(("mark", "code"), [(False, 0), (True, 1)])
def test_an_interpreter_is_started_for_containers_of_stand_ins_only(tmp_path: Path, mark: bool, code: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps(specification(mark)))
    wrapper = tmp_path / "runc"
    wrapper.write_text(settings.runtime(Path("/bin/true"), "/bin/false"))
    wrapper.chmod(0o755)

    assert subprocess.run([wrapper, "create", "--bundle", str(tmp_path), "id"]).returncode == code


def test_a_bundle_that_cannot_be_read_is_the_interpreters_to_tell(tmp_path: Path) -> None:
    wrapper = tmp_path / "runc"
    wrapper.write_text(settings.runtime(Path("/bin/true"), sys.executable))
    wrapper.chmod(0o755)
    ran = subprocess.run([wrapper, "create", "--bundle", str(tmp_path), "id"], capture_output=True, text=True)

    assert ran.returncode == 1
    assert "FileNotFoundError" in ran.stderr


@pytest.mark.parametrize(
    ("container", "image", "command", "code", "said"),
    [
        ("driver-validation", "nvcr.io/nvidia/gpu-operator:v26.7.0", [], 0, ""),
        ("main", "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0", [], 1, "no CUDA-capable device"),
        ("main", "nvidia/cuda:12", ["nvidia-smi", "-L"], 127, "executable file not found"),
        ("main", "nvidia/cuda:12", ["sh", "-c", "nvidia-smi"], 127, "executable file not found"),
    ],
)
def test_the_program_does_what_the_container_was_to_do(
    container: str, image: str, command: list[str], code: int, said: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-I", program.__file__, container, image, *command],
        capture_output=True, text=True, check=False, env={"PATH": "/nowhere"},
    )  # fmt: skip

    assert (ran.returncode, said in ran.stdout + ran.stderr) == (code, True)


def test_every_other_program_stays_until_it_is_told_to_end() -> None:
    command = [sys.executable, "-I", program.__file__, "trainer", "pytorch/pytorch:2.3.0", "python", "train.py"]
    with subprocess.Popen(command) as running:
        _wait_for_handler(running.pid, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(PATIENCE) == 0


def _wait_for_handler(pid: int, number: signal.Signals) -> None:
    """Wait until a process handles a signal: before that, on a busy machine after seconds, it would end by it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        [caught] = re.findall(r"^SigCgt:\s*(\S+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        if int(caught, 16) & 1 << (number - 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} has no handler for {number.name}")

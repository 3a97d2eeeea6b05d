"""The cache never gives something that is not whole."""

import errno
import json
import os
import socket
import subprocess
import sys

import pytest
from release_site import program

from conformance.clusters.embedded.binaries import resolve
from conformance.clusters.embedded.binaries.cache import Cache, cache_root
from conformance.clusters.embedded.binaries.failures import CacheUnusable


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def put(cache, artefact, text="etcd Version: 3.6.10"):
    with cache.workshop() as workshop:
        made = workshop / "made"
        made.write_text(program(text))
        return cache.admit(artefact, made, "a test")


def test_what_was_admitted_is_found_and_can_run(cache, artefact):
    path = put(cache, artefact("etcd"))

    assert cache.find(artefact("etcd")) == path
    assert "3.6.10" in subprocess.check_output([path], text=True)


def test_the_manifest_says_where_a_binary_came_from(cache, artefact):
    path = put(cache, artefact("etcd"))

    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert (manifest["version"], manifest["origin"]) == ("3.6.10", "a test")
    assert len(manifest["sha256"]) == 64


def test_another_version_is_another_entry(cache, artefact):
    put(cache, artefact("kubectl", "1.36"))

    assert cache.find(artefact("kubectl", "1.35")) is None


def test_a_shortened_binary_counts_as_absent(cache, artefact):
    path = put(cache, artefact("etcd"))
    path.write_bytes(path.read_bytes()[:-1])

    assert cache.find(artefact("etcd")) is None
    assert cache.describe_absence([artefact("etcd")]).endswith("is damaged")


def test_changed_bytes_of_the_same_length_are_noticed(cache, artefact):
    path = put(cache, artefact("etcd"))
    path.write_bytes(path.read_bytes().replace(b"3.6.10", b"9.9.99"))

    assert cache.find(artefact("etcd")) is None


def test_a_new_date_alone_does_no_harm(cache, artefact):
    path = put(cache, artefact("etcd"))
    os.utime(path, (1, 1))  # a cache that was copied or restored from an archive

    assert cache.find(artefact("etcd")) == path


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"size": "large"}', "null"])
def test_an_entry_with_an_unusable_manifest_counts_as_absent(cache, artefact, manifest):
    path = put(cache, artefact("etcd"))
    (path.parent / "manifest.json").write_text(manifest)

    assert cache.find(artefact("etcd")) is None


def test_a_damaged_entry_is_replaced(cache, artefact):
    put(cache, artefact("etcd")).write_text("junk")

    path = put(cache, artefact("etcd"), "etcd Version: 3.6.10 again")

    assert cache.find(artefact("etcd")) == path
    assert "again" in path.read_text()


def test_a_damaged_entry_is_fetched_anew(mirror, cache, artefact):
    published = mirror.publish_kubernetes("1.36.3", "kube-scheduler")
    first = resolve("1.36", ["kube-scheduler"])["kube-scheduler"]
    first.write_text("junk")

    assert resolve("1.36", ["kube-scheduler"])["kube-scheduler"].read_bytes() == published


def test_what_is_in_the_cache_asks_no_host(mirror):
    mirror.publish_kubernetes("1.36.3", "kube-scheduler")
    resolve("1.36", ["kube-scheduler"])
    mirror.asked.clear()

    resolve("1.36.3", ["kube-scheduler"])

    assert not mirror.asked


def test_a_read_only_cache_that_is_complete_is_enough(cache, artefact, monkeypatch):
    path = put(cache, artefact("etcd"))
    monkeypatch.setattr(os, "access", lambda place, mode: mode == os.X_OK)

    assert resolve("1.36", ["etcd"])["etcd"] == path


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GPU_CONFORMANCE_CACHE", str(tmp_path / "file" / "cache"))

    with pytest.raises(CacheUnusable, match=r"file/cache cannot be written: .*Set GPU_CONFORMANCE_CACHE"):
        resolve("1.36", ["etcd"])


def test_a_full_disk_while_writing_is_said_and_is_no_traceback(mirror, monkeypatch):
    mirror.publish_kubernetes("1.36.3", "kube-scheduler")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("conformance.clusters.embedded.binaries.cache.sha256_of", full)

    with pytest.raises(CacheUnusable, match="cache cannot be written: No space left on device"):
        resolve("1.36", ["kube-scheduler"])


def test_a_workshop_is_gone_afterwards_and_takes_what_the_dead_left(cache):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    partial = cache.root / "partial"
    for folder in (
        f"{socket.gethostname()}-{gone.pid}-left",
        f"{socket.gethostname()}-{os.getpid()}-ours",
        "elsewhere-1-x",
    ):
        (partial / folder).mkdir(parents=True)

    with cache.workshop() as workshop:
        assert workshop.is_dir()

    left = {path.name for path in partial.iterdir()}
    assert left == {f"{socket.gethostname()}-{os.getpid()}-ours", "elsewhere-1-x"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"GPU_CONFORMANCE_CACHE": "/somewhere"}, "/somewhere"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/gpu-conformance"),
        ({"XDG_CACHE_HOME": "relative"}, os.path.expanduser("~/.cache/gpu-conformance")),
        ({}, os.path.expanduser("~/.cache/gpu-conformance")),
    ],
)
def test_the_cache_is_where_the_environment_says(environ, expected):
    assert str(cache_root(None, environ)) == expected

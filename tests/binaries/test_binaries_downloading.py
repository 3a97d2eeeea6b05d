"""Downloads in the official layout, and each way in which they fail."""

import socket
from contextlib import suppress

import pytest
from release_site import HERE

from conformance.clusters.embedded.binaries import BinariesUnavailable, downloading, resolve, upstream
from conformance.clusters.embedded.binaries.downloading import Downloader
from conformance.clusters.embedded.binaries.failures import (
    ChecksumMismatch,
    HostUnreachable,
    NotPublished,
    RequestRefused,
    Truncated,
)
from conformance.clusters.embedded.binaries.versions import CONTROL_PLANE, Platform, artefacts

APISERVER = f"/release/v1.36.3/bin/{HERE.os}/{HERE.arch}/kube-apiserver"


def quiet(done, total):
    """Nobody watches."""


@pytest.fixture
def fetch(mirror, artefact, tmp_path):
    """Download one program of 1.36 from the local site."""
    return lambda name: Downloader(mirror.url).fetch(artefact(name), tmp_path, quiet)


def publish_all(site, *, api=False):
    published = {name: site.publish_kubernetes("1.36.3", name) for name in CONTROL_PLANE if name.startswith("kube-")}
    return {**published, "etcd": site.publish_etcd("3.6.10"), "kwok": site.publish_kwok("0.8.0", api=api)}


def test_a_mirror_gives_a_whole_control_plane(mirror, narrator):
    published = publish_all(mirror)

    found = resolve("1.36", progress=narrator)

    assert {name: path.read_bytes() for name, path in found.items()} == published
    assert list(found) == list(CONTROL_PLANE)
    assert "Downloaded kube-apiserver 1.36.3, checksum verified" in narrator.notes


def test_the_official_hosts_give_a_whole_control_plane(site, monkeypatch):
    for host in ("KUBERNETES", "GITHUB", "GITHUB_API"):
        monkeypatch.setattr(upstream, host, site.url)
    monkeypatch.delenv("GPU_CONFORMANCE_OFFLINE")
    published = publish_all(site, api=True)

    assert {name: path.read_bytes() for name, path in resolve("1.36").items()} == published
    assert "/repos/kubernetes-sigs/kwok/releases/tags/v0.8.0" in site.asked


def test_a_mirror_may_be_a_folder(tmp_path, site, monkeypatch):
    content = site.publish_kubernetes("1.36.3", "kube-apiserver")
    for path, held in site.files.items():
        (tmp_path / "mirror" / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / path[1:]).write_bytes(held)
    monkeypatch.delenv("GPU_CONFORMANCE_OFFLINE")
    monkeypatch.setenv("GPU_CONFORMANCE_MIRROR", f"file://{tmp_path}/mirror/")

    assert resolve("1.36", ["kube-apiserver"])["kube-apiserver"].read_bytes() == content


def test_a_file_that_its_checksum_does_not_describe_is_thrown_away(mirror, fetch, tmp_path):
    mirror.publish_kubernetes("1.36.3", "kube-apiserver")
    mirror.files[APISERVER] += b"\n# and something else"

    with pytest.raises(
        ChecksumMismatch, match=r"kube-apiserver: its SHA-256 is \w{64}, \S+\.sha256 says \w{64}: it was thrown"
    ):
        fetch("kube-apiserver")
    assert not list(tmp_path.glob("kube-apiserver*"))


def test_a_checksum_that_is_no_checksum_is_not_believed(mirror, fetch):
    mirror.publish_kubernetes("1.36.3", "kube-apiserver")
    mirror.files[f"{APISERVER}.sha256"] = b"<html>please sign in</html>"

    with pytest.raises(ChecksumMismatch, match=r"kube-apiserver\.sha256: it has no SHA-256 for kube-apiserver"):
        fetch("kube-apiserver")


def test_a_release_without_a_digest_is_not_believed(site, monkeypatch, artefact, tmp_path):
    for host in ("GITHUB", "GITHUB_API"):
        monkeypatch.setattr(upstream, host, site.url)
    site.publish_kwok("0.8.0", api=True)
    site.files["/repos/kubernetes-sigs/kwok/releases/tags/v0.8.0"] = (
        b'{"assets": [{"name": "kwok-linux-amd64", "digest": null}]}'
    )

    with pytest.raises(ChecksumMismatch, match="it has no SHA-256 for kwok-"):
        Downloader().fetch(artefact("kwok"), tmp_path, quiet)


def test_a_transfer_that_ends_early_is_told_from_a_wrong_file(mirror, fetch):
    content = mirror.publish_kubernetes("1.36.3", "kube-apiserver")
    mirror.cut_short.add(APISERVER)

    with pytest.raises(Truncated, match=f"the connection ended after {len(content) // 2} of {len(content)} bytes"):
        fetch("kube-apiserver")


def test_a_file_that_is_not_there_is_not_published(fetch):
    with pytest.raises(NotPublished, match=r"kube-apiserver\.sha256: the host has no such file \(HTTP 404\)"):
        fetch("kube-apiserver")


def test_another_answer_is_quoted(mirror, fetch):
    mirror.publish_kubernetes("1.36.3", "kube-apiserver")
    mirror.statuses[APISERVER] = 403

    with pytest.raises(RequestRefused, match="the host answered HTTP 403 Forbidden"):
        fetch("kube-apiserver")


def test_a_host_where_nobody_listens_is_unreachable(artefact, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(HostUnreachable, match=r"cannot be reached \(.*refused"):
        Downloader(f"http://127.0.0.1:{port}").fetch(artefact("etcd"), tmp_path, quiet)


def test_a_host_that_stays_silent_is_given_up_soon_and_asked_once(artefact, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "ANSWER_WITHIN", 0.1)
    monkeypatch.setattr(downloading, "CONNECT_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        downloader = Downloader(f"http://127.0.0.1:{silent.getsockname()[1]}")
        for name in ("kube-apiserver", "kube-scheduler", "etcd"):
            with pytest.raises(HostUnreachable, match=r"no answer within 0\.1 s"):
                downloader.fetch(artefact(name), tmp_path, quiet)
        assert asked(silent) == 1


def asked(server):
    """How many connections to a server wait to be accepted."""
    server.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_an_address_that_is_no_web_address_is_refused(artefact, tmp_path):
    with pytest.raises(RequestRefused, match="an address must start with https://"):
        Downloader("ftp://mirror.example").fetch(artefact("etcd"), tmp_path, quiet)


def test_an_archive_without_the_program_is_refused(mirror, fetch):
    mirror.publish_etcd("3.6.10")
    folder = "/etcd-io/etcd/releases/download/v3.6.10"
    path = next(path for path in mirror.files if path.endswith(".tar.gz"))
    mirror.publish(path, b"not an archive", checksum=True)
    mirror.files[f"{folder}/SHA256SUMS"] = mirror.files[f"{path}.sha256"] + b"  " + path.rpartition("/")[2].encode()

    with pytest.raises(ChecksumMismatch, match=r"the archive has no usable etcd-v3\.6\.10"):
        fetch("etcd")


def test_servers_are_not_asked_for_where_upstream_has_none(tmp_path, site):
    (server,) = artefacts("1.36", ["kube-apiserver"], Platform("darwin", "arm64"))

    with pytest.raises(NotPublished, match="upstream publishes no kube-apiserver for darwin/arm64"):
        Downloader(site.url).fetch(server, tmp_path, quiet)
    assert not site.asked


def test_a_wrong_checksum_is_a_warning_and_the_binary_is_built(mirror, go, narrator):
    mirror.publish_kubernetes("1.36.3", "kube-apiserver")
    mirror.files[APISERVER] += b"# changed"

    found = resolve("1.36", ["kube-apiserver"], progress=narrator)

    assert "it was thrown away" in narrator.warnings[0]
    assert found["kube-apiserver"].read_text() == "#!/bin/sh\necho 'Kubernetes v1.36.3'\n"


def test_offline_asks_no_host(mirror, monkeypatch):
    publish_all(mirror)
    monkeypatch.setenv("GPU_CONFORMANCE_OFFLINE", "1")

    with pytest.raises(BinariesUnavailable, match=r"download +was left out: GPU_CONFORMANCE_OFFLINE is set"):
        resolve("1.36", ["etcd"])
    assert not mirror.asked


def test_progress_says_how_much_has_arrived(mirror, narrator):
    mirror.publish("/release/v1.36.3/bin/" + f"{HERE.os}/{HERE.arch}/kube-scheduler", b"#!/bin/sh\n" + b"#" * 3_000_000)

    resolve("1.36", ["kube-scheduler"], progress=narrator)

    assert "Downloading kube-scheduler 1.36.3 (None of None) 3 of 3 MB" in narrator.steps

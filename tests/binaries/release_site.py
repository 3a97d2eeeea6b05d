"""A local site with the official layout, and small programs that stand in for the real ones."""

import hashlib
import io
import json
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from conformance.clusters.embedded.binaries.versions import this_platform

HERE = this_platform()
FAKE_GO = Path(__file__).parent / "fake_go.py"


class Narrator:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def step(self, what: str, done: int | None = None, total: int | None = None, *, detail: str = "") -> None:
        self.steps.append(f"{what} ({done} of {total}) {detail}")

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Site:
    """What a release host serves: files by path, and paths at which it misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_short: set[str] = set()
        self.statuses: dict[str, int] = {}
        self.asked: list[str] = []
        self.url = ""

    def publish(self, path: str, content: bytes, *, checksum: bool = True) -> None:
        self.files[path] = content
        if checksum:
            self.files[f"{path}.sha256"] = hashlib.sha256(content).hexdigest().encode()

    def publish_kubernetes(self, version: str, name: str) -> bytes:
        content = program(f"Kubernetes v{version}").encode()
        self.publish(f"/release/v{version}/bin/{HERE.os}/{HERE.arch}/{name}", content)
        return content

    def publish_etcd(self, version: str) -> bytes:
        content = program(f"etcd Version: {version}").encode()
        stem = f"etcd-v{version}-{HERE.os}-{HERE.arch}"
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for name, held in ((f"{stem}/README.md", b"read me"), (f"{stem}/etcd", content)):
                member = tarfile.TarInfo(name)
                member.size = len(held)
                tar.addfile(member, io.BytesIO(held))
        folder = f"/etcd-io/etcd/releases/download/v{version}"
        self.publish(f"{folder}/{stem}.tar.gz", archive.getvalue(), checksum=False)
        digest = hashlib.sha256(archive.getvalue()).hexdigest()
        sums = f"{'0' * 64}  etcd-v{version}-darwin-amd64.zip\n{digest}  {stem}.tar.gz\n"
        self.files[f"{folder}/SHA256SUMS"] = sums.encode()
        return content

    def publish_kwok(self, version: str, name: str = "kwok", *, api: bool) -> bytes:
        content = program(f"{name} version v{version} go1.26.8").encode()
        file_name = f"{name}-{HERE.os}-{HERE.arch}"
        path = f"/kubernetes-sigs/kwok/releases/download/v{version}/{file_name}"
        self.publish(path, content, checksum=not api)
        if api:
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            described = {"assets": [{"name": "other"}, {"name": file_name, "digest": digest}]}
            self.files[f"/repos/kubernetes-sigs/kwok/releases/tags/v{version}"] = json.dumps(described).encode()
        return content


def program(says: str) -> str:
    """A shell script that answers whatever it is asked with one line."""
    return f"#!/bin/sh\necho '{says}'\n"


@contextmanager
def served(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            content = site.files.get(self.path)
            status = site.statuses.get(self.path, 200 if content is not None else 404)
            if status != 200 or content is None:
                self.send_error(status)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path in site.cut_short else content)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **more}

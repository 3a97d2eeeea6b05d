"""A registry inside a node that answers for every other one: ``python -m conformance.realnode.registry ARCHIVE IMAGE``.

Whatever image is asked for is the one of ours that stands in for it (see oci.py). What is asked for by a digest that
is not ours cannot be had, and neither can an image of a registry that cannot be (RFC 2606: example.com, invalid).
Protocol: OCI distribution specification 1.0, as far as a pull needs it.
"""

import json
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PORT = 5000
_NAME = "io.containerd.image.name"
_NOWHERE = ("example.com", "example.org", "example.net", "invalid", "test", "localhost")


class Archive:
    """An OCI layout in a tar file, read blob by blob."""

    def __init__(self, path: str) -> None:
        self._path = path
        index = json.loads(self._read("index.json"))
        self._by_name = {entry["annotations"][_NAME]: entry for entry in index["manifests"]}
        with tarfile.open(path) as tar:
            self._blobs = {name.rpartition("/")[2] for name in tar.getnames() if name.startswith("blobs/")}

    def manifest_of(self, name: str) -> tuple[str, str]:
        """Media type and digest of an image's manifest. Raises KeyError."""
        entry = self._by_name[name]
        return entry["mediaType"], entry["digest"]

    def blob(self, digest: str) -> bytes | None:
        """A blob by its digest; None for one that is not there."""
        _, _, sha = digest.partition(":")
        return self._read(f"blobs/sha256/{sha}") if sha in self._blobs else None

    def _read(self, name: str) -> bytes:
        with tarfile.open(self._path) as tar:
            file = tar.extractfile(name)
            return file.read() if file else b""


def serve(archive: Archive, image: str, *, host: str = "127.0.0.1", port: int = PORT) -> ThreadingHTTPServer:
    """A server that is ready to answer; its serve_forever() does."""
    kind, digest = archive.manifest_of(image)

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            url = urlsplit(self.path)
            registry = (parse_qs(url.query).get("ns") or [""])[0].partition(":")[0]
            parts = url.path.strip("/").split("/")
            if url.path in ("/v2", "/v2/"):
                self._send(200, b"{}", "application/json", body=body)
            elif is_nowhere(registry) or len(parts) < 4:
                self._send(404, b'{"errors": [{"code": "NAME_UNKNOWN"}]}', "application/json", body=body)
            else:
                self._give(parts[-2], parts[-1], body=body)

        def _give(self, what: str, reference: str, *, body: bool) -> None:
            named = what == "manifests" and ":" not in reference
            wanted = digest if named else reference
            content = archive.blob(wanted)
            if content is None:
                self._send(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', "application/json", body=body)
                return
            self._send(200, content, kind if what == "manifests" else "application/octet-stream", wanted, body=body)

        def _send(self, code: int, content: bytes, media: str, named: str = "", *, body: bool) -> None:
            self.send_response(code)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(content)))
            if named:
                self.send_header("Docker-Content-Digest", named)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return ThreadingHTTPServer((host, port), Answers)


def is_nowhere(registry: str) -> bool:
    """Whether a registry is one that cannot be."""
    return any(registry == name or registry.endswith(f".{name}") for name in _NOWHERE)


if __name__ == "__main__":
    serve(Archive(sys.argv[1]), sys.argv[2]).serve_forever()

"""Downloads of the official releases: checked, never half there, and quick to notice that there is no network."""

import hashlib
import http.client
import json
import queue
import re
import shutil
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from conformance import __version__
from conformance.clusters.embedded.binaries.failures import (
    ChecksumMismatch,
    DownloadFailed,
    HostUnreachable,
    NotPublished,
    RequestRefused,
    Truncated,
)
from conformance.clusters.embedded.binaries.upstream import Checksum, publication
from conformance.clusters.embedded.binaries.versions import Artefact

ANSWER_WITHIN = 8.0
"""Seconds for name, connection, TLS and redirects together, until the headers are there."""
CONNECT_WITHIN = 4.0
"""Seconds for one connection."""
SILENCE = 30.0
"""Seconds without a byte after which a transfer counts as broken."""
CHUNK = 1 << 20
CHECKSUM_AT_MOST = 4 << 20
"""Bytes: GitHub's description of a release is the largest of the checksum sources, about 100 KiB."""

Report = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that will be (None: the host does not say)."""


class Downloader:
    """Fetches artefacts from upstream or a mirror. Asks a host that does not answer only once."""

    def __init__(self, mirror: str | None = None) -> None:
        self.mirror = mirror.rstrip("/") if mirror else None
        self._unreachable: dict[str, str] = {}

    def fetch(self, artefact: Artefact, into: Path, report: Report) -> tuple[Path, str]:
        """Download, verify and unpack ``artefact`` into the folder ``into``; give the binary and its address.

        Raises DownloadFailed: HostUnreachable, NotPublished, RequestRefused, Truncated or ChecksumMismatch.
        """
        published = publication(artefact, self.mirror)
        if published is None:
            raise NotPublished(artefact.name, f"upstream publishes no {artefact.name} for {artefact.platform}")
        expected = self._checksum(published.checksum)
        arrived = into / f"{artefact.name}.download"
        actual = self._stream(published.url, arrived, report)
        if actual != expected:
            arrived.unlink()
            raise ChecksumMismatch(
                published.url, f"its SHA-256 is {actual}, {published.checksum.url} says {expected}: it was thrown away"
            )
        if published.member:
            return _unpack(published.url, arrived, published.member, into / artefact.name), published.url
        return arrived.rename(into / artefact.name), published.url

    def _checksum(self, where: Checksum) -> str:
        with closing(self._open(where.url)) as answer:
            text = _read_all(answer, where.url)
        found = _from_github(text, where.file_name) if where.form == "github" else _from_sums(text, where.file_name)
        if found is None:
            raise ChecksumMismatch(where.url, f"it has no SHA-256 for {where.file_name}, so the file is not taken")
        return found

    def _stream(self, url: str, into: Path, report: Report) -> str:
        digest, done = hashlib.sha256(), 0
        with closing(self._open(url)) as answer, into.open("wb") as file:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            report(done, total)
            while chunk := _read_chunk(answer, url):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                report(done, total)
        if total is not None and done != total:
            raise Truncated(url, f"the connection ended after {done} of {total} bytes")
        return digest.hexdigest()

    def _open(self, url: str) -> Any:
        host = urllib.parse.urlsplit(url).netloc
        if host in self._unreachable:
            raise HostUnreachable(url, self._unreachable[host])
        try:
            return _answered(url)
        except HostUnreachable as error:
            self._unreachable[host] = error.reason
            raise


def _answered(url: str) -> Any:
    # A name server that does not answer is not subject to a socket's time limit, hence a thread with a limit for all.
    box: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=lambda: box.put(_try_open(url)), daemon=True).start()
    try:
        answer = box.get(timeout=ANSWER_WITHIN)
    except queue.Empty:
        raise HostUnreachable(url, f"no answer within {ANSWER_WITHIN:g} s") from None
    if isinstance(answer, DownloadFailed):
        raise answer
    return answer


def _try_open(url: str) -> Any:
    if urllib.parse.urlsplit(url).scheme not in ("https", "http", "file"):
        return RequestRefused(url, "an address must start with https://, http:// or file://")
    request = urllib.request.Request(url, headers={"User-Agent": f"gpu-conformance/{__version__}"})  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=CONNECT_WITHIN)  # noqa: S310 - the scheme was checked above
        _allow_silence(answer)
        return answer
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            return NotPublished(url, f"the host has no such file (HTTP {error.code})")
        return RequestRefused(url, f"the host answered HTTP {error.code} {error.reason}")
    except urllib.error.URLError as error:
        if isinstance(error.reason, FileNotFoundError):
            return NotPublished(url, "there is no such file")
        return HostUnreachable(url, f"cannot be reached ({error.reason})")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return HostUnreachable(url, f"cannot be reached ({error or type(error).__name__})")


def _allow_silence(answer: Any) -> None:
    # The connection had to come fast; a slow transfer is fine as long as bytes keep coming.
    sock = getattr(getattr(getattr(answer, "fp", None), "raw", None), "_sock", None)
    if sock is not None:
        sock.settimeout(SILENCE)


def _read_chunk(answer: Any, url: str) -> bytes:
    try:
        chunk: bytes = answer.read(CHUNK)
        return chunk
    except (OSError, http.client.HTTPException) as error:
        raise Truncated(url, f"the transfer broke off ({error or type(error).__name__})") from error


def _read_all(answer: Any, url: str) -> str:
    text = b""
    while len(text) <= CHECKSUM_AT_MOST and (chunk := _read_chunk(answer, url)):
        text += chunk
    return text.decode("utf-8", errors="replace")


def _from_sums(text: str, file_name: str) -> str | None:
    words = text.split()
    if len(words) == 1 and _is_sha256(words[0]):
        return words[0].lower()
    for line in text.splitlines():
        match line.split():
            # A star marks binary mode in the output of sha256sum.
            case [digest, named] if named.removeprefix("*").removeprefix("./") == file_name and _is_sha256(digest):
                return digest.lower()
    return None


def _from_github(text: str, file_name: str) -> str | None:
    try:
        assets = json.loads(text)["assets"]
        digests = [asset.get("digest") or "" for asset in assets if asset.get("name") == file_name]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    algorithm, _, digest = (digests[0] if digests else "").partition(":")
    return digest.lower() if algorithm == "sha256" and _is_sha256(digest) else None


def _is_sha256(word: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{64}", word) is not None


def _unpack(url: str, archive: Path, member: str, target: Path) -> Path:
    """Take the one file that we want; nothing else in the archive touches the disk."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped, zipped.open(member) as file:
                _copy(file, target)
        else:
            with tarfile.open(archive) as tarred, closing(tarred.extractfile(member) or _absent(member)) as file:
                _copy(file, target)
    except (KeyError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ChecksumMismatch(url, f"the archive has no usable {member} ({error})") from error
    finally:
        archive.unlink()
    return target


def _absent(member: str) -> IO[bytes]:
    raise KeyError(f"{member} is not a file")


def _copy(file: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(file, out, CHUNK)

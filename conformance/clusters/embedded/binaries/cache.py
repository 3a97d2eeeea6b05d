"""The cache: one folder per artefact with a manifest beside the binary, entered by a rename, so never half there."""

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from conformance.clusters.embedded.binaries import locking
from conformance.clusters.embedded.binaries.versions import Artefact
from conformance.progress import Progress

CACHE_VARIABLE = "GPU_CONFORMANCE_CACHE"
MANIFEST = "manifest.json"


def cache_root(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Give the option, else ``GPU_CONFORMANCE_CACHE``, else ``gpu-conformance`` in the XDG cache folder."""
    if given is not None:
        return given.expanduser().absolute()
    if named := environ.get(CACHE_VARIABLE):
        return Path(named).expanduser().absolute()
    xdg = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification tells to ignore a relative path.
    home = Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache"
    return home / "gpu-conformance"


class Cache:
    """Binaries that are whole, by artefact, below ``root/binaries``. Reading never fails; writing raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._binaries = root / "binaries"
        self._scratch = root / "partial"

    def entry(self, artefact: Artefact) -> Path:
        """Give the folder in which the artefact is or will be."""
        where = artefact.platform
        return self._binaries / artefact.name / f"{artefact.version}-{where.os}-{where.arch}"

    def find(self, artefact: Artefact) -> Path | None:
        """Give the binary, or None when it is absent or is not what its manifest says."""
        entry = self.entry(artefact)
        binary = entry / artefact.name
        try:
            manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
            return binary if _is_whole(binary, manifest) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def describe_absence(self, artefacts: Sequence[Artefact]) -> str:
        """Say for each of ``artefacts`` why ``find`` gives None: there is no entry, or a damaged one."""
        absent = [str(artefact) for artefact in artefacts if not self.entry(artefact).exists()]
        damaged = [f"{self.entry(artefact)} is damaged" for artefact in artefacts if self.entry(artefact).exists()]
        return "; ".join(([f"{self._binaries} has no {', '.join(absent)}"] if absent else []) + damaged)

    def admit(self, artefact: Artefact, made: Path, origin: str) -> Path:
        """Move the finished file ``made`` in and return its place. The caller holds the lock of the artefact.

        ``origin`` says in words where it came from. ``made`` must lie in a ``workshop`` of this cache.
        """
        made.chmod(0o755)
        fresh = Path(tempfile.mkdtemp(dir=made.parent, prefix="entry-"))
        binary = fresh / artefact.name
        made.rename(binary)
        _write_durably(fresh / MANIFEST, json.dumps(_manifest(artefact, binary, origin), indent=2) + "\n")
        entry = self.entry(artefact)
        entry.parent.mkdir(parents=True, exist_ok=True)
        if entry.exists():
            # A rename cannot replace a folder that has something in it. The damaged one goes away with the workshop.
            entry.rename(Path(tempfile.mkdtemp(dir=made.parent, prefix="damaged-")) / "entry")
        fresh.chmod(0o755)
        fresh.rename(entry)
        return entry / artefact.name

    @contextmanager
    def workshop(self) -> Iterator[Path]:
        """Make a folder on the cache's file system, gone at the end; what killed processes left goes first."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._sweep()
        prefix = f"{socket.gethostname()}-{os.getpid()}-"
        folder = Path(tempfile.mkdtemp(dir=self._scratch, prefix=prefix))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def locked(self, artefacts: Sequence[Artefact], progress: Progress) -> AbstractContextManager[None]:
        """Hold the right to make ``artefacts``; waits, and tells ``progress`` for whom."""
        return locking.locked(self.root / "locks", artefacts, progress)

    def _sweep(self) -> None:
        host = socket.gethostname()
        for folder in self._scratch.iterdir():
            owner, _, rest = folder.name.removeprefix(f"{host}-").partition("-")
            # Another host may share the cache over the network: its process ids say nothing here.
            if folder.name.startswith(f"{host}-") and owner.isdigit() and rest and not _lives(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def _is_whole(binary: Path, manifest: Mapping[str, Any]) -> bool:
    stat = binary.stat()
    if stat.st_size != manifest["size"] or not os.access(binary, os.X_OK):
        return False
    # Hashing 300 MB at every start is not worth it for a file that nobody has touched since.
    return bool(stat.st_mtime_ns == manifest["mtime_ns"] or sha256_of(binary) == manifest["sha256"])


def _manifest(artefact: Artefact, binary: Path, origin: str) -> dict[str, Any]:
    stat = binary.stat()
    return {
        "name": artefact.name,
        "version": artefact.version,
        "platform": str(artefact.platform),
        "origin": origin,
        "sha256": sha256_of(binary),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
    }


def sha256_of(path: Path) -> str:
    """Give the file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        with suppress(OSError):
            os.fsync(file.fileno())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Seeds: the state of a control plane that has started once, kept in the cache, so that the next start is short.

A first start spends seconds on RBAC rules, priority levels, namespaces and their service accounts. A seed is the etcd
data and the certificates of such a start, made once per set of binaries and flags, and copied for each cluster.
Whatever goes into the key makes another seed; a seed is entered by one rename, so it is whole or absent.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .components import APISERVER, BINARIES, CONTROLLER_MANAGER, ETCD, Components, Layout, Ports
from .control_plane import started_bare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from conformance.progress import Progress

    from .processes import Processes
    from .spec import EmbeddedSpec

_FORMAT = 3  # raise it when what a seed holds changes
_FRESH = 90 * 24 * 3600.0  # seconds; the certificates in it last a year
_UNUSED = 14 * 24 * 3600.0  # seconds after which a seed that nobody took is removed
_BLOCK = 64 * 1024

# What the controller-manager puts into every namespace: a pod needs both before it can be created.
_IN_EVERY_NAMESPACE = (("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt"))
_NAMESPACES = {"default", "kube-system", "kube-public", "kube-node-lease"}


@dataclass(frozen=True)
class Seed:
    """A folder with ``pki`` and ``etcd`` that a cluster's state starts from."""

    path: Path

    def sow(self, layout: Layout) -> None:
        """Copy the seed into a state folder; nobody can replace or remove it meanwhile."""
        with self.locked(fcntl.LOCK_SH):
            shutil.copytree(self.path / "pki", layout.pki)
            _copy_sparse(self.path / "etcd", layout.etcd)

    @contextlib.contextmanager
    def locked(self, how: int) -> Iterator[None]:
        """Hold the seed's lock: LOCK_SH to copy it, LOCK_EX to make or remove it. Raises OSError with LOCK_NB."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, how)
            yield

    @property
    def fresh(self) -> bool:
        """Whether it is there and its certificates are far from their end."""
        with contextlib.suppress(OSError):
            return time.time() - (self.path / "pki" / "ca.crt").stat().st_mtime < _FRESH
        return False


def cache_folder(spec: EmbeddedSpec) -> Path:
    """Where seeds are kept: ``seeds`` in the cache of the project, readable by its user only: it holds private keys."""
    from .binaries.cache import cache_root

    folder = cache_root(spec.cache, os.environ) / "seeds"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def key(spec: EmbeddedSpec, binaries: Mapping[str, Path]) -> str:
    """What a seed is found by: the binaries as files, the flags of whoever writes to etcd, and the initial objects."""
    from .crds import definitions

    nowhere = Layout(Path("/"), Ports(*range(1, Ports.COUNT + 1)))
    components = Components({name: Path(name) for name in BINARIES}, nowhere, replace(spec, topology=None))
    parts = {
        "format": _FORMAT,
        "binaries": {name: _identity(binaries[name]) for name in (ETCD, APISERVER, CONTROLLER_MANAGER)},
        "flags": [components.etcd().argv, components.apiserver().argv, components.controller_manager().argv],
        "definitions": definitions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def obtain(spec: EmbeddedSpec, binaries: Mapping[str, Path], progress: Progress, *, deadline: float) -> Seed:
    """The seed for these binaries and flags; made now, once, when there is none yet.

    Several processes may ask at once: one makes it, the others wait. Raises EmbeddedError when the making fails.
    """
    folder = cache_folder(spec)
    seed = Seed(folder / key(spec, binaries))
    if not seed.fresh:
        with seed.locked(fcntl.LOCK_EX):
            if not seed.fresh:
                progress.step("Preparing the embedded cluster for quick starts (once per version)")
                _make(seed, spec, binaries, deadline)
        _prune(folder)
    os.utime(seed.path)
    return seed


def _make(seed: Seed, spec: EmbeddedSpec, binaries: Mapping[str, Path], deadline: float) -> None:
    scratch = Path(tempfile.mkdtemp(dir=seed.path.parent, prefix=".making-"))
    try:
        with started_bare(spec, binaries, deadline=deadline) as (layout, processes):
            _settle(layout, deadline)
            _stop_in_order(processes)
            shutil.copytree(layout.pki, scratch / "pki")
            _copy_sparse(layout.etcd, scratch / "etcd")
        if seed.path.exists():  # outdated
            seed.path.rename(scratch / "old")
        final = scratch / "new"
        final.mkdir(mode=0o700)
        for part in ("pki", "etcd"):
            (scratch / part).rename(final / part)
        final.rename(seed.path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _settle(layout: Layout, deadline: float) -> None:
    """Write our definitions and wait until the controllers have made what every namespace gets."""
    from conformance.kube.waits import wait_for

    from .cluster import client_of
    from .crds import establish

    with client_of(layout) as client:
        establish(client)
        for kind, name in _IN_EVERY_NAMESPACE:
            wait_for(
                lambda kind=kind: {each["metadata"]["namespace"] for each in client.list(f"/api/v1/{kind}")},  # type: ignore[misc]
                _NAMESPACES.issubset,
                what=f"{kind} {name} exists in every namespace",
                timeout=max(1.0, deadline - time.monotonic()),
            )


def _stop_in_order(processes: Processes) -> None:
    """Writers first, then etcd, which closes its database on SIGTERM."""
    for name in (CONTROLLER_MANAGER, APISERVER, ETCD):
        processes.stop(name)


def _identity(binary: Path) -> list[str | int]:
    status = binary.stat()
    return [str(binary.resolve()), status.st_size, status.st_mtime_ns]


def _prune(folder: Path) -> None:
    """Remove what nobody has used for long, and what a killed process left half made."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.is_dir() and time.time() - path.stat().st_mtime > _UNUSED:
                with Seed(path).locked(fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(path, ignore_errors=True)
                    path.with_suffix(".lock").unlink(missing_ok=True)


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy a tree, leaving holes for blocks of zeros: etcd preallocates 64 MiB for each log file and fills little."""
    shutil.copytree(source, target, copy_function=_copy_file_sparse, ignore=shutil.ignore_patterns("*.tmp"))


def _copy_file_sparse(source: str, target: str) -> None:
    zeros = bytes(_BLOCK)
    with open(source, "rb") as read, open(target, "wb") as write:  # noqa: PTH123 (copytree gives text paths)
        for start, end in _extents(read.fileno()):
            read.seek(start)
            write.seek(start)
            while start < end and (block := read.read(min(_BLOCK, end - start))):
                start += len(block)
                if block == zeros[: len(block)]:
                    write.seek(len(block), os.SEEK_CUR)
                else:
                    write.write(block)
        write.truncate(os.fstat(read.fileno()).st_size)


def _extents(handle: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: (start, end) of each stretch; the whole file where the system cannot tell."""
    size = os.fstat(handle).st_size
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    end = 0
    while end < size:
        try:
            start = os.lseek(handle, end, os.SEEK_DATA)
        except OSError:  # no more data
            return
        end = os.lseek(handle, start, os.SEEK_HOLE)
        yield start, end

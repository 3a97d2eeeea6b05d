"""One process at a time makes an artefact; the others wait and say for whom."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from conformance.clusters.embedded.binaries.versions import Artefact
from conformance.progress import Progress

POLL = 0.2
"""Seconds between two tries for a lock."""


@contextmanager
def locked(folder: Path, artefacts: Sequence[Artefact], progress: Progress) -> Iterator[None]:
    """Hold the locks of all ``artefacts``, taken in the order of their names so that nobody waits in a ring.

    The kernel frees a lock when its process dies, however it dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for artefact in sorted(artefacts, key=lambda one: one.name):
            held.enter_context(_one(folder, artefact, progress))
        yield


@contextmanager
def _one(folder: Path, artefact: Artefact, progress: Progress) -> Iterator[None]:
    stem = f"{artefact.name}-{artefact.version}-{artefact.platform.os}-{artefact.platform.arch}"
    lock, owner = FileLock(folder / f"{stem}.lock"), folder / f"{stem}.owner"
    while True:
        try:
            lock.acquire(timeout=POLL, poll_interval=POLL)
            break
        except Timeout:
            progress.step(f"Waiting for {_read(owner)}, which is getting {artefact}")
    try:
        with suppress(OSError):
            owner.write_text(_introduction(), encoding="utf-8")
        yield
    finally:
        lock.release()


def _introduction() -> str:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:80] or "python"
    return f"process {os.getpid()} ({command}, since {time.strftime('%H:%M:%S')})"


def _read(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"

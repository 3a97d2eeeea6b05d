"""State folders of embedded clusters: on a RAM disk where there is one, locked by their owner, removed when abandoned.

A folder is made under a provisional name, locked, and renamed into place: whoever sees it under its final name and
gets the lock knows that its owner is dead. The final name of a kept cluster can be taken once only, so two commands
that bring up the same name cannot both succeed.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.realnode import cgroups

from .errors import EmbeddedError

CGROUPS = "cgroups"
"""The file of a state folder that names the control groups of its real nodes, one in each line."""

_NEEDED = 512 * 1024 * 1024  # bytes: etcd preallocates 2 x 64 MiB of log, a fleet of 5,000 nodes takes about 300 MiB
_NEWBORN = 60.0  # seconds after which a folder that never got its final name is an orphan
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


class StateError(EmbeddedError):
    """A state folder cannot be made, in words for the user."""


@dataclass
class StateFolder:
    """A folder that holds all state of one cluster, and the lock that shows that somebody owns it."""

    path: Path
    lock: int

    def release(self) -> None:
        """Give up our copy of the lock: the warden, which inherited it, keeps the folder."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def remove(self) -> None:
        """Delete the folder with all that is in it, and the control groups of its real nodes."""
        _delete(self.path)
        self.release()


def make(*, kept: str | None = None, root: Path | None = None, room: int = 0) -> StateFolder:
    """A fresh locked folder, for one run or for the kept cluster of that name.

    ``room`` is how many bytes it takes beyond those of the control plane. Raises StateError when no place offers that
    and 512 MiB, when the name is not valid, or when a living cluster has it.
    """
    if kept is not None:
        check_name(kept)
    root = root or _roomiest(_NEEDED + room)
    root.mkdir(parents=True, exist_ok=True)
    remove_abandoned(root)
    token = secrets.token_hex(4)
    path = root / f"{_prefix()}new-{token}"
    path.mkdir(mode=0o700)
    lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = StateFolder(path, lock)
    try:
        _settle(folder, f"kept-{kept}" if kept else f"run-{token}")
    except OSError as error:
        folder.remove()
        raise StateError(_taken(kept, error)) from None
    return folder


def check_name(name: str) -> None:
    """Raise StateError unless ``name`` can be the name of a kept cluster."""
    if not _NAME.fullmatch(name):
        raise StateError(
            f"{name!r} cannot name a cluster: use up to 40 lower-case letters, digits and inner hyphens, such as 'demo'"
        )


def kept_folders(root: Path | None = None) -> dict[str, Path]:
    """The folders of kept clusters by name, wherever an earlier command may have put them; dead ones are left out."""
    marker = f"{_prefix()}kept-"
    found: dict[str, Path] = {}
    for place in [root] if root else _places():
        for path in sorted(place.glob(f"{marker}*")):
            if _is_ours(path) and is_owned(path):
                found.setdefault(path.name.removeprefix(marker), path)
    return found


def is_owned(path: Path) -> bool:
    """Whether a living process holds the lock of a state folder."""
    with _try_lock(path) as free:
        return free is False


def remove_abandoned(root: Path) -> list[Path]:
    """Remove the folders below ``root`` whose owner was killed, and what still runs of them; return their paths."""
    removed = []
    for path in root.glob(f"{_prefix()}*"):
        if not _is_ours(path) or _is_newborn(path):
            continue
        with _try_lock(path) as free:
            # One without a lock is of somebody who was killed before it got one, or while it was being removed.
            if free is not False:
                _end_survivors(path)
                _delete(path)
                removed.append(path)
    return removed


def _settle(folder: StateFolder, final: str) -> None:
    target = folder.path.with_name(f"{_prefix()}{final}")
    folder.path.rename(target)  # fails on a folder that is not empty, and a living cluster's never is
    folder.path = target


def _taken(kept: str | None, error: OSError) -> str:
    if kept is None:
        return f"no state folder could be made: {error}"
    return (
        f"a cluster named {kept!r} is up already: use it, or stop it with 'gpu-conformance cluster down {kept}', "
        "or choose another name"
    )


def _prefix() -> str:
    return f"gpu-conformance-{os.getuid()}-"


def _places() -> list[Path]:
    """Where state may live, best first: RAM disks, then the folder for temporary files."""
    places = [Path("/dev/shm")] if sys.platform == "linux" else []  # noqa: S108 (folders are made 0700)
    if os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(os.environ["XDG_RUNTIME_DIR"]))
    places.append(Path(tempfile.gettempdir()))
    return [place for place in dict.fromkeys(places) if place.is_dir() and os.access(place, os.W_OK)]


def _roomiest(needed: int) -> Path:
    """The first place with enough room: a container's /dev/shm often has 64 MiB only."""
    places = _places()
    for place in places:
        if _free(place) >= needed:
            return place
    tried = ", ".join(map(str, places)) or "the usual places"
    raise StateError(f"none of {tried} has {needed >> 20} MiB free: free some, or name another folder with TMPDIR")


def _free(place: Path) -> int:
    return shutil.disk_usage(place).free


def _is_ours(path: Path) -> bool:
    with contextlib.suppress(OSError):
        status = path.lstat()
        return path.is_dir() and not path.is_symlink() and status.st_uid == os.getuid()
    return False


def _is_newborn(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return "-new-" in path.name and time.time() - path.stat().st_mtime < _NEWBORN
    return True


@contextlib.contextmanager
def _try_lock(path: Path) -> Iterator[bool | None]:
    """Yield True with the lock held by us, False when another has it, None when there is no lock file."""
    try:
        lock = os.open(path / "lock", os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def _delete(path: Path) -> None:
    """Remove a state folder. Its real nodes' processes are gone by now; the kernel leaves their control groups."""
    with contextlib.suppress(OSError):
        for name in (path / CGROUPS).read_text(encoding="utf-8").split():
            cgroups.remove(name)
    shutil.rmtree(path, ignore_errors=True)


def _end_survivors(path: Path) -> None:
    """Kill what a killed warden left running; on Linux the kernel has done it already.

    A process id may have been given to somebody else since: only one whose command line names the folder is ended.
    """
    try:
        recorded = (path / "pids").read_text().split("\n")
    except OSError:
        return
    for line in filter(None, recorded):
        pid = int(line.split(" ", 1)[0])
        shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if str(path) in shown.stdout:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

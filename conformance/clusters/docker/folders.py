"""The folder of a run that keeps its cluster's kubeconfig; of a run that was killed the next one removes it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "gpu-conformance-containers-"
_LOCK = "lock"
_NEWBORN = 60.0  # seconds in which a folder may not have been locked yet by who made it


@contextlib.contextmanager
def own_folder(root: Path | None = None) -> Iterator[Path]:
    """A folder of our own, readable by us only, gone when the block ends; abandoned ones of earlier runs go first."""
    place = root or Path(tempfile.gettempdir())
    remove_abandoned(place)
    with tempfile.TemporaryDirectory(dir=place, prefix=_PREFIX) as name, FileLock(Path(name) / _LOCK):
        yield Path(name)


def remove_abandoned(root: Path) -> None:
    """Remove the folders of runs that were killed: nobody holds their lock any more."""
    for folder in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            if time.time() - folder.stat().st_mtime > _NEWBORN:
                with FileLock(folder / _LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)

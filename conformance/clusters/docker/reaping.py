"""Our end of the reaper: started before a cluster is made, told when it is gone."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import reaper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Reaper:
    """Who deletes the cluster when we are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def watch(self, group: int) -> None:
        """Name the process group that makes the cluster at the moment, 0 when none does."""
        self._say(f"group {group}")

    def done(self) -> None:
        """The cluster is gone, there is nothing left to do."""
        self._say("done")

    def _say(self, line: str) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()


@contextlib.contextmanager
def reaping(command: Sequence[str]) -> Iterator[Reaper]:
    """A reaper with this command for the time of a block; when the block ends without ``done``, it acts at once."""
    program = [sys.executable, "-I", "-S", str(Path(reaper.__file__)), *command]
    process = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True, cwd="/",
    )  # fmt: skip
    try:
        yield Reaper(process)
    finally:
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        process.wait()

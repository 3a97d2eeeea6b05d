"""Runs one go command, hands on its output line by line, and ends all that it started when we are interrupted."""

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

TICK = 1.0
"""Seconds between two calls of ``tick``."""
GRACE = 3.0
"""Seconds that compilers get to end before they are killed."""


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    listen: Callable[[str], None],
    tick: Callable[[], None],
) -> int:
    """Give the exit status of ``command``. ``listen`` gets each line of both outputs, ``tick`` a call every second.

    Raises OSError when the command cannot be started. Whatever is raised meanwhile, KeyboardInterrupt too, ends the
    command first.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Its own process group: compilers are children of go, and a Ctrl-C is ours to pass on.
        start_new_session=True,
    )
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert process.stdout is not None  # noqa: S101 - for the type checker: we asked for the pipe
    reader = threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True)
    try:
        reader.start()
        _follow(lines, listen, tick)
        return process.wait()
    finally:
        _end(process)
        with suppress(RuntimeError):  # it was not started yet
            reader.join(timeout=GRACE)
        process.stdout.close()


def _pump(stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    with suppress(ValueError, OSError):
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def _follow(lines: "queue.SimpleQueue[str | None]", listen: Callable[[str], None], tick: Callable[[], None]) -> None:
    tick()
    while True:
        try:
            line = lines.get(timeout=TICK)
        except queue.Empty:
            tick()
            continue
        if line is None:
            return
        listen(line)
        tick()


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is not None:
        return
    for means in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, means)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE)
            return

"""Takes away the cluster of a run that was killed: a process of its own that notices the end of whoever started it.

    python reaper.py PROGRAM ARGUMENT ...      the command that deletes the cluster; deleting what is gone does no harm

The caller holds our standard input. The line ``done`` says that there is nothing left to do; ``group N`` names the
process group of a command that still makes the cluster (0: none). When the input ends without ``done`` the caller was
killed: that group is killed, and the command is run until it has found nothing to delete for a while, since a daemon
may still be carrying out what it was asked for. Standard library only, so that it starts at once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

_ROUNDS = 4
_PAUSE = 3.0  # seconds
_COMMAND_WITHIN = 120.0


def main(command: Sequence[str], pause: float = _PAUSE) -> int:
    """Wait for the caller's end, and delete what it has left."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    group = 0
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "done":
            return 0
        if word == "group":
            group = int(rest)
    if group:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for left in range(_ROUNDS, 0, -1):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=_COMMAND_WITHIN)
        if left > 1:
            time.sleep(pause)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

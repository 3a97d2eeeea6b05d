"""The warden of an embedded cluster: it starts the processes and makes sure that none outlives its owner.

Run as a program: ``python warden.py STATE_FOLDER LOCK_FD OWNER_PID``. Standard library only, so that it starts at once.

Orders come as JSON lines on standard input, reports leave as JSON lines on standard output:

    {"start": {"name": ..., "argv": [...], "env": {...}, "log": PATH, "afterwards": []}}
                                                                        ->  {"started": name, "pid": 123}
    {"signal": {"name": ..., "number": 15}}                             ->  {"exited": name, "code": 0}
    {"detach": true}                                                    ->  {"detached": true}

When standard input ends, when the owner is gone or when SIGTERM arrives, the warden kills every process, removes the
state folder and ends; before that it runs the command that a process may have for afterwards, and where that fails the
folder stays for the next start to remove. After ``detach`` only SIGTERM does that: so a kept cluster survives the
command that started it.
Should the warden itself be killed, Linux kills its children (PR_SET_PDEATHSIG); the inherited lock on the state folder
is then free, which tells the next start to remove it.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_KILL_PATIENCE = 10.0  # seconds for killed processes to disappear
_AFTERWARDS_PATIENCE = 12.0  # seconds for the commands that take away what killed processes left
_AFTERWARDS_TRIES = 3
_OWNER_CHECK = 1.0  # seconds between looks at whether the owner still lives


class Warden:
    """Owns the processes of one cluster and its state folder."""

    def __init__(self, state: Path, owner: int) -> None:
        self.state = state
        self.owner = owner
        self.own_id = os.getpid()
        self.attached = True
        self.ending = False
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.afterwards: list[dict[str, Any]] = []
        self._pending = b""
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_out, False)

    def run(self) -> None:
        """Serve until the cluster has to end, then end it."""
        self._listen_to_signals()
        try:
            while not self.ending:
                self._turn()
        finally:
            self._end()

    def _listen_to_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_out, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        # Ctrl-C and a closed terminal are the owner's business: the cluster must outlive them for its clean-up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_term(self, *_: object) -> None:
        self.ending = True

    def _turn(self) -> None:
        sources = [self._wake_in, sys.stdin.fileno()] if self.attached else [self._wake_in]
        ready, _, _ = select.select(sources, [], [], _OWNER_CHECK if self.attached else None)
        if self._wake_in in ready:
            os.read(self._wake_in, 4096)
        self._report_exits()
        if self.attached and sys.stdin.fileno() in ready:
            self._read_orders()
        # A forked copy of the owner may hold the pipe open after the owner's death: its parenthood tells the truth.
        if self.attached and os.getppid() != self.owner:
            self.ending = True

    def _read_orders(self) -> None:
        chunk = os.read(sys.stdin.fileno(), 65536)
        if not chunk:
            self.ending = True
            return
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "start" in order:
            self._start(**order["start"])
        elif "signal" in order:
            process = self.processes.get(order["signal"]["name"])
            if process is not None:
                process.send_signal(order["signal"]["number"])
        elif order.get("detach"):
            self.attached = False
            self._report(detached=True)

    def _start(self, name: str, argv: list[str], env: dict[str, str], log: str, afterwards: list[str]) -> None:
        if afterwards:
            self.afterwards.append({"args": afterwards, "env": env})
        try:
            with Path(log).open("ab") as sink:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env=env,
                    cwd=self.state,
                    process_group=0,
                    preexec_fn=self._die_with_warden if self._libc else None,
                )
        except OSError as error:
            self._report(exited=name, code=127, reason=str(error))
            return
        self.processes[name] = process
        # On other systems than Linux the next start ends what a killed warden left, and finds it by these ids.
        with (self.state / "pids").open("a") as pids:
            pids.write(f"{process.pid} {argv[0]}\n")
        self._report(started=name, pid=process.pid)

    def _die_with_warden(self) -> None:
        assert self._libc is not None  # noqa: S101 (for the type checker)
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self.own_id:  # the warden died between fork and prctl
            os._exit(1)

    def _report_exits(self) -> None:
        for name, process in list(self.processes.items()):
            code = process.poll()
            if code is not None:
                del self.processes[name]
                self._report(exited=name, code=code)

    def _report(self, **event: object) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more: after detaching, or the owner was killed
            os.write(sys.stdout.fileno(), json.dumps(event).encode() + b"\n")

    def _end(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        _wait(self.processes.values(), _KILL_PATIENCE)
        if self._is_taken_away():
            os.chdir("/")
            shutil.rmtree(self.state, ignore_errors=True)

    def _is_taken_away(self) -> bool:
        """Run the commands for afterwards, again those that failed: whoever kills processes may kill them, too.

        Where one never ends well the state folder stays: by it the next start finds what has to be taken away.
        """
        pending = self.afterwards
        for _ in range(_AFTERWARDS_TRIES):
            ran = [(command, _silently(command)) for command in pending]
            _wait([process for _, process in ran], _AFTERWARDS_PATIENCE)
            pending = [command for command, process in ran if process.poll() != 0]
        return not pending


def _silently(command: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a command that has nothing to say to the owner; what goes wrong stands in the warden's own log."""
    return subprocess.Popen(**command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _wait(processes: Iterable[subprocess.Popen[bytes]], patience: float) -> None:
    deadline = time.monotonic() + patience
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))


def main(arguments: list[str]) -> None:
    """Run the warden of the state folder and the owner named on the command line."""
    state, lock, owner = arguments
    os.set_inheritable(int(lock), False)  # ours to hold until we end; the processes must not keep it
    Warden(Path(state), int(owner)).run()


if __name__ == "__main__":
    main(sys.argv[1:])

"""The owner's end of the warden: ask it for processes, hear which of them ended, wait until they are ready."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from . import warden
from .errors import ComponentDied, StartTimeout, tail

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from .components import Component
    from .state import StateFolder

_PROBE_TIMEOUT = 2.0
_PROBE_PAUSE = 0.02
# kubernetes/cmd/kube-controller-manager/app/controllermanager.go, CreateControllerContext
_GAVE_UP_WAITING = "failed to wait for apiserver being healthy"
_END_PATIENCE = 25.0  # the warden waits for what stops itself, then for what it killed


class Processes:
    """The processes of one cluster, under a warden that outlives us only as long as it takes to kill them."""

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self.components: dict[str, Component] = {}
        self.ended: dict[str, str] = {}
        self.pids: dict[str, int] = {}
        self._heard = b""
        with (folder.path / "warden.log").open("ab") as log:
            # -I and -S: no site packages, no user settings; the warden is there in 20 ms.
            command = [sys.executable, "-I", "-S", str(Path(warden.__file__)), str(folder.path), str(folder.lock)]
            self.warden = subprocess.Popen(
                [*command, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=(folder.lock,),
                start_new_session=True,
                cwd="/",
            )
        folder.release()

    def start(self, component: Component) -> None:
        """Have the warden start a process; a failure shows in check()."""
        self.components[component.name] = component
        self.ended.pop(component.name, None)
        self._order(
            start={
                "name": component.name,
                "argv": list(component.argv),
                "env": dict(component.env),
                "log": str(component.log),
                "afterwards": list(component.afterwards),
            }
        )

    def check(self) -> None:
        """Raise ComponentDied, with the end of its log, for the first process that ended unasked.

        One that gave the API server up is started again: it answers that it is well before it gives up.
        """
        self._listen(0.0)
        self._start_impatient_again()
        self._raise_for_ended()

    def _raise_for_ended(self) -> None:
        for name, why in self.ended.items():
            raise ComponentDied(name, why, self.components[name].log)
        if self.warden.poll() is not None:
            raise ComponentDied("warden", f"exit code {self.warden.returncode}", self.folder.path / "warden.log")

    def wait_ready(self, components: Sequence[Component], trust: ssl.SSLContext, *, deadline: float) -> None:
        """Wait until every one of them answers 200 at its ``ready`` address, or has made the file that it names.

        A process that ended because the API server was not there yet is started again. Raises ComponentDied as soon as
        any other ends, StartTimeout at ``deadline`` (of time.monotonic).
        """
        waiting = [component for component in components if component.ready]
        while waiting:
            self.check()
            seen = {each.name: probe(each.ready or "", trust) for each in waiting}
            waiting = [each for each in waiting if seen[each.name] != "200"]
            if waiting and time.monotonic() > deadline:
                raise StartTimeout([(each.name, f"{each.ready} says {seen[each.name]}", each.log) for each in waiting])
            if waiting:
                self._listen(_PROBE_PAUSE)

    def _start_impatient_again(self) -> None:
        """As a kubelet would: the controller-manager gives the API server 10 s to be healthy, then it ends."""
        for name in list(self.ended):
            if _GAVE_UP_WAITING in tail(self.components[name].log):
                self.start(self.components[name])

    def wait_bound(self, component: Component, *, deadline: float) -> None:
        """Wait until a process has its port. Long before it serves, who connects is kept waiting then, not refused."""
        parts = urlsplit(component.ready or "")
        while not accepts(parts.hostname or "", parts.port or 0):
            self.check()
            if time.monotonic() > deadline:
                raise StartTimeout([(component.name, f"port {parts.port} is not open", component.log)])
            self._listen(_PROBE_PAUSE)

    def stop(self, name: str, *, patience: float = 30.0) -> None:
        """End one process in good order (SIGTERM) and wait for it; raises StartTimeout when it stays."""
        self._order(signal={"name": name, "number": int(signal.SIGTERM)})
        deadline = time.monotonic() + patience
        while name not in self.ended:
            if time.monotonic() > deadline:
                raise StartTimeout([(name, "still runs after SIGTERM", self.components[name].log)])
            self._listen(0.1)
        del self.ended[name]

    def detach(self) -> None:
        """Let the warden stay when we end: from now on only SIGTERM to ``warden.pid`` ends the cluster."""
        self._order(detach=True)
        self._listen_until(lambda event: "detached" in event)
        self._close_pipes()
        # It is no longer ours to wait for, which Popen would warn about when it is forgotten.
        self.warden.returncode = 0

    def end(self) -> None:
        """Kill all processes and remove the state folder; does nothing the second time."""
        self._close_pipes()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.warden.wait(_END_PATIENCE)
        if self.warden.poll() is None:
            self.warden.kill()
            self.warden.wait()
        self.folder.remove()  # already gone, unless the warden was killed

    def _order(self, **order: object) -> None:
        if self.warden.stdin is None or self.warden.stdin.closed:
            raise ComponentDied("warden", "it was told to end", self.folder.path / "warden.log")
        try:
            self.warden.stdin.write(json.dumps(order).encode() + b"\n")
            self.warden.stdin.flush()
        except OSError:
            raise ComponentDied("warden", "it is gone", self.folder.path / "warden.log") from None

    def _listen(self, seconds: float) -> list[dict[str, Any]]:
        """Take in what the warden reports within ``seconds``, returning at the first report."""
        if self.warden.stdout is None or self.warden.stdout.closed:
            return []
        ready, _, _ = select.select([self.warden.stdout], [], [], seconds)
        if not ready:
            return []
        chunk = os.read(self.warden.stdout.fileno(), 65536)
        if not chunk:
            time.sleep(seconds)  # the warden is gone, which check() reports
        *lines, self._heard = (self._heard + chunk).split(b"\n")
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for event in events:
            self._take_in(event)
        return events

    def _listen_until(self, wanted: Callable[[dict[str, Any]], bool], *, patience: float = 5.0) -> None:
        deadline = time.monotonic() + patience
        while not any(wanted(event) for event in self._listen(0.1)):
            if self.warden.poll() is not None or time.monotonic() > deadline:
                raise ComponentDied("warden", "it does not answer", self.folder.path / "warden.log")

    def _take_in(self, event: dict[str, Any]) -> None:
        if "started" in event:
            self.pids[event["started"]] = event["pid"]
        elif "exited" in event:
            self.ended[event["exited"]] = event.get("reason") or _words(event["code"])

    def _close_pipes(self) -> None:
        for pipe in (self.warden.stdin, self.warden.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def accepts(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=_PROBE_TIMEOUT).close()
    except OSError:
        return False
    return True


def probe(url: str, trust: ssl.SSLContext) -> str:
    """The status code that a GET of ``url`` has, as text, or in a few words why there is none; 200 for a file."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return "200" if Path(unquote(parts.path)).exists() else "no such file"
    host, port = parts.hostname or "", parts.port
    connection: HTTPConnection = (
        HTTPSConnection(host, port, timeout=_PROBE_TIMEOUT, context=trust)
        if parts.scheme == "https"
        else HTTPConnection(host, port, timeout=_PROBE_TIMEOUT)
    )
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        return str(connection.getresponse().status)
    except (OSError, HTTPException) as error:
        return f"no answer ({error})"
    finally:
        connection.close()


def _words(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

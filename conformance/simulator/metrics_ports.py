"""Many small HTTP servers on loopback ports, one for each simulated exporter, under one thread that listens."""

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

Text = Callable[[], str | None]
"""What a server says at /metrics now; None when it takes the call and says nothing."""

_ANSWERING = 8
_LOOPBACK = "127.0.0.1"


class MetricsPorts:
    """Open loopback ports, each with its text. Safe to share between threads."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._wake_out, self._wake_in = os.pipe()
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._pool = ThreadPoolExecutor(_ANSWERING, thread_name_prefix="exporter")
        _allow_many_files()
        threading.Thread(target=self._listen, name="metrics-ports", daemon=True).start()

    def open(self, text: Text) -> int:
        """Open a free port and return its number."""
        listening = socket.create_server((_LOOPBACK, 0), backlog=16)
        listening.setblocking(False)
        port = int(listening.getsockname()[1])
        with self._lock:
            self._open[port] = listening
            self._selector.register(listening, selectors.EVENT_READ, text)
        os.write(self._wake_in, b"x")
        return port

    def close(self, port: int) -> None:
        """Close a port; nothing happens when it is closed already."""
        with self._lock:
            listening = self._open.pop(port, None)
            if listening is not None:
                self._selector.unregister(listening)
        if listening is not None:
            listening.close()

    def _listen(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._wake_out:
                    os.read(self._wake_out, 4096)
                    continue
                # It may have been closed since the selector saw it.
                with contextlib.suppress(OSError):
                    caller, address = key.fileobj.accept()  # type: ignore[union-attr]
                    self._pool.submit(_answer, caller, address, key.data)


def _allow_many_files() -> None:
    """Let the process hold as many sockets as the system allows it: a fleet of 5,000 nodes has 5,000 exporters."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _answer(caller: socket.socket, address: Any, text: Text) -> None:
    caller.setblocking(True)
    caller.settimeout(10)
    with caller, contextlib.suppress(OSError):
        _Answer(text, caller, address)


class _Answer(BaseHTTPRequestHandler):
    """One answer to one caller."""

    def __init__(self, text: Text, caller: socket.socket, address: Any) -> None:
        self._text = text
        super().__init__(caller, address, None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        body = self._text() if self.path.partition("?")[0] == "/metrics" else ""
        if body is None:
            self.close_connection = True
            return
        content = body.encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

"""Carrying connections between two networks that do not know each other, by a socket file that both can open."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

_CHUNK = 1 << 16
_PAUSE = 0.1


def serve(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Carry every connection that ``listener`` accepts to one that ``connect`` opens, in threads, until it is closed.

    A connection whose other side cannot be reached is closed at once.
    """
    threading.Thread(target=_accept, args=(listener, connect), daemon=True).start()


def to_unix(path: str) -> Callable[[], socket.socket]:
    """What opens a connection to a socket file."""

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        return sock

    return connect


def to_port(host: str, port: int) -> Callable[[], socket.socket]:
    """What opens a connection to a TCP port."""
    return lambda: socket.create_connection((host, port))


def unix_listener(path: str) -> socket.socket:
    """A listening socket file that only its owner can use. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(64)
    return sock


def _accept(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    while listener.fileno() >= 0:  # until it is closed
        try:
            near, _ = listener.accept()
        except OSError:  # no more files can be opened: some of those that are will be closed
            time.sleep(_PAUSE)
            continue
        threading.Thread(target=_carry, args=(near, connect), daemon=True).start()


def _carry(near: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with near:
        try:
            far = connect()
        except OSError:
            return
        with far:
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy until one side ends, and tell the other."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)

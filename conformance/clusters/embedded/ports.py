"""Free TCP ports on the loopback address, kept reserved until the process that needs them listens."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LOOPBACK = "127.0.0.1"

# Linux lets a second socket bind an address whose first holder also set SO_REUSEADDR and does not listen, and Go's
# listeners set it. So our unlistened socket keeps others away from the port and does not disturb its owner.
_HOLDS = sys.platform == "linux"


@contextmanager
def reserved(count: int) -> Iterator[tuple[int, ...]]:
    """Yield ``count`` different free ports; on Linux nobody else is given one of them while the block lasts.

    Elsewhere the ports are only likely to be free: whoever uses them must be ready to try again with others.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(_bound()) for _ in range(count)]
        ports = tuple(int(sock.getsockname()[1]) for sock in sockets)
        if not _HOLDS:
            held.close()
        yield ports


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if _HOLDS:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOOPBACK, 0))
    return sock

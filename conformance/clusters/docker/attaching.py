"""A line to a container's standard input: while we hold it the container knows that we are there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def attached(container: Any) -> Iterator[None]:
    """Say a line to the container and hold its standard input open while the block lasts.

    Docker closes it when this connection ends, however it does: the container was created to read from one caller.
    """
    line = container.attach_socket(params={"stdin": 1, "stream": 1})
    raw = getattr(line, "_sock", line)
    try:
        raw.sendall(b"here\n")
        yield
    finally:
        # Docker's library keeps the answer to its request alive with the socket, and the socket under its wrapper.
        for part in (getattr(line, "_response", None), line, raw):
            if part is not None:
                with contextlib.suppress(OSError):
                    part.close()

"""A container of a run, found by a label whose value no other run has: how it goes, whoever removes it.

    python -m conformance.clusters.docker.owned OWNER

removes it, for whoever does it in our stead. A name would not do: another run may have a container of that name.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from .daemon import reached
from .errors import ContainerClusterError

LABEL = "io.gpu-conformance.owner"
_LOOK_EVERY = 0.1  # seconds
_GONE_WITHIN = 30.0


def removal(owner: str) -> list[str]:
    """The command that removes the container of an owner, for the reaper."""
    return [sys.executable, "-P", "-m", "conformance.clusters.docker.owned", owner]


def remove(client: Any, owner: str) -> None:
    """Remove what an owner has, started or not, with its volumes. Raises ContainerClusterError when it stays."""
    from docker.errors import APIError

    deadline = time.monotonic() + _GONE_WITHIN
    while found := client.containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}={owner}"}):
        if time.monotonic() > deadline:
            names = " ".join(container.name for container in found)
            raise ContainerClusterError(f"a container is still there: docker rm --force --volumes {names}")
        for container in found:
            with contextlib.suppress(APIError):  # gone, or being removed already
                container.remove(force=True, v=True)
        time.sleep(_LOOK_EVERY)


def main(arguments: list[str]) -> int:
    """Remove what the owner that was named has."""
    with reached() as client:
        remove(client, arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The Docker network of a kind cluster that a run makes: one of its own, which goes with it.

kind's usual network, ``kind``, is everybody's: whoever makes it leaves it behind, and nobody may take it away. The name
of another one comes by a variable that kind calls experimental (kind v0.33.0, pkg/cluster/internal/providers/docker).

    python -m conformance.clusters.docker.kind_network NETWORK COMMAND ...

runs the command that deletes the cluster and removes the network, for whoever does it in our stead.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from .daemon import reached
from .errors import ContainerClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "KIND_EXPERIMENTAL_DOCKER_NETWORK"
_LOOK_EVERY = 0.3  # seconds
_GONE_WITHIN = 30.0


def own_network() -> str:
    """The name of a network that no other cluster has; empty where the user has chosen one for kind."""
    return "" if os.environ.get(VARIABLE) else f"gpu-conformance-{secrets.token_hex(4)}"


def remove_network(client: Any, name: str) -> None:
    """Remove a network once no container is in it. Raises ContainerClusterError when it stays."""
    from docker.errors import APIError

    deadline = time.monotonic() + _GONE_WITHIN
    while found := [each for each in client.networks.list(names=[name]) if each.name == name]:
        if time.monotonic() > deadline:
            raise ContainerClusterError(f"the Docker network {name} is still there: docker network rm {name}")
        for each in found:
            with contextlib.suppress(APIError):  # gone, or a container is still on its way out of it
                each.remove()
        time.sleep(_LOOK_EVERY)


def removal(network: str, command: Sequence[str]) -> list[str]:
    """The command that runs ``command``, which deletes a cluster, and removes its network, where it has one."""
    if not network:
        return list(command)
    return [sys.executable, "-P", "-m", "conformance.clusters.docker.kind_network", network, *command]


def main(arguments: Sequence[str]) -> int:
    """Delete the cluster and remove its network."""
    network, *command = arguments
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    with reached() as client:
        remove_network(client, network)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the control-plane container runs: the embedded cluster, until whoever started the container is gone.

    python -m conformance.clusters.docker.inside --kubernetes 1.36.3 [--large]

The caller writes a line to standard input and keeps it open. When it ends, because the caller closed it or was
killed, so does this, and Docker removes the container. Standard output tells how it went, in one line: READY, or FAILED
and why.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from conformance.clusters.embedded import EmbeddedCluster, EmbeddedError, EmbeddedSpec, start
from conformance.clusters.embedded.binaries.failures import BinariesError

from .protocol import ALONE_AFTER, BINARIES_PATH, FAILED, KUBECONFIG_PATH, PORT, READY

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATE = Path("/state")
_ROUTES = Path("/proc/net/route")
_SIOCDELRT = 0x890C  # linux/sockios.h
_RTF_UP, _RTF_GATEWAY = 0x1, 0x2  # linux/route.h
_LOOK_EVERY = 1.0  # seconds


def main(arguments: list[str] | None = None) -> int:
    """Run until standard input ends or SIGTERM comes. Returns 1 where the cluster could not be started or broke."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubernetes", required=True)
    parser.add_argument("--large", action="store_true", help="the fleet will have more than 200 nodes")
    asked = parser.parse_args(arguments)
    if not _somebody_is_there():
        return 1
    try:
        stay_inside()
        with start(_spec(asked.kubernetes, large=asked.large)) as cluster:
            Path(KUBECONFIG_PATH).write_text(kubeconfig(cluster), encoding="utf-8")
            print(READY, flush=True)
            _until_input_ends(cluster)
    except (EmbeddedError, BinariesError, OSError, ValueError) as error:
        print(FAILED, json.dumps(str(error)), flush=True)
        _until_input_ends()
        return 1
    return 0


def _spec(version: str, *, large: bool) -> EmbeddedSpec:
    """The control plane alone: whoever started the container makes the nodes, through the API server."""
    closely = {} if not large else {"node-monitor-period": "5s"}
    return EmbeddedSpec(
        version=version,
        topology=None,
        state_dir=_STATE,
        assets=Path(BINARIES_PATH),
        cache=_STATE / "cache",
        # Docker hands what comes to the published port to the container's own address.
        apiserver_flags={"bind-address": "0.0.0.0"},  # noqa: S104 - of a network of its own
        controller_manager_flags=closely,
        port=PORT,
    )


def stay_inside() -> None:
    """Take away every route out of the container's own network: no pod or service address is ever looked for outside.

    The API server would dial them for proxies and webhooks. Needs CAP_NET_ADMIN. Raises OSError when one stays.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for route in routes_out(_ROUTES.read_text(encoding="ascii")):
            addresses = b"".join(_sockaddr(each) for each in route)
            # struct rtentry of linux/route.h on machines of 64 bits: destination, gateway and mask tell the route.
            entry = struct.pack("L48sHhLPhPLLH6x", 0, addresses, _RTF_UP | _RTF_GATEWAY, *[0] * 8)
            fcntl.ioctl(sock.fileno(), _SIOCDELRT, entry)
    if left := list(routes_out(_ROUTES.read_text(encoding="ascii"))):
        raise OSError(f"the container still has routes out: {left}")


def routes_out(table: str) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The routes through a gateway in the text of /proc/net/route: destination, gateway, mask."""
    for line in table.splitlines()[1:]:
        _, destination, gateway, flags, _, _, _, mask, *_ = line.split()
        if int(flags, 16) & _RTF_GATEWAY:
            # Written as numbers of the machine's byte order, which is how they lie in memory.
            yield _in_memory(destination), _in_memory(gateway), _in_memory(mask)


def _in_memory(number: str) -> bytes:
    return int(number, 16).to_bytes(4, sys.byteorder)


def _sockaddr(address: bytes) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, address)


def kubeconfig(cluster: EmbeddedCluster) -> str:
    """The administrator's kubeconfig with everything in it; whoever takes it out puts the address in."""
    content = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    for entry in (content["clusters"][0]["cluster"], content["users"][0]["user"]):
        for key in ("certificate-authority", "client-certificate", "client-key"):
            if key in entry:
                entry[f"{key}-data"] = base64.b64encode(Path(entry.pop(key)).read_bytes()).decode()
    return json.dumps(content)


def _somebody_is_there() -> bool:
    """Whether the caller says its line: it may have been killed between creating the container and attaching to it."""
    readable, _, _ = select.select([sys.stdin], [], [], ALONE_AFTER)
    return bool(readable and sys.stdin.readline())


def _until_input_ends(cluster: EmbeddedCluster | None = None) -> None:
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], _LOOK_EVERY)
        if readable and not sys.stdin.readline():
            return
        if cluster is not None:
            cluster.check()


if __name__ == "__main__":
    sys.exit(main())

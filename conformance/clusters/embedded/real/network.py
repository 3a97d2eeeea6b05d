"""Addresses of a real node: for the cable between the machine and the node, and for the node's pods.

Cables take theirs from 198.18.0.0/15, which is set aside for measurements in laboratories (RFC 2544) and which nobody
routes; pods theirs from a part of 10/8 that no simulated pod is given. Nothing is taken into which a route of the
machine leads, so that several clusters can run on one machine.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clusters.embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CABLES, CABLE_PREFIX = IPv4Network("198.18.0.0/15"), 30
PODS, PODS_PREFIX = IPv4Network("10.192.0.0/11"), 24
_TRIES = 200
_ROUTES = Path("/proc/net/route")


class NoAddress(EmbeddedError):
    """The machine has routes into all of a range."""


@dataclass(frozen=True)
class Cable:
    """The two ends of a cable, the machine's and the node's, and the network of the pods behind it."""

    host: str
    node: str
    pods: str

    @property
    def host_address(self) -> str:
        """The machine's end with its prefix length."""
        return f"{self.host}/{CABLE_PREFIX}"

    @property
    def node_address(self) -> str:
        """The node's end with its prefix length."""
        return f"{self.node}/{CABLE_PREFIX}"


def free_cable(besides: Iterable[Cable] = (), routes: Path = _ROUTES) -> Cable:
    """Addresses that neither the machine nor the cables ``besides`` use. Raises NoAddress."""
    used = _routed(routes.read_text(encoding="utf-8"))
    for each in besides:
        used += [IPv4Network(each.host_address, strict=False), IPv4Network(each.pods)]
    host, node = _free(CABLES, CABLE_PREFIX, used).hosts()
    return Cable(str(host), str(node), str(_free(PODS, PODS_PREFIX, used)))


def _free(everything: IPv4Network, prefix: int, used: Sequence[IPv4Network]) -> IPv4Network:
    """A network of this size, chosen by chance: whoever else is choosing now hardly chooses the same."""
    size = 1 << (32 - prefix)
    for _ in range(_TRIES):
        offset = secrets.randbelow(everything.num_addresses // size) * size
        network = IPv4Network((int(everything.network_address) + offset, prefix))
        if not any(network.overlaps(other) for other in used):
            return network
    raise NoAddress(
        f"this machine has routes into all of {everything}, of which real nodes take addresses: "
        "see them with `ip route`, and run on a machine without them"
    )


def _routed(table: str) -> list[IPv4Network]:
    """The networks that a routing table (that of /proc/net/route: hexadecimal, least byte first) leads to."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, mask = (ipaddress.IPv4Address(bytes.fromhex(fields[at])[::-1]) for at in (1, 7))
        if int(mask):  # the default route leads everywhere
            found.append(IPv4Network(f"{address}/{mask}", strict=False))
    return found

"""A running embedded cluster, as whoever uses it sees it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .components import Layout, Ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.kube.client import Client
    from conformance.kube.connection import Connection

    from .processes import Processes

_CARD = "cluster.json"


@dataclass
class EmbeddedCluster:
    """A control plane that runs. Whoever started it closes it; one that was attached to stays when closed.

    ``version`` is what the API server says of itself, such as ``v1.36.3``; ``topology`` names its fleet.
    """

    layout: Layout
    version: str
    topology: str
    name: str | None = None
    processes: Processes | None = None

    def __enter__(self) -> EmbeddedCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.name or 'embedded'}  Kubernetes {self.version}  topology {self.topology}  {self.server}"

    @property
    def folder(self) -> Path:
        """The state folder: logs (``<process>.log``), certificates, kubeconfigs. It goes when the cluster goes."""
        return self.layout.folder

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self.layout.server

    @property
    def ca_file(self) -> Path:
        """The authority that signed the API server's certificate."""
        return self.layout.pki / "ca.crt"

    @property
    def cert_file(self) -> Path:
        """The administrator's certificate."""
        return self.layout.pki / "admin.crt"

    @property
    def key_file(self) -> Path:
        """The administrator's key."""
        return self.layout.pki / "admin.key"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of the administrator, for kubectl."""
        return self.layout.kubeconfig("admin")

    @property
    def kubectl(self) -> str:
        """How to look at the cluster by hand."""
        return f"kubectl --kubeconfig {self.kubeconfig} get nodes"

    def connection(self) -> Connection:
        """A new connection as the administrator; the caller closes it."""
        from conformance.kube.connection import Connection

        return Connection.from_certificates(self.server, self.ca_file, self.cert_file, self.key_file)

    def client(self) -> contextlib.AbstractContextManager[Client]:
        """A client that may do everything, for a ``with`` block."""
        return client_of(self.layout)

    def check(self) -> None:
        """Raise ComponentDied when one of the processes ended; an attached cluster is not looked at."""
        if self.processes is not None:
            self.processes.check()

    def close(self) -> None:
        """End the processes and remove the state folder, if the cluster is ours; else do nothing."""
        if self.processes is not None:
            self.processes.end()
            self.processes = None

    def write_card(self, warden: int) -> None:
        """Leave in the state folder what attach() needs to know."""
        ports = {name: getattr(self.layout.ports, name) for name in Ports.__dataclass_fields__}
        card = {"version": self.version, "topology": self.topology, "ports": ports, "warden": warden}
        (self.folder / _CARD).write_text(json.dumps(card), encoding="utf-8")

    @classmethod
    def from_card(cls, folder: Path, name: str) -> EmbeddedCluster:
        """The cluster of a state folder that has a card; closing it leaves it running. Raises OSError without one."""
        card = read_card(folder)
        return cls(Layout(folder, Ports(**card["ports"])), card["version"], card["topology"], name)


def read_card(folder: Path) -> dict[str, Any]:
    """What write_card wrote. Raises FileNotFoundError while the cluster is still starting."""
    card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    return card


@contextlib.contextmanager
def client_of(layout: Layout) -> Iterator[Client]:
    """The administrator's client of a running control plane; its connection is closed when the block ends."""
    from conformance.kube.client import Client
    from conformance.kube.connection import Connection
    from conformance.kube.effects import Effect
    from conformance.kube.guard import Guard

    pki = layout.pki
    with Connection.from_certificates(
        layout.server, pki / "ca.crt", pki / "admin.crt", pki / "admin.key"
    ) as connection:
        yield Client(connection, Guard(Effect.DISRUPTIVE, None))

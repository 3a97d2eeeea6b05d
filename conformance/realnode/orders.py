"""What a node's keeper and first process are told, as one JSON file in the node's folder."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "node.json"
INSIDE = Path("/run/gpu-conformance")
"""Where the node finds its own folder: paths of sockets must be short, and those of state folders may not be."""

API_SOCKET = "api.sock"

AFTERWARDS = "--afterwards"
"""What a keeper is told that only takes away what a killed one left."""


@dataclass(frozen=True)
class Orders:
    """One node: its folder, its network, its programs. Paths are absolute, commands complete.

    ``link`` is the name of the machine's end of its cable, ``host_address`` and ``node_address`` are the addresses of
    the two ends (with prefix length), ``pods`` is the network of its pods behind ``bridge``. ``service_address`` is
    where pods find the API server; what is sent there goes through a socket in the node's folder to ``api_port`` on the
    machine's loopback address. ``cgroup`` names the node's control group in every hierarchy. ``covered`` are folders of
    the machine that the node sees and changes only for itself, ``kept`` those that it needs wherever they are.
    ``tunables`` are the kernel settings that its kubelet shall find (path below /proc/sys -> value) without anything
    being set. ``agents`` are programs that run beside the kubelet, by name; one that ends is started again.
    ``processors`` and ``memory_kib`` are what the node says that it has, 0 for what the machine has.
    """

    name: str
    folder: str
    link: str
    host_address: str
    node_address: str
    pods: str
    bridge: str
    service_address: str
    service_port: int
    api_port: int
    cgroup: str
    covered: list[str]
    kept: list[str]
    tunables: dict[str, str]
    containerd: list[str]
    containerd_socket: str
    import_images: list[str]
    kubelet: list[str]
    agents: dict[str, list[str]] = field(default_factory=dict)
    processors: int = 0
    memory_kib: int = 0

    def write(self) -> None:
        """Write the file into the node's folder."""
        (Path(self.folder) / FILE).write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Orders":
        """The orders in a node's folder. Raises OSError, or TypeError for a file of another version."""
        return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))

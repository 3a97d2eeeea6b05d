"""A real control plane as child processes: etcd, API server, controllers, scheduler, and KWOK for simulated nodes.

No root, no Docker, no images: the programs come from ``binaries``, everything listens on the loopback address only,
state lives on a RAM disk and disappears with whoever started the cluster.

    with start(EmbeddedSpec(topology="guide")) as cluster:
        print(cluster.kubectl)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .boot import start
    from .cluster import EmbeddedCluster
    from .errors import ComponentDied, EmbeddedError, StartTimeout
    from .kept import attach, cluster_down, cluster_list, cluster_up
    from .spec import EmbeddedSpec

__all__ = [
    "ComponentDied",
    "EmbeddedCluster",
    "EmbeddedError",
    "EmbeddedSpec",
    "StartTimeout",
    "attach",
    "cluster_down",
    "cluster_list",
    "cluster_up",
    "start",
]

_HOMES = {
    "start": "boot",
    "EmbeddedCluster": "cluster",
    **dict.fromkeys(("ComponentDied", "EmbeddedError", "StartTimeout"), "errors"),
    **dict.fromkeys(("attach", "cluster_down", "cluster_list", "cluster_up"), "kept"),
    "EmbeddedSpec": "spec",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: fleets are wanted on systems, too, on which no process of these can run."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

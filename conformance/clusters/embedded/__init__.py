"""A real control plane as child processes: etcd, API server, controllers, scheduler, and KWOK for simulated nodes.

No root, no Docker, no images: the programs come from ``binaries``, everything listens on the loopback address only,
state lives on a RAM disk and disappears with whoever started the cluster.

    with start(EmbeddedSpec(topology="guide")) as cluster:
        print(cluster.kubectl)
"""

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

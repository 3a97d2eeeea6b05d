"""Real nodes of an embedded cluster: a kubelet and a containerd each, in namespaces of their own, without a way out.

Containers really run there, from images that we make ourselves. Everything that a node needs of the machine is named
by the preflight before anything is started.
"""

from .joining import KUBELET, ROOM, parts, wait_joined
from .nodes import Parts, prepared
from .placing import NoPlace, Place, instead, places
from .preflight import RealNodesUnavailable, required

__all__ = [
    "KUBELET", "ROOM", "NoPlace", "Parts", "Place", "RealNodesUnavailable", "instead", "parts", "places", "prepared",
    "required", "wait_joined",
]  # fmt: skip

"""What device plugins have registered with the simulated kubelets: the one thing that is kept in memory."""

import threading
from collections.abc import Mapping

import msgspec


class Device(msgspec.Struct, frozen=True):
    """One device as a plugin offers it; a shared GPU is offered as several of them.

    ``id`` is what the kubelet hands out (``<uuid>`` or ``<uuid>::<replica>``), ``uuid`` the GPU or MIG device that a
    container then sees, ``gpu`` the index of the GPU, ``profile`` that of a MIG device.
    """

    id: str
    uuid: str
    gpu: int
    profile: str = ""
    healthy: bool = True


class Offer(msgspec.Struct, frozen=True):
    """The devices of one resource. ``refuses_many`` is failRequestsGreaterThanOne, ``mps`` sharing by MPS."""

    devices: tuple[Device, ...]
    shared: bool = False
    refuses_many: bool = False
    mps: bool = False


class Offered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the plugin of a deployed stack offers on a node, by resource, and the driver that it found."""

    driver: str = ""
    offers: dict[str, Offer] = {}


class Claimed(msgspec.Struct, frozen=True, omit_defaults=True):
    """That the DRA driver of a deployed stack publishes the devices of a node: the GPU driver that it found there.

    ``health``: it taints what is ill (the feature gate NVMLDeviceHealthCheck).
    """

    driver: str
    health: bool = False


class Registrations:
    """Which plugin offers what on which node. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_node: dict[str, dict[str, Offer]] = {}
        self._in_images: dict[str, dict[str, Offer]] = {}

    def register(self, node: str, offers: Mapping[str, Offer]) -> bool:
        """Replace what is offered on a node; whether that changed anything. No offers: the plugin is gone."""
        with self._lock:
            before = self._by_node.get(node, {})
            self._by_node[node] = dict(offers)
            return before != dict(offers)

    def register_image(self, node: str, offers: Mapping[str, Offer]) -> bool:
        """Replace what a plugin in the node's image offers, beside any stack; whether that changed anything."""
        with self._lock:
            before = self._in_images.get(node, {})
            self._in_images[node] = dict(offers)
            return before != dict(offers)

    def on(self, node: str) -> Mapping[str, Offer]:
        """What is offered on a node now, by resource."""
        with self._lock:
            return {**self._in_images.get(node, {}), **self._by_node.get(node, {})}

"""What a node's plugin has to offer, from its Node object: machine, driver, and each resource with its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from conformance.simulator.annotations import CLAIMED, OFFERED, annotation
from conformance.simulator.devices import Claimed, Device, Offer, Offered
from conformance.simulator.geometry import Geometry, geometry_of
from conformance.simulator.hardware import Machine, machine_of
from conformance.simulator.kubelet import offered_by_image

if TYPE_CHECKING:
    from collections.abc import Mapping

MISCOUNTS = "plugin-miscounts"
_OFFERED = msgspec.json.Decoder(Offered)
_CLAIMED = msgspec.json.Decoder(Claimed)


class Inventory(msgspec.Struct, frozen=True):
    """What is there. ``driver`` is the version of the loaded driver, empty without one.

    ``claimed`` says that a DRA driver publishes it; ``uid`` and ``runtime`` are the Node's and its container runtime's.
    """

    node: str
    machine: Machine
    driver: str = ""
    geometry: Geometry = {}
    offers: dict[str, Offer] = {}
    claimed: Claimed | None = None
    uid: str = ""
    runtime: str = ""

    def broken(self, what: str) -> Any:
        """The value of something that is broken (simulator/hardware.py, BROKEN); None when it is not."""
        return self.machine.broken.get(what)


def inventory_of(node: Mapping[str, Any]) -> Inventory | None:
    """What a Node object says; None for a machine without GPUs.

    A plugin in the node image offers by itself; what a deployed stack's plugin offers has been worked out by the
    simulator, which reads the stack's configuration. Raises msgspec.ValidationError for an odd annotation.
    """
    machine = machine_of(node)
    if machine is None:
        return None
    name = str(node["metadata"]["name"])
    text = annotation(node, OFFERED)
    offered = _OFFERED.decode(text) if text else Offered()
    offers = {**offered_by_image(name, machine), **offered.offers}
    miscounted = {resource: _miscounted(offer, machine) for resource, offer in offers.items()}
    text = annotation(node, CLAIMED)
    return Inventory(
        name,
        machine,
        machine.driver or offered.driver,
        geometry_of(node),
        miscounted,
        claimed=_CLAIMED.decode(text) if text else None,
        uid=str(node["metadata"].get("uid", "")),
        runtime=str(((node.get("status") or {}).get("nodeInfo") or {}).get("containerRuntimeVersion", "")),
    )


def _miscounted(offer: Offer, machine: Machine) -> Offer:
    """The offer of a plugin that counts wrong: it names devices that are not there, or leaves some out."""
    wrong = int(machine.broken.get(MISCOUNTS) or 0)
    if wrong < 0:
        return msgspec.structs.replace(offer, devices=offer.devices[:wrong])
    invented = tuple(Device(f"GPU-invented-{number}", f"GPU-invented-{number}", 0) for number in range(wrong))
    return msgspec.structs.replace(offer, devices=(*offer.devices, *invented))

"""What a metrics exporter says of a node's GPUs: the page of dcgm-exporter, with the pods that the kubelet names.

The exporter's own container fetches it (standins/program.py). Attribution comes from the pod-resources API, as the real
exporter's does; the figures are the simulator's.
"""

from __future__ import annotations

import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import grpc

from conformance.simulator.exporter_page import Holder, page

from .allocated import allocated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .inventory import Inventory

PORT = 9401
_REPLICA = "::"
_log = logging.getLogger(__name__)


def serve(latest: Callable[[], Inventory | None], kubelet: Path, *, port: int = PORT) -> ThreadingHTTPServer:
    """Serve the page in a thread; ``kubelet`` is the socket of its pod-resources API."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            inventory = latest()
            if inventory is None or not inventory.driver or inventory.broken("exporter-silent"):
                self.close_connection = True
                return
            found = self.path.partition("?")[0] == "/metrics"
            content = text(inventory, kubelet).encode() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("", port), Answers)
    threading.Thread(target=server.serve_forever, daemon=True, name="metrics").start()
    return server


def text(inventory: Inventory, kubelet: Path) -> str:
    """The page now."""
    holders, busy = _holders(inventory, kubelet)
    named = {} if inventory.broken("exporter-unattributed") else holders
    return page(inventory.node, inventory.machine, inventory.driver, inventory.geometry, named, busy)


def _holders(inventory: Inventory, kubelet: Path) -> tuple[dict[str, Holder], set[str]]:
    """Who has which device, by UUID, and the devices in use. Replicas of a GPU are attributed to none."""
    known = {device.id: device.uuid for offer in inventory.offers.values() for device in offer.devices}
    holders: dict[str, Holder] = {}
    busy: set[str] = set()
    try:
        found = allocated(kubelet)
    except grpc.RpcError as error:
        _log.warning("the kubelet does not say who has which device: %s", error)
        return {}, set()
    for container, devices in found.items():
        for each in (each for ids in devices.values() for each in ids if each in known):
            busy.add(known[each])
            if _REPLICA not in each:
                holders[known[each]] = Holder(container.namespace, container.pod, container.name)
    return holders, busy

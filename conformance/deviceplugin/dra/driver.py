"""The DRA driver of a node as a whole: its sockets, its slice and its claims, as long as the node has it.

A kubelet that starts finds the registration's socket where it was and registers the plugin anew; it deletes the node's
slices before that, which the driver hears of and publishes again. Devices are published once the kubelet has registered
the driver, and not before: it would refuse a pod that is quick, and try again after more than a minute.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from conformance.deviceplugin.services import stop
from conformance.kube.errors import KubeError
from conformance.simulator.dra_devices import DRIVER, devices

from . import services
from .claims import Claims, NotPrepared
from .runtimes import Injection, injection
from .slices import Slices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import grpc

    from conformance.deviceplugin.hostfiles import HostFiles
    from conformance.deviceplugin.inventory import Inventory
    from conformance.kube.client import Client

REGISTRATIONS, PLUGINS = "plugins_registry", "plugins"
"""The kubelet's folders below its root folder."""

_LOOK = 1.0  # seconds after which what failed is tried again
_log = logging.getLogger(__name__)


class Driver:
    """The driver on one node, at the kubelet whose root folder is ``root``; CDI specifications are in ``cdi``.

    ``injects`` says that the node's runtime is known to read them; else its version decides what is said of that.
    """

    def __init__(
        self, client: Client, node: str, root: Path, cdi: Path, files: HostFiles, *, injects: bool = False
    ) -> None:
        self._files, self._injects = files, injects
        self._endpoint = root / PLUGINS / DRIVER / "dra.sock"
        self._registration = root / REGISTRATIONS / f"{DRIVER}-reg.sock"
        self._slices = Slices(client, node, self._wake_up)
        self._claims = Claims(client, cdi, files, self._listed)
        self._wake = threading.Event()
        self._news: Inventory | None = None
        self._now: Inventory | None = None
        self._devices: Sequence[Mapping[str, Any]] | None = None
        self._injection = Injection(True)
        self._servers: list[grpc.Server] = []
        self.registered = threading.Event()

    @property
    def prepared(self) -> list[str]:
        """The UIDs of the claims that are prepared."""
        return self._claims.prepared

    def tell(self, inventory: Inventory | None) -> None:
        """What the node has now, from whichever thread; None for a node without GPUs."""
        self._news = inventory
        self._wake_up()

    def run(self, ended: threading.Event) -> None:
        """Serve until ``ended``; what goes wrong at the API server is tried again."""
        threading.Thread(target=self._slices.follow, daemon=True, name="slices").start()
        try:
            while not ended.is_set():
                try:
                    self.turn()
                except KubeError as error:
                    _log.warning("the slice cannot be kept: %s", error)
                self._wake.wait(_LOOK)
                self._wake.clear()
        finally:
            self._close()

    def turn(self) -> None:
        """Look once at what is new. Raises KubeError."""
        if self._news is not self._now:
            self._now = self._news
            self._learn(self._now)
        if self._devices is None:
            self._close()
        elif not self._servers:
            self._serve()
        if self._devices is None or self.registered.is_set():
            self._slices.keep(self._devices, self._now.uid if self._now else "", why=self._injection.why)

    def _learn(self, inventory: Inventory | None) -> None:
        claimed = inventory.claimed if inventory else None
        if inventory is None or claimed is None:
            self._devices = None
            return
        self._files.describe(inventory)
        self._devices = devices(
            inventory.node, inventory.machine, inventory.geometry, claimed.driver, health=claimed.health
        )
        injected = Injection(True) if self._injects else injection(inventory.runtime)
        if injected.why and injected != self._injection:
            _log.warning("%s", injected.why)
        self._injection = injected

    def _listed(self) -> tuple[Inventory, Sequence[Mapping[str, Any]], Injection]:
        if self._now is None or self._devices is None:
            raise NotPrepared("the node has no device of this driver now")
        return self._now, self._devices, self._injection

    def _serve(self) -> None:
        failures = (NotPrepared, KubeError, OSError)
        self._servers = [
            services.serve_plugin(self._claims, self._endpoint, failures),
            services.serve_registration(DRIVER, self._endpoint, self._registration, self._told),
        ]

    def _told(self, registered: bool, error: str) -> None:
        if registered:
            _log.info("the kubelet has registered %s", DRIVER)
            self.registered.set()
            self._wake_up()
        else:
            _log.warning("the kubelet does not register %s: %s", DRIVER, error)

    def _close(self) -> None:
        for server in reversed(self._servers):
            stop(server)
        for socket in (self._endpoint, self._registration):
            socket.unlink(missing_ok=True)
        self._servers = []
        self.registered.clear()

    def _wake_up(self) -> None:
        self._wake.set()

"""The plugin of a node: a server for each resource, kept in step with the node, registered again with each kubelet.

A kubelet that starts removes every socket in its folder and makes its own one anew: that is the sign to serve and
register again (kubernetes.io: Device Plugins, handling kubelet restarts).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import grpc

from .resource import Resource, describe
from .services import KUBELET_SOCKET

if TYPE_CHECKING:
    from pathlib import Path

    from .hostfiles import HostFiles
    from .inventory import Inventory

CRASHES, REGISTERS_ONCE = "plugin-crashes", "plugin-registers-once"
_LOOK = 0.2  # seconds between looks at the kubelet's socket
_CRASH_AFTER = 0.2
_log = logging.getLogger(__name__)


class PluginCrash(Exception):
    """The machine is one on which the plugin ends by itself."""


class Plugin:
    """The resources of one node at the kubelet of ``folder``. With ``cdi_folder`` devices are given by CDI names."""

    def __init__(self, folder: Path, files: HostFiles, *, cdi_folder: Path | None = None) -> None:
        self._folder, self._files, self._cdi_folder = folder, files, cdi_folder
        self._resources: dict[str, Resource] = {}
        self._inventory: Inventory | None = None
        self._told: Inventory | None = None
        self._news: list[Inventory | None] = []
        self._wake = threading.Event()
        self._kubelet: tuple[int, int] | None = None

    @property
    def inventory(self) -> Inventory | None:
        """What the node has, as it was last told of."""
        return self._inventory

    def tell(self, inventory: Inventory | None) -> None:
        """What the node has now, from whichever thread; None for a node without GPUs."""
        self._news.append(inventory)
        self._wake.set()

    def run(self, ended: threading.Event) -> None:
        """Serve until ``ended``. Raises PluginCrash where the machine has it so."""
        try:
            while not ended.is_set():
                self.turn()
                self._wake.wait(_LOOK)
                self._wake.clear()
        finally:
            self._close()

    def turn(self) -> None:
        """Look once at the kubelet and at what is new. Raises PluginCrash."""
        while self._news:
            self._inventory = self._news.pop(0)
        kubelet = self._kubelet_now()
        if kubelet != self._kubelet:
            if self._kubelet is not None and self._inventory and self._inventory.broken(REGISTERS_ONCE):
                return
            if self._kubelet is not None:
                _log.info("the kubelet is gone or another one")
            self._close()
            self._kubelet = kubelet
        if kubelet is None:
            return
        try:
            self._keep_in_step()
        except grpc.RpcError as error:
            _log.warning("the kubelet does not take a registration: %s", error)
            self._close()
            self._kubelet = None

    def _keep_in_step(self) -> None:
        inventory = self._inventory
        offers = {} if inventory is None else inventory.offers
        for name in [name for name in self._resources if name not in offers]:
            self._resources.pop(name).close()
        if inventory is None or (inventory is self._told and self._resources.keys() == offers.keys()):
            return
        self._told = inventory
        describe(inventory, self._files, self._cdi_folder)
        for name in offers:
            if name in self._resources:
                self._resources[name].update(inventory)
            else:
                resource = Resource(name, self._folder, self._files, inventory, cdi=self._cdi_folder is not None)
                self._resources[name] = resource
                resource.register()
        if offers and inventory.broken(CRASHES):
            time.sleep(_CRASH_AFTER)
            raise PluginCrash("the device plugin ends by itself on this machine")

    def _kubelet_now(self) -> tuple[int, int] | None:
        """What tells one kubelet's socket from the next one's."""
        try:
            status = (self._folder / KUBELET_SOCKET).stat()
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns

    def _close(self) -> None:
        for resource in self._resources.values():
            resource.close()
        self._resources = {}

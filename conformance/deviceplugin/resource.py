"""The plugin of one resource on one node: its socket, what it tells the kubelet, what it answers."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import grpc

from . import cdi, giving, services
from .api import deviceplugin_pb2 as api
from .preferences import numa_node, preferred

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .hostfiles import HostFiles
    from .inventory import Inventory

HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"
_STILL_THERE = 1.0  # seconds between looks at whether the kubelet still listens
_log = logging.getLogger(__name__)


class Resource:
    """One resource, served at a socket beside the kubelet's until close(). With ``cdi`` devices are given by name."""

    def __init__(self, name: str, folder: Path, files: HostFiles, inventory: Inventory, *, cdi: bool = False) -> None:
        self.name = name
        self._folder, self._files, self._cdi = folder, files, cdi
        self._inventory = inventory
        self._changed = threading.Condition()
        self._version = 0
        self._closed = False
        self._endpoint = f"gpu-conformance-{name.replace('/', '-')}.sock"
        self._server = services.serve(self, folder / self._endpoint)

    def register(self) -> None:
        """Tell the kubelet. Raises grpc.RpcError."""
        services.register(self._folder, self._endpoint, self.name)
        _log.info("registered %s", self.name)

    def update(self, inventory: Inventory) -> None:
        """Tell the kubelet of other devices, or of others' health."""
        with self._changed:
            self._inventory = inventory
            self._version += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the streams and take the socket away: the kubelet gives none of the devices out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        services.stop(self._server)
        (self._folder / self._endpoint).unlink(missing_ok=True)

    def list_and_watch(self, context: grpc.ServicerContext) -> Iterator[api.ListAndWatchResponse]:
        """See services.DevicePlugin."""
        told = -1
        while not self._closed and context.is_active():
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._version != told, _STILL_THERE)  # noqa: B023
                if self._closed or self._version == told:
                    continue
                told, inventory = self._version, self._inventory
            yield _listed(inventory, self.name)

    def preferred(self, request: api.PreferredAllocationRequest) -> api.PreferredAllocationResponse:
        """See services.DevicePlugin."""
        answer = api.PreferredAllocationResponse()
        offer = self._inventory.offers[self.name]
        for each in request.container_requests:
            needed, free = list(each.must_include_deviceIDs), list(each.available_deviceIDs)
            chosen = preferred(offer, self._inventory.machine.gpus, free, needed, each.allocation_size)
            answer.container_responses.add(deviceIDs=chosen)
        return answer

    def allocate(self, request: api.AllocateRequest, context: grpc.ServicerContext) -> api.AllocateResponse:
        """See services.DevicePlugin."""
        inventory = self._inventory
        offer = inventory.offers.get(self.name)
        answers = []
        for each in request.container_requests:
            try:
                devices = giving.devices_of(inventory, self.name, each.devices_ids)
            except giving.AllocationFailed as failure:
                context.abort(grpc.StatusCode.UNKNOWN, str(failure))
            mps = bool(offer and offer.mps)
            if self._cdi:
                answers.append(giving.by_name(devices, mps=mps))
            else:
                given = giving.given(inventory, self._files, devices, mps=mps)
                answers.append(giving.response(given))
            _log.info("%s: gave %s", self.name, ", ".join(device.id for device in devices))
        return api.AllocateResponse(container_responses=answers)


def _listed(inventory: Inventory, resource: str) -> api.ListAndWatchResponse:
    answer = api.ListAndWatchResponse()
    for device in inventory.offers[resource].devices:
        node = api.NUMANode(ID=numa_node(device.gpu, inventory.machine.gpus))
        health = HEALTHY if device.healthy else UNHEALTHY
        answer.devices.add(ID=device.id, health=health, topology=api.TopologyInfo(nodes=[node]))
    return answer


def describe(inventory: Inventory, files: HostFiles, cdi_folder: Path | None) -> None:
    """Write what containers see of the machine, before any of them can be given anything of it."""
    files.describe(inventory)
    if cdi_folder is not None:
        cdi.write(cdi_folder, inventory, files)

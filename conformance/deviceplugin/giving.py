"""What a container gets with its devices: environment, mounts, device files; or the names of CDI devices.

As NVIDIA's plugin does it: NVIDIA_VISIBLE_DEVICES names the devices, and the container runtime would add the rest. Here
the plugin adds it: stand-ins of nvidia-smi and of the driver's libraries, and device files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from conformance.gpu.resources import GPU as CDI_KIND

from .api import deviceplugin_pb2 as api

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from conformance.simulator.devices import Device

    from .hostfiles import HostFiles
    from .inventory import Inventory

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
ALLOCATE_FAILS, STALE = "allocate-fails", "stale-allocation"
_MPS = {"CUDA_MPS_PIPE_DIRECTORY": "/mps/pipe", "CUDA_MPS_LOG_DIRECTORY": "/mps/log"}


class AllocationFailed(Exception):
    """The plugin cannot give the devices; the kubelet rejects the pod with this text."""


class Given(msgspec.Struct, frozen=True):
    """Environment, mounts and device files (path in the container -> path on the node) of one container."""

    environment: dict[str, str]
    mounts: dict[str, str]
    device_files: dict[str, str]


def devices_of(inventory: Inventory, resource: str, ids: Sequence[str]) -> list[Device]:
    """The devices behind ids. Raises AllocationFailed for ids not offered, and where the plugin is broken."""
    why = inventory.broken(ALLOCATE_FAILS)
    if why:
        raise AllocationFailed("the device is busy" if why is True else str(why))
    offer = inventory.offers.get(resource)
    known = {device.id: device for device in offer.devices} if offer else {}
    if offer and offer.refuses_many and len(ids) > 1:
        raise AllocationFailed(f"maximum request size for shared resources is 1; found {len(ids)}")
    if unknown := [each for each in ids if each not in known]:
        raise AllocationFailed(f"unknown device: {', '.join(unknown)}")
    if inventory.broken(STALE):
        # What was given to the first container is given to every one, whatever the kubelet has chosen.
        return list(known.values())[: len(ids)]
    return [known[each] for each in ids]


def given(inventory: Inventory, files: HostFiles, devices: Iterable[Device], *, mps: bool = False) -> Given:
    """What a container gets for devices."""
    wanted = list(devices)
    environment = {VISIBLE: ",".join(dict.fromkeys(device.uuid for device in wanted))}
    environment |= _MPS if mps else {}
    gpus = sorted({device.gpu for device in wanted})
    parts = any(device.profile for device in wanted)
    return Given(environment, files.mounts(), files.device_files(gpus, parts=parts))


def response(given: Given) -> api.ContainerAllocateResponse:
    """What stands in the answer to the kubelet."""
    answer = api.ContainerAllocateResponse(envs=given.environment)
    for inside, outside in given.mounts.items():
        answer.mounts.add(container_path=inside, host_path=outside, read_only=True)
    for inside, outside in given.device_files.items():
        answer.devices.add(container_path=inside, host_path=outside, permissions="rw")
    return answer


def by_name(devices: Iterable[Device], *, mps: bool = False) -> api.ContainerAllocateResponse:
    """The answer where the container runtime knows the devices by a CDI specification (see cdi.py).

    How a container reaches the MPS daemon depends on the offer, not on the device, and so stands in the answer itself.
    """
    answer = api.ContainerAllocateResponse(envs=_MPS if mps else {})
    for uuid in dict.fromkeys(device.uuid for device in devices):
        answer.cdi_devices.add(name=f"{CDI_KIND}={uuid}")
    return answer

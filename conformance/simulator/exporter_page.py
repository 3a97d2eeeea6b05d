"""What dcgm-exporter of one node would print: the default counters, for each GPU and each MIG device.

Source: NVIDIA/dcgm-exporter, etc/default-counters.csv (which counters, their types and help texts in our words), and
pages that users posted (issues 58, 250 and 272): which labels a sample has and in which order.
"""

import time
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from conformance.simulator.geometry import Geometry
from conformance.simulator.hardware import Machine, gpu_uuid, mig_uuid

# DCGM knows the last XID only. 48, a double-bit ECC error, is one after which the device plugin takes a GPU away.
_XID_OF_UNHEALTHY = 48
_EPOCH = 1_700_000_000
_RESERVED_PART = 0.03
_BUSY_PART = 0.5

# Name, type, what it is, and whether a MIG device has it: DCGM gives the utilisation of whole GPUs only.
_COUNTERS: tuple[tuple[str, str, str, bool], ...] = (
    ("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock in MHz", True),
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature in C", True),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "power draw in W", True),
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "energy since boot in mJ", True),
    ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "PCIe retries", True),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilisation in percent", False),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "memory utilisation in percent", False),
    ("DCGM_FI_DEV_XID_ERRORS", "gauge", "value of the last XID error", True),
    ("DCGM_FI_DEV_FB_FREE", "gauge", "free framebuffer memory in MiB", True),
    ("DCGM_FI_DEV_FB_USED", "gauge", "used framebuffer memory in MiB", True),
    ("DCGM_FI_DEV_FB_RESERVED", "gauge", "reserved framebuffer memory in MiB", True),
    ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "part of the time in which the graphics engine was active", True),
    ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "part of the cycles in which a tensor pipe was active", True),
    ("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "part of the cycles in which the memory moved data", True),
)

_XID_COUNT = ("DCGM_EXP_XID_ERRORS_COUNT", "gauge", "XID errors in the last minutes", True)
# NVIDIA/dcgm-exporter issues 507 and 512: of several MIG devices the later ones lack a metric.
_FIRST_DEVICE, _WHOLE_GPUS = "first-device", "whole-gpus"
_MEMORY = "DCGM_FI_DEV_FB_"
# What a sensor that has lost its mind says.
_IMPLAUSIBLE = {"DCGM_FI_DEV_GPU_UTIL": 250, "DCGM_FI_DEV_GPU_TEMP": 511, "DCGM_FI_DEV_FB_FREE": 1}


class Holder(msgspec.Struct, frozen=True):
    """The container that has a device."""

    namespace: str
    pod: str
    container: str


class _Device(msgspec.Struct, frozen=True):
    """One line of each counter: a GPU, or a MIG device of it."""

    index: int
    uuid: str
    memory_mib: int
    holder: Holder | None
    busy: bool
    profile: str = ""
    instance: str = ""


def page(
    node: str,
    machine: Machine,
    driver: str,
    geometry: Geometry,
    holders: Mapping[str, Holder],
    busy: Iterable[str],
    now: float | None = None,
) -> str:
    """The page as text. ``holders`` are those that the exporter names, ``busy`` devices that anybody works on, by UUID.

    ``now`` is the time in seconds since 1970; the energy counter grows with it.
    """
    moment = time.time() if now is None else now
    shown = str(machine.broken.get("exporter-driver") or driver)
    counters = (*_COUNTERS, _XID_COUNT) if machine.broken.get("exporter-counts-xids") else _COUNTERS
    of_mig_devices = machine.broken.get("exporter-mig")
    seen = {} if of_mig_devices == _WHOLE_GPUS else geometry
    devices = list(_devices(node, machine, seen, holders, frozenset(busy)))
    lines = []
    for name, kind, says, of_mig in counters:
        reported = [device for device in devices if of_mig or not device.profile]
        if of_mig_devices == _FIRST_DEVICE and name.startswith(_MEMORY):
            reported = [device for device in reported if device.instance in ("", "1")]
        if reported:
            lines += [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]
        lines += [_line(name, device, node, machine, shown, moment) for device in reported]
    return "\n".join((*lines, ""))


def _devices(
    node: str, machine: Machine, geometry: Geometry, holders: Mapping[str, Holder], busy: frozenset[str]
) -> Iterator[_Device]:
    for index in machine.present:
        uuid = gpu_uuid(node, index)
        layout = geometry.get(index)
        if layout is None:
            yield _Device(index, uuid, machine.memory_mib, holders.get(uuid), uuid in busy)
            continue
        instance = 0
        for profile, count in sorted(layout.items()):
            for number in range(count):
                instance += 1
                own = mig_uuid(node, index, profile, number)
                yield _Device(index, uuid, _memory(profile), holders.get(own), own in busy, profile, str(instance))


def _memory(profile: str) -> int:
    """MiB of a MIG device by its name; the real ones have a little less."""
    return int(profile.partition("g.")[2].partition("gb")[0]) * 1024


def _line(name: str, device: _Device, node: str, machine: Machine, driver: str, now: float) -> str:
    holder = device.holder or Holder("", "", "")
    labels = {
        "gpu": str(device.index),
        "UUID": device.uuid,
        "pci_bus_id": f"00000000:{device.index + 1:02X}:00.0",
        "device": f"nvidia{device.index}",
        "modelName": machine.product,
    }
    if device.profile:
        labels |= {"GPU_I_PROFILE": device.profile, "GPU_I_ID": device.instance}
    labels |= {
        "Hostname": node,
        "DCGM_FI_DRIVER_VERSION": driver,
        "container": holder.container,
        "namespace": holder.namespace,
        "pod": holder.pod,
    }
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    value = _value(name, device, machine, now)
    return f"{name}{{{inside}}} {value if isinstance(value, int) else f'{value:.6f}'}"


def _value(name: str, device: _Device, machine: Machine, now: float) -> int | float:
    reserved = int(device.memory_mib * _RESERVED_PART)
    used = int(device.memory_mib * _BUSY_PART) if device.busy else 0
    # A busy device wavers within a few percent from second to second.
    wave = (int(now) % 7) if device.busy else 0
    values: dict[str, int | float] = {
        "DCGM_FI_DEV_SM_CLOCK": 1410 if device.busy else 210,
        "DCGM_FI_DEV_GPU_TEMP": (58 if device.busy else 31) + wave,
        "DCGM_FI_DEV_POWER_USAGE": (240.5 if device.busy else 44.25) + wave,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": int((now - _EPOCH) * 50_000),
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
        "DCGM_FI_DEV_GPU_UTIL": (90 + wave) if device.busy else 0,
        "DCGM_FI_DEV_MEM_COPY_UTIL": (40 + wave) if device.busy else 0,
        "DCGM_FI_DEV_XID_ERRORS": _last_xid(device.index, machine),
        "DCGM_FI_DEV_FB_FREE": device.memory_mib - used - reserved,
        "DCGM_FI_DEV_FB_USED": used,
        "DCGM_FI_DEV_FB_RESERVED": reserved,
        "DCGM_EXP_XID_ERRORS_COUNT": 0,
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.9 if device.busy else 0,
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.4 if device.busy else 0,
        "DCGM_FI_PROF_DRAM_ACTIVE": 0.3 if device.busy else 0,
    }
    if machine.broken.get("exporter-implausible"):
        values |= _IMPLAUSIBLE
    return values[name]


def _last_xid(index: int, machine: Machine) -> int:
    if index in machine.unhealthy:
        return _XID_OF_UNHEALTHY
    return int(machine.broken.get("exporter-xid") or 0) if index == 0 else 0

"""What the DRA driver says of the GPUs and MIG devices of a node, as the devices of a ResourceSlice.

Source: kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1, cmd/gpu-kubelet-plugin (deviceinfo.go, mig.go, partitions.go) and
its page on the attributes of ResourceSlices.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.gpu.driver_branches import BRANCHES
from conformance.gpu.mig_profiles import Model, Profile
from conformance.simulator.geometry import Geometry, instance_of, is_whole, model_of
from conformance.simulator.gfd import attributes, family
from conformance.simulator.hardware import Machine, gpu_uuid, mig_uuid

DRIVER = "gpu.nvidia.com"
XID_TAINT = "gpu.nvidia.com/xid"
_CRITICAL_XID = "79"

_PCI_BUS_ID = "resource.kubernetes.io/pciBusID"
_MIB = 1024 * 1024
_UNITS = (("Gi", 1024 * _MIB), ("Mi", _MIB), ("Ki", 1024))
_NUMBER = re.compile(r"[0-9]+")

# What the driver calls the instance profiles: nvidia-smi mig -lgip of models with seven and with four compute slices.
_SEVEN = {(1, 1): 19, (1, 2): 15, (2, 2): 14, (3, 4): 9, (4, 4): 5, (7, 8): 0}
_FOUR = {(1, 1): 14, (2, 2): 5, (4, 4): 0}
_WITH_MEDIA = {19: 20, 14: 21, 5: 6}

# What NVML says of a MIG device under the name that feature discovery gives it, and how the slice calls it.
_CAPACITIES = {
    "multiprocessors": "multiprocessors",
    "engines.copy": "copyEngines",
    "engines.decoder": "decoders",
    "engines.encoder": "encoders",
    "engines.jpeg": "jpegEngines",
    "engines.ofa": "ofaEngines",
}

Device = dict[str, Any]


def devices(node: str, machine: Machine, geometry: Geometry, driver: str, *, health: bool = False) -> list[Device]:
    """The devices of a node that the driver lists, as the API has them.

    A GPU with MIG on is not among them, its MIG devices are. ``health``: what is ill carries a taint.
    """
    found: list[Device] = []
    for index in machine.present:
        ill = health and index in machine.unhealthy
        if index in geometry:
            found += [_tainted(each, ill) for each in _parts(node, machine, index, geometry[index], driver)]
        else:
            found.append(_tainted(_gpu(node, machine, index, driver), ill))
    return found


def uuids(found: list[Device]) -> dict[str, str]:
    """The UUID of each device by its name."""
    return {each["name"]: each["attributes"]["uuid"]["string"] for each in found}


def quantity(amount: int) -> str:
    """A number of bytes as the API server writes it."""
    unit, size = next(((unit, size) for unit, size in _UNITS if amount and amount % size == 0), ("", 1))
    return f"{amount // size}{unit}"


def _tainted(device: Device, ill: bool) -> Device:
    taint = {"key": XID_TAINT, "value": _CRITICAL_XID, "effect": "NoSchedule"}
    return {**device, "taints": [taint]} if ill else device


def _gpu(node: str, machine: Machine, index: int, driver: str) -> Device:
    said = {"type": _text("gpu"), "uuid": _text(gpu_uuid(node, index)), **_common(machine, index, driver)}
    capacity = {"memory": {"value": quantity(machine.memory_mib * _MIB)}}
    return {"name": f"gpu-{index}", "attributes": said, "capacity": capacity}


def _parts(node: str, machine: Machine, index: int, layout: Mapping[str, int], driver: str) -> Iterator[Device]:
    """The MIG devices of one GPU. Those that have a part of an instance only are not published."""
    model = model_of(machine)
    names = [(profile, n) for profile, count in layout.items() if is_whole(profile) for n in range(count)]
    starts = _starts(model, [profile for profile, _ in names])
    for (profile, number), start in zip(names, starts, strict=True):
        said = {
            "type": _text("mig"),
            "uuid": _text(mig_uuid(node, index, profile, number)),
            "parentUUID": _text(gpu_uuid(node, index)),
            "profile": _text(profile),
            **_common(machine, index, driver),
        }
        instance = None if model is None else instance_of(model, profile)
        name = f"gpu-{index}-mig-{_as_name(profile)}-{_profile_id(model, instance)}-{start}"
        yield {"name": name, "attributes": said, "capacity": _capacity(machine, profile, instance, start)}


def _common(machine: Machine, index: int, driver: str) -> dict[str, Any]:
    major = driver.partition(".")[0]
    cuda = next((branch.cuda for branch in BRANCHES if str(branch.number) == major and branch.cuda), (0, 0))
    return {
        "productName": _text(machine.product),
        "brand": _text("Tesla" if machine.product.startswith("Tesla") else "Nvidia"),
        "architecture": _text(family(machine.compute).replace("-", " ").title()),
        "cudaComputeCapability": {"version": semantic(machine.compute)},
        "cudaDriverVersion": {"version": semantic(f"{cuda[0]}.{cuda[1]}")},
        "driverVersion": {"version": semantic(driver)},
        _PCI_BUS_ID: _text(f"0000:{index + 1:02x}:00.0"),
    }


def semantic(version: str) -> str:
    """A version with three numbers and no leading zeros, as the API wants it: 580.95.05 becomes 580.95.5."""
    numbers = [str(int(number)) for number in _NUMBER.findall(version)[:3]]
    return ".".join([*numbers, "0", "0", "0"][:3])


def _text(value: str) -> dict[str, str]:
    return {"string": value}


def _as_name(profile: str) -> str:
    return re.sub(r"[^a-z0-9-]", "-", profile.lower().replace(".", "")).strip("-")


def _profile_id(model: Model | None, instance: Profile | None) -> int:
    """The number of an instance profile; where nobody has published it, its place in the table of the model."""
    if model is None or instance is None:
        return 0
    table = _FOUR if max(each.compute for each in model.profiles) == 4 else _SEVEN
    known = table.get((instance.compute, instance.size))
    if "+" not in instance.name and not instance.name.endswith("-me") and known is not None:
        return known
    media = _WITH_MEDIA.get(-1 if known is None else known) if instance.name.endswith("+me") else None
    return media if media is not None else 32 + model.profiles.index(instance)


def _capacity(machine: Machine, profile: str, instance: Profile | None, start: int) -> dict[str, Any]:
    known = attributes(machine, profile)
    if not known or instance is None:
        return {}
    amounts = {name: str(known[label]) for label, name in _CAPACITIES.items()}
    amounts["memory"] = quantity(known["memory"] * _MIB)
    amounts |= {f"memorySlice{at}": "1" for at in range(start, start + instance.size)}
    return {name: {"value": amount} for name, amount in amounts.items()}


def _starts(model: Model | None, profiles: list[str]) -> list[int]:
    """Where each MIG device starts on its GPU; their numbers where the model is not known or has no such place."""
    instances = [None if model is None else instance_of(model, profile) for profile in profiles]
    placed = _place([each for each in instances if each is not None], frozenset())
    if placed is None or None in instances:
        return list(range(len(profiles)))
    return placed


def _place(instances: list[Profile], taken: frozenset[int]) -> list[int] | None:
    if not instances:
        return []
    first, *others = instances
    for start in first.starts:
        slices = frozenset(range(start, start + first.size))
        if taken.isdisjoint(slices):
            rest = _place(others, taken | slices)
            if rest is not None:
                return [start, *rest]
    return None

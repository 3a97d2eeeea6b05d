"""What applying a MIG layout does to the GPUs of a node, as nvidia-mig-parted does it.

Source: NVIDIA/mig-parted v0.15.0, cmd/nvidia-mig-parted (apply/mode.go, apply/config.go, assert/*.go), pkg/mig/config.
"""

from collections.abc import Mapping

from conformance.gpu.mig_config import Entry
from conformance.simulator.geometry import Geometry, compute_slices, cut, instance_of, model_of
from conformance.simulator.hardware import Machine

Layout = tuple[Entry, ...]

_IN_USE = "In use by another client"

# PCI ids, device before vendor: mig-parted, deployments/systemd/config-default.yaml.
_DEVICE_IDS: Mapping[str, int] = {
    "A100-40GB": 0x20B010DE,
    "A100-80GB": 0x20B210DE,
    "A30-24GB": 0x20B710DE,
    "H100-80GB": 0x233010DE,
    "H100-94GB": 0x232110DE,
    "H100-96GB": 0x234210DE,
    "H200-141GB": 0x233510DE,
    "GH200-144GB": 0x234810DE,
    "B200-180GB": 0x290110DE,
    "GB200-186GB": 0x294110DE,
    "GB200-189GB": 0x294110DE,
    "B300-269GB": 0x318210DE,
    "GB300-278GB": 0x31C210DE,
    "RTX-PRO-6000-96GB": 0x2BB510DE,
}
_VARIANTS: Mapping[str, int] = {
    "NVIDIA A100-PCIE-40GB": 0x20F110DE,
    "NVIDIA A100 80GB PCIe": 0x20B510DE,
    "NVIDIA H100 PCIe": 0x233110DE,
    "NVIDIA H200 NVL": 0x233B10DE,
    "NVIDIA H20": 0x232910DE,
}


class Failed(Exception):
    """A layout could not be applied. ``geometry`` is what the GPUs are left with."""

    def __init__(self, message: str, geometry: Geometry) -> None:
        super().__init__(message)
        self.geometry = geometry


def is_applied(machine: Machine, geometry: Geometry, wanted: Layout) -> bool:
    """Whether every GPU of a node is as the layout asks. A GPU that no entry names keeps this from being so."""
    matched: set[int] = set()
    for entry, index in _walk(machine, wanted):
        is_on = machine.mig_capable and index in geometry
        fits = entry.mig_enabled == is_on and (not is_on or geometry[index] == _spelled(machine, entry.mig_devices))
        matched = matched | {index} if fits else matched - {index}
    return matched == set(machine.present)


def needs_mode_change(machine: Machine, geometry: Geometry, wanted: Layout) -> bool:
    """Whether MIG has to be turned on or off on a GPU."""
    walk = _walk(machine, wanted)
    return machine.mig_capable and any(entry.mig_enabled != (index in geometry) for entry, index in walk)


def apply(machine: Machine, geometry: Geometry, wanted: Layout, held: frozenset[int]) -> Geometry:
    """The geometry after a layout was applied; ``held`` are the GPUs that somebody uses.

    Raises Failed, with what the GPUs are left with: one whose devices cannot be made is left without any, those that
    come after it are not reached.
    """
    if not machine.mig_capable:
        if any(entry.mig_enabled and entry.devices is not None for entry, _ in _walk(machine, wanted)):
            raise Failed("cannot set MIG mode on non MIG-capable GPU", geometry)
        return geometry
    after = _modes(machine, geometry, wanted, held) if needs_mode_change(machine, geometry, wanted) else dict(geometry)
    for entry, index in _walk(machine, wanted):
        if not entry.mig_enabled or after[index] == _spelled(machine, entry.mig_devices):
            continue
        if index in held:
            raise Failed(_IN_USE, after)
        after[index] = {}
        if not _fits(machine, entry.mig_devices):
            raise Failed("error attempting multiple config orderings: all orderings failed", after)
        after[index] = _spelled(machine, entry.mig_devices)
    return after


def _modes(machine: Machine, geometry: Geometry, wanted: Layout, held: frozenset[int]) -> Geometry:
    """The geometry with MIG on and off as asked. This clears all GPUs that are named, and resets all of the node."""
    if held:
        raise Failed(_IN_USE, geometry)
    after = dict(geometry)
    for entry, index in _walk(machine, wanted):
        after.pop(index, None)
        if entry.mig_enabled:
            after[index] = {}
    return after


def _walk(machine: Machine, wanted: Layout) -> list[tuple[Entry, int]]:
    """Each entry with each GPU that it names, in the order in which they are dealt with."""
    device = _device_id(machine)
    return [
        (entry, index)
        for entry in wanted
        for index in machine.present
        if entry.devices is None or index in entry.devices
        if not entry.device_filter or any(int(each, 16) == device for each in entry.device_filter)
    ]


def _device_id(machine: Machine) -> int:
    model = model_of(machine)
    return _VARIANTS.get(machine.product) or _DEVICE_IDS.get(model.name if model else "", 0)


def _fits(machine: Machine, devices: Mapping[str, int]) -> bool:
    model = model_of(machine)
    return model is not None and cut(model, devices)


def _spelled(machine: Machine, devices: Mapping[str, int]) -> dict[str, int]:
    """Profiles as NVML spells them: 3c.3g.20gb is 3g.20gb."""
    model = model_of(machine)
    found: dict[str, int] = {}
    for name, count in devices.items():
        instance = None if model is None else instance_of(model, name)
        whole = instance is not None and compute_slices(name, instance) == instance.compute
        spelled = instance.name if instance is not None and whole else name
        found[spelled] = found.get(spelled, 0) + count
    return {name: count for name, count in found.items() if count}

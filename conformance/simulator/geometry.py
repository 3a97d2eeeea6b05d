"""How the GPUs of a node are cut into MIG devices, and whether a GPU model has room for a cut.

A cut is made as mig-parted makes it: the instances are created one after the other, each where the driver first finds
room, and when one does not fit, the next order is tried. Only the tables come from conformance.gpu: the suites judge
layouts by searching placements, which is another way to the same answer.

Sources: NVIDIA MIG User Guide (placements of ``nvidia-smi mig -lgipp``; one instance has the media extensions);
NVIDIA/mig-parted v0.15.0, pkg/mig/config/config.go.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from conformance.gpu.mig_profiles import MODELS, Model, Profile
from conformance.simulator.annotations import MIG_GEOMETRY, annotation
from conformance.simulator.hardware import Machine

Geometry = dict[int, dict[str, int]]
"""By index the GPUs whose MIG mode is on, each with its MIG devices by profile; an empty cut is a GPU without any."""

_PART = re.compile(r"(?P<compute>[1-9][0-9]*)c\.(?P<instance>.+)")
_SLICES = re.compile(r"[1-9][0-9]*(?=g\.)")

# Made before any thread needs it; see kube/client.py.
_GEOMETRIES = msgspec.json.Decoder(dict[str, dict[str, int]])


def geometry_of(node: Mapping[str, Any]) -> Geometry:
    """The cut of a node's GPUs. Raises msgspec.ValidationError for an odd annotation."""
    text = annotation(node, MIG_GEOMETRY)
    return {int(index): layout for index, layout in _GEOMETRIES.decode(text).items()} if text else {}


def as_annotation(geometry: Geometry) -> str | None:
    """What geometry_of reads; None when MIG is off everywhere."""
    plain = {str(index): {k: v for k, v in layout.items() if v} for index, layout in sorted(geometry.items())}
    return msgspec.json.encode(plain).decode() if plain else None


def capability_of(compute: str) -> tuple[int, int]:
    """A compute capability (``8.0``) as numbers; (0, 0) when there is none."""
    major, _, minor = compute.partition(".")
    return (int(major or 0), int(minor or 0))


def is_whole(profile: str) -> bool:
    """Whether a MIG device has all compute slices of its instance; 1c.3g.20gb has one of three."""
    part, slices = _PART.fullmatch(profile), _SLICES.search(profile)
    return part is None or (slices is not None and part["compute"] == slices[0])


def model_of(machine: Machine) -> Model | None:
    """The model of a machine's GPUs in the tables; where two share a name, the one whose memory comes closest."""
    product = "-".join(machine.product.split())
    found = [model for model in MODELS if product in model.products]
    return min(found, key=lambda model: abs(model.memory_gb * 1024 - machine.memory_mib), default=None)


def cut(model: Model, wanted: Mapping[str, int]) -> bool:
    """Whether the MIG devices ``wanted`` can be made on one empty GPU of a model."""
    pieces = Counter({name: count for name, count in wanted.items() if count > 0})
    if any(instance_of(model, name) is None for name in pieces):
        return False
    return _make(model, pieces, _Gpu())


class _Gpu(msgspec.Struct, frozen=True):
    """One GPU while it is being cut. ``last`` is the newest instance, ``left`` its unused compute slices."""

    taken: frozenset[int] = frozenset()
    made: tuple[Profile, ...] = ()
    last: Profile | None = None
    left: int = 0


def _make(model: Model, pieces: Counter[str], gpu: _Gpu) -> bool:
    """Create one piece after the other, in every order until one works."""
    if not pieces:
        return True
    for name in sorted(pieces):
        profile = instance_of(model, name)
        after = None if profile is None else _create(model, gpu, profile, compute_slices(name, profile))
        if after is not None and _make(model, pieces - Counter([name]), after):
            return True
    return False


def _create(model: Model, gpu: _Gpu, profile: Profile, compute: int) -> _Gpu | None:
    """The GPU with one more MIG device: in the newest instance if that is alike and has room, else in a new one."""
    if gpu.last == profile and gpu.left >= compute:
        return msgspec.structs.replace(gpu, left=gpu.left - compute)
    start = next((start for start in profile.starts if gpu.taken.isdisjoint(_slices(profile, start))), None)
    if start is None or not _engines_are_free(model, gpu, profile):
        return None
    taken = gpu.taken | _slices(profile, start)
    return _Gpu(taken, (*gpu.made, profile), profile, profile.compute - compute)


def _slices(profile: Profile, start: int) -> frozenset[int]:
    return frozenset(range(start, start + profile.size))


def _engines_are_free(model: Model, gpu: _Gpu, profile: Profile) -> bool:
    """Whether the media engines of a profile are left: +me once on a GPU, +me.all only beside profiles without any."""
    extended = [each for each in (*gpu.made, profile) if "+me" in each.name]
    if len(extended) > 1:
        return False
    takes_all = any(each.name.endswith("+me.all") for each in extended)
    return not takes_all or all(each in extended or each.name.endswith("-me") for each in (*gpu.made, profile))


def instance_of(model: Model, name: str) -> Profile | None:
    """The GPU instance profile that holds a MIG device; None for a device that the model does not have."""
    part = _PART.fullmatch(name)
    profile = model.profile(part["instance"] if part else name)
    return None if profile is None or compute_slices(name, profile) > profile.compute else profile


def compute_slices(name: str, profile: Profile) -> int:
    """The compute slices of a MIG device in an instance of ``profile``: all of them unless its name says how many."""
    part = _PART.fullmatch(name)
    return int(part["compute"]) if part else profile.compute


def standard_layouts(model: Model) -> dict[str, list[dict[str, Any]]]:
    """The layouts that the MIG manager generates for a node whose GPUs are of one model, by name.

    Source: mig-parted, pkg/mig/builder (builder.go, balanced.go).
    """
    layouts = {"all-disabled": _layout(False, {}), "all-enabled": _layout(True, {})}
    balanced = _balanced(model)
    if balanced:
        layouts["all-balanced"] = _layout(True, balanced)
    for profile in model.profiles:
        layouts[f"all-{profile.name.replace('+', '.')}"] = _layout(True, {profile.name: profile.maximum})
    return layouts


def _layout(enabled: bool, devices: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"devices": "all", "mig-enabled": enabled, "mig-devices": dict(devices)}]


_BALANCED: Mapping[int, Mapping[int, int]] = {7: {1: 2, 2: 1, 3: 1}, 4: {1: 2, 2: 1}}
"""By the compute slices of the whole GPU: how many instances of how many slices."""


def _balanced(model: Model) -> dict[str, int]:
    plain = list(_plain(model))
    formula = _BALANCED.get(max((profile.compute for profile in plain), default=0), {})
    found = {}
    for slices, count in formula.items():
        fitting = [profile for profile in plain if profile.compute == slices]
        if not fitting:
            return {}
        found[max(fitting, key=lambda profile: profile.maximum).name] = count
    return found


def _plain(model: Model) -> Iterator[Profile]:
    return (profile for profile in model.profiles if not re.search(r"gb[+-]", profile.name))

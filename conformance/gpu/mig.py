"""Whether MIG instances fit a GPU model.

Whether a layout is possible is a question of placement, not of sums: 3g.20gb twice and 1g.5gb once take seven compute
slices of seven, and still do not fit. The rule: every instance needs a start that its profile allows, no two may
overlap in memory slices, and media engines are handed out once (NVIDIA MIG User Guide; the same rule is in the text of
NVML's nvmlDeviceGetGpuInstancePossiblePlacements_v2). The driver chooses placements itself, mig-parted tries all
orders: what can be placed can be reached.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from conformance.gpu.mig_profiles import MODELS, Model, Profile
from conformance.gpu.resources import MIG_PREFIX
from conformance.gpu.sharing import SHARED_SUFFIX

_NAMES = 1024  # far more than there are; what a cluster says is no profile is not kept
_NAME = re.compile(r"(?:(?P<c>[1-9]\d*)c\.)?(?P<g>[1-9]\d*)g\.(?P<gb>\d+)gb(?P<attribute>[+-][a-z]+(?:\.[a-z]+)*)?")


class Unknown(msgspec.Struct, frozen=True):
    """Not a verdict: what would have to be known, in words."""

    why: str


class ProfileName(msgspec.Struct, frozen=True):
    """The parts of a name such as 1c.2g.10gb+me."""

    compute: int
    """Compute slices of the compute instance, equal to ``slices`` where the name does not say."""
    slices: int
    """Compute slices of the GPU instance."""
    memory_gb: int
    attribute: str = ""
    """Such as +me, +gfx, +me.all or -me."""

    @classmethod
    @lru_cache(_NAMES)
    def parse(cls, text: str) -> "ProfileName":
        """The parts of ``text``. Raises ValueError when it is no MIG profile name."""
        found = _NAME.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is no MIG profile; expected a name such as 1g.5gb, 1g.5gb+me or 1c.2g.10gb")
        slices = int(found["g"])
        compute = int(found["c"] or slices)
        if compute > slices:
            raise ValueError(f"{text!r} is no MIG profile: {compute}c is more than the {slices}g that hold it")
        return cls(compute, slices, int(found["gb"]), found["attribute"] or "")

    @classmethod
    def from_resource(cls, resource: str) -> "ProfileName | None":
        """The profile behind nvidia.com/mig-1g.5gb.me, shared or not; None when the resource is not such a name."""
        head, dot, attribute = resource.removeprefix(MIG_PREFIX).removesuffix(SHARED_SUFFIX).partition("gb.")
        try:
            return cls.parse(f"{head}gb+{attribute}" if dot else head) if resource.startswith(MIG_PREFIX) else None
        except ValueError:
            return None

    def __str__(self) -> str:
        return (f"{self.compute}c." if not self.is_whole else "") + self.instance

    @property
    def instance(self) -> str:
        """The GPU instance profile that holds it: 2g.10gb for 1c.2g.10gb."""
        return f"{self.slices}g.{self.memory_gb}gb{self.attribute}"

    @property
    def is_whole(self) -> bool:
        """Whether one compute instance takes all of its GPU instance; only such a device becomes a resource."""
        return self.compute == self.slices


class Layout(msgspec.Struct, frozen=True):
    """How often each profile is on one GPU, biggest profile first; build it with ``Layout.of``."""

    counts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, wanted: Mapping[str, int] | Iterable[str]) -> "Layout":
        """A layout from profile -> count, or from profile names. Raises ValueError for a bad name or count."""
        if not isinstance(wanted, Mapping):
            names = list(wanted)
            wanted = {name: names.count(name) for name in names}
        counts: dict[ProfileName, int] = {}
        for text, count in wanted.items():
            if count < 0:
                raise ValueError(f"{text} is wanted {count} times; expected 0 or more")
            name = ProfileName.parse(text)
            counts[name] = counts.get(name, 0) + count
        biggest_first = sorted(counts, key=lambda name: (-name.slices, -name.compute, -name.memory_gb, name.attribute))
        return cls(tuple((str(name), counts[name]) for name in biggest_first if counts[name]))

    def __str__(self) -> str:
        return " + ".join(f"{name} x{count}" for name, count in self.counts) or "no instances"

    def __len__(self) -> int:
        return sum(count for _, count in self.counts)

    @property
    def compute(self) -> int:
        """Compute slices of all instances together, by their names."""
        return sum(ProfileName.parse(name).compute * count for name, count in self.counts)

    def plus(self, name: str) -> "Layout":
        """The layout with one more instance. Raises ValueError for a bad name."""
        counts = dict(self.counts)
        return Layout.of({**counts, name: counts.get(name, 0) + 1})


class Placement(msgspec.Struct, frozen=True):
    """Where one instance lies: ``size`` memory slices from ``start`` on."""

    profile: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.profile} at {{{self.start}}}:{self.size}"


class Alternative(msgspec.Struct, frozen=True):
    """A part of a layout that fits, and the profiles of which one more would still fit beside it."""

    layout: Layout
    room_for: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.layout}, with room for " + (" or ".join(self.room_for) or "nothing more")


class Fits(msgspec.Struct, frozen=True):
    """The layout fits; one way to place it, by start."""

    placements: tuple[Placement, ...]


class DoesNotFit(msgspec.Struct, frozen=True):
    """The layout cannot be made on this model."""

    why: str
    nearest: tuple[Alternative, ...] = ()
    """The parts of it with the most instances that do fit, the one with the most compute slices first."""


def model_of(product: str, memory_mib: int | None = None) -> Model | Unknown:
    """The model behind GFD's label ``nvidia.com/gpu.product``, whatever GFD appended for sharing or MIG.

    ``memory_mib`` is the label ``nvidia.com/gpu.memory`` of a whole GPU. It is looked at only where two models share
    a product name (GB200).
    """
    plain = product.removesuffix("-SHARED").partition("-MIG-")[0]
    found = [model for model in MODELS if plain in model.products or f"NVIDIA-{plain}" in model.products]
    if not found:
        return Unknown(f"the MIG profiles of {product or 'a GPU without a product name'} are not known")
    if len(found) == 1:
        return found[0]
    names = " and ".join(map(str, found))
    if memory_mib is None:
        return Unknown(f"{plain} is the name of {names}, and the memory of the GPU is not known")
    by_memory = [model for model in found if model.memory_gb == -(-memory_mib // 1024)]
    return by_memory[0] if by_memory else Unknown(f"{plain} is the name of {names}, and {memory_mib} MiB is neither")


def solve(model: Model | Unknown, layout: Layout) -> Fits | DoesNotFit | Unknown:
    """Whether one GPU of this model can hold the layout, and if not, why not and what comes nearest."""
    if isinstance(model, Unknown):
        return model
    if not model.profiles:
        return DoesNotFit(f"{model} has no MIG")
    inner = [name for name, _ in layout.counts if not ProfileName.parse(name).is_whole]
    if inner:
        return Unknown(f"{', '.join(inner)} is part of a GPU instance; only whole GPU instances are judged")
    placements = _place(model, layout)
    if placements is not None:
        return Fits(placements)
    return DoesNotFit(_why_not(model, layout), _nearest(model, layout))


def maximum(model: Model, profile: str) -> int:
    """How many instances of one profile fit on one GPU; 0 when the model does not have it."""
    if not model.profile(profile):
        return 0
    return next(count for count in range(model.memory_slices + 1) if not _fits(model, {profile: count + 1}))


def room_for(model: Model, layout: Layout) -> tuple[str, ...]:
    """The profiles of the model of which one more fits beside ``layout``, biggest first; empty if that does not fit."""
    names = [profile.name for profile in model.profiles if _place(model, layout.plus(profile.name)) is not None]
    return tuple(name for name, _ in Layout.of(names).counts)


def _fits(model: Model, wanted: Mapping[str, int]) -> bool:
    return _place(model, Layout.of(wanted)) is not None


def _place(model: Model, layout: Layout) -> tuple[Placement, ...] | None:
    """One way to place every instance, or None."""
    if len(layout) > model.memory_slices or _over_maximum(model, layout) or _contended(model, layout):
        return None
    profiles = [model.profile(name) for name, count in layout.counts for _ in range(count)]
    known = [profile for profile in profiles if profile is not None]
    if len(known) < len(profiles):
        return None
    found = _search(sorted(known, key=lambda profile: (len(profile.starts), -profile.size, profile.name)), 0)
    return None if found is None else tuple(sorted(found, key=lambda placement: placement.start))


def _search(profiles: Sequence[Profile], taken: int, after: int = -1) -> list[Placement] | None:
    """Place ``profiles`` in order outside the bits of ``taken``; the first one starts behind slice ``after``."""
    if not profiles:
        return []
    first, rest = profiles[0], profiles[1:]
    for start in first.starts:
        slices = ((1 << first.size) - 1) << start
        if start <= after or taken & slices:
            continue
        # Equal instances are interchangeable: the next one need only be tried further on.
        found = _search(rest, taken | slices, start if rest and rest[0] == first else -1)
        if found is not None:
            return [Placement(first.name, start, first.size), *found]
    return None


def _over_maximum(model: Model, layout: Layout) -> list[Profile]:
    """The profiles that are wanted more often than the sources allow."""
    wanted = ((model.profile(name), count) for name, count in layout.counts)
    return [profile for profile, count in wanted if profile and count > profile.maximum]


def _contended(model: Model, layout: Layout) -> tuple[str, int, int] | None:
    """The media engine that runs out: its name, how many are wanted, how many the GPU has; None when all suffice."""
    of_gpu = model.engines
    if of_gpu is None:
        return None
    known = list(_known(model, layout))
    for engine in ("ofa", "decoders", "encoders", "jpeg"):
        there = getattr(of_gpu, engine)
        each = [(getattr(profile.engines, engine), count) for profile, count in known]
        wanted = sum(engines * count for engines, count in each if engines is not None)
        if there is not None and wanted > there:
            return engine, wanted, there
    return None


def _known(model: Model, layout: Layout) -> Iterator[tuple[Profile, int]]:
    for name, count in layout.counts:
        profile = model.profile(name)
        if profile:
            yield profile, count


def _why_not(model: Model, layout: Layout) -> str:
    missing = [name for name, _ in layout.counts if not model.profile(name)]
    if missing:
        return "; ".join(_why_missing(model, name) for name in missing)
    too_many = _over_maximum(model, layout)
    if too_many:
        return "; ".join(_why_at_most(model, profile) for profile in too_many)
    contended = _contended(model, layout)
    if contended:
        engine, wanted, there = contended
        name = {"ofa": "optical flow accelerators (OFA)", "jpeg": "JPEG decoders"}.get(engine, engine)
        return f"the instances want {wanted} {name}, and {model} has {there}"
    sizes = sum(profile.size * count for profile, count in _known(model, layout))
    if sizes > model.memory_slices:
        each = ", ".join(f"{profile.name} takes {profile.size}" for profile, _ in _known(model, layout))
        return f"the instances take {sizes} memory slices, and {model} has {model.memory_slices} ({each})"
    return "no placement without overlap: " + ", ".join(_starts(profile) for profile, _ in _known(model, layout))


def _starts(profile: Profile) -> str:
    slices = "slice" if profile.size == 1 else "slices"
    return (
        f"{profile.name} takes {profile.size} memory {slices} and starts only at {', '.join(map(str, profile.starts))}"
    )


def _why_missing(model: Model, name: str) -> str:
    wanted = ProfileName.parse(name)
    same = [profile.name for profile in model.profiles if profile.compute == wanted.slices]
    have = same or [profile.name for profile in model.profiles]
    return f"{model} has no profile {name}; it has {', '.join(have)}"


def _why_at_most(model: Model, profile: Profile) -> str:
    at_most = f"{model} holds at most {profile.maximum} of {profile.name}"
    if profile.maximum < len(profile.starts):
        return f"{at_most}, because instances share its media engines"
    return f"{at_most}: {_starts(profile)}"


def _nearest(model: Model, layout: Layout) -> tuple[Alternative, ...]:
    parts = list(_fitting_parts(model, {profile.name: count for profile, count in _known(model, layout)}, Layout()))
    most = max(map(len, parts))
    largest = sorted((part for part in parts if most and len(part) == most), key=lambda part: -part.compute)
    return tuple(Alternative(part, room_for(model, part)) for part in largest)


def _fitting_parts(model: Model, left: Mapping[str, int], chosen: Layout) -> Iterator[Layout]:
    """Every part that fits. What does not fit is not looked into: adding instances never makes it fit."""
    if not left:
        yield chosen
        return
    (name, count), *others = left.items()
    yield from _fitting_parts(model, dict(others), chosen)
    for times in range(1, count + 1):
        layout = Layout.of({**dict(chosen.counts), name: times})
        if _place(model, layout) is None:
            return
        yield from _fitting_parts(model, dict(others), layout)

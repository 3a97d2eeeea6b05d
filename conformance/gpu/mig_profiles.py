"""Which MIG profiles a GPU model has and where on the GPU their instances may start: tables, each with its source.

Sources of all tables unless said otherwise:
- NVIDIA Multi-Instance GPU User Guide, chapters "Supported GPUs" and "Supported MIG Profiles": names, engines,
  number of instances;
- the same guide, "Getting Started with MIG", the listing of ``nvidia-smi mig -lgipp``: where an instance may start;
- NVIDIA/mig-parted, deployments/systemd/config-default.yaml: names and counts of models that the guide lacks.
The mocks of go-nvml are no source: those of H100, H200 and B200 give a 3g instance three slices of memory, not four.

Products are the values of GFD's label ``nvidia.com/gpu.product``: the name that NVML gives the GPU, a dash for each
space (NVIDIA driver README, appendix "Supported NVIDIA GPU Products").
"""

import msgspec

from conformance.gpu.resources import mig_resource


class Engines(msgspec.Struct, frozen=True):
    """Media engines that an instance owns; None where the sources contradict each other or are silent."""

    decoders: int | None
    encoders: int | None
    jpeg: int | None
    ofa: int
    """Optical flow accelerators. A GPU has one, which is why one instance at most carries ``+me``."""


class Profile(msgspec.Struct, frozen=True):
    """One GPU instance profile of one model."""

    name: str
    """As nvidia-smi prints it, such as 1g.5gb+me."""
    compute: int
    """Compute slices."""
    size: int
    """Memory slices that an instance occupies, in the unit of ``Model.memory_slices``."""
    starts: tuple[int, ...]
    """Memory slices at which an instance may start."""
    maximum: int
    """How many instances the source says a GPU holds at most; a test compares it with what the placements allow."""
    engines: Engines

    @property
    def resource(self) -> str:
        """The extended resource that the mixed strategy offers it under."""
        return mig_resource(self.name)


class Model(msgspec.Struct, frozen=True):
    """A GPU model: all products that are cut in the same way."""

    name: str
    products: tuple[str, ...]
    memory_gb: int
    """Memory in GiB, rounded up: profile names are made from it (go-nvlib, pkg/nvlib/device/mig_profile.go)."""
    memory_slices: int = 0
    """How many units of memory placements are counted in, by ``nvidia-smi mig -lgipp``; 0 without MIG."""
    profiles: tuple[Profile, ...] = ()
    """Empty for a model that has no MIG."""

    def __str__(self) -> str:
        return self.name

    def profile(self, name: str) -> Profile | None:
        """The profile of this name, None when this model does not have it."""
        return next((profile for profile in self.profiles if profile.name == name), None)

    @property
    def engines(self) -> Engines | None:
        """The engines of the whole GPU, which are those of the profile that takes all of it; None without MIG."""
        return max(self.profiles, key=lambda profile: profile.compute).engines if self.profiles else None


# Engines in the order 1g, 1g+me, 1g with double memory, 2g, 3g, 4g, 7g: decoders, encoders, JPEG decoders, OFA.
_A100_ENGINES = (
    Engines(0, 0, 0, 0),
    Engines(1, 0, 1, 1),
    Engines(1, 0, 0, 0),
    Engines(1, 0, 0, 0),
    Engines(2, 0, 0, 0),
    Engines(2, 0, 0, 0),
    Engines(5, 0, 1, 1),
)
_HOPPER_ENGINES = (
    Engines(1, 0, 1, 0),
    Engines(1, 0, 1, 1),
    Engines(1, 0, 1, 0),
    Engines(2, 0, 2, 0),
    Engines(3, 0, 3, 0),
    Engines(4, 0, 4, 0),
    Engines(7, 0, 7, 1),
)
# The guide gives every B200 profile one decoder, nvidia-smi mig -lgip on a B200 (mig-parted pull request 187) gives
# 2g.45gb two: only OFA is agreed on.
_BLACKWELL_ENGINES = tuple(Engines(None, 0, None, ofa) for ofa in (0, 1, 0, 0, 0, 0, 1))


def _seven_slices(
    engines: tuple[Engines, ...], single: str, double: str, two: str, three: str, four: str, whole: str
) -> tuple[Profile, ...]:
    """The seven profiles of a GPU with 7 compute and 8 memory slices; A100, H100-80GB and H100-94GB list the same."""
    return (
        Profile(single, 1, 1, (0, 1, 2, 3, 4, 5, 6), 7, engines[0]),
        Profile(f"{single}+me", 1, 1, (0, 1, 2, 3, 4, 5, 6), 1, engines[1]),
        Profile(double, 1, 2, (0, 2, 4, 6), 4, engines[2]),
        Profile(two, 2, 2, (0, 2, 4), 3, engines[3]),
        Profile(three, 3, 4, (0, 4), 2, engines[4]),
        Profile(four, 4, 4, (0,), 1, engines[5]),
        Profile(whole, 7, 8, (0,), 1, engines[6]),
    )


# Drivers before R470 lack 1g.5gb+me, drivers before R525 lack 1g.10gb.
A100_40GB = Model(
    "A100-40GB",
    (
        "NVIDIA-A100-SXM4-40GB",
        "NVIDIA-A100-PCIE-40GB",
        "NVIDIA-A800-SXM4-40GB",
        "NVIDIA-A800-PCIE-40GB",
        "NVIDIA-A800-40GB-Active",
    ),
    40,
    8,
    _seven_slices(_A100_ENGINES, "1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"),
)

# The guide: the profiles of the A100-40GB, each with twice the memory.
A100_80GB = Model(
    "A100-80GB",
    (
        "NVIDIA-A100-SXM4-80GB",
        "NVIDIA-A100-80GB-PCIe",
        "NVIDIA-A100-PCIE-80GB",
        "NVIDIA-A800-SXM4-80GB",
        "NVIDIA-A800-80GB-PCIe",
        "NVIDIA-A800-PCIE-80GB",
    ),
    80,
    8,
    _seven_slices(_A100_ENGINES, "1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
)

H100_80GB = Model(
    "H100-80GB",
    ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H800", "NVIDIA-H800-PCIe"),
    80,
    8,
    _seven_slices(_HOPPER_ENGINES, "1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
)

H100_94GB = Model(
    "H100-94GB",
    ("NVIDIA-H100-NVL", "NVIDIA-H800-NVL"),
    94,
    8,
    _seven_slices(_HOPPER_ENGINES, "1g.12gb", "1g.24gb", "2g.24gb", "3g.47gb", "4g.47gb", "7g.94gb"),
)

# "H100 96GB (H100 on GH200)" in the guide; mig-parted cuts the H20 alike.
H100_96GB = Model(
    "H100-96GB",
    ("NVIDIA-GH200-480GB", "NVIDIA-H20"),
    96,
    8,
    _seven_slices(_HOPPER_ENGINES, "1g.12gb", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb"),
)

H200 = Model(
    "H200-141GB",
    ("NVIDIA-H200", "NVIDIA-H200-NVL"),
    141,
    8,
    _seven_slices(_HOPPER_ENGINES, "1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"),
)

# mig-parted, "GH200 144G HBM3e".
GH200_144GB = Model(
    "GH200-144GB",
    ("NVIDIA-GH200-144G-HBM3e",),
    144,
    8,
    _seven_slices(_HOPPER_ENGINES, "1g.18gb", "1g.36gb", "2g.36gb", "3g.72gb", "4g.72gb", "7g.144gb"),
)

B200 = Model(
    "B200-180GB",
    ("NVIDIA-B200",),
    180,
    8,
    _seven_slices(_BLACKWELL_ENGINES, "1g.23gb", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"),
)

# Two GPUs share the name NVIDIA GB200; the label nvidia.com/gpu.memory tells them apart. 186 GB: the guide.
GB200_186GB = Model(
    "GB200-186GB",
    ("NVIDIA-GB200",),
    186,
    8,
    _seven_slices(_BLACKWELL_ENGINES, "1g.23gb", "1g.47gb", "2g.47gb", "3g.93gb", "4g.93gb", "7g.186gb"),
)

# mig-parted, "GB200 HGX", and nvidia-smi mig -lgip in gpu-operator pull request 1303: seven times 1g.24gb.
GB200_189GB = Model(
    "GB200-189GB",
    ("NVIDIA-GB200",),
    189,
    8,
    _seven_slices(_BLACKWELL_ENGINES, "1g.24gb", "1g.47gb", "2g.47gb", "3g.95gb", "4g.95gb", "7g.189gb"),
)

# gpu-operator, default MIG configuration for device 0x318210DE.
B300 = Model(
    "B300-269GB",
    ("NVIDIA-B300-SXM6-AC",),
    269,
    8,
    _seven_slices(_BLACKWELL_ENGINES, "1g.34gb", "1g.67gb", "2g.67gb", "3g.135gb", "4g.135gb", "7g.269gb"),
)

GB300 = Model(
    "GB300-278GB",
    ("NVIDIA-GB300",),
    278,
    8,
    _seven_slices(_BLACKWELL_ENGINES, "1g.35gb", "1g.70gb", "2g.70gb", "3g.139gb", "4g.139gb", "7g.278gb"),
)

# Placements: go-nvml, pkg/nvml/mock/gpus, whose A30 table agrees with the guide's instance counts. Drivers before
# R470 lack 1g.6gb+me, drivers before R525 lack 2g.12gb+me.
A30 = Model(
    "A30-24GB",
    ("NVIDIA-A30",),
    24,
    4,
    (
        Profile("1g.6gb", 1, 1, (0, 1, 2, 3), 4, Engines(0, 0, 0, 0)),
        Profile("1g.6gb+me", 1, 1, (0, 1, 2, 3), 1, Engines(1, 0, 1, 1)),
        Profile("2g.12gb", 2, 2, (0, 2), 2, Engines(2, 0, 0, 0)),
        Profile("2g.12gb+me", 2, 2, (0, 2), 1, Engines(2, 0, 1, 1)),
        Profile("4g.24gb", 4, 4, (0,), 1, Engines(4, 0, 1, 1)),
    ),
)

# Placements as nvidia-smi mig -lgipp lists them on a Server Edition: 12 units, a quarter of the GPU takes three.
# +gfx adds graphics, +me.all takes every media engine of the GPU, -me takes none.
RTX_PRO_6000 = Model(
    "RTX-PRO-6000-96GB",
    (
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
        "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition",
        "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition",
    ),
    96,
    12,
    (
        Profile("1g.24gb", 1, 3, (0, 3, 6, 9), 4, Engines(1, 1, 1, 0)),
        Profile("1g.24gb+me", 1, 3, (0, 3, 6, 9), 1, Engines(1, 1, 1, 1)),
        Profile("1g.24gb+gfx", 1, 3, (0, 3, 6, 9), 4, Engines(1, 1, 1, 0)),
        Profile("1g.24gb+me.all", 1, 3, (0, 3, 6, 9), 1, Engines(4, 4, 4, 1)),
        Profile("1g.24gb-me", 1, 3, (0, 3, 6, 9), 4, Engines(0, 0, 0, 0)),
        Profile("2g.48gb", 2, 6, (0, 6), 2, Engines(2, 2, 2, 0)),
        Profile("2g.48gb+gfx", 2, 6, (0, 6), 2, Engines(2, 2, 2, 0)),
        Profile("2g.48gb+me.all", 2, 6, (0, 6), 1, Engines(4, 4, 4, 1)),
        Profile("2g.48gb-me", 2, 6, (0, 6), 2, Engines(0, 0, 0, 0)),
        Profile("4g.96gb", 4, 12, (0,), 1, Engines(4, 4, 4, 1)),
        Profile("4g.96gb+gfx", 4, 12, (0,), 1, Engines(4, 4, 4, 1)),
    ),
)

# The guide's list of supported GPUs is complete, and none of these is on it.
WITHOUT_MIG = (
    Model("T4", ("Tesla-T4",), 16),
    Model("V100-16GB", ("Tesla-V100-SXM2-16GB", "Tesla-V100-PCIE-16GB"), 16),
    Model("V100-32GB", ("Tesla-V100-SXM2-32GB", "Tesla-V100-SXM3-32GB", "Tesla-V100-PCIE-32GB"), 32),
    Model("L4", ("NVIDIA-L4",), 24),
    Model("L40S", ("NVIDIA-L40S",), 48),
    Model("A10", ("NVIDIA-A10", "NVIDIA-A10G"), 24),
)

MODELS = (
    A100_40GB,
    A100_80GB,
    H100_80GB,
    H100_94GB,
    H100_96GB,
    H200,
    GH200_144GB,
    B200,
    GB200_186GB,
    GB200_189GB,
    B300,
    GB300,
    A30,
    RTX_PRO_6000,
    *WITHOUT_MIG,
)
"""Every model that is known, with and without MIG.

RTX PRO 5000 is missing on purpose: the guide for R580 gives it four slices (1g.12gb), later ones two (1g.24gb).
"""

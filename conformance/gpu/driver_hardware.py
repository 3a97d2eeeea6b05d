"""Which GPUs a driver branch drives, and with which of its kernel modules: tables, each row with its source.

A snapshot read in November 2026, knowledge only of what the sources say. An architecture that is missing here is
unknown, not wrong; docs/driver-knowledge.md is made from these tables.
"""

import re
from enum import StrEnum

import msgspec

from conformance.gpu.drivers import DriverVersion

READ = "2026-11-28"
"""The day on which the sources were read."""

_MODULES = "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/kernel-modules.html"
_OPEN = "https://developer.nvidia.com/blog/nvidia-transitions-fully-towards-open-source-gpu-kernel-modules/"
_CUDA_NOTES = "https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/"
_CUDA_11_8 = "https://docs.nvidia.com/cuda/archive/11.8.0/cuda-toolkit-release-notes/"
_LEGACY = "https://forums.developer.nvidia.com/t/unix-graphics-feature-deprecation-schedule/60588"


class Modules(StrEnum):
    """The two kinds of kernel modules that a driver has, and the choice of the driver's own installer."""

    OPEN = "open"
    PROPRIETARY = "proprietary"
    AUTO = "auto"


class Architecture(msgspec.Struct, frozen=True):
    """GPUs of some compute capabilities (major, minor), ``first`` and ``last`` included.

    ``first_branch`` and ``last_branch`` are the driver branches that bound what drives them; 0 where no source says.
    ``modules`` are the only kernel modules that drive them, AUTO where both do.
    """

    name: str
    first: tuple[int, int]
    last: tuple[int, int]
    first_branch: int
    last_branch: int
    modules: Modules
    sources: tuple[str, ...]


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("Maxwell", (5, 0), (5, 3), 0, 580, Modules.PROPRIETARY, (_MODULES, _LEGACY)),
    Architecture("Pascal", (6, 0), (6, 2), 0, 580, Modules.PROPRIETARY, (_MODULES, _LEGACY)),
    Architecture("Volta", (7, 0), (7, 2), 0, 580, Modules.PROPRIETARY, (_MODULES, _LEGACY)),
    Architecture("Turing", (7, 5), (7, 5), 0, 0, Modules.AUTO, (_MODULES,)),
    Architecture("Ampere", (8, 0), (8, 8), 0, 0, Modules.AUTO, (_MODULES,)),
    Architecture("Ada Lovelace", (8, 9), (8, 9), 520, 0, Modules.AUTO, (_MODULES, _CUDA_11_8)),
    Architecture("Hopper", (9, 0), (9, 0), 520, 0, Modules.AUTO, (_MODULES, _CUDA_11_8)),
    Architecture("Blackwell", (10, 0), (10, 2), 570, 0, Modules.OPEN, (_OPEN, _CUDA_NOTES)),
    Architecture("Blackwell Ultra", (10, 3), (10, 3), 575, 0, Modules.OPEN, (_OPEN, _CUDA_NOTES)),
    Architecture("Blackwell", (12, 0), (12, 0), 570, 0, Modules.OPEN, (_OPEN, _CUDA_NOTES)),
    Architecture("Blackwell", (12, 1), (12, 1), 575, 0, Modules.OPEN, (_OPEN, _CUDA_NOTES)),
)

CAPABILITY_SOURCES = ("https://developer.nvidia.com/cuda-gpus", "https://developer.nvidia.com/cuda-legacy-gpus")
"""Read on 2026-11-29. What these pages do not list is in SAME_CHIP."""

COMPUTE_CAPABILITIES: dict[tuple[int, int], tuple[str, ...]] = {
    (5, 2): ("M4", "M6", "M40", "M60"),
    (6, 0): ("P100",),
    (6, 1): ("P4", "P6", "P40"),
    (7, 0): ("V100", "V100S"),
    (7, 5): ("T4", "T4G"),
    (8, 0): ("A100", "A30", "A800"),
    (8, 6): ("A10", "A10G", "A10M", "A16", "A2", "A40"),
    (8, 9): ("L4", "L20", "L40", "L40S"),
    (9, 0): ("GH200", "H100", "H20", "H200", "H800"),
    (10, 0): ("B200", "GB200"),
    (10, 3): ("B300", "GB300"),
}
"""Names of GPUs as they stand in products, and the compute capability of these GPUs. One that is missing is unknown."""

SAME_CHIP: dict[str, tuple[str, str]] = {
    "M4": ("GM206", "GTX 960"),
    "M6": ("GM204", "M60"),
    "P6": ("GP104", "P4"),
    "V100S": ("GV100", "V100"),
    "T4G": ("TU104", "T4"),
    "A800": ("GA100", "A100"),
    "A10G": ("GA102", "A10"),
    "A10M": ("GA102", "A10"),
    "L20": ("AD102", "L40"),
    "H20": ("GH100", "H100"),
    "H800": ("GH100", "H100"),
}
"""GPUs that NVIDIA's pages do not list: their chip, and one that is listed and has it, too. Read on 2026-11-29."""

CHIP_SOURCE = "https://pci-ids.ucw.cz/ (version of 2026-05-24 and later)"
"""Of the chips; it does not list the T4G, which AWS calls a T4 for Graviton2 (EC2 G5g)."""

# Part of the products that need the open modules although others of their architecture do not. Source: _OPEN.
OPEN_ONLY_PRODUCTS = ("GH200",)


def architecture_of(compute: tuple[int, int]) -> Architecture | None:
    """The architecture of a compute capability; None where the tables do not know it."""
    return next((each for each in ARCHITECTURES if each.first <= compute <= each.last), None)


def architecture_of_product(product: str) -> Architecture | None:
    """The architecture of a product, as GPU Feature Discovery or a platform names it; None where no table has it."""
    words = {*re.split(r"[^A-Z0-9]+", product.upper())}
    for compute, names in COMPUTE_CAPABILITIES.items():
        if words & {*names}:
            return architecture_of(compute)
    return architecture_of((12, 0)) if words >= {"RTX", "PRO", "BLACKWELL"} else None


def why_not_driven(architecture: Architecture, driver: DriverVersion, modules: Modules, product: str = "") -> str:
    """Why a driver with these kernel modules does not drive GPUs of an architecture; empty where nothing says so."""
    name, branch = architecture.name, driver.branch
    if architecture.last_branch and branch > architecture.last_branch:
        return f"R{architecture.last_branch} is the last branch for {name}, and {driver} is of R{branch}"
    if branch < architecture.first_branch:
        return f"R{architecture.first_branch} is the first branch for {name}, and {driver} is of R{branch}"
    needed = Modules.OPEN if any(each in product for each in OPEN_ONLY_PRODUCTS) else architecture.modules
    if Modules.AUTO not in (needed, modules) and modules is not needed:
        what = product if needed is not architecture.modules else name
        return f"{what} needs the {needed} kernel modules, and kernelModuleType is {modules}"
    return ""

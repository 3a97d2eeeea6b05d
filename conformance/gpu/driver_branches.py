"""NVIDIA driver branches for Linux as published: paired CUDA, first release, lifecycle, known regressions.

A snapshot read in autumn 2026, knowledge only; ``drivers`` draws the conclusions. NVIDIA names months, not days: an end
of life is entered as the last day of its month. A branch that is missing here is unknown, not wrong.
"""

from datetime import date
from enum import StrEnum

import msgspec


class Designation(StrEnum):
    """What NVIDIA promises for a branch; new feature branches are short-lived and replaced, not maintained."""

    LONG_TERM = "long term support branch"
    PRODUCTION = "production branch"
    NEW_FEATURE = "new feature branch"
    UNKNOWN = "branch of unknown designation"


class Branch(msgspec.Struct, frozen=True):
    """One driver branch, such as R580.

    ``cuda`` is the major and minor of the toolkit it was released with and that nvidia-smi shows, ``first`` the driver
    that this toolkit requires. ``end_of_life`` is the last supported day; ``gone_by`` a day on which NVIDIA's support
    matrix no longer listed a branch whose end of life no source that we read dates.
    """

    number: int
    cuda: tuple[int, int] | None
    first: str
    designation: Designation
    end_of_life: date | None
    gone_by: date | None
    sources: tuple[str, ...]


class Regression(msgspec.Struct, frozen=True):
    """A defect of the drivers from ``first`` to ``last``, both included. No ``products`` means every product."""

    id: str
    first: str
    last: str
    effect: str
    remedy: str
    products: tuple[str, ...]
    sources: tuple[str, ...]


# Table 3, "CUDA Toolkit and Corresponding Driver Versions", in the notes of each toolkit.
_NOTES = "docs.nvidia.com/cuda/cuda-toolkit-release-notes: CUDA Toolkit and Corresponding Driver Versions"
_ARCHIVE = "docs.nvidia.com/cuda/archive: release notes of the paired toolkit"
_MATRIX = "docs.nvidia.com/datacenter/tesla/drivers: Supported Drivers and CUDA Toolkit Versions, editions 615 and 620"
_MATRIX_2021 = "NVIDIA CUDA and Drivers Support, RN-08625-001_v02, March 2021"
_NO_TOOLKIT = "no public toolkit of this version; nvidia-smi of the branch shows it"
_FIELD_610 = "sgl-project/sglang#27487: nvidia-smi of 610.43.02 shows 13.3"
_FIELD_615 = "nvidia-smi of 615.71.09 as reported by users shows 13.4; edition 620 lists it as neither LTSB nor PB"

# The day of edition 615, which lists new feature branches too.
_SEEN = date(2026, 9, 9)

_LTS, _PB, _NFB, _UNSAID = (
    Designation.LONG_TERM,
    Designation.PRODUCTION,
    Designation.NEW_FEATURE,
    Designation.UNKNOWN,
)

# Edition 620 says June 2028 for R580, an older one August 2028: the newer and earlier is taken.
BRANCHES: tuple[Branch, ...] = (
    Branch(450, (11, 0), "450.51.05", _LTS, date(2023, 7, 31), None, (_ARCHIVE, _MATRIX_2021)),
    Branch(455, (11, 1), "455.23.04", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX_2021)),
    Branch(460, (11, 2), "460.27.03", _PB, date(2022, 1, 31), None, (_ARCHIVE, _MATRIX_2021)),
    Branch(465, (11, 3), "465.19.01", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(470, (11, 4), "470.42.01", _LTS, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(495, (11, 5), "495.29.05", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(510, (11, 6), "510.39.01", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(515, (11, 7), "515.43.04", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(520, (11, 8), "520.61.05", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(525, (12, 0), "525.60.13", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(530, (12, 1), "530.30.02", _UNSAID, None, _SEEN, (_ARCHIVE, _MATRIX)),
    Branch(535, (12, 2), "535.54.03", _LTS, date(2026, 6, 30), None, (_ARCHIVE, _MATRIX)),
    Branch(545, (12, 3), "545.23.06", _UNSAID, None, _SEEN, (_NOTES, _MATRIX)),
    Branch(550, (12, 4), "550.54.14", _UNSAID, None, _SEEN, (_NOTES, _MATRIX)),
    Branch(555, (12, 5), "555.42.02", _UNSAID, None, _SEEN, (_NOTES, _MATRIX)),
    Branch(560, (12, 6), "560.28.03", _UNSAID, None, _SEEN, (_NOTES, _MATRIX)),
    Branch(565, (12, 7), "", _UNSAID, None, _SEEN, (_NO_TOOLKIT, _MATRIX)),
    Branch(570, (12, 8), "570.26", _PB, date(2026, 2, 28), None, (_NOTES, _MATRIX)),
    Branch(575, (12, 9), "575.51.03", _UNSAID, None, _SEEN, (_NOTES, _MATRIX)),
    Branch(580, (13, 0), "580.65.06", _LTS, date(2028, 6, 30), None, (_NOTES, _MATRIX)),
    Branch(590, (13, 1), "590.44.01", _NFB, None, _SEEN, (_NOTES, _MATRIX)),
    Branch(595, (13, 2), "595.45.04", _PB, date(2027, 3, 31), None, (_NOTES, _MATRIX)),
    Branch(610, (13, 3), "610.43.02", _NFB, date(2026, 8, 31), None, (_FIELD_610, _MATRIX)),
    Branch(615, (13, 4), "", _UNSAID, None, None, (_FIELD_615,)),
    Branch(620, None, "", _LTS, date(2029, 9, 30), None, (_MATRIX,)),
)

# CUDA major -> the oldest driver on which every minor of it runs. Source: docs.nvidia.com/deploy/cuda-compatibility,
# Minor Version Compatibility; for 13 it names the branch 580, whose first release is 580.65.06.
MINOR_COMPATIBILITY_FLOOR: dict[int, str] = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}

# Branch without a published pairing -> newest CUDA major that runs without a compatibility package. Source: _MATRIX.
NEWEST_CUDA_MAJOR: dict[int, int] = {620: 13}

# Driver branch -> the first CUDA whose compatibility package no longer takes it as a base, as far as a source names the
# branch; others are unknown, and later packages take no branch back. Sources: NVIDIA's framework containers that are
# based on CUDA 11.8, 12.0 and 12.6 (such as docs.nvidia.com/deeplearning/frameworks/pytorch-release-notes/rel-23-02),
# "which are not forward-compatible with"; in docs.nvidia.com/deploy/cuda-compatibility, edition 615, Forward
# Compatibility, none of them is a base of any package.
NO_BASE_SINCE: dict[int, tuple[int, int]] = {
    418: (11, 8),
    440: (11, 8),
    450: (12, 6),
    460: (11, 8),
    510: (12, 6),
    520: (12, 0),
    530: (12, 6),
    545: (12, 6),
    555: (12, 6),
}

# Part of the products of consumer GPUs, on which no compatibility package works. Source: CUDA Compatibility, Forward
# Compatibility: data center GPUs, some RTX cards of NGC-ready servers and Jetson.
CONSUMER_PRODUCT = "GeForce"

REGRESSIONS: tuple[Regression, ...] = (
    Regression(
        id="mixed-mig-570",
        # The troubleshooting page names 570.124.06, 570.133.20, 570.148.08 and 570.158.01.
        first="570.124.06",
        last="570.158.01",
        effect="GPU workloads are not scheduled on nodes that mix MIG-enabled and full GPUs (a regression of NVML)",
        remedy="upgrade to 570.172.08 or later",
        products=(),
        sources=(
            "docs.nvidia.com/datacenter/cloud-native/gpu-operator: Troubleshooting; release notes of v25.3.2",
            "NVIDIA/gpu-operator#1361",
        ),
    ),
    Regression(
        id="cdmm-580",
        # The notes speak of 580.65.06 as it was then; whether a later driver lifts it, no source that we read says.
        first="580.65.06",
        last="580.65.06",
        effect="coherent driver-based memory management (CDMM) is on by default and excludes MIG and GPUDirect Storage",
        remedy="turn CDMM off, or do without MIG and GPUDirect Storage on these products",
        products=("GH200", "GB200"),
        sources=("docs.nvidia.com/datacenter/cloud-native/gpu-operator: release notes of v25.3.2",),
    ),
)

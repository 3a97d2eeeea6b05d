"""What each release of the GPU Operator is documented for: drivers, Kubernetes, container runtimes, programs.

A snapshot of NVIDIA's pages, read on ``READ``: the component matrix and the pages on supported platforms, as they were
last published for each release. A release that is missing here is unknown, not wrong; docs/driver-knowledge.md is made
from these tables.
"""

from typing import TypeAlias

import msgspec

READ = "2026-11-28"
"""The day on which the sources were read."""

Minor: TypeAlias = tuple[int, int]
"""A release by its first two numbers: 1.36 of Kubernetes, 26.7 of the operator."""

CONTAINERD_GAP: tuple[Minor, Minor] = ((1, 7), (2, 0))
"""Between these two releases containerd has none (https://containerd.io/releases/), though NVIDIA's page for operator
v26.7 names 1.8 as the first one: whether it means the one or the other is not known."""

_DOCS = "docs.nvidia.com/datacenter/cloud-native/gpu-operator"
_MATRIX = f"{_DOCS}: Component Matrix and Platform Support of"


class Precompiled(msgspec.Struct, frozen=True):
    """For which kernels of an operating system NVIDIA builds driver images, and of which driver branches.

    ``system`` is as Node Feature Discovery names it (ID and VERSION_ID), ``flavors`` end a kernel's version.
    """

    system: str
    kernels: tuple[Minor, ...]
    flavors: tuple[str, ...]
    branches: tuple[int, ...]


class OperatorRelease(msgspec.Struct, frozen=True):
    """One release (YY.MM) of the GPU Operator with all of its patches.

    ``drivers`` are those that its component matrix lists for any patch. ``kubernetes`` and ``containerd`` are the first
    and the last release that it was validated with, over all operating systems. ``programs`` are the operands of its
    newest patch, by their images' names. ``supported`` says whether NVIDIA still patched it when this was read.
    """

    release: Minor
    drivers: tuple[str, ...]
    kubernetes: tuple[Minor, Minor]
    containerd: tuple[Minor, Minor]
    programs: dict[str, str]
    precompiled: tuple[Precompiled, ...]
    supported: bool
    sources: tuple[str, ...]

    @property
    def branches(self) -> frozenset[int]:
        """The driver branches of which its matrix lists a driver."""
        return frozenset(int(each.partition(".")[0]) for each in self.drivers)

    def __str__(self) -> str:
        return f"v{written(self.release)}"


_GENERIC = ("generic", "nvidia", "azure")
_MORE = (*_GENERIC, "azure-fde", "aws", "oracle")
_JAMMY, _NOBLE = "ubuntu22.04", "ubuntu24.04"
_UNTIL_26_3 = (
    Precompiled(_JAMMY, ((5, 15), (6, 8)), _GENERIC, (535, 570, 580)),
    Precompiled(_NOBLE, ((6, 8),), _GENERIC, (570, 580)),
)


class IgnoredField(msgspec.Struct, frozen=True):
    """A field of a ClusterPolicy that has no effect from a release on; what it did then needs another one."""

    path: str
    since: Minor
    instead: str
    sources: tuple[str, ...]


_TYPES = "NVIDIA/gpu-operator: api/nvidia/v1/clusterpolicy_types.go"

# No field was taken out of the CRD from v24.6 to v26.7 (the schemas of their tags compared).
IGNORED_FIELDS: tuple[IgnoredField, ...] = (
    IgnoredField("driver.useOpenKernelModules", (25, 3), "driver.kernelModuleType: open", (f"{_TYPES}, v25.3.4",)),
    IgnoredField("kataManager.enabled", (26, 7), "the Helm chart kata-deploy", (f"{_TYPES}, v26.7.0",)),
)

# Oldest first. What v24.9 and v24.6 say of precompiled drivers names no kernels, and is left out.
OPERATOR_RELEASES: tuple[OperatorRelease, ...] = (
    OperatorRelease(
        (24, 6),
        ("560.35.03", "550.127.05", "550.90.07", "535.216.01"),
        ((1, 23), (1, 30)),
        ((1, 4), (1, 7)),
        {"container-toolkit": "1.16.2", "k8s-device-plugin": "0.16.2", "nvidia-fs": "2.17.5", "gdrdrv": "2.4.1"},
        (),
        False,
        (f"{_MATRIX} 24.6",),
    ),
    OperatorRelease(
        (24, 9),
        ("565.57.01", "560.35.03", "550.127.08", "535.216.03"),
        ((1, 24), (1, 31)),
        ((1, 4), (1, 7)),
        {"container-toolkit": "1.17.4", "k8s-device-plugin": "0.17.0", "nvidia-fs": "2.20.5", "gdrdrv": "2.4.1"},
        (),
        False,
        (f"{_MATRIX} 24.9",),
    ),
    OperatorRelease(
        (25, 3),
        (
            "580.82.07", "580.65.06", "575.57.08", "570.172.08", "570.158.01", "570.148.08", "550.163.01", "535.261.03",
            "535.247.01",
        ),
        ((1, 29), (1, 33)),
        ((1, 6), (2, 1)),
        {"container-toolkit": "1.17.8", "k8s-device-plugin": "0.17.4", "nvidia-fs": "2.20.5", "gdrdrv": "2.5.1"},
        _UNTIL_26_3,
        False,
        (f"{_MATRIX} 25.3",),
    ),
    OperatorRelease(
        (25, 10),
        (
            "590.48.01", "580.126.16", "580.126.09", "580.105.08", "580.95.05", "580.82.07", "575.57.08", "570.211.01",
            "570.195.03", "550.163.01", "535.288.01", "535.274.02",
        ),
        ((1, 30), (1, 35)),
        ((1, 7), (2, 1)),
        {"container-toolkit": "1.18.1", "k8s-device-plugin": "0.18.1", "nvidia-fs": "2.26.6", "gdrdrv": "2.5.1"},
        _UNTIL_26_3,
        False,
        (f"{_MATRIX} 25.10",),
    ),
    OperatorRelease(
        (26, 3),
        (
            "610.57.04", "595.91.07", "595.71.05", "595.58.03", "590.48.01", "580.178.04", "580.173.02", "580.167.08",
            "580.159.04", "580.159.03", "580.126.20", "570.211.01", "535.309.01", "535.288.01",
        ),
        ((1, 32), (1, 36)),
        ((1, 7), (2, 3)),
        {"container-toolkit": "1.19.1", "k8s-device-plugin": "0.19.3", "nvidia-fs": "2.27.3", "gdrdrv": "2.5.2"},
        _UNTIL_26_3,
        True,
        (f"{_MATRIX} 26.3",),
    ),
    OperatorRelease(
        (26, 7),
        ("610.57.04", "595.91.07", "580.173.02", "535.309.01"),
        ((1, 32), (1, 36)),
        ((1, 8), (2, 3)),
        {
            "container-toolkit": "1.20.0", "k8s-device-plugin": "0.20.0", "nvidia-fs": "2.29.4", "gdrdrv": "2.6",
            "dra-driver-nvidia-gpu": "0.5.0",
        },
        (
            Precompiled(_JAMMY, ((5, 15), (6, 8)), (*_GENERIC, "aws", "oracle"), (580, 595)),
            Precompiled(_NOBLE, ((6, 8),), _MORE, (580, 595)),
            Precompiled("ubuntu26.04", ((7, 0),), _MORE, (595,)),
        ),
        True,
        (f"{_MATRIX} 26.7",),
    ),
)  # fmt: skip


def release_of(version: tuple[int, ...]) -> OperatorRelease | None:
    """The release that a version of the operator belongs to; None where the tables do not know it."""
    return next((each for each in OPERATOR_RELEASES if each.release == version[:2]), None)


def first_with(branch: int) -> OperatorRelease | None:
    """The first release whose matrix lists a driver of a branch; None where none does."""
    return next((each for each in OPERATOR_RELEASES if branch in each.branches), None)


def between(installed: tuple[int, ...], target: Minor) -> tuple[OperatorRelease, ...]:
    """The releases that an upgrade to a later one would leave out, oldest first."""
    return tuple(each for each in OPERATOR_RELEASES if installed[:2] < each.release < target)


def written(minor: Minor) -> str:
    """A release by its first two numbers, as people write it."""
    return f"{minor[0]}.{minor[1]}"

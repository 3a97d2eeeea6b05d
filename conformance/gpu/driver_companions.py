"""What has to go with a driver: modules that are built against it, hosts of vGPUs, images for kernels, the DRA driver.

Tables with their sources, and what follows from them; what they do not know is said as unknown. Read on ``READ``;
docs/driver-knowledge.md is made from these tables.
"""

import re
from enum import StrEnum

import msgspec

from conformance.gpu.driver_hardware import Architecture, Modules
from conformance.gpu.drivers import DriverVersion
from conformance.gpu.operator_releases import OPERATOR_RELEASES, Minor, written

READ = "2026-11-28"
"""The day on which the sources were read."""

_OPERATOR = "docs.nvidia.com/datacenter/cloud-native/gpu-operator"
STORAGE_SOURCE = f"{_OPERATOR}: GPUDirect RDMA and GPUDirect Storage; Platform Support"
VGPU_SOURCES = (
    "https://docs.nvidia.com/vgpu/19.0/grid-vgpu-release-notes-vmware-vsphere/index.html",
    "https://docs.nvidia.com/grid/latest/grid-vgpu-release-notes-generic-linux-kvm/index.html",
)
FABRIC_SOURCE = "https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide"
DRA_SOURCE = f"kubernetes-sigs/dra-driver-nvidia-gpu: prerequisites; {_OPERATOR}: DRA Driver for NVIDIA GPUs"

OPEN_ONLY_STORAGE = (2, 17, 5)
"""The first nvidia-fs that works with the open kernel modules only. Source: STORAGE_SOURCE."""

AUTO_CHOOSES_OPEN = ("570.86.15", "570.124.06")
"""With kernelModuleType auto these driver images, and later ones, choose the modules by the GPU. Source: the same."""

DMA_BUF_KERNEL: Minor = (5, 12)
"""The first Linux kernel that GPUDirect RDMA needs no nvidia-peermem on. Source: STORAGE_SOURCE."""


class VgpuBranch(msgspec.Struct, frozen=True):
    """A branch of NVIDIA's vGPU software, and the branch of its drivers."""

    number: int
    driver: int
    long_term: bool


# Release notes of vGPU 13 to 19; LTS by the vGPU life cycle. What is newer is unknown.
VGPU_BRANCHES: tuple[VgpuBranch, ...] = (
    VgpuBranch(13, 470, True),
    VgpuBranch(14, 510, False),
    VgpuBranch(15, 525, False),
    VgpuBranch(16, 535, True),
    VgpuBranch(17, 550, False),
    VgpuBranch(18, 570, False),
    VgpuBranch(19, 580, True),
)

DRIVER_MAY_TAKE = 1260
"""The seconds that the operator gives a driver to load, of all that keeps a node away: its startupProbe waits 60
(initialDelaySeconds), and may then fail 120 times (failureThreshold), 10 seconds apart (periodSeconds). Source:
STARTUP_SOURCE."""

STARTUP_SOURCE = (
    "NVIDIA/gpu-operator, deployments/gpu-operator/values.yaml (driver.startupProbe), the same from v24.6.0 to v26.7.0"
)

DRA_DRIVER_FLOOR, DRA_DOMAINS_FLOOR, DRA_OPERATOR_FLOOR = "565", "570.158.01", "580"
"""The oldest GPU drivers for the DRA driver, for its compute domains, and for a GPUCluster. Source: DRA_SOURCE."""

_KERNEL = re.compile(r"(?P<major>\d+)\.(?P<minor>\d+)\.\d+-\d+-(?P<flavor>[\w-]+)", re.ASCII)


class Goes(StrEnum):
    """Whether two programs go together."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


def guest_goes_with_host(guest: DriverVersion, host: DriverVersion) -> tuple[Goes, str]:
    """Whether a guest's driver works on a vGPU host, and why (or why not, or why that is unknown)."""
    if guest.branch == host.branch:
        return Goes.YES, f"guest and host are both of R{host.branch}"
    if guest.branch > host.branch:
        return Goes.NO, f"a guest's driver of R{guest.branch} is newer than its host's R{host.branch}, and never loads"
    of_host = next((each for each in VGPU_BRANCHES if each.driver == host.branch), None)
    of_guest = next((each for each in VGPU_BRANCHES if each.driver == guest.branch), None)
    if of_host is None or of_guest is None:
        missing = host.branch if of_host is None else guest.branch
        return Goes.UNKNOWN, f"the tables do not know which vGPU branch R{missing} is"
    if of_guest in _taken_by(of_host):
        return Goes.YES, f"vGPU {of_host.number} takes guests of vGPU {of_guest.number}"
    names = " and ".join(f"R{each.driver}" for each in _taken_by(of_host))
    return Goes.NO, f"a host of R{host.branch} takes guests of R{host.branch} and, of older branches, {names} only"


def _taken_by(host: VgpuBranch) -> tuple[VgpuBranch, ...]:
    """The older vGPU branches whose guests a host takes: the one before it, and of LTS the LTS before."""
    older = [each for each in VGPU_BRANCHES if each.number < host.number]
    long_term = [each for each in older if each.long_term] if host.long_term else []
    return tuple(dict.fromkeys([*long_term[-1:], *older[-1:]]))


def modules_chosen(asked: Modules, driver: DriverVersion, architecture: Architecture) -> Modules:
    """The kernel modules that a driver image loads; AUTO where nobody says which."""
    if asked is not Modules.AUTO or architecture.modules is not Modules.AUTO:
        return asked if asked is not Modules.AUTO else architecture.modules
    first, later = (DriverVersion.parse(each) for each in AUTO_CHOOSES_OPEN)
    return Modules.OPEN if driver == first or driver >= later else Modules.AUTO


def why_no_storage(asked: Modules, driver: DriverVersion, architecture: Architecture) -> str:
    """Why GPUDirect Storage (nvidia-fs from v2.17.5) has no modules to work with; empty where nothing says so."""
    chosen = modules_chosen(asked, driver, architecture)
    if chosen is Modules.PROPRIETARY:
        by = f"kernelModuleType {asked}" if asked is not Modules.AUTO else f"GPUs of {architecture.name}"
        return f"nvidia-fs works with the open kernel modules only, and {by} gets the proprietary ones"
    if chosen is Modules.AUTO:
        return (
            "nvidia-fs works with the open kernel modules only, and with kernelModuleType auto this driver is not "
            "known to choose them"
        )
    return ""


def kernel_of(version: str) -> tuple[Minor, str] | None:
    """The first two numbers of an Ubuntu kernel and its flavor: 6.8.0-1035-aws is (6, 8) and aws; None for others."""
    match = _KERNEL.fullmatch(version)
    return ((int(match["major"]), int(match["minor"])), match["flavor"]) if match else None


def precompiled_tag(driver: DriverVersion, kernel: str, system: str) -> str:
    """The tag of a precompiled driver's image."""
    return f"{driver.branch}-{kernel}-{system}"


def why_not_precompiled(driver: DriverVersion, kernel: str, system: str) -> str:
    """Why NVIDIA builds no precompiled image of a driver's branch for a kernel; empty where a table lists one.

    ``system`` is such as ubuntu24.04. An image is for every release of the operator: what one of them lists, all have.
    """
    every = [each for release in OPERATOR_RELEASES for each in release.precompiled]
    rows = [each for each in every if each.system == system]
    if not rows:
        known = ", ".join(sorted({each.system for each in every}))
        return f"NVIDIA builds precompiled drivers for {known}, and the node runs {system}"
    found = kernel_of(kernel)
    if found is None:
        return f"kernel {kernel} is none of those that NVIDIA builds precompiled drivers for"
    minor, flavor = found
    flavors = sorted({each for row in rows for each in row.flavors})
    if flavor not in flavors:
        return f"NVIDIA builds precompiled drivers for the kernels {', '.join(flavors)}, and the node's is {flavor}"
    kernels = sorted({each for row in rows for each in row.kernels})
    if minor not in kernels:
        names = ", ".join(map(written, kernels))
        return f"on {system} NVIDIA builds precompiled drivers for kernels {names}, and the node has {kernel}"
    branches = sorted({each for row in rows if minor in row.kernels for each in row.branches})
    if driver.branch not in branches:
        names = ", ".join(f"R{each}" for each in branches)
        return f"of {system} and kernel {written(minor)} NVIDIA builds {names}, and the target is of R{driver.branch}"
    return ""

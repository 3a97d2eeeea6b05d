"""The Helm releases that a declared GPU stack is made of, and the record that one leaves behind."""

from collections.abc import Callable
from typing import Any

import msgspec

from conformance.reference.model import Reference
from conformance.reference.stack import Stack
from conformance.reference.values import device_plugin_values, dra_driver_values, gpu_operator_values

__all__ = ["Installed", "Release", "releases"]

_NGC = "https://helm.ngc.nvidia.com/nvidia"
_PLUGIN_REPOSITORY = "https://nvidia.github.io/k8s-device-plugin"
_DRA_REPOSITORY = "oci://registry.k8s.io/dra-driver-nvidia/charts"
OPERATOR, PLUGIN, DRA = "gpu-operator", "nvidia-device-plugin", "dra-driver-nvidia-gpu"
FORMER_DRA = "nvidia-dra-driver-gpu"
"""What the DRA driver's chart was called while its versions were years and months, up to 25.12."""

_FORMER_YEARS = 25
# The newest releases by August 2026, for a set-up that names no version: what is installed is never left to chance.
_VERSIONS = {OPERATOR: "v26.7.0", PLUGIN: "0.20.0", DRA: "0.4.1"}


class Release(msgspec.Struct, frozen=True):
    """One chart to install. ``repository`` is where NVIDIA publishes it: the URL of a repository, or ``oci://``."""

    name: str
    chart: str
    repository: str
    version: str
    namespace: str
    values: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"Helm release {self.namespace}/{self.name} ({self.chart} {self.version})"

    @property
    def source(self) -> list[str]:
        """The arguments by which helm finds the chart where NVIDIA publishes it."""
        if self.repository.startswith("oci://"):
            return [f"{self.repository}/{self.chart}", "--version", self.version]
        return [self.chart, "--repo", self.repository, "--version", self.version]


class Installed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a release that is about to be installed.

    ``definitions`` are the CRDs of NVIDIA and node feature discovery that the cluster had before: Helm leaves those
    of its charts behind, and the ones that are listed here are not ours to remove. ``marked`` says that nodes carried
    labels of a GPU stack before: then none of those that are there at the end are, either.
    """

    name: str
    namespace: str
    chart: str
    version: str
    definitions: tuple[str, ...] = ()
    marked: bool = False

    @classmethod
    def of(cls, release: Release, definitions: tuple[str, ...], *, marked: bool) -> "Installed":
        """The record of a release on a cluster that has these definitions, and whether its nodes have labels."""
        return cls(release.name, release.namespace, release.chart, release.version, definitions, marked)

    def __str__(self) -> str:
        return f"Helm release {self.namespace}/{self.name} ({self.chart} {self.version})"


def releases(reference: Reference) -> tuple[Release, ...]:
    """What has to be installed, in this order; nothing for a set-up without a stack."""
    stack = reference.stack
    if stack is None:
        return ()
    return tuple(make(reference, stack) for make in _PARTS[stack.kind](stack))


def _operator(reference: Reference, stack: Stack) -> Release:
    version = _with_v(stack.version or _VERSIONS[OPERATOR])
    return Release(OPERATOR, OPERATOR, _NGC, version, stack.namespace, gpu_operator_values(reference))


def _plugin(reference: Reference, stack: Stack) -> Release:
    version = _without_v(stack.version or _VERSIONS[PLUGIN])
    return Release(PLUGIN, PLUGIN, _PLUGIN_REPOSITORY, version, stack.namespace, device_plugin_values(reference))


def _dra_beside(reference: Reference, stack: Stack) -> Release:
    if stack.dra is None:
        raise ValueError(f"{reference} declares no DRA driver beside its stack")
    return _dra(reference, stack.dra.namespace, stack.dra.version)


def _dra_alone(reference: Reference, stack: Stack) -> Release:
    return _dra(reference, stack.namespace, stack.version or (stack.dra.version if stack.dra is not None else ""))


def _dra(reference: Reference, namespace: str, wanted: str) -> Release:
    version = _without_v(wanted or _VERSIONS[DRA])
    year = version.partition(".")[0]
    former = year.isdecimal() and int(year) >= _FORMER_YEARS
    chart, repository = (FORMER_DRA, _NGC) if former else (DRA, _DRA_REPOSITORY)
    return Release(chart, chart, repository, version, namespace, dra_driver_values(reference))


def _with_v(version: str) -> str:
    return f"v{_without_v(version)}"


def _without_v(version: str) -> str:
    """The chart of the operator has versions with a v, the others, being strict about semantic versions, none."""
    return version.removeprefix("v")


_Make = Callable[[Reference, Stack], Release]
_PARTS: dict[str, Callable[[Stack], tuple[_Make, ...]]] = {
    "gpu-operator": lambda stack: (_operator, _dra_beside) if stack.dra else (_operator,),
    "device-plugin": lambda stack: (_plugin, _dra_beside) if stack.dra else (_plugin,),
    "dra-driver": lambda stack: (_dra_alone,),
}

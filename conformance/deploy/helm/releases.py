"""The Helm releases that a declared GPU stack is made of, and the record that one leaves behind."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from conformance.deploy.helm.values import device_plugin_values, dra_driver_values, gpu_operator_values, merged
from conformance.reference.model import Reference
from conformance.reference.stack import Stack

__all__ = ["Installed", "Marks", "Release", "releases", "token_of"]

_NGC = "https://helm.ngc.nvidia.com/nvidia"
_PLUGIN_REPOSITORY = "https://nvidia.github.io/k8s-device-plugin"
_DRA_REPOSITORY = "oci://registry.k8s.io/dra-driver-nvidia/charts"
OPERATOR, PLUGIN, DRA = "gpu-operator", "nvidia-device-plugin", "dra-driver-nvidia-gpu"
FORMER_DRA = "nvidia-dra-driver-gpu"
"""What the DRA driver's chart was called while its versions were years and months, up to 25.12."""

_FORMER_YEARS = 25
# The newest releases by August 2026, for a set-up that names no version: what is installed is never left to chance.
_VERSIONS = {OPERATOR: "v26.7.0", PLUGIN: "0.20.0", DRA: "0.4.1"}


MARK = "gpuConformance"
"""Under ``global`` of its values a release of ours bears what tells it from one that somebody else installs later.

Helm hands ``global`` to every chart; none of these refuses keys that it does not know (their values.schema.json).
"""


def token_of(values: Mapping[str, Any]) -> str:
    """By which token the values of a release mark it as ours, empty when they do not."""
    known = values.get("global")
    return str(known.get(MARK) or "") if isinstance(known, Mapping) else ""


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

    @property
    def is_operator(self) -> bool:
        """Whether the chart is that of the operator."""
        return self.chart == OPERATOR

    @property
    def brings_discovery(self) -> bool:
        """Whether Node Feature Discovery comes along, as both charts that have it decide."""
        nfd = self.values.get("nfd") or {}
        if self.chart == PLUGIN:
            return bool(nfd.get("enabled", (self.values.get("gfd") or {}).get("enabled", False)))
        return self.is_operator and bool(nfd.get("enabled", True))

    @property
    def token(self) -> str:
        """What marks the release as ours, empty when nothing does."""
        return token_of(self.values)

    def bearing(self, token: str) -> "Release":
        """The release with the token in its values."""
        values = merged(self.values, {"global": {MARK: token}}) if token else self.values
        return msgspec.structs.replace(self, values=values)


class Marks(msgspec.Struct, frozen=True):
    """Labels and annotations of a GPU stack, by their keys, that each of some nodes carries."""

    nodes: tuple[str, ...]
    keys: tuple[str, ...]


class Installed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a release that is about to be installed.

    ``definitions`` are the CRDs of NVIDIA and Node Feature Discovery that the cluster had before: Helm leaves those
    of its charts behind, and the ones that are listed here are not ours to remove. ``marks`` are the labels and
    annotations of a GPU stack that nodes carried before, which are not ours, either. ``marked`` says that they were too
    many to be recorded: then none of those that are there at the end are ours to remove. ``token`` is what the values
    of the release bear; a record without one does not say by what to know the release.
    """

    name: str
    namespace: str
    chart: str
    version: str
    definitions: tuple[str, ...] = ()
    marked: bool = False
    marks: tuple[Marks, ...] = ()
    token: str = ""

    @classmethod
    def of(
        cls,
        release: Release,
        token: str,
        definitions: tuple[str, ...] = (),
        marks: tuple[Marks, ...] = (),
        *,
        marked: bool = False,
    ) -> "Installed":
        """The record of a release on a cluster that has these definitions, and whose nodes have these marks."""
        known = (release.name, release.namespace, release.chart, release.version)
        return cls(*known, definitions, marked, marks, token)

    @property
    def proof(self) -> str:
        """In words by what somebody can tell that the release is ours, before it is uninstalled by hand."""
        if not self.token:
            return f" (if it is ours, which a record this old does not say: see helm history {self.name})"
        return f" (it is ours if helm get values {self.name} --namespace {self.namespace} has {MARK}: {self.token})"

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
    "simulated-plugin": lambda stack: (),
}

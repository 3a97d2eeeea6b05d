"""The versions of the stack's programs by their image tags, and those that must not be run any more.

Sources: the CVE records of NVIDIA; docs.nvidia.com/datacenter/cloud-native/gpu-operator: Security Considerations, and
the release notes of v25.3.1, v25.10.0 and v25.10.1. Read in autumn 2026.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from conformance.facts import Workload
from conformance.subjects import ObjectReference

Version: TypeAlias = tuple[int, int, int]

TOOLKIT, OPERATOR = "container-toolkit", "gpu-operator"
"""The last part of the names of the two images that count; the operator ships the toolkit."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?![\d.])")
_LABELS = ("app.kubernetes.io/version", "olm.owner")
_CHART = "helm.sh/chart"
_CHART_VERSION = re.compile(r"-(v?\d+\.\d+\.\d+)")


class Flaw(NamedTuple):
    """A known container escape: the program, the first version without it, and the advisory."""

    program: str
    fixed: Version
    advisory: str


FLAWS = (
    Flaw(TOOLKIT, (1, 16, 2), "CVE-2024-0132"),
    Flaw(TOOLKIT, (1, 17, 3), "CVE-2024-0135"),
    Flaw(TOOLKIT, (1, 17, 4), "CVE-2025-23359"),
    Flaw(TOOLKIT, (1, 17, 8), "CVE-2025-23266 and CVE-2025-23267"),
    Flaw(OPERATOR, (24, 6, 2), "CVE-2024-0132"),
    Flaw(OPERATOR, (24, 9, 1), "CVE-2024-0135"),
    Flaw(OPERATOR, (24, 9, 2), "CVE-2025-23359"),
    Flaw(OPERATOR, (25, 3, 1), "CVE-2025-23266 and CVE-2025-23267"),
)

CDI_BY_DEFAULT: Version = (25, 10, 0)
"""The first operator that enables CDI where the ClusterPolicy does not set it (its release notes)."""

OVERWRITES_CONTAINERD: Version = (1, 18, 0)
"""The toolkit that overwrote the list of imports in containerd's configuration; 1.18.1 merges it."""


class Running(NamedTuple):
    """A program of the stack, the workload that runs it, and its version."""

    program: str
    workload: Workload
    version: Version

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.workload.subject.only(self.program)

    def __str__(self) -> str:
        return f"{self.workload} ({self.program})"

    @property
    def flaws(self) -> tuple[Flaw, ...]:
        """The known flaws that this version has."""
        return tuple(flaw for flaw in FLAWS if flaw.program == self.program and self.version < flaw.fixed)


def running(program: str, workloads: tuple[Workload, ...]) -> Iterator[Running]:
    """The workloads that run a program, where an image tag or a label of theirs has its version."""
    for workload in workloads:
        images = [each.image for each in workload.template.containers if _program_of(each.image) == program]
        if images:
            version = version_of(images[0]) or _labelled(workload, program)
            if version is not None:
                yield Running(program, workload, version)


def deciding(workloads: tuple[Workload, ...]) -> tuple[Running, ...]:
    """The program whose version decides: the toolkit that runs, else the operator that would ship one."""
    return tuple(running(TOOLKIT, workloads)) or tuple(running(OPERATOR, workloads))


def operator_version(workloads: tuple[Workload, ...]) -> Version | None:
    """The version of the operator, None where no image tag or label has it, or there are several."""
    found = {each.version for each in running(OPERATOR, workloads)}
    return found.pop() if len(found) == 1 else None


def version_of(image: str) -> Version | None:
    """The version that an image's tag begins with, as in ``v1.17.8-ubuntu20.04``; None for a digest or another tag."""
    _, _, tag = image.partition("@")[0].rpartition("/")[2].partition(":")
    return parsed(tag)


def deployed_version(workload: Workload) -> Version | None:
    """The version of the chart that a workload was deployed from, else of its program; None where nothing tells.

    Charts label their objects ``helm.sh/chart: NAME-VERSION`` (helm.sh: Standard Labels); OLM names the owning version.
    """
    chart = _CHART_VERSION.search(workload.labels.get(_CHART, ""))
    by_chart = parsed(chart[1]) if chart is not None else None
    tags = (version_of(each.image) for each in workload.template.containers)
    return by_chart or _by_labels(workload) or next((version for version in tags if version is not None), None)


def dotted(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


def _program_of(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _labelled(workload: Workload, program: str) -> Version | None:
    """The version of the operator by its labels, for images that are named by digest (OpenShift)."""
    return _by_labels(workload) if program == OPERATOR else None


def _by_labels(workload: Workload) -> Version | None:
    found = (parsed(workload.labels.get(key, "").rpartition(".v")[2]) for key in _LABELS)
    return next((version for version in found if version is not None), None)


def parsed(text: str) -> Version | None:
    """The version that a text begins with, with or without a v; None where there is none."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None

"""The catalogue: which programs an embedded cluster consists of, in which versions, from which Go packages.

A version is pinned twice, here and in the go.mod of its module folder; tests/binaries checks that both agree.
"""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from conformance.clusters.embedded.binaries.failures import UnknownVersion

Family = Literal["etcd", "kubernetes", "kwok", "kind", "cri-tools", "helm", "containerd"]

KUBERNETES_PINS: dict[str, str] = {"1.34": "1.34.4", "1.35": "1.35.4", "1.36": "1.36.3", "1.37": "1.37.2"}
"""The selectable Kubernetes minors and the release that stands for each."""

DEFAULT_MINOR = "1.36"

SHARED_PINS: dict[Family, str] = {
    "etcd": "3.6.10", "kwok": "0.8.0", "kind": "0.33.0", "cri-tools": "1.34.0", "helm": "3.22.0",
    "containerd": "2.2.9",
}  # fmt: skip
"""Versions that every Kubernetes minor shares."""

OLDEST_ACCEPTED: dict[Family, tuple[int, int]] = {
    "etcd": (3, 6), "kwok": (0, 8), "kind": (0, 31), "cri-tools": (1, 30), "helm": (3, 8),
    "containerd": (1, 7),
}  # fmt: skip
"""What an assets folder may bring: Kubernetes 1.34 and later ship with etcd 3.6, our stages are for KWOK 0.8, and older
kinds write a configuration of kubeadm that these Kubernetes no longer read; Helm reads charts from oci:// since 3.8;
containerd gives devices by CDI since 1.7."""


@dataclass(frozen=True)
class Component:
    """One program: its family says who releases it, ``package`` is its Go main package."""

    name: str
    family: Family
    package: str
    version_arguments: tuple[str, ...] = ("--version",)


COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        Component("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
        Component("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
        Component("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        Component("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
        Component("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", ("version", "--client")),
        Component("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
        Component("kubeadm", "kubernetes", "k8s.io/kubernetes/cmd/kubeadm", ("version", "-o", "short")),
        Component("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy"),
        Component("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
        Component("kwokctl", "kwok", "sigs.k8s.io/kwok/cmd/kwokctl"),
        Component("kind", "kind", "sigs.k8s.io/kind", ("version",)),
        Component("helm", "helm", "helm.sh/helm/v3/cmd/helm", ("version",)),
        Component("crictl", "cri-tools", "sigs.k8s.io/cri-tools/cmd/crictl"),
        *(
            Component(name, "containerd", f"github.com/containerd/containerd/v2/cmd/{name}", (flag,))
            for name, flag in (("containerd", "--version"), ("containerd-shim-runc-v2", "-v"), ("ctr", "--version"))
        ),
    )
}

CONTROL_PLANE: tuple[str, ...] = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
"""What an embedded cluster needs at least; the others are fetched when someone asks for them."""


@dataclass(frozen=True)
class Platform:
    """An operating system and a processor in Go's words: ``linux``, ``amd64``."""

    os: str
    arch: str

    def __str__(self) -> str:
        return f"{self.os}/{self.arch}"


@dataclass(frozen=True)
class Artefact:
    """One program in one version for one platform: what is looked for, cached, downloaded or built."""

    component: Component
    version: str
    platform: Platform

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def name(self) -> str:
        """The program's file name."""
        return self.component.name

    @property
    def family(self) -> Family:
        """Who releases the program."""
        return self.component.family

    @property
    def minor(self) -> str:
        """Major and minor of the version: ``1.36``."""
        return minor_of(self.version)


def minor_of(version: str) -> str:
    """``1.36`` of ``1.36.3``."""
    return ".".join(version.split(".")[:2])


def release(version: str) -> str:
    """Give the pinned Kubernetes release for ``1.36``, ``1.36.3`` or ``v1.36.3``.

    Raises UnknownVersion, which lists the pins, for a minor that is not pinned and for another patch of one that is.
    """
    plain = version.strip().removeprefix("v")
    for minor, pinned in KUBERNETES_PINS.items():
        if plain in (minor, pinned):
            return pinned
    raise UnknownVersion(version, KUBERNETES_PINS, near=KUBERNETES_PINS.get(minor_of(plain)))


def artefacts(version: str, names: Sequence[str], where: Platform) -> list[Artefact]:
    """One artefact per name, in the order of the catalogue. Raises ValueError for a name that is in no family."""
    pinned = release(version)
    if unknown := sorted(set(names) - set(COMPONENTS)):
        raise ValueError(f"no such program: {', '.join(unknown)}; the catalogue has {', '.join(COMPONENTS)}")
    return [
        Artefact(component, SHARED_PINS.get(component.family, pinned), where)
        for component in COMPONENTS.values()
        if component.name in names
    ]


def this_platform() -> Platform:
    """Name the machine that we run on in Go's words."""
    machine = platform.machine().lower()
    arch = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(machine, machine)
    return Platform(os=sys.platform, arch=arch)

"""Where the projects publish their binaries and checksums, and how a mirror lays them out.

Sources: kubernetes.io "Download Kubernetes"; the release notes of etcd-io/etcd; hack/releases.sh of
kubernetes-sigs/kwok, which uploads bare binaries without a checksum file: the digest comes from GitHub's
"Get a release by tag name".
"""

from dataclasses import dataclass
from typing import Literal

from conformance.clusters.embedded.binaries.versions import Artefact

KUBERNETES = "https://dl.k8s.io"
HELM = "https://get.helm.sh"
GITHUB = "https://github.com"
GITHUB_API = "https://api.github.com"

MIRROR_VARIABLE = "GPU_CONFORMANCE_MIRROR"
OFFLINE_VARIABLE = "GPU_CONFORMANCE_OFFLINE"


@dataclass(frozen=True)
class Checksum:
    """Where the SHA-256 of a file is written: ``form`` is a sum file (bare, or lines with names) or GitHub's JSON."""

    url: str
    file_name: str
    form: Literal["sums", "github"]


@dataclass(frozen=True)
class Publication:
    """A published file. ``member`` is the path inside it when it is an archive, else empty."""

    url: str
    checksum: Checksum
    member: str = ""


def publication(artefact: Artefact, mirror: str | None) -> Publication | None:
    """Where ``artefact`` is published for its platform; None when upstream has none for it.

    ``mirror`` replaces scheme and host of every address; there, a KWOK binary needs ``<file>.sha256`` beside it.
    """
    families = {"kubernetes": _kubernetes, "etcd": _etcd, "kwok": _kwok, "kind": _kind, "cri-tools": _cri_tools}
    families |= {"helm": _helm, "containerd": _containerd}
    return families[artefact.family](artefact, mirror)


def _kubernetes(artefact: Artefact, mirror: str | None) -> Publication | None:
    where = artefact.platform
    if where.os != "linux" and artefact.name != "kubectl":
        return None  # servers are released for Linux only
    url = f"{mirror or KUBERNETES}/release/v{artefact.version}/bin/{where.os}/{where.arch}/{artefact.name}"
    return Publication(url, Checksum(f"{url}.sha256", artefact.name, "sums"))


def _etcd(artefact: Artefact, mirror: str | None) -> Publication:
    where = artefact.platform
    folder = f"{mirror or GITHUB}/etcd-io/etcd/releases/download/v{artefact.version}"
    stem = f"etcd-v{artefact.version}-{where.os}-{where.arch}"
    file_name = f"{stem}.tar.gz" if where.os == "linux" else f"{stem}.zip"
    checksum = Checksum(f"{folder}/SHA256SUMS", file_name, "sums")
    return Publication(f"{folder}/{file_name}", checksum, member=f"{stem}/etcd")


def _kind(artefact: Artefact, mirror: str | None) -> Publication:
    file_name = f"kind-{artefact.platform.os}-{artefact.platform.arch}"
    url = f"{mirror or GITHUB}/kubernetes-sigs/kind/releases/download/v{artefact.version}/{file_name}"
    return Publication(url, Checksum(f"{url}.sha256sum", file_name, "sums"))


def _cri_tools(artefact: Artefact, mirror: str | None) -> Publication:
    file_name = f"crictl-v{artefact.version}-{artefact.platform.os}-{artefact.platform.arch}.tar.gz"
    url = f"{mirror or GITHUB}/kubernetes-sigs/cri-tools/releases/download/v{artefact.version}/{file_name}"
    return Publication(url, Checksum(f"{url}.sha256", file_name, "sums"), member="crictl")


def _containerd(artefact: Artefact, mirror: str | None) -> Publication | None:
    if artefact.platform.os != "linux":
        return None
    file_name = f"containerd-static-{artefact.version}-linux-{artefact.platform.arch}.tar.gz"
    url = f"{mirror or GITHUB}/containerd/containerd/releases/download/v{artefact.version}/{file_name}"
    return Publication(url, Checksum(f"{url}.sha256sum", file_name, "sums"), member=f"bin/{artefact.name}")


def _helm(artefact: Artefact, mirror: str | None) -> Publication:
    where = artefact.platform
    file_name = f"helm-v{artefact.version}-{where.os}-{where.arch}.{'zip' if where.os == 'windows' else 'tar.gz'}"
    url = f"{mirror or HELM}/{file_name}"
    return Publication(url, Checksum(f"{url}.sha256sum", file_name, "sums"), member=f"{where.os}-{where.arch}/helm")


def _kwok(artefact: Artefact, mirror: str | None) -> Publication:
    tag = f"v{artefact.version}"
    file_name = f"{artefact.name}-{artefact.platform.os}-{artefact.platform.arch}"
    url = f"{mirror or GITHUB}/kubernetes-sigs/kwok/releases/download/{tag}/{file_name}"
    if mirror:
        return Publication(url, Checksum(f"{url}.sha256", file_name, "sums"))
    return Publication(
        url, Checksum(f"{GITHUB_API}/repos/kubernetes-sigs/kwok/releases/tags/{tag}", file_name, "github")
    )

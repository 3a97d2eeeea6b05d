"""What an upgrade of Kubernetes asks of nodes and of the control plane: rules with sources, read on 2026-11-28."""

import re

from conformance.gpu.operator_releases import Minor

KUBERNETES_SOURCES = (
    "https://kubernetes.io/releases/version-skew-policy/",
    "https://kubernetes.io/blog/2025/12/17/kubernetes-v1-35-release/",
)
LAST_WITH_CONTAINERD_1: Minor = (1, 35)
"""The last release that supports containerd 1.x. Source: the second of KUBERNETES_SOURCES."""

KUBELET_SKEW = 3
"""How many minor releases a kubelet may be older than the API server. Source: the first of KUBERNETES_SOURCES."""

_RELEASE = re.compile(r"v?(\d+)\.(\d+)", re.ASCII)
_RUNTIME = re.compile(r"(?P<name>[\w-]+)://v?(?P<major>\d+)\.(?P<minor>\d+)", re.ASCII)


def release_in(version: str) -> Minor | None:
    """The release that a version is of, in any distribution's format: v1.36.3-gke.100; None for no version."""
    match = _RELEASE.match(version)
    return (int(match[1]), int(match[2])) if match else None


def containerd_in(runtime: str) -> Minor | None:
    """The release of containerd in what a kubelet says of its runtime; None for another runtime, or no version."""
    match = _RUNTIME.match(runtime)
    return (int(match["major"]), int(match["minor"])) if match and match["name"] == "containerd" else None

"""Nodes whose container runtime is not where the container toolkit looks for it, unless it is told.

Distributions that bring a containerd of their own keep its socket and configuration elsewhere, and the toolkit of the
GPU Operator looks at /run/containerd/containerd.sock and /etc/containerd/config.toml. GKE's containerd is where it
looks, and from 1.33 on the toolkit misreads the configuration unless it takes the file.
Only where operands do not run is this a cause: a link on the node, or a runtime that finds NVIDIA's by itself, helps as
well, and no object tells of either.
Sources: NVIDIA/gpu-operator v26.7.0, controllers/object_controls.go (DefaultContainerdSocketFile,
transformRuntimeConfigAndSocketMounts; with the NRI plugin nothing of it is used) and issue 1323 (k0s);
docs.rke2.io: GPU Operators; docs.k3s.io: Alternative Container Runtime Support; docs.k0sproject.io: Runtime, using
nvidia-container-runtime; docs.nvidia.com: NVIDIA GPU Operator with Google GKE; of containerd 2
NVIDIA/nvidia-container-toolkit, CHANGELOG.md (v1.17.4), and NVIDIA/gpu-operator issue 2060.
"""

import re
from typing import NamedTuple

from conformance.facts import Node, Pod
from conformance.facts.hiding import HIDDEN
from suites._shared.operand_versions import Version, dotted, version_of
from suites._shared.operator_resource import OperatorResource
from suites._shared.pod_status import STUCK, holding_up

_SOCKET, _SOURCE = "CONTAINERD_SOCKET", "RUNTIME_CONFIG_SOURCE"
_DEFAULT = "/run/containerd/containerd.sock"
_CONTAINERD, _OF_K3S = "containerd://", "-k3s"
_RELEASE = re.compile(r"v?1\.(\d+)\..*-gke\.")
_MISREAD_FROM = 33
_TOOLKIT_CONTAINER = "nvidia-container-toolkit-ctr"
_READS_VERSION_3: Version = (1, 17, 4)
# What a container waits for whose sandbox was not made.
_WITHOUT_SANDBOX = ("ContainerCreating", "PodInitializing")


class OwnRuntime(NamedTuple):
    """A runtime that the toolkit has to be told of: whose, where it listens, and all variables that it takes."""

    whose: str
    socket: str
    settings: str


_K3S = OwnRuntime("k3s", "/run/k3s/containerd/containerd.sock", f"{_SOCKET}=/run/k3s/containerd/containerd.sock")
_RKE2 = _K3S._replace(whose="RKE2")
_K0S = OwnRuntime(
    "k0s",
    "/run/k0s/containerd.sock",
    f"{_SOCKET}=/run/k0s/containerd.sock, CONTAINERD_CONFIG=/run/k0s/containerd-cri.toml and "
    "RUNTIME_DROP_IN_CONFIG=/etc/k0s/containerd.d/nvidia.toml",
)


def own_runtime_of(node: Node) -> OwnRuntime | None:
    """The containerd that a node's distribution brings; None for one that is where it is usually looked for."""
    if not node.runtime.startswith(_CONTAINERD):
        return None
    if _OF_K3S in node.runtime:
        return _RKE2 if "+rke2" in node.kubelet else _K3S
    return _K0S if "+k0s" in node.kubelet else None


def why_not_configured(pod: Pod, node: Node, operator_resource: OperatorResource | None) -> tuple[str, str]:
    """Why the toolkit cannot have configured the runtime under a pod that does not start, and what to set; else empty.

    A pod that waits for another one, or runs and is not Ready, tells nothing of the runtime.
    """
    if operator_resource is None or not _configures(operator_resource) or not _may_lack_a_runtime(pod):
        return "", ""
    env, own = operator_resource.env("toolkit"), own_runtime_of(node)
    if own is not None and env.get(_SOCKET, "").strip() in ("", _DEFAULT):
        return (
            f"the containerd of {own.whose} listens at {own.socket}, and toolkit.env of {operator_resource} names no "
            f"{_SOCKET}, so that the container toolkit looks at {_DEFAULT}",
            f"Set {own.settings} in toolkit.env.",
        )
    release = _RELEASE.match(node.kubelet)
    if release and int(release[1]) >= _MISREAD_FROM and env.get(_SOURCE, "").partition("=")[0] not in ("file", HIDDEN):
        return (
            f"on GKE from 1.{_MISREAD_FROM} on the container toolkit misreads the configuration of containerd, unless "
            f"it takes the file, and toolkit.env of {operator_resource} does not say so",
            f"Set {_SOURCE}=file in toolkit.env.",
        )
    return _why_too_old(pod, node, operator_resource)


def _why_too_old(pod: Pod, node: Node, operator_resource: OperatorResource) -> tuple[str, str]:
    """That a toolkit is older than the configuration of containerd 2, and what to do; else empty."""
    version = next((version_of(each.image) for each in pod.containers if each.name == _TOOLKIT_CONTAINER), None)
    if not node.runtime.startswith(f"{_CONTAINERD}2.") or version is None or version >= _READS_VERSION_3:
        return "", ""
    return (
        f"{node.runtime} has configurations of version 3, which the container toolkit reads from "
        f"{dotted(_READS_VERSION_3)} on, and this one is {dotted(version)}",
        f"Take the toolkit that the operator brings: leave toolkit.version of {operator_resource} out, or set one from "
        f"{dotted(_READS_VERSION_3)} on.",
    )


def _configures(operator_resource: OperatorResource) -> bool:
    """Whether the operator's toolkit changes the configuration of the container runtime."""
    by_nri = operator_resource.at("cdi.nriPluginEnabled") is True
    return operator_resource.kind == "ClusterPolicy" and operator_resource.enabled("toolkit") and not by_nri


def _may_lack_a_runtime(pod: Pod) -> bool:
    """Whether a pod is a toolkit that ends, or one whose sandbox is not made under the RuntimeClass that it names."""
    broken = holding_up(pod)
    if broken is None:
        return bool(pod.runtime_class) and not pod.statuses
    if broken.waiting in STUCK:
        return "toolkit" in broken.name and not broken.init
    started = any(each.running_since or each.exit_code is not None for each in pod.statuses)
    return bool(pod.runtime_class) and broken.waiting in _WITHOUT_SANDBOX and not started

"""Access to GPUs that bypasses the allocator: which of them a pod has, and what a probe reached."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from conformance.facts import Facts, Pod

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
ALL_DEVICES = "all"

_HANDLER = "nvidia"
# What gives access to a GPU: device files; the driver's root of the operator, of GKE and of COS; the sockets by
# which devices are registered and listed; the CDI specifications that say what is injected.
_PROTECTED = (
    "/dev",
    "/run/nvidia",
    "/home/kubernetes/bin/nvidia",
    "/usr/local/nvidia",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet/pod-resources",
    "/var/run/cdi",
    "/etc/cdi",
)
# These paths below /dev have nothing to do with GPUs.
_HARMLESS = ("/dev/shm", "/dev/log", "/dev/hugepages", "/dev/infiniband", "/dev/null")  # noqa: S108
_GPU_FILE = re.compile(r"/dev/nvidia\d+")
# The annotations that the operator's NRI plugin and the container runtimes read (CDI: pkg/cdi/annotations.go).
_CDI_ANNOTATIONS = ("nvidia.cdi.k8s.io/", "cdi.k8s.io/")


def reached(record: Mapping[str, Any]) -> list[str]:
    """The devices and device files that the isolation probe could open. That a file exists is not enough."""
    return [*record["devices"], *record["opened"]]


def gpu_files(paths: list[str]) -> list[str]:
    """The files of GPUs themselves; those that serve all of them (nvidiactl, nvidia-uvm) left out."""
    return [path for path in paths if _GPU_FILE.fullmatch(path)]


def nvidia_runtime_classes(facts: Facts) -> tuple[str, ...]:
    """The names of the runtime classes whose handler is NVIDIA's, such as nvidia and nvidia-cdi."""
    found = (each for each in facts.runtime_classes if str(each.body.get("handler") or "").startswith(_HANDLER))
    return tuple(sorted(each.name for each in found))


def privileged_containers(pod: Pod) -> list[str]:
    """The names of a pod's privileged containers."""
    return [container.name for container in pod.every_container if container.privileged]


def protected_host_paths(pod: Pod) -> list[str]:
    """The host paths of a pod that contain, or are below, a path that gives access to a GPU."""
    paths = (volume.host_path for volume in pod.volumes if volume.kind == "hostPath")
    return [path for path in paths if _leads_to_devices(path)]


def cdi_devices_named(pod: Pod) -> dict[str, str]:
    """The annotations of a pod that name devices for the container runtime to inject."""
    return {key: value for key, value in pod.annotations.items() if key.startswith(_CDI_ANNOTATIONS)}


def _leads_to_devices(path: str) -> bool:
    mounted = _without_links(path)
    if any(mounted.is_relative_to(harmless) for harmless in _HARMLESS):
        return False
    roots = map(_without_links, _PROTECTED)
    return any(mounted.is_relative_to(root) or root.is_relative_to(mounted) for root in roots)


def _without_links(path: str) -> PurePosixPath:
    """A host path as a file system knows it: on most systems /var/run is a link to /run."""
    parts = PurePosixPath(path).parts
    return PurePosixPath("/run", *parts[3:]) if parts[:3] == ("/", "var", "run") else PurePosixPath(*parts)

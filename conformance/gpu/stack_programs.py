"""Which program of NVIDIA's stack a container runs, whatever its owners call the container and its image.

A device plugin has to mount the kubelet's folder of device plugins, where it registers; which devices it offers tells
the program that is started, its settings, or its image. Mirrors keep an image's last name at best, and sites build
images of their own, so that no name has to be NVIDIA's.
Sources: NVIDIA/k8s-device-plugin v0.20.0, deployments, cmd/nvidia-device-plugin, cmd/gpu-feature-discovery,
cmd/mps-control-daemon (programs, flags, variables); NVIDIA/dcgm-exporter, pkg/cmd/app.go; NVIDIA/mig-parted,
cmd/nvidia-mig-manager; kubernetes-sigs/node-feature-discovery, cmd; GoogleCloudPlatform/container-engine-accelerators,
cmd/nvidia_gpu; kubernetes.io: Device Plugins. Plugins that are not meant: ROCm/k8s-device-plugin, which has the same
last name; Project-HAMi/HAMi, whose program is called nvidia-device-plugin, too; NVIDIA/kubevirt-gpu-device-plugin.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

PLUGIN_CONTAINERS = ("nvidia-device-plugin", "nvidia-device-plugin-ctr", "nvidia-gpu-device-plugin")
"""Containers that offer nvidia.com/gpu: of the operator, of the plugin's own chart and manifest, and of GKE.

GPU Feature Discovery and the MPS control daemon use the plugin's image under other container names.
"""

DEVICE_PLUGINS = ("nvidia-device-plugin", "nvidia-gpu-device-plugin")
GPU_FEATURE_DISCOVERY = "gpu-feature-discovery"
DCGM_EXPORTER = "dcgm-exporter"
MPS_CONTROL_DAEMON = "mps-control-daemon"
MIG_MANAGER = "nvidia-mig-manager"
NFD_WORKER, NFD_MASTER = "nfd-worker", "nfd-master"
_PROGRAMS = frozenset(
    {
        *DEVICE_PLUGINS,
        GPU_FEATURE_DISCOVERY,
        DCGM_EXPORTER,
        MPS_CONTROL_DAEMON,
        MIG_MANAGER,
        NFD_WORKER,
        NFD_MASTER,
    }
)
_FLAGS = (
    "--mig-strategy", "--fail-on-init-error", "--pass-device-specs", "--device-list-strategy", "--device-id-strategy",
    "--nvidia-driver-root", "--nvidia-dev-root", "--mps-root", "--device-discovery-strategy",
)  # fmt: skip
_SETTINGS = frozenset(
    {
        "MIG_STRATEGY",
        "PASS_DEVICE_SPECS",
        "DEVICE_LIST_STRATEGY",
        "DEVICE_ID_STRATEGY",
        "DEVICE_DISCOVERY_STRATEGY",
        "NVIDIA_DRIVER_ROOT",
        "NVIDIA_DEV_ROOT",
        "NVIDIA_MIG_MONITOR_DEVICES",
    }
)
_IMAGE = "k8s-device-plugin"
_EXPORTER_CONTAINERS = ("nvidia-dcgm-exporter", "nvidia-dcgm-exporter-dra", "dcgm-exporter")
_EXPORTER_FOLDER = "/etc/dcgm-exporter/"
_PLUGIN_FOLDER = "/device-plugins"
_FEATURES_FOLDER = "/features.d"

# Plugins of NVIDIA's GPUs that offer something else, or offer them otherwise, and NVIDIA's plugins of other devices.
_NOT_MEANT = re.compile(
    r"hami|vgpu|gpushare|gpu-share|volcano|metagpu|kubevirt|sandbox|kata|vfio|rdma|sr-?iov|network|\bnic\b|infiniband|"
    r"\bfuse\b|\bkvm\b|\btpu\b",
    re.IGNORECASE,
)
_OF_AMD = re.compile(r"amd(?!64)|rocm", re.IGNORECASE)
_INSTALLER = re.compile(r"nvidia.*install|gpu-driver-install", re.IGNORECASE)
_DRIVER_PATH = re.compile(r"nvidia|driver", re.IGNORECASE)
_SHELLS = ("sh", "bash", "ash", "dash")
_SEPARATORS = re.compile(r"[;&|()\n]+")
_WRAPPERS = ("exec", "env", "nohup", "sudo", "tini", "dumb-init", "then", "do", "else", "if", "while", "until")
_COUNTERS = ("-f", "--collectors")
"""The flags by which dcgm-exporter is told of the file with its counters."""


class Running(NamedTuple):
    """What a container is told by.

    ``program`` is what ``program_of`` makes of its command and arguments, ``variables`` are the names of its
    environment, ``host_paths`` the places of the node that it mounts, ``context`` whatever else of its pod may name a
    maker: names, labels, selectors, tolerations.
    """

    name: str
    image: str = ""
    program: str = ""
    variables: Collection[str] = ()
    host_paths: Collection[str] = ()
    context: str = ""

    @property
    def image_name(self) -> str:
        """The last part of the image's name, without tag and digest."""
        return self.image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def program_of(words: Iterable[str]) -> str:
    """The program of the stack that a command and its arguments start, in a shell or not; empty for any other.

    What a script only names, as in ``kubectl rollout restart daemonset nvidia-device-plugin``, is not started. Where
    only flags tell, the answer is the flag, which the device plugin and GPU Feature Discovery have in common.
    """
    given = list(words)
    started = [name for statement in _statements(given) if (name := _started_by(statement)) in _PROGRAMS]
    if started:
        return started[0]
    for before, word in pairwise(["", *given]):
        flag, _, value = word.partition("=")
        if (value or word).startswith(_EXPORTER_FOLDER) and (flag if value else before) in _COUNTERS:
            return DCGM_EXPORTER
        if flag in _FLAGS:
            return flag
    return ""


def _statements(words: list[str]) -> list[list[str]]:
    """The simple commands of a command line: of the script where a shell is given one, else the line itself."""
    if words and words[0].rpartition("/")[2] in _SHELLS and len(words) > 2:
        return [statement.split() for script in words[2:] for statement in _SEPARATORS.split(script)]
    return [words]


def _started_by(statement: list[str]) -> str:
    """The name of the program that a simple command starts, whatever it is wrapped in."""
    words = (word.strip("'\"") for word in statement if not word.startswith("-") and "=" not in word)
    return next((name for word in words if (name := word.rpartition("/")[2]) not in _WRAPPERS), "")


def offers_gpus(container: Running) -> bool:
    """Whether a container is a device plugin that offers NVIDIA's GPUs to containers."""
    if container.name in PLUGIN_CONTAINERS:
        return True
    if not _mounts(container, _PLUGIN_FOLDER) or _NOT_MEANT.search(f"{container.name} {container.image}"):
        return False
    if container.program in DEVICE_PLUGINS or _has_their_settings(container):
        return True
    if container.image_name == _IMAGE:
        around = f"{container.name} {container.image} {container.context} {' '.join(container.variables)}"
        return "nvidia" in around.lower() and not _OF_AMD.search(around)
    return "nvidia" in container.image_name and "device-plugin" in container.image_name


def is_gpu_feature_discovery(container: Running) -> bool:
    """Whether a container is GPU Feature Discovery; Node Feature Discovery mounts the same folder."""
    if any(GPU_FEATURE_DISCOVERY in each for each in (container.name, container.image_name, container.program)):
        return True
    if any(each.startswith("GFD_") for each in container.variables):
        return True
    known = _has_their_settings(container) or container.image_name == _IMAGE
    return known and _mounts(container, _FEATURES_FOLDER)


def is_dcgm_exporter(container: Running) -> bool:
    """Whether a container is dcgm-exporter."""
    if container.name in _EXPORTER_CONTAINERS or DCGM_EXPORTER in container.image_name:
        return True
    if container.program == DCGM_EXPORTER:
        return True
    return any(each.startswith("DCGM_EXPORTER_") for each in container.variables)


def is_driver_installer(name: str) -> bool:
    """Whether a container of this name is a platform's installer of the driver, such as GKE's or Gardener's.

    Sources: GoogleCloudPlatform/container-engine-accelerators, nvidia-driver-installer (its init container installs,
    the container itself only pauses); gardener/gardener-extension-os-gardenlinux, GPU documentation.
    """
    return _INSTALLER.search(name) is not None


def brings_driver(host_path: str) -> bool:
    """Whether a place of the node that a plugin mounts has the driver, so that it needs no runtime to get it."""
    return _DRIVER_PATH.search(host_path) is not None and "/mps" not in host_path


def is_nvidia_handler(handler: object) -> bool:
    """Whether the handler of a RuntimeClass is the container runtime of NVIDIA."""
    return isinstance(handler, str) and handler.startswith("nvidia")


def names_of_device_plugins(spec: Mapping[str, Any], context: str = "") -> tuple[str, ...]:
    """The names of the containers in a pod's ``spec``, in JSON, that offer NVIDIA's GPUs."""
    return tuple(each.name for each in _running(spec, context) if offers_gpus(each))


def _has_their_settings(container: Running) -> bool:
    """Whether flags or variables are those that NVIDIA's device plugin and GPU Feature Discovery have in common."""
    return container.program in _FLAGS or not _SETTINGS.isdisjoint(container.variables)


def _mounts(container: Running, folder: str) -> bool:
    return any(each.rstrip("/").endswith(folder) for each in container.host_paths)


def _running(spec: Mapping[str, Any], context: str) -> Iterator[Running]:
    tolerated = [str(each.get("key") or "") for each in _members(spec, "tolerations")]
    selected = [f"{key}={value}" for key, value in (spec.get("nodeSelector") or {}).items()]
    around = " ".join([context, str(spec.get("runtimeClassName") or ""), *tolerated, *selected])
    hosts = {str(each.get("name")): _host_path(each) for each in _members(spec, "volumes")}
    for each in _members(spec, "containers"):
        words = [str(word) for key in ("command", "args") for word in each.get(key) or ()]
        yield Running(
            str(each.get("name")),
            str(each.get("image") or ""),
            program_of(words),
            [str(variable.get("name")) for variable in _members(each, "env")],
            [hosts.get(str(mount.get("name")), "") for mount in _members(each, "volumeMounts")],
            around,
        )


def _host_path(volume: Mapping[str, Any]) -> str:
    place = volume.get("hostPath")
    return str(place.get("path") or "") if isinstance(place, Mapping) else ""


def _members(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []

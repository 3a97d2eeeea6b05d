"""What a machine must have before a real node can be started on it, and the command that brings what it lacks.

Everything is looked at before anything is started, so that one message names all of it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clusters import inotify
from conformance.clusters.embedded.errors import EmbeddedError
from conformance.deviceplugin.dra.runtimes import injection
from conformance.deviceplugin.library import compiler
from conformance.realnode import cgroups

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

CNI_FOLDERS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
"""Where CNI plugins are installed: by the project's releases, by Debian and Ubuntu, by Fedora."""
CNI_PLUGINS = ("bridge", "host-local", "loopback")

# Which distribution package has a program. The names are those of Debian and Ubuntu; others call them much the same.
_PACKAGES = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ldd": "libc-bin",
}
_PACKAGES_OF_PLUGIN = {"grpcio": "grpc", "protobuf": "google.protobuf"}
PROGRAMS = tuple(_PACKAGES)
_CNI_PACKAGE = "containernetworking-plugins"
# System folders that a user's PATH often lacks.
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# What runc puts a container into; others are welcome and not asked for.
_CONTROLLERS_1 = ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
_CONTROLLERS_2 = ("cpu", "cpuset", "memory", "pids")
SYS_ADMIN, SYS_RESOURCE = 21, 24  # linux/capability.h
_TRY_WITHIN = 20.0
_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+)")

Lack = tuple[str, str]
"""What is missing, and what brings it."""


class RealNodesUnavailable(EmbeddedError):
    """A machine cannot run real nodes; the text names each thing that is missing and what brings it."""

    def __init__(self, lacks: Iterable[Lack]) -> None:
        self.lacks = tuple(lacks)
        packages = sorted({_package(remedy) for _, remedy in self.lacks} - {""})
        lines = [f"  - {what}: {remedy}" for what, remedy in self.lacks]
        if len(packages) > 1:
            lines.append(f"all packages at once: apt-get install -y --no-install-recommends {' '.join(packages)}")
        lines.append("Without --gpu-real-nodes the embedded cluster needs none of this. See docs/real-nodes.md.")
        super().__init__("\n".join(["real nodes cannot run on this machine:", *lines]))


@dataclass(frozen=True)
class Tools:
    """The programs of a machine that a real node is made of, by name, and the folder of its CNI plugins.

    ``containerd`` is the version that containerd says, such as ``2.2.9``.
    """

    programs: Mapping[str, Path]
    cni: Path
    containerd: str = "0.0"

    @property
    def cdi(self) -> bool:
        """Whether this containerd gives containers the devices that a plugin names; our settings turn that on."""
        return injection(f"containerd://{self.containerd}").names

    @property
    def search_path(self) -> str:
        """A PATH on which all of them are found, for those that start one another."""
        folders = [str(path.parent) for path in self.programs.values()]
        return os.pathsep.join(dict.fromkeys([*folders, *_SYSTEM_PATH]))


def required(assets: Path | None = None, *, gpus: bool = False, nodes: int = 1) -> Tools:
    """The programs that real nodes are made of: from ``assets``, else as installed; ``gpus``: with a device plugin.

    ``assets`` is a folder that has some or all of them, and CNI plugins in a folder ``cni``; ``nodes`` is how many
    real nodes there will be. Raises RealNodesUnavailable with everything that the machine lacks.
    """
    programs = {name: path for name in PROGRAMS if (path := _find(name, assets))}
    cni = _cni_folder(assets)
    lacks = [*_system_lacks(), *_rights_lacks()]
    can_try = not lacks and "unshare" in programs
    lacks += [*_program_lacks(programs, cni), *(_kernel_lacks() if can_try else ())]
    lacks += _plugin_lacks() if gpus else ()
    lacks += inotify.lacks(inotify.CONTROL_PLANE + nodes * inotify.REAL_NODE)
    if lacks or cni is None:
        raise RealNodesUnavailable(lacks)
    return Tools(programs, cni, containerd_version(programs["containerd"]))


def containerd_version(program: Path) -> str:
    """The version that a containerd says. Raises RealNodesUnavailable for one that says none, or does not run."""
    try:
        ran = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=_TRY_WITHIN, errors="replace"
        )
        said = ran.stdout + ran.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if found := _VERSION.search(said):
        return found[1]
    first = (said.strip().splitlines() or ["nothing"])[0]
    raise RealNodesUnavailable([(f"{program} --version says no version ({first})", _install(_PACKAGES["containerd"]))])


def _system_lacks(platform: str = sys.platform) -> list[Lack]:
    if platform == "linux":
        return []
    return [(f"the operating system is {platform}", "kubelets need Linux; run this in a Linux machine")]


def _rights_lacks() -> Iterator[Lack]:
    if os.geteuid() != 0:
        yield f"you are user {os.geteuid()}, not root", "run the same command with sudo"
    elif sys.platform == "linux" and not has_capability(SYS_ADMIN):
        yield (
            "root lacks the capability SYS_ADMIN here, as in a container that is not privileged",
            "run on the machine itself, or start the container with --privileged",
        )


def has_capability(number: int, status: Path = Path("/proc/self/status")) -> bool:
    """Whether we have a capability, by its number in linux/capability.h."""
    line = next((line for line in status.read_text().splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(line.split()[1], 16) >> number & 1)


def _program_lacks(programs: Container[str], cni: Path | None) -> Iterator[Lack]:
    for name in PROGRAMS:
        if name not in programs:
            yield f"no program {name}", _install(_PACKAGES[name])
    if cni is None:
        plugins, folders = ", ".join(CNI_PLUGINS), ", ".join(map(str, CNI_FOLDERS))
        yield f"no CNI plugins {plugins} in one of {folders}", _install(_CNI_PACKAGE)


def _plugin_lacks() -> Iterator[Lack]:
    """What the simulated device plugin needs, and what the stand-in of the driver's libraries is compiled with."""
    if missing := [package for package, module in _PACKAGES_OF_PLUGIN.items() if not _has_module(module)]:
        yield f"no Python package {', '.join(missing)}", "pip install 'gpu-conformance[device-plugin]'"
    if compiler() is None:
        yield "no C compiler cc, for a stand-in of libcuda that CUDA probes find", _install("gcc libc6-dev")


def _has_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _kernel_lacks() -> Iterator[Lack]:
    """What the kernel cannot do: control groups by what is mounted, the rest by trying it in namespaces that end."""
    yield from cgroup_lacks(cgroups.version(), _controllers())
    tries = {
        "namespaces for processes, mounts, network and host name": "true",
        "network bridges": "ip link add name gpu-conf-try type bridge",
        "virtual network cables": "ip link add name gpu-conf-a type veth peer name gpu-conf-b",
        "routes that refuse": "ip link set lo up && ip route add prohibit default",
        "overlay mounts": "mount -t tmpfs tmpfs /tmp && cd /tmp && mkdir a b c d && "
        "mount -t overlay overlay -o lowerdir=a,upperdir=b,workdir=c d",
    }
    options = {"network bridges": "bridge", "virtual network cables": "veth", "overlay mounts": "overlay"}
    for feature, command in tries.items():
        if words := _tried(command):
            module = options.get(feature)
            remedy = f"try: modprobe {module}" if module else "a kernel that is built with them is needed"
            yield f"the kernel refuses {feature} ({words})", remedy


def cgroup_lacks(version: int, have: set[str]) -> Iterator[Lack]:
    """What is missing of control groups of this version with these controllers."""
    if version == 0:
        yield "no control groups are mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        return
    wanted = _CONTROLLERS_1 if version == 1 else _CONTROLLERS_2
    if missing := [name for name in wanted if name not in have]:
        yield (
            f"control groups of version {version} lack {', '.join(missing)}",
            "boot the kernel with them, such as with cgroup_enable=memory; a container needs --cgroupns=host",
        )


def _controllers() -> set[str]:
    """The controllers that are there: of version 2 those of the root group, of version 1 those that are mounted."""
    if cgroups.version() == 2:
        return set((cgroups.hierarchies()[0] / "cgroup.controllers").read_text().split())
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return {option for _, _, kind, options, *_ in lines if kind == "cgroup" for option in options.split(",")}


def _tried(command: str) -> str:
    """Why the kernel refuses a command in namespaces of its own; empty when it does not."""
    namespaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
    try:
        ran = subprocess.run(
            ["unshare", *namespaces, "sh", "-c", command],
            env={"PATH": os.pathsep.join(_SYSTEM_PATH)},
            capture_output=True,
            text=True,
            check=False,
            timeout=_TRY_WITHIN,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if ran.returncode == 0 else (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]


def _find(name: str, assets: Path | None) -> Path | None:
    if assets is not None and os.access(assets / name, os.X_OK) and (assets / name).is_file():
        return (assets / name).absolute()
    searched = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_PATH])
    found = shutil.which(name, path=searched)
    return Path(found) if found else None


def _cni_folder(assets: Path | None) -> Path | None:
    folders = [*([assets / "cni"] if assets else []), *CNI_FOLDERS]
    return next((each for each in folders if all(os.access(each / name, os.X_OK) for name in CNI_PLUGINS)), None)


_INSTALL = "apt-get install -y --no-install-recommends "


def _install(package: str) -> str:
    return f"{_INSTALL}{package}"


def _package(remedy: str) -> str:
    return remedy.removeprefix(_INSTALL) if remedy.startswith(_INSTALL) else ""

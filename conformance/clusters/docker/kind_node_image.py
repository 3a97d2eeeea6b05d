"""The node image of kind, made of distribution packages and the pinned Go modules: for machines without a registry.

What kind asks of a node was read from its source (sigs.k8s.io/kind v0.33.0, pkg/cluster/internal): a log line of
systemd, /kind/version, manifests in /kind/manifests, kubeadm, kubectl, crictl, containerd. See docs/containers.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.clusters.embedded.binaries import resolve
from conformance.clusters.embedded.binaries.cache import cache_root
from conformance.clusters.embedded.binaries.versions import release, this_platform
from conformance.clusters.embedded.real import images as pod_images
from conformance.clusters.embedded.real.joining import lab_names

from .archive import ImageSpec, write, write_archive
from .errors import ContainerClusterError
from .kind_config import ETCD_TAG, LABEL, POD_RANGE, REPOSITORY, SERVICE_RANGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from conformance.progress import Progress

_FILES = Path(__file__).with_name("kind_node")
_FORMAT = 1  # raise it when what an image holds changes in a way that its files do not show
_RELEASE = "bookworm"
_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "containerd", "runc", "iproute2", "iptables", "kmod", "mount", "procps",
    "ethtool", "socat", "conntrack", "util-linux", "ca-certificates", "jq", "curl", "ebtables", "ipset", "nftables",
    "hostname", "psmisc", "containernetworking-plugins",
)  # fmt: skip
_IN_NODE = ("kubelet", "kubeadm", "kubectl", "crictl")
_STATIC_PODS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
_PROXY = "kube-proxy"
_PROXY_TOOLS = {
    **dict.fromkeys(
        (f"usr/sbin/{name}" for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables",
         "ip6tables-save", "ip6tables-restore")), "usr/sbin/xtables-nft-multi",
    ),
    "usr/sbin/conntrack": "usr/sbin/conntrack",
    "usr/sbin/nft": "usr/sbin/nft",
}  # fmt: skip
_LIBRARY = re.compile(r"(?:=>\s*)?(/\S+)\s+\(0x")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
"""What runs so ends with this program, whoever ends it, and so do all that it has started and mounted."""
_BOOTSTRAP_WITHIN = 1800.0  # seconds
_LAST_WRITES_WITHIN = 20.0
_SHOWN = 80  # characters of a command
_UNUSED = 14 * 24 * 3600.0  # seconds
_ABANDONED = 24 * 3600.0  # seconds; making one takes minutes
_MAKING = ".making-"


@dataclass(frozen=True)
class NodeImage:
    """The image of a node: its name, and the archive that ``docker load`` takes."""

    name: str
    archive: Path


def obtain(version: str, *, assets: Path | None, cache: Path | None, progress: Progress) -> NodeImage:
    """The node image for a Kubernetes version, from the cache or made now, which takes root and some minutes.

    Raises BinariesError where programs cannot be had, ContainerClusterError where the image cannot be made.
    """
    names = (*_IN_NODE, *_STATIC_PODS, _PROXY)
    binaries = resolve(version, names, assets=assets, cache=cache, progress=progress)
    pinned = release(version)
    tag = f"v{pinned}-{_key(binaries)}"
    folder = cache_root(cache, os.environ) / "images"
    archive = folder / f"kind-node-{tag}.tar"
    if not archive.exists():
        _require_tools()
        folder.mkdir(parents=True, exist_ok=True)
        with _scratch(folder) as scratch:
            made = _made(scratch, f"{REPOSITORY}/kind-node:{tag}", pinned, binaries, progress)
            made.rename(archive)
        _prune(folder)
    os.utime(archive)
    return NodeImage(f"{REPOSITORY}/kind-node:{tag}", archive)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for the time of a block. What was killed in it may go on writing for a moment."""
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=_MAKING))
    try:
        yield scratch
    finally:
        deadline = time.monotonic() + _LAST_WRITES_WITHIN
        shutil.rmtree(scratch, ignore_errors=True)
        while scratch.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
            shutil.rmtree(scratch, ignore_errors=True)


def _require_tools() -> None:
    remedy = "Make it on another machine (gpu-conformance cluster image kind-node), or use kind's own image."
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ContainerClusterError(f"a node image for kind is made by root on Linux. {remedy}")
    if missing := [name for name in ("debootstrap", "chroot", "unshare", "tar") if not _found(name)]:
        raise ContainerClusterError(
            f"a node image for kind needs {', '.join(missing)}: apt-get install -y debootstrap. {remedy}"
        )


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _made(scratch: Path, name: str, version: str, binaries: Mapping[str, Path], progress: Progress) -> Path:
    root = scratch / "root"
    progress.step("Installing the packages of a kind node")
    command = [str(_found("debootstrap")), "--variant=minbase", f"--include={','.join(_PACKAGES)}", _RELEASE, str(root)]
    _run([*_APART, *command], timeout=_BOOTSTRAP_WITHIN)
    _furnish(root, version, binaries)
    progress.step("Putting the images of the control plane into the kind node")
    _bake(root, version, binaries)
    progress.step(f"Writing the image {name}")
    layer, made = scratch / "layer.tar", scratch / "image.tar"
    # By number, since the machine's users are not the node's.
    _run(["tar", "--create", "--numeric-owner", "--xattrs", "--file", str(layer), "--directory", str(root), "."])
    shutil.rmtree(root)
    write_archive(made, _spec(name, version), layer)
    return made


def _spec(name: str, version: str) -> ImageSpec:
    return ImageSpec(
        name=name,
        architecture=this_platform().arch,
        settings={
            "Env": [_PATH, "container=docker", f"POD_RANGE={POD_RANGE}", f"SERVICE_RANGE={SERVICE_RANGE}"],
            "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
            "StopSignal": "SIGRTMIN+3",
            "Labels": {LABEL: "kind-node", "io.gpu-conformance.kubernetes": version},
        },
    )


def _furnish(root: Path, version: str, binaries: Mapping[str, Path]) -> None:
    """Put our files and the programs into the root of the distribution."""
    placed = {
        "usr/local/bin/entrypoint": "entrypoint",
        "usr/local/bin/oom-scores": "oom-scores",
        "usr/local/bin/local-storage": "local-storage",
        "etc/containerd/config.toml": "containerd.toml",
        "etc/systemd/system/containerd.service": "containerd.service",
        "etc/systemd/system/kubelet.service": "kubelet.service",
        "etc/kubernetes/kubelet.conf.d/10-node.conf": "kubelet.yaml",
        "kind/manifests/default-storage.yaml": "storage.yaml",
        "kind/manifests/default-cni.yaml": "network.yaml",
    }
    for place, name in placed.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_FILES / name, root / place)
    for name in _IN_NODE:
        shutil.copy(binaries[name], root / "usr/bin" / name)
    (root / "kind/version").write_text(f"v{version}\n", encoding="utf-8")
    for place in placed:
        if place.startswith("usr/local/bin/"):
            (root / place).chmod(0o755)
    _in_root(root, _FILES / "furnish")


def _bake(root: Path, version: str, binaries: Mapping[str, Path]) -> None:
    """Bring the images of the control plane and of our pods into the node's containerd."""
    (root / "archives").mkdir()
    for name in _STATIC_PODS:
        tag = ETCD_TAG if name == "etcd" else f"v{version}"
        write(
            root / f"archives/{name}.tar",
            _program_image(f"{REPOSITORY}/{name}:{tag}", {f"usr/local/bin/{name}": binaries[name]}),
        )
    proxy = {f"usr/local/bin/{_PROXY}": binaries[_PROXY], **_proxy_files(root)}
    write(root / f"archives/{_PROXY}.tar", _program_image(f"{REPOSITORY}/{_PROXY}:v{version}", proxy))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(pod_images.archive(Path(folder), lab_names()), root / "archives/pods.tar")
    _in_root(root, _FILES / "bake")
    shutil.rmtree(root / "archives")


def _program_image(name: str, files: Mapping[str, Path]) -> ImageSpec:
    return ImageSpec(name, this_platform().arch, {"Env": [_PATH]}, files=files, folders={"tmp": 0o1777, "run": 0o755})


def _proxy_files(root: Path) -> dict[str, Path]:
    """What kube-proxy calls: the packet filter's programs and extensions, and the libraries of both.

    The extensions' own count: without libm of libxt_statistic no service with two endpoints works.
    """
    found = {place: root / file for place, file in _PROXY_TOOLS.items()}
    [extensions] = root.glob("usr/lib/*/xtables")
    found |= {str(file.relative_to(root)): file for file in extensions.glob("*.so")}
    inside = sorted({f"/{file.relative_to(root)}" for file in found.values()})
    ran = subprocess.run(["chroot", str(root), "ldd", *inside], capture_output=True, text=True, check=False)
    for library in sorted(set(_LIBRARY.findall(ran.stdout))):
        found[library.lstrip("/")] = root / os.path.realpath(f"{root}{library}")
    return found


def _in_root(root: Path, script: Path) -> None:
    """Run one of our scripts with ``root`` as root, in mounts of its own: they are gone when it ends."""
    place = root / "run" / script.name
    shutil.copy(script, place)
    place.chmod(0o755)
    inside = (
        f'mount --bind "$1" "$1" && cd "$1" && cp run/{script.name} ./{script.name} && exec chroot . /{script.name}'
    )
    try:
        _run([*_APART, "sh", "-c", inside, "sh", str(root)])
    finally:
        (root / script.name).unlink(missing_ok=True)
        place.unlink(missing_ok=True)


def _run(command: Sequence[str], *, timeout: float = 600.0) -> None:
    environment = {**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])}
    try:
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        told = " ".join(command).removeprefix(f"{' '.join(_APART)} ")
        raise ContainerClusterError(
            f"making the node image took longer than {timeout:.0f} s: {told[:_SHOWN]}. Is the package server slow, or "
            "the machine busy? Run it again."
        ) from error
    if ran.returncode:
        said = "\n".join([*ran.stdout.splitlines()[-4:], *ran.stderr.splitlines()[-6:]])
        raise ContainerClusterError(f"making the node image: {' '.join(command)} ended with {ran.returncode}:\n{said}")


def _key(binaries: Mapping[str, Path]) -> str:
    """What a node image is found by: our files, the packages' names, and the programs as files."""
    parts: list[object] = [_FORMAT, _PACKAGES, _RELEASE, ETCD_TAG, lab_names()]
    parts += [[file.name, file.read_text(encoding="utf-8")] for file in sorted(_FILES.iterdir())]
    for name, file in sorted(binaries.items()):
        status = file.stat()
        parts.append([name, status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _prune(folder: Path) -> None:
    """Remove archives that nobody used for long, and what a killed process left half made."""
    for path in folder.glob("kind-node-*.tar"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNUSED:
                path.unlink()
    for path in folder.glob(f"{_MAKING}*"):
        with contextlib.suppress(OSError):
            if path.is_dir() and time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)

"""A Docker daemon of the tests' own, from distribution packages: state in one folder, a bridge of its own, gone after.

It changes neither the machine's packet filter nor its forwarding, so that nothing of its containers leaves the machine,
and other daemons on the machine notice nothing of it.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

PROGRAMS = {
    "dockerd": "docker.io",
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
}
"""What the daemon needs, and the Debian packages that bring it."""
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
_START_WITHIN = 90.0
_END_WITHIN = 30.0


def lacks() -> list[str]:
    """What keeps a Docker daemon from being started here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return ["a Docker daemon of the tests' own needs root on Linux"]
    return [f"no {name} (package {package})" for name, package in PROGRAMS.items() if not _found(name)]


def lacks_for_nodes() -> list[str]:
    """What keeps a node image for kind from being made and run here, beside what keeps a daemon from it."""
    missing = [f"no {name} (package {name})" for name in ("debootstrap",) if not _found(name)]
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        missing.append("the node image that is made here is for control groups of version 1")
    return missing


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A daemon; yields its address, as DOCKER_HOST takes it. Raises RuntimeError with the end of its log."""
    # A socket's path may have 108 characters only, which pytest's folders can exceed.
    folder = Path(tempfile.mkdtemp(prefix="gpu-docker-", dir="/tmp"))
    bridge = f"gpucd{secrets.token_hex(3)}"
    try:
        with _bridge(bridge), _daemon(folder, bridge) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _bridge(name: str) -> Iterator[None]:
    taken = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, env={"PATH": _PATH}).stdout
    subnet = next(f"172.30.{third}" for third in range(255, 200, -1) if f" 172.30.{third}." not in taken)
    commands = [
        f"ip link add {name} type bridge",
        f"ip addr add {subnet}.1/24 dev {name}",
        f"ip link set {name} up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, env={"PATH": _PATH})
        yield
    finally:
        subprocess.run(["ip", "link", "delete", name], check=False, env={"PATH": _PATH})


@contextlib.contextmanager
def _daemon(folder: Path, bridge: str) -> Iterator[str]:
    address = f"unix://{folder}/docker.sock"
    command = [
        str(_found("dockerd")),
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/pid",
        f"--host={address}",
        f"--bridge={bridge}",
        "--iptables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        "--default-address-pool=base=172.31.0.0/16,size=24",
        *_runtime(folder),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment(), start_new_session=True)
        try:
            _wait(process, folder)
            yield address
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_WITHIN)
            process.kill()
            process.wait()
            _unmount(folder)


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_WITHIN
    while not (folder / "pid").exists() or "API listen on" not in (folder / "log").read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            end = "\n".join((folder / "log").read_text(errors="replace").splitlines()[-8:])
            raise RuntimeError(f"dockerd did not start:\n{end}")
        time.sleep(0.1)


def _environment() -> Mapping[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}, "PATH": _PATH}


def _unmount(folder: Path) -> None:
    """Take away what containers that were killed with their daemon left mounted."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([each for each in mounted if each.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", place], check=False)


def _runtime(folder: Path) -> list[str]:
    """The options for a runtime that asks for no capability that root lacks here; none where root has all of them.

    dockerd writes every capability of the kernel into a privileged container, whether root may hand it on or not.
    """
    if not missing_capabilities():
        return []
    program = folder / "runc-trimmed"
    source = Path(__file__).with_name("trimmed_runtime.py").read_text()
    program.write_text(f"#!{sys.executable} -IS\n{source}".replace("RUNC", str(_found("runc"))))
    program.chmod(0o755)
    return [f"--add-runtime=trimmed={program}", "--default-runtime=trimmed"]


def missing_capabilities() -> int:
    """The capabilities that the kernel knows and root does not have here, as a mask of bits."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")), 16)
    return ((1 << (last + 1)) - 1) & ~bounding


def _found(name: str) -> str | None:
    return shutil.which(name, path=_PATH)

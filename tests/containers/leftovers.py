"""What a machine has of a Docker daemon's containers: counted before a run, and after it was killed."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from outcomes import environment

from conformance.clusters.docker import folders
from conformance.clusters.docker.daemon import reached

PATIENCE = 180.0


def things() -> set[str]:
    """Containers, volumes, networks, processes, mounts, control groups and folders, each as one text."""
    folder = os.environ["DOCKER_HOST"].removeprefix("unix://").rpartition("/")[0]
    with reached() as client:
        found = {f"container {each.name}" for each in client.containers.list(all=True, ignore_removed=True)}
        found |= {f"volume {each.name}" for each in client.volumes.list()}
        found |= {f"network {each.name}" for each in client.networks.list()}
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found |= {f"mount {line.split()[4]}" for line in mounts if f"{folder}/" in line}
    # os.walk passes over what others remove meanwhile; Path.glob stumbles over it.
    groups = (Path(above) / each for above, below, _ in os.walk("/sys/fs/cgroup") for each in below)
    found |= {f"control group {group}" for group in groups if group.parent.name == "docker"}
    found |= {f"folder {path}" for path in Path(tempfile.gettempdir()).glob(f"{folders._PREFIX}*")}
    return found | set(_processes(folder))


def _processes(folder: str) -> list[str]:
    """What runs for containers of the daemon, and what runs on the outside for runs that use it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            group = (process / "cgroup").read_text()
            inside = "/docker/" in group
            shim = "containerd-shim" in words[0] and any(folder in word for word in words)
            ours = any(word.endswith("docker/reaper.py") for word in words) or Path(words[0]).name == "kind"
            if inside or shim or ours:
                found.append(f"process {process.name} {' '.join(words)[:120]}")
    return found


def runs(program: str, *arguments: str) -> bool:
    """Whether a program of this name, with these first arguments, runs on the machine."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, *words = (process / "cmdline").read_text(errors="replace").split("\0")
            if Path(name).name == program and words[: len(arguments)] == list(arguments):
                return True
    return False


def kill_a_run(
    folder: Path, chance: random.Random, wait: Callable[[subprocess.Popen[bytes]], object], *cluster: str
) -> None:
    """Start a run on a cluster, wait, and kill it: one in four a moment after it was told to end."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *cluster]
    with (folder / "output").open("wb") as output:
        run = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output)
    try:
        wait(run)
        if chance.random() < 0.25:
            run.send_signal(signal.SIGINT)
            time.sleep(chance.uniform(0.0, 2.0))
    finally:
        run.kill()
        run.wait()


def new(before: set[str]) -> set[str]:
    """What is there that was not there before; a folder that a killed run leaves goes with the next run, as here."""
    newborn, folders._NEWBORN = folders._NEWBORN, 0.0
    folders.remove_abandoned(Path(tempfile.gettempdir()))
    folders._NEWBORN = newborn
    return things() - before


def until_nothing_is_left(before: set[str]) -> set[str]:
    """What is left in the end: nothing, as it should be."""
    deadline = time.monotonic() + PATIENCE
    while (found := new(before)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found

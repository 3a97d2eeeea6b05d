"""A node's control group, in every hierarchy of the machine: made before its containers, gone after them.

Namespaces and mounts end with their last process; control groups are what the kernel leaves behind.
Source: Linux, Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_PATIENCE = 10.0  # seconds until the last process of a killed node has left its groups
_PAUSE = 0.05
_MOUNTS = Path("/proc/self/mounts")
_SHARE = {"cpu.shares": "10240", "cpu.weight": "1000"}
"""Ten times what one process counts for: a node is many. On a machine that is busy a container that asks for little
would otherwise take ten seconds and more to start, because what starts it is in its group (seen at load 20 of 2)."""
# What version 2 has to hand down for a kubelet; what the machine lacks of it is left out.
_HANDED_DOWN = ("cpuset", "cpu", "io", "memory", "pids")


def hierarchies(mounts: Path = _MOUNTS) -> list[Path]:
    """Where the machine's control groups are mounted: each controller of version 1, and version 2 if it is there."""
    found = []
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            found.append(Path(place))
    return list(dict.fromkeys(found))


def version(mounts: Path = _MOUNTS) -> int:
    """1 or 2: which of them has the controllers; 0 where neither is mounted."""
    kinds = {line.split()[2] for line in mounts.read_text(encoding="utf-8").splitlines()}
    return 1 if "cgroup" in kinds else 2 if "cgroup2" in kinds else 0


def make(name: str) -> None:
    """Make the group of that name in every hierarchy, ready for groups below it. Raises OSError."""
    for root in hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        if version() == 2:
            _hand_down(root)
            _hand_down(group)
        for file, share in _SHARE.items():
            if (group / file).exists():
                (group / file).write_text(share)
        # A cpuset of version 1 starts without processors and memory, and nothing can run in it then.
        for file in ("cpuset.cpus", "cpuset.mems"):
            ours, above = group / file, root / file
            if version() == 1 and ours.exists() and not ours.read_text().strip():
                ours.write_text(above.read_text())


def remove(name: str, *, patience: float = _PATIENCE) -> list[Path]:
    """Kill what is left in the group of that name, and remove it with everything below; gives what stayed."""
    deadline = time.monotonic() + patience
    while left := [root / name for root in hierarchies() if (root / name).is_dir()]:
        for group in left:
            _empty(group)
        if time.monotonic() > deadline:
            return left
        time.sleep(_PAUSE)
    return []


def _hand_down(group: Path) -> None:
    have = (group / "cgroup.controllers").read_text().split()
    for controller in _HANDED_DOWN:
        if controller in have:
            with contextlib.suppress(OSError):  # a group that has processes of its own hands nothing down
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


def _empty(group: Path) -> None:
    for each in _deepest_first(group):
        with contextlib.suppress(OSError):
            for pid in (each / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            each.rmdir()


def _deepest_first(group: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(group, topdown=False):
        yield Path(folder)

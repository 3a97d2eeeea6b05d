"""Files by which a kubelet takes its machine for one of another size: as many processors, so much memory.

Pods are placed by what a node says, and what pods of a GPU node ask for is more than a test's machine has. Nothing is
reserved: a pod that uses what it asks for finds the machine's end.

Source: google/cadvisor, machine/machine.go (MemTotal of /proc/meminfo) and utils/sysinfo (folders of NUMA nodes).
"""

import os
from collections.abc import Iterator
from pathlib import Path

_PROC, _NODES = Path("/proc/meminfo"), Path("/sys/devices/system/node")


def made(folder: Path, processors: int, memory_kib: int) -> Iterator[tuple[Path, Path]]:
    """What covers which place of the machine: (the place, the file or folder that is shown there instead)."""
    folder.mkdir(parents=True)
    known = [line for line in _PROC.read_text().splitlines() if not line.startswith(("MemTotal:", "MemAvailable:"))]
    memory = [f"MemTotal: {memory_kib} kB", f"MemAvailable: {memory_kib} kB", *known]
    yield _PROC, _written(folder / "meminfo", memory)
    node = folder / "node" / "node0"
    there = sorted(os.sched_getaffinity(0))
    for number in range(processors):
        # The kubelet hands the ids to control groups, so they are those of the machine: cpu0, cpu00, cpu000 are all 0.
        zeros, at = divmod(number, len(there))
        topology = node / f"cpu{'0' * zeros}{there[at]}" / "topology"
        _written(topology / "core_id", [str(number)])
        _written(topology / "physical_package_id", ["0"])
    _written(node / "meminfo", [f"Node 0 MemTotal: {memory_kib} kB"])
    _written(node / "distance", ["10"])
    _written(folder / "node" / "online", ["0"])
    yield _NODES, folder / "node"


def _written(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

"""The files on the node that containers get with their devices: stand-ins of the driver's programs, device files.

A device file here is the null device under the name of a GPU's: whoever looks which ones are there sees the truth, and
nothing can come to harm by one that is opened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from importlib import resources
from typing import TYPE_CHECKING

from conformance.simulator.containers import every_device
from conformance.simulator.programs.view import cuda_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .inventory import Inventory

MACHINE = "/usr/local/nvidia/machine.txt"
"""Where the stand-ins find what the machine is, in a container."""

_SMI = "nvidia-smi"
_LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
_LIBRARY_FOLDER = "/usr/local/nvidia/lib64"
_NULL = os.makedev(1, 3)  # Linux, Documentation/admin-guide/devices.txt
_ALWAYS = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
_PARTS = "nvidia-caps/nvidia-cap1"


class HostFiles:
    """A folder on the node. ``library`` is the compiled stand-in of the driver's libraries, None without one."""

    def __init__(self, folder: Path, library: Path | None = None) -> None:
        self.folder = folder
        self._libraries = library is not None
        folder.mkdir(parents=True, exist_ok=True)
        program = resources.files("conformance.deviceplugin") / "standins" / "nvidia_smi.py"
        (folder / _SMI).write_bytes(program.read_bytes())
        (folder / _SMI).chmod(0o755)
        if library is not None:
            shutil.copyfile(library, folder / _LIBRARIES[0])

    def describe(self, inventory: Inventory) -> None:
        """Write what the stand-ins shall say of the machine. Containers that run see it, too: the file is the same."""
        (self.folder / "machine.txt").write_text(description(inventory), encoding="utf-8")
        names = [f"nvidia{index}" for index in inventory.machine.present]
        for name in (*names, *_ALWAYS, _PARTS):
            self._make_device(name)

    def _make_device(self, name: str) -> None:
        path = self.folder / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFCHR | 0o666, _NULL)

    def mounts(self) -> dict[str, str]:
        """Path in the container -> path on the node, all of them read-only."""
        found = {f"/usr/bin/{_SMI}": str(self.folder / _SMI), MACHINE: str(self.folder / "machine.txt")}
        if self._libraries:
            found |= {f"{_LIBRARY_FOLDER}/{name}": str(self.folder / _LIBRARIES[0]) for name in _LIBRARIES}
        return found

    def device_files(self, gpus: Iterable[int], *, parts: bool) -> dict[str, str]:
        """Path in the container -> path on the node: those of GPUs by index, and those that every container gets."""
        names = [*(f"nvidia{index}" for index in gpus), *_ALWAYS, *((_PARTS,) if parts else ())]
        return {f"/dev/{name}": str(self.folder / "dev" / name) for name in names}


def description(inventory: Inventory) -> str:
    """A machine as its stand-ins read it: a line for each fact, its fields parted by tabulators."""
    machine = inventory.machine
    lines: list[tuple[str, ...]] = [
        ("driver", inventory.driver),
        ("cuda", cuda_of(inventory.driver)),
        ("compute", machine.compute),
    ]
    lines.append(("mig-capable", str(int(machine.mig_capable))))
    lines += [("broken", name) for name, value in machine.broken.items() if value]
    seen: set[int] = set()
    for own, device in every_device(inventory.node, machine, inventory.geometry).items():
        if device.gpu not in seen:
            seen.add(device.gpu)
            lines.append(("gpu", str(device.gpu), device.uuid, str(device.memory_mib), device.name))
        if device.profile:
            lines.append(("mig", str(device.gpu), own, str(device.mig_memory_mib), device.profile))
    return "".join("\t".join(line) + "\n" for line in lines)

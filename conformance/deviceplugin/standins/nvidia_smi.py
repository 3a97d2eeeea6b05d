#!/usr/local/bin/python3
"""A stand-in of nvidia-smi: it lists the GPUs whose device files this container has, and the machine's description.

MIG devices have no file of their own here: those that NVIDIA_VISIBLE_DEVICES names are listed. Standard library only,
Python 3.8 or later, one file. Exit codes are those of nvidia-smi's manual: 6 nothing found, 9 no driver, 14 a corrupt
infoROM; 18 is what it ends with where libraries and kernel module differ.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MACHINE = os.environ.get("GPU_CONFORMANCE_MACHINE", "/usr/local/nvidia/machine.txt")
DEVICES = os.environ.get("GPU_CONFORMANCE_DEV", "/dev")
NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


class Machine:
    """What the file says, as far as this container reaches."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.broken: set[str] = set()
        self.gpus: list[list[str]] = []
        self.parts: dict[str, list[list[str]]] = {}
        visible = os.environ.get("NVIDIA_VISIBLE_DEVICES", "").split(",")
        with open(MACHINE, encoding="utf-8") as file:
            for line in file:
                name, *fields = line.rstrip("\n").split("\t")
                if name == "gpu" and os.path.exists(os.path.join(DEVICES, "nvidia" + fields[0])):
                    self.gpus.append(fields)
                elif name == "mig" and (fields[1] in visible or {"void", "all"} & set(visible)):
                    self.parts.setdefault(fields[0], []).append(fields)
                elif name == "broken":
                    self.broken.add(fields[0])
                elif name not in ("gpu", "mig"):
                    self.facts[name] = fields[0]


def listing(machine: Machine) -> Iterator[str]:
    """``nvidia-smi -L``: a container numbers its GPUs from 0."""
    for index, (gpu, uuid, _, name) in enumerate(machine.gpus):
        yield f"GPU {index}: {name} (UUID: {uuid})"
        for number, (_, part, _, profile) in enumerate(machine.parts.get(gpu, ())):
            yield f"  MIG {profile:<10} Device {number:>2}: (UUID: {part})"


def table(machine: Machine) -> Iterator[str]:
    """The plain output."""
    driver = machine.facts["driver"]
    title = f"NVIDIA-SMI {driver:<21}  Driver Version: {driver:<14} CUDA Version: {machine.facts['cuda']}"
    rule = f"+{'-' * 41}+{'-' * 24}+{'-' * 22}+"
    yield from (f"+{'-' * 89}+", f"| {title:<87} |", rule)
    yield "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |"
    yield "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |"
    yield "|                                         |                        |               MIG M. |"
    yield f"|{'=' * 41}+{'=' * 24}+{'=' * 22}|"
    for index, (gpu, _, memory, name) in enumerate(machine.gpus):
        capable = machine.facts["mig-capable"] == "1"
        mode = ("Enabled" if machine.parts.get(gpu) else "Disabled") if capable else "N/A"
        used = f"{0:>7}MiB / {memory:>6}MiB"
        yield f"| {index:>3}  {name:<24}    On  | {bus(gpu):>18} Off |{0:>21} |"
        yield f"| N/A   31C    P0             45W /  400W | {used:>22} |      0%      Default |"
        yield f"| {'':<39} | {'':<22} | {mode:>20} |"
        yield rule


def query(machine: Machine) -> Iterator[str]:
    """``nvidia-smi -q``: the fields that are asked for most."""
    head = {
        "Driver Version": machine.facts["driver"],
        "CUDA Version": machine.facts["cuda"],
        "Attached GPUs": str(len(machine.gpus)),
    }
    yield "==============NVSMI LOG=============="
    for name, value in head.items():
        yield f"{name:<54} : {value}"
    for gpu, uuid, memory, name in machine.gpus:
        yield f"GPU {bus(gpu)}"
        for field, value in (("Product Name", name), ("GPU UUID", uuid)):
            yield f"    {field:<50} : {value}"
        yield "    FB Memory Usage"
        yield f"        {'Total':<46} : {memory} MiB"


def csv(machine: Machine, fields: str, header: bool) -> Iterator[str]:
    """``--query-gpu=FIELDS --format=csv[,noheader]``."""
    if header:
        yield fields.replace(",", ", ")
    for index, (gpu, uuid, memory, name) in enumerate(machine.gpus):
        known = {"index": str(index), "uuid": uuid, "gpu_uuid": uuid, "name": name, "memory.total": f"{memory} MiB"}
        known.update({"driver_version": machine.facts["driver"], "pci.bus_id": bus(gpu)})
        yield ", ".join(known.get(field.strip(), "[N/A]") for field in fields.split(","))


def bus(gpu: str) -> str:
    """Where a GPU is on the PCI bus."""
    return f"00000000:{int(gpu) + 1:02X}:00.0"


def main(arguments: list[str]) -> tuple[int, Iterable[str]]:
    """Print what is asked for; the exit code."""
    machine = Machine()
    if not machine.facts.get("driver"):
        return 9, [NOT_LOADED]
    if "driver-mismatch" in machine.broken:
        return 18, [MISMATCH]
    if not machine.gpus:
        return 6, ["No devices were found"]
    first = arguments[0] if arguments else ""
    if first.startswith("--query-gpu="):
        lines = csv(machine, first.partition("=")[2], "noheader" not in " ".join(arguments))
    else:
        lines = {"-L": listing, "--list-gpus": listing, "-q": query}.get(first, table)(machine)
    if "inforom" in machine.broken:
        return 14, [*lines, f"WARNING: infoROM is corrupted at gpu {bus(machine.gpus[0][0])}"]
    return 0, lines


if __name__ == "__main__":
    code, said = main(sys.argv[1:])
    print("\n".join(said))
    sys.exit(code)

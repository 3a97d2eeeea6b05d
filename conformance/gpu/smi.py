"""What nvidia-smi says: its table, ``-L``, ``-q`` and its exit codes.

nvidia-smi is written for people and its layout changes between branches; R610 renamed the versions in the head. What
cannot be read therefore comes back as ``Unparsable`` with the line that stopped the reader, never as an empty result.
A GPU that is listed proves neither that CUDA works nor that the fabric of an NVSwitch machine is up.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import msgspec

from conformance.gpu.drivers import CudaVersion, DriverVersion

_Lines: TypeAlias = Sequence[tuple[int, str]]

# Return values of the manual page of nvidia-smi, and 127 of the shell; for 14 and 15 see also the troubleshooting page
# of the GPU Operator. Remedies are ours.
EXIT_CODES: dict[int, str] = {
    0: "success",
    2: "an argument or flag is invalid",
    3: "the operation is not available on this GPU",
    4: "the user may not access this GPU or do this operation",
    6: "the object asked for was not found",
    8: "an external power cable of a GPU is not attached: check the hardware",
    9: "the NVIDIA driver is not loaded: look at the driver pod, Secure Boot and nouveau on the node",
    10: "the kernel found an interrupt problem with a GPU: look for Xid messages on the node",
    12: "the NVML library was not found: the container did not get the driver's files, so look at the runtime class",
    13: "the NVML library lacks a function: its version differs from the one of nvidia-smi",
    14: "the infoROM of a GPU is corrupted: a hardware fault, replace the GPU",
    15: "a GPU has fallen off the bus or cannot be reached: reset it or restart the machine, replace it when it recurs",
    127: "nvidia-smi was not found: the container did not get the driver's files, so look at the runtime class",
    255: "an internal error of the driver, or one without a code of its own: look for Xid messages on the node",
}

# What nvidia-smi prints instead of a result, and what stands behind it.
COMPLAINTS: tuple[tuple[str, str], ...] = (
    ("Driver/library version mismatch", "driver packages were upgraded and the old kernel module is still loaded"),
    (
        "Failed to initialize NVML: Unknown Error",
        "the container lost the devices, as when systemd is reloaded",
    ),
    ("couldn't communicate with the NVIDIA driver", "the NVIDIA driver is not loaded on the node"),
    ("couldn't find libnvidia-ml.so", "the container did not get the driver's libraries"),
    ("Unable to determine the device handle", "the driver cannot reach a GPU: it may have fallen off the bus"),
    ("GPU is lost", "a GPU has fallen off the bus"),
    ("No devices", "the driver is loaded and shows no GPU here"),
    ("command not found", "the container did not get nvidia-smi from the node"),
)

_HEAD = re.compile(
    r"NVIDIA-SMI\s+(?P<tool>\S+)\s+(?:Driver|KMD) Version:\s*(?P<driver>\S+)"
    r"(?:\s+CUDA (?:UMD )?Version:\s*(?P<cuda>\S+))?"
)
_NAMED = re.compile(r"(?P<index>\d+)\s+(?P<name>\S.*?)\s+(?P<persistence>On|Off|N/A|ERR!)")
# An integrated GPU (Jetson Orin) is on no PCI bus and prints N/A.
_PLACED = re.compile(r"(?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]|N/A)\s+(?:On|Off|N/A|ERR!)")
_ERRORS = re.compile(r"\d+|On|Off|N/A|ERR!")
_MEMORY = re.compile(r"(?P<used>\d+)\s*MiB\s*/\s*(?P<total>\d+)\s*MiB")
_NO_MEMORY = re.compile(r"(?:N/A|ERR!|Not Supported)(?:\s*/\s*(?:N/A|ERR!|Not Supported))?")
_MIG_MODE = re.compile(r"(?P<mode>Enabled|Disabled|N/A|ERR!)\*?")

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# The UUID of an integrated GPU has no prefix.
_LISTED = re.compile(rf"GPU (?P<index>\d+): (?P<name>.+) \(UUID: (?P<uuid>(?:GPU-)?{_UUID})\)")
# The second form of a MIG UUID names the GPU and its instances; drivers before R470 print it.
_SLICE = re.compile(
    r"MIG (?P<profile>(?:\d+c\.)?\d+g\.\d+gb(?:[+-][a-z.]+)*)\s+Device\s+(?P<index>\d+):\s*"
    rf"\(UUID: (?P<uuid>MIG-(?:{_UUID}|GPU-{_UUID}/\d+/\d+))\)"
)
_ABSENT = frozenset({"N/A", "[N/A]", "Not Supported", "Insufficient Permissions"})
_ATTACHED = re.compile(r"GPU (?P<bus>[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f])")


class Unparsable(msgspec.Struct, frozen=True):
    """Where a text stopped making sense; ``line_number`` counts from 1 and is 0 for a text without any line."""

    line_number: int
    line: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line_number} of nvidia-smi, {self.line!r}: {self.why}"


class TableGpu(msgspec.Struct, frozen=True):
    """A GPU of the table. Memory in MiB; None is what nvidia-smi marks N/A or does not print.

    ``bus_id`` is the PCI address, empty for an integrated GPU, which has none.
    Old layouts cut long names and end them with dots. ``broken`` says that some value reads ERR!, as of a lost GPU.
    """

    index: int
    name: str
    bus_id: str
    persistence: bool | None
    uncorrected_ecc_errors: int | None
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    mig_enabled: bool | None = None
    broken: bool = False


class Table(msgspec.Struct, frozen=True):
    """The output of a plain ``nvidia-smi``.

    ``cuda`` is what the CUDA library of this container supports: None when it is missing, and more than the node's
    driver is paired with when the image brought compatibility libraries. ``warnings`` stand outside of the table.
    """

    driver: DriverVersion
    cuda: CudaVersion | None
    gpus: tuple[TableGpu, ...]
    warnings: tuple[str, ...] = ()


class MigDevice(msgspec.Struct, frozen=True):
    """A MIG device of ``nvidia-smi -L``, such as profile 1g.5gb, index 0 on its GPU."""

    profile: str
    index: int
    uuid: str


class ListedGpu(msgspec.Struct, frozen=True):
    """A GPU of ``nvidia-smi -L`` with its MIG devices."""

    index: int
    name: str
    uuid: str
    mig_devices: tuple[MigDevice, ...] = ()


class QueriedGpu(msgspec.Struct, frozen=True):
    """A GPU of ``nvidia-smi -q``. Memory in MiB; None is N/A, or a field that this driver does not print."""

    bus_id: str
    product: str
    uuid: str
    persistence: bool | None
    mig_enabled: bool | None
    ecc_enabled: bool | None
    ecc_pending: bool | None
    memory_total_mib: int | None
    memory_used_mib: int | None
    fabric_state: str | None
    fabric_status: str | None

    @property
    def fabric_ready(self) -> bool | None:
        """Whether the GPU has joined its NVSwitch fabric; None where there is none. Until then CUDA gives error 802."""
        if self.fabric_state is None:
            return None
        return self.fabric_state == "Completed" and self.fabric_status in ("Success", None)


class Query(msgspec.Struct, frozen=True):
    """The output of ``nvidia-smi -q``."""

    driver: DriverVersion
    cuda: CudaVersion | None
    gpus: tuple[QueriedGpu, ...]


def explain_exit_code(code: int) -> str:
    """What an exit code of nvidia-smi says, and where to look next."""
    if code > 128 and code != 255:
        return f"exit code {code}: ended by signal {code - 128}"
    return f"exit code {code}: {EXIT_CODES.get(code, 'none that the manual of nvidia-smi documents')}"


def parse_table(text: str) -> Table | Unparsable:
    """The table of a plain ``nvidia-smi``, in the layouts of R450 to R615, also when pasted behind ``#`` marks."""
    lines = [(number, line.strip().removeprefix("#").strip()) for number, line in enumerate(text.splitlines(), start=1)]
    for position, (number, line) in enumerate(lines):
        head = _HEAD.search(line)
        if head is None:
            continue
        versions = _versions(head["driver"], head["cuda"] or "N/A")
        if versions is None:
            return Unparsable(number, line, "does not name the versions of the driver and of CUDA")
        gpus = _table_gpus(lines[position:])
        if isinstance(gpus, Unparsable):
            return gpus
        warnings = tuple(line for _, line in lines if line.startswith("WARNING"))
        return Table(driver=versions[0], cuda=versions[1], gpus=gpus, warnings=warnings)
    return _not_begun(lines, "no line with NVIDIA-SMI and the driver version")


def parse_listing(text: str) -> tuple[ListedGpu, ...] | Unparsable:
    """The GPUs of ``nvidia-smi -L``, in order, with their MIG devices. Blank lines and warnings are passed over."""
    gpus: list[ListedGpu] = []
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    for number, line in lines:
        if not line or line.startswith("WARNING"):
            continue
        if listed := _LISTED.fullmatch(line):
            gpus.append(ListedGpu(int(listed["index"]), listed["name"], listed["uuid"]))
        elif (device := _SLICE.fullmatch(line)) and gpus:
            devices = (*gpus[-1].mig_devices, MigDevice(device["profile"], int(device["index"]), device["uuid"]))
            gpus[-1] = msgspec.structs.replace(gpus[-1], mig_devices=devices)
        else:
            why = "a MIG device before any GPU" if device else "neither a GPU nor a MIG device with its UUID"
            return Unparsable(number, line, _complaint(line) or why)
    return tuple(gpus) or _not_begun(lines, "no GPU is listed")


def parse_query(text: str) -> Query | Unparsable:
    """The driver and the GPUs of ``nvidia-smi -q``, which has to be whole: all attached GPUs have to follow."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1)]
    start = next((at for at, (_, line) in enumerate(lines) if "NVSMI LOG" in line), None)
    if start is None:
        return _not_begun(lines, "no line with NVSMI LOG")
    head, sections = _sections(lines[start:])
    driver = _field(head, "KMD Version", "Driver Version")
    versions = _versions(driver, _field(head, "CUDA UMD Version", "CUDA Version") or "N/A") if driver else None
    if versions is None:
        return Unparsable(*lines[start], "no versions of the driver and of CUDA follow")
    gpus: list[QueriedGpu] = []
    for section in sections:
        gpu = _queried_gpu(section)
        if isinstance(gpu, Unparsable):
            return gpu
        gpus.append(gpu)
    if not gpus:
        return Unparsable(*lines[start], "no GPU follows")
    attached = _field(head, "Attached GPUs")
    if attached != str(len(gpus)):
        number, line = next(((at, text) for at, text in head if "Attached GPUs" in text), lines[start])
        return Unparsable(number, line.strip(), f"{attached or 'no number of'} GPUs are attached, {len(gpus)} follow")
    return Query(versions[0], versions[1], tuple(gpus))


def _table_gpus(lines: _Lines) -> tuple[TableGpu, ...] | Unparsable:
    gpus: list[TableGpu] = []
    for number, line, cells in _rows(lines):
        gpu = _first_row(cells)
        if gpu is not None:
            gpus.append(gpu)
            continue
        completed = _completed(gpus[-1], cells) if gpus else None
        if completed is None:
            return Unparsable(number, line, "neither the first row of a GPU nor one that belongs to it")
        gpus[-1] = completed
    if not gpus:
        return Unparsable(*lines[0], "no GPU follows")
    return tuple(gpus)


def _rows(lines: _Lines) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """The rows of three cells below the head, up to the MIG devices or the processes, without titles and rules."""
    for number, line in lines[1:]:
        cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
        if cells[0].startswith(("MIG devices", "Processes")):
            return
        title = cells[0].startswith(("GPU", "Fan")) or cells[-1] == "MIG M."
        if line.startswith("|") and not title and not line.startswith(("|-", "|=")):
            yield number, line, cells


def _first_row(cells: tuple[str, ...]) -> TableGpu | None:
    if len(cells) != 3:
        return None
    named, placed, errors = (form.fullmatch(cell) for form, cell in zip((_NAMED, _PLACED, _ERRORS), cells, strict=True))
    if named is None or placed is None or errors is None:
        return None
    return TableGpu(
        index=int(named["index"]),
        name=named["name"],
        bus_id="" if placed["bus"] == "N/A" else placed["bus"],
        persistence={"On": True, "Off": False}.get(named["persistence"]),
        uncorrected_ecc_errors=int(cells[2]) if cells[2].isdigit() else None,
        broken=_broken(cells),
    )


def _completed(gpu: TableGpu, cells: tuple[str, ...]) -> TableGpu | None:
    """A GPU with what its second row (memory) or third row (MIG mode) adds, None when the row is neither."""
    if len(cells) != 3:
        return None
    broken = gpu.broken or _broken(cells)
    if memory := _MEMORY.fullmatch(cells[1]):
        used, total = int(memory["used"]), int(memory["total"])
        return msgspec.structs.replace(gpu, memory_used_mib=used, memory_total_mib=total, broken=broken)
    if cells[0] and _NO_MEMORY.fullmatch(cells[1]):
        return msgspec.structs.replace(gpu, broken=broken)
    if not cells[0] and not cells[1] and (mode := _MIG_MODE.fullmatch(cells[2])):
        return msgspec.structs.replace(gpu, mig_enabled=_enabled(mode["mode"]), broken=broken)
    return None


def _broken(cells: Iterable[str]) -> bool:
    return any("ERR!" in cell for cell in cells)


def _sections(lines: _Lines) -> tuple[_Lines, list[_Lines]]:
    """The lines before the first GPU, and those of each GPU with its own line first."""
    starts = [at for at, (_, line) in enumerate(lines) if _ATTACHED.fullmatch(line.rstrip())]
    bounds = [*starts, len(lines)]
    return lines[: bounds[0]], [lines[begin:end] for begin, end in pairwise(bounds)]


def _queried_gpu(lines: _Lines) -> QueriedGpu | Unparsable:
    number, title = lines[0]
    fields = _fields(lines[1:])
    product, uuid = fields.get("product name"), fields.get("gpu uuid")
    if product is None or uuid is None:
        return Unparsable(number, title, f"no {'product name' if product is None else 'UUID'} follows")
    memory = {name: fields.get(f"fb memory usage/{name}", "N/A") for name in ("total", "used")}
    for name, size in memory.items():
        if size not in _ABSENT and re.fullmatch(r"\d+ MiB", size) is None:
            return Unparsable(number, title, f"its {name} memory {size!r} is no number of MiB")
    return QueriedGpu(
        bus_id=title.split()[1],
        product=product,
        uuid=uuid,
        persistence=_enabled(fields.get("persistence mode")),
        mig_enabled=_enabled(fields.get("mig mode/current")),
        ecc_enabled=_enabled(fields.get("ecc mode/current")),
        ecc_pending=_enabled(fields.get("ecc mode/pending")),
        memory_total_mib=_mib(memory["total"]),
        memory_used_mib=_mib(memory["used"]),
        fabric_state=_said(fields.get("fabric/state")),
        fabric_status=_said(fields.get("fabric/status")),
    )


def _fields(lines: _Lines) -> dict[str, str]:
    """The fields of a GPU by their path in small letters, such as ``fb memory usage/total``."""
    fields: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for _, line in lines:
        name, colon, value = line.partition(" :")
        indent = len(line) - len(line.lstrip())
        path = [(depth, title) for depth, title in path if depth < indent]
        if colon:
            key = "/".join([*(title for _, title in path), name.strip().lower()])
            fields.setdefault(key, value.strip())
        elif line.strip():
            path.append((indent, line.strip().lower()))
    return fields


def _field(lines: _Lines, *names: str) -> str | None:
    """The first word of the first of the fields that has a number; R610 marks old names as deprecated behind it."""
    fields = _fields(lines)
    words = (fields.get(name.lower(), "").split() for name in names)
    return next((first[0] for first in words if first and first[0][0].isdigit()), None)


def _versions(driver: str, cuda: str) -> tuple[DriverVersion, CudaVersion | None] | None:
    """Both versions as numbers, None when the driver's is none; without its library CUDA has none (N/A, ERR!)."""
    try:
        known = None if cuda in ("N/A", "ERR!", "Not") else CudaVersion.parse(cuda)
        return DriverVersion.parse(driver), known
    except ValueError:
        return None


def _not_begun(lines: _Lines, why: str) -> Unparsable:
    """Why a text has no result: the complaint of nvidia-smi if there is one, else its first line."""
    said = [(number, line.strip()) for number, line in lines if line.strip()]
    for number, line in said:
        if (meaning := _complaint(line)) is not None:
            return Unparsable(number, line, meaning)
    return Unparsable(*said[0], why) if said else Unparsable(0, "", "nvidia-smi printed nothing")


def _complaint(line: str) -> str | None:
    return next((meaning for words, meaning in COMPLAINTS if words in line), None)


def _enabled(text: str | None) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(text or "")


def _said(text: str | None) -> str | None:
    return None if text in _ABSENT else text


def _mib(text: str) -> int | None:
    return None if text in _ABSENT else int(text.split()[0])

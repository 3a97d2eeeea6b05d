"""nvidia-smi: its table, ``-L`` and ``-q``, in the layout of R555 and later, and its complaints.

Source: the manual page of nvidia-smi (exit codes), and output that users posted; the layout is that of the tool, the
words are kept as short as a reader of the output needs.
"""

from conformance.simulator.programs.view import View, Visible

MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
LOST = "Failed to initialize NVML: Unknown Error"
NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)
NONE_FOUND = "No devices were found"
INFOROM = "WARNING: infoROM is corrupted at gpu "
NOT_FOUND = 127

# Exit codes of nvidia-smi's manual: 6 a query found nothing, 9 no driver, 14 a corrupt infoROM, 18 is what it ends with
# when libraries and kernel module differ, 255 when NVML gives an unknown error.
_NOTHING, _NO_DRIVER, _CORRUPT, _MISMATCHED, _UNKNOWN = 6, 9, 14, 18, 255
_LOST_AFTER = 5.0


def nvidia_smi(view: View, arguments: list[str]) -> tuple[int, str]:
    """Exit code and output; 127 where the runtime did not bring the program."""
    if not view.injected:
        return NOT_FOUND, 'exec: "nvidia-smi": executable file not found in $PATH'
    complaint = why_nvml_fails(view)
    if complaint is not None:
        return complaint
    if not view.devices:
        return _NOTHING, NONE_FOUND
    text = {"-L": listing, "-q": query}.get(arguments[0] if arguments else "", table)(view)
    if view.broken("inforom"):
        return _CORRUPT, f"{text}\n{INFOROM}{bus_id(view.devices[0])}"
    return 0, text


def why_nvml_fails(view: View) -> tuple[int, str] | None:
    """The exit code and the words of a tool that cannot use NVML; None when it can."""
    if not view.driver:
        return _NO_DRIVER, NOT_LOADED
    if view.broken("driver-mismatch"):
        return _MISMATCHED, f"{MISMATCH}\nNVML library version: {view.driver.rpartition('.')[0]}"
    if view.broken("nvml-lost") and view.seconds_since_start >= _LOST_AFTER:
        return _UNKNOWN, LOST
    return None


def listing(view: View) -> str:
    """``nvidia-smi -L``. A container numbers its GPUs from 0."""
    lines = []
    for index, group in enumerate(view.gpus):
        lines.append(f"GPU {index}: {group[0].name} (UUID: {group[0].uuid})")
        lines += [
            f"  MIG {device.profile:<10} Device {number:>2}: (UUID: {device.mig_uuid})"
            for number, device in enumerate(each for each in group if each.profile)
        ]
    return "\n".join(lines)


def table(view: View) -> str:
    """The plain output."""
    rule = f"+{'-' * 41}+{'-' * 24}+{'-' * 22}+"
    title = f"NVIDIA-SMI {view.driver:<21}  Driver Version: {view.driver:<14} CUDA Version: {view.cuda}"
    lines = [
        "Tue Nov 24 10:00:00 2026",
        f"+{'-' * 89}+",
        f"| {title:<87} |",
        rule,
        "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |",
        "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |",
        "|                                         |                        |               MIG M. |",
        f"|{'=' * 41}+{'=' * 24}+{'=' * 22}|",
    ]
    for index, group in enumerate(view.gpus):
        gpu = group[0]
        mode = ("Enabled" if gpu.profile else "Disabled") if view.machine.mig_capable else "N/A"
        memory = f"{0:>7}MiB / {gpu.memory_mib:>6}MiB"
        lines += [
            f"| {index:>3}  {gpu.name:<24}    On  | {bus_id(gpu):>18} Off |{0:>21} |",
            f"| N/A   31C    P0             45W /  400W | {memory:>22} |      0%      Default |",
            f"| {'':<39} | {'':<22} | {mode:>20} |",
            rule,
        ]
    return "\n".join(lines)


def query(view: View) -> str:
    """``nvidia-smi -q``, the fields that are asked for most."""
    lines = [
        "==============NVSMI LOG==============",
        "",
        "Timestamp                                              : Tue Nov 24 10:00:00 2026",
        f"Driver Version                                         : {view.driver}",
        f"CUDA Version                                           : {view.cuda}",
        "",
        f"Attached GPUs                                          : {len(view.gpus)}",
    ]
    for group in view.gpus:
        gpu = group[0]
        mode = ("Enabled" if gpu.profile else "Disabled") if view.machine.mig_capable else "N/A"
        fields = (
            (4, "Product Name", gpu.name),
            (4, "Persistence Mode", "Enabled"),
            (4, "MIG Mode", None),
            (8, "Current", mode),
            (8, "Pending", mode),
            (4, "GPU UUID", gpu.uuid),
            (4, "Fabric", None),
            (8, "State", "In Progress" if view.broken("fabric-manager") else "N/A"),
            (8, "Status", "N/A"),
            (4, "FB Memory Usage", None),
            (8, "Total", f"{gpu.memory_mib} MiB"),
            (8, "Used", "0 MiB"),
            (4, "ECC Mode", None),
            (8, "Current", "Enabled"),
            (8, "Pending", "Enabled"),
        )
        lines.append(f"GPU {bus_id(gpu)}")
        lines += [_field(*field) for field in fields]
        lines.append("")
    return "\n".join(lines)


def _field(indent: int, name: str, value: str | None) -> str:
    head = f"{' ' * indent}{name}"
    return head if value is None else f"{head:<54} : {value}"


def bus_id(device: Visible) -> str:
    """Where the GPU is on the PCI bus; the same as its exporter says."""
    return f"00000000:{device.gpu + 1:02X}:00.0"

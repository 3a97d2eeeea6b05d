"""What keeps a container from using its GPUs: the errors of CUDA and NVML, their causes and remedies.

Sources: NVIDIA CUDA Driver API, enum CUresult; NVML API, enum nvmlReturn_t; NVIDIA GPU Operator and Container Toolkit,
Troubleshooting; the issues that a line names.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from conformance.gpu.smi import explain_exit_code


class GpuFailure(NamedTuple):
    """The cause, and the remedy."""

    cause: str
    remedy: str


HARDWARE = (
    "Cordon the node and look for Xid messages of this GPU in its kernel log; once no pod there uses a GPU, reset it "
    "or restart the node; replace it when it recurs."
)
# Codes of the probes for a driver call that does not return, for a crash, and for nvidia-smi that does not end.
NO_ANSWER, CRASH, SMI_NO_ANSWER = -1, -2, 124
HANGS = GpuFailure("the driver does not answer: a GPU or its firmware hangs", HARDWARE)
NO_DRIVER_FILES = GpuFailure(
    "the container did not get the driver's files",
    "Check that the device plugin names the device to the runtime (CDI, or the runtime class nvidia) and that the "
    "container toolkit has configured the node's container runtime.",
)

OUT_OF_MEMORY = 2
CUDA: Mapping[int, GpuFailure] = {
    NO_ANSWER: HANGS,
    CRASH: GpuFailure("the driver's library crashed on this device", HARDWARE),
    OUT_OF_MEMORY: GpuFailure(
        "another process uses the memory of this GPU",
        "Find the process on the node (nvidia-smi there) and whose it is; end it where it is no running pod's.",
    ),
    34: GpuFailure(
        "the container loads a stub of libcuda that is meant for compilers",
        "Take the stubs folder out of LD_LIBRARY_PATH of the image.",
    ),
    46: GpuFailure(
        "the GPU is in exclusive mode and another process has it, or MPS is set up in part",
        "See whose the other process is (nvidia-smi on the node), and end it where it is no running pod's; look at "
        "compute mode and MPS control daemon there.",
    ),
    100: GpuFailure("CUDA finds no device although one is allocated to the pod", NO_DRIVER_FILES.remedy),
    101: GpuFailure("a device that is allocated to the pod cannot be used", HARDWARE),
    221: GpuFailure("the container did not get libnvidia-ptxjitcompiler of the driver", NO_DRIVER_FILES.remedy),
    222: GpuFailure(
        "the driver is older than what the program was compiled for",
        "Upgrade the driver, or ship machine code for this GPU.",
    ),
    # NVIDIA/gpu-operator#1043; the operator's page on troubleshooting.
    802: GpuFailure(
        "the Fabric Manager does not run, or its version is not the driver's: NVSwitch machines list GPUs and compute "
        "nothing",
        "Run nvidia-fabricmanager of exactly the driver's version on the node (the operator's driver container brings "
        "it), restart the node once no pod there uses a GPU, and wait for Fabric State Completed in nvidia-smi -q.",
    ),
    803: GpuFailure(
        "libcuda in the container and the node's kernel module have different versions",
        "Restart the pod; when that does not help, drain and restart the node whose driver packages were upgraded "
        "meanwhile.",
    ),
    # NVIDIA/nvidia-docker#1515.
    804: GpuFailure(
        "the image brings compatibility libraries, which this GPU does not support",
        "Take the cuda-compat path out of the image's LD_LIBRARY_PATH, or upgrade the driver.",
    ),
    805: GpuFailure(
        "the MPS control daemon does not answer",
        "Look at the DaemonSet of the MPS control daemon on this node (label nvidia.com/mps.capable=true).",
    ),
    999: GpuFailure("the driver reports an unknown error", HARDWARE),
}

_NVML: Mapping[int, GpuFailure] = {
    NO_ANSWER: HANGS,
    4: GpuFailure("the container may not open its device files", NO_DRIVER_FILES.remedy),
    9: GpuFailure("the NVIDIA driver is not loaded on the node", "Look at the driver pod, Secure Boot and nouveau."),
    12: NO_DRIVER_FILES,
    14: GpuFailure("the infoROM of a GPU is corrupted: a hardware fault", "Replace the GPU."),
    15: GpuFailure("a GPU has fallen off the bus", HARDWARE),
    # NVIDIA/gpu-operator#898.
    18: GpuFailure(
        "libraries and kernel module of the driver have different versions: driver packages were upgraded and the old "
        "module is still loaded",
        "Drain and restart the node, and keep its package manager from upgrading NVIDIA packages by itself.",
    ),
    # NVIDIA/nvidia-container-toolkit#48: what systemd's daemon-reload does to containers in legacy mode.
    999: GpuFailure(
        "the container lost its devices, as when systemd reloads and the runtime hid them from it",
        "Let devices be injected by CDI (the operator's default from v25.10), or set PASS_DEVICE_SPECS=true for the "
        "device plugin; then restart the pods.",
    ),
}


def cuda_failure(error: Mapping[str, Any]) -> GpuFailure:
    """Cause and remedy of an error of CUDA as the probe reports it."""
    code = int(error["code"])
    # Errors of launched programs: illegal addresses, ECC, launches that failed or never ended.
    remedy = HARDWARE if code // 100 == 7 else f"Look {named(error)} up in the CUDA Driver API (CUresult)."
    return CUDA.get(code, GpuFailure(f"CUDA ends with {named(error)}", remedy))


def nvml_failure(error: Mapping[str, Any]) -> GpuFailure:
    """Cause and remedy of an error of NVML as the probe reports it."""
    remedy = f"Look {named(error)} up in the NVML API (nvmlReturn_t)."
    return _NVML.get(int(error["code"]), GpuFailure(f"NVML ends with {named(error)}", remedy))


def smi_failure(exit_code: int) -> GpuFailure:
    """Cause and remedy of an exit code of nvidia-smi."""
    if exit_code == SMI_NO_ANSWER:
        return HANGS
    words = explain_exit_code(exit_code)
    return GpuFailure(words, f"Follow {words.partition(': ')[2] or words}." if exit_code != 255 else HARDWARE)


def named(error: Mapping[str, Any]) -> str:
    """An error with its name, number and the call that failed."""
    call = f" of {error['call']}" if error.get("call") else ""
    return f"{error['name']} ({error['code']}){call}"

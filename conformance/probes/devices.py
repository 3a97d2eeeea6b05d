"""Which GPUs this container was given: as NVML, nvidia-smi, the device files and the environment say.

Prints one line, ``GPU-CONFORMANCE-PROBE`` and JSON; see docs/probes.md. With ``--hold SECONDS`` it then stays, so that
its devices stay taken.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "GPU-CONFORMANCE-PROBE"
NVML_PATIENCE, SMI_PATIENCE = 60, 15
"""Seconds. A GPU whose firmware hangs never answers. NVML comes first, and waking eight GPUs takes it a while."""
BESIDE = "/usr/local/nvidia/bin"
"""Where Google's device plugin puts nvidia-smi, which no stock image has on its path."""
MIB = 1 << 20

NOT_SUPPORTED, NO_PERMISSION = 3, 4
# nvml.h, enum nvmlReturn_t: the codes that a container meets, and one of ours.
NO_ANSWER = -1
ERRORS = {
    NO_ANSWER: "NO_ANSWER",
    1: "NVML_ERROR_UNINITIALIZED",
    3: "NVML_ERROR_NOT_SUPPORTED",
    4: "NVML_ERROR_NO_PERMISSION",
    6: "NVML_ERROR_NOT_FOUND",
    9: "NVML_ERROR_DRIVER_NOT_LOADED",
    12: "NVML_ERROR_LIBRARY_NOT_FOUND",
    13: "NVML_ERROR_FUNCTION_NOT_FOUND",
    14: "NVML_ERROR_CORRUPTED_INFOROM",
    15: "NVML_ERROR_GPU_IS_LOST",
    17: "NVML_ERROR_OPERATING_SYSTEM",
    18: "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
    999: "NVML_ERROR_UNKNOWN",
}


class NvmlError(Exception):
    """A call of NVML that did not succeed."""

    def __init__(self, code: int, call: str) -> None:
        super().__init__(f"{call}: {code}")
        self.found = {"code": code, "name": ERRORS.get(code, f"NVML_ERROR_{code}"), "call": call}


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Nvml:
    """The library, initialised. Raises NvmlError."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as error:
            raise NvmlError(12, "dlopen") from error
        self.call("nvmlInit_v2")

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. A driver that is too old to have it answers as NVML does."""
        try:
            function = getattr(self.library, name)
        except AttributeError as error:
            raise NvmlError(13, name) from error
        code = function(*arguments)
        if code:
            raise NvmlError(code, name)

    def text(self, name: str, *arguments: Any) -> str:
        """Call a function that writes a text of up to 96 bytes."""
        buffer = ctypes.create_string_buffer(96)
        self.call(name, *arguments, buffer, ctypes.c_uint(len(buffer)))
        return buffer.value.decode("utf-8", "replace")

    def number(self, name: str, *arguments: Any) -> int:
        """Call a function that writes an unsigned number."""
        value = ctypes.c_uint()
        self.call(name, *arguments, ctypes.byref(value))
        return int(value.value)

    def handle(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Call a function that gives the handle of a device."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def memory_mib(self, device: ctypes.c_void_p) -> int | None:
        """The memory of a GPU or MIG device in MiB; None for a GPU that shares the memory of its machine, as GB10."""
        memory = Memory()
        try:
            self.call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        except NvmlError as error:
            if error.found["code"] == NOT_SUPPORTED:
                return None
            raise
        return int(memory.total) // MIB

    def find(self, devices: list[dict[str, Any]]) -> None:
        """Add every GPU that the driver shows here, with its MIG devices.

        Raises the first error after all have been tried. That a container may not open a GPU is none beside one that
        it may: the count has all of the machine (nvml.h, nvmlDeviceGetCount_v2).
        """
        errors: list[NvmlError] = []
        for index in range(self.number("nvmlDeviceGetCount_v2")):
            try:
                devices.append(self.device(index))
            except NvmlError as error:
                errors.append(error)
        if devices:
            errors = [error for error in errors if error.found["code"] != NO_PERMISSION]
        if errors:
            raise errors[0]

    def device(self, index: int) -> dict[str, Any]:
        """One GPU."""
        device = self.handle("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index))
        return {
            "index": index,
            "uuid": self.text("nvmlDeviceGetUUID", device),
            "name": self.text("nvmlDeviceGetName", device),
            "memory_mib": self.memory_mib(device),
            "mig": self.mig_devices(device),
        }

    def mig_devices(self, device: ctypes.c_void_p) -> list[dict[str, Any]]:
        """The MIG devices of a GPU; none where it is off or the GPU knows no MIG."""
        current, pending = ctypes.c_uint(), ctypes.c_uint()
        try:
            self.call("nvmlDeviceGetMigMode", device, ctypes.byref(current), ctypes.byref(pending))
        except NvmlError:
            return []
        if not current.value:
            return []
        most = self.number("nvmlDeviceGetMaxMigDeviceCount", device)
        found = []
        for number in range(most):
            try:
                part = self.handle("nvmlDeviceGetMigDeviceHandleByIndex", device, ctypes.c_uint(number))
            except NvmlError:
                # Numbers of MIG devices that do not exist, or that another container has.
                continue
            # Such as "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
            profile = self.text("nvmlDeviceGetName", part).partition(" MIG ")[2]
            uuid = self.text("nvmlDeviceGetUUID", part)
            found.append({"uuid": uuid, "profile": profile, "memory_mib": self.memory_mib(part)})
        return found


def nvml_view() -> dict[str, Any]:
    """What NVML says; ``nvml_error`` is the first call that failed, and whatever else was found stays."""
    view: dict[str, Any] = {"driver": None, "cuda": None, "devices": [], "nvml_error": None}

    def look() -> None:
        nvml = Nvml()
        view["driver"] = nvml.text("nvmlSystemGetDriverVersion")
        version = ctypes.c_int()
        nvml.call("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(version))
        view["cuda"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
        nvml.find(view["devices"])

    try:
        if not in_time(look, NVML_PATIENCE):
            raise NvmlError(NO_ANSWER, "NVML")
    except NvmlError as error:
        view["nvml_error"] = error.found
    return {**view, "devices": list(view["devices"])}


def in_time(look: Callable[[], None], seconds: float) -> bool:
    """Whether ``look`` ended within so many seconds. Raises what it raised.

    What hangs in the driver cannot be ended, not even by a signal. It is left behind, so that the line comes out.
    """
    ended: queue.Queue[BaseException | None] = queue.Queue()

    def run() -> None:
        try:
            look()
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        error = ended.get(timeout=seconds)
    except queue.Empty:
        return False
    if error is not None:
        raise error
    return True


def output_of(command: tuple[str, ...], seconds: float, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output (both streams) of a command.

    Raises OSError when it cannot be started and TimeoutExpired when it hangs. Then nobody waits for its end, as
    subprocess.run() would: a process that hangs in the driver does not end.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output.decode("utf-8", "replace")


def run(*command: str) -> tuple[int, str]:
    """Exit code and output of a command; 127 when it is not there, 124 when it hangs."""
    try:
        code, output = output_of(command, SMI_PATIENCE)
    except FileNotFoundError:
        return 127, ""
    except OSError as error:
        return 126, str(error)
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} did not answer within {SMI_PATIENCE} s"
    return code if code >= 0 else 128 - code, output


def smi_view() -> dict[str, Any] | None:
    """What nvidia-smi says, None where the container did not get it. The exit code is the first that is not 0."""
    code, listing = run("nvidia-smi", "-L")
    if code == 127:
        return None
    table_code, table = run("nvidia-smi")
    return {"exit_code": code or table_code, "listing": listing, "table": table}


def device_files() -> list[str]:
    """The device files of NVIDIA's driver, those of MIG and IMEX included."""
    found = [*Path("/dev").glob("nvidia*"), *Path("/dev").glob("nvidia-caps*/*")]
    return sorted(str(path) for path in found if not path.is_dir())


def environment() -> dict[str, str]:
    """The variables that say to runtime and libraries which GPUs are meant."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(("NVIDIA_", "CUDA_"))}


def look_beside() -> None:
    """Have nvidia-smi found where it is mounted as well."""
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{BESIDE}"


def seconds_to_hold(arguments: list[str]) -> float:
    """How long to stay after the line; 0 without ``--hold``. Raises ValueError for other arguments."""
    if not arguments:
        return 0
    if len(arguments) == 2 and arguments[0] == "--hold":
        return float(arguments[1])
    raise ValueError(f"arguments are [--hold SECONDS], not {' '.join(arguments)}")


def say(record: dict[str, Any]) -> int:
    """Print the line and return the exit code."""
    print(MARK, json.dumps(record), flush=True)
    return 2 if record["error"] else 0


def main(arguments: list[str]) -> int:
    """Look, say what was seen, and stay if told to."""
    record: dict[str, Any] = {"probe": "devices", "version": 1, "error": None}
    try:
        hold = seconds_to_hold(arguments)
        look_beside()
        record.update(nvml_view(), nvidia_smi=smi_view(), device_files=device_files(), environment=environment())
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
        return say(record)
    code = say(record)
    time.sleep(hold)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

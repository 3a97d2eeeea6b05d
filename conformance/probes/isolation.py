"""Which GPUs this container can reach, asked or not: by every library, by nvidia-smi, and by opening device files.

The absence of nvidia-smi proves nothing: a container that holds /dev/nvidia0 brings a library of its own. Opening a
device file and closing it again changes nothing on the device.

Prints one line, ``GPU-CONFORMANCE-PROBE`` and JSON; see docs/probes.md. With ``--hold SECONDS`` it then stays, so that
its devices stay taken.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "GPU-CONFORMANCE-PROBE"
PATIENCE, SMI_PATIENCE = 80, 20
"""Seconds for everything together, and for nvidia-smi of them. A GPU whose firmware hangs never answers."""
BESIDE = "/usr/local/nvidia/bin"
"""Where Google's device plugin puts nvidia-smi, which no stock image has on its path."""
_UUID = re.compile(r"(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def seen_by_nvml() -> list[str]:
    """The UUIDs of the GPUs that NVML lists; none where it is missing or refuses."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    count, found = ctypes.c_uint(), []
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    for index in range(count.value):
        device, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)):
            continue
        if not library.nvmlDeviceGetUUID(device, text, ctypes.c_uint(len(text))):
            found.append(text.value.decode("utf-8", "replace"))
    return found


def seen_by_smi() -> list[str]:
    """The UUIDs of the GPUs and MIG devices that nvidia-smi lists; none where it is missing or fails.

    Raises TimeoutExpired: nothing is known of what it would have listed.
    """
    try:
        _, output = output_of(("nvidia-smi", "-L"), SMI_PATIENCE)
    except OSError:
        return []
    return _UUID.findall(output)


def seen_by_cuda() -> list[str]:
    """The UUIDs of the devices that CUDA counts; none where it is missing or refuses."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count, found = ctypes.c_int(), []
    if library.cuInit(ctypes.c_uint(0)) or library.cuDeviceGetCount(ctypes.byref(count)):
        return []
    read = library.cuDeviceGetUuid_v2 if hasattr(library, "cuDeviceGetUuid_v2") else library.cuDeviceGetUuid
    for ordinal in range(count.value):
        device, raw, name = ctypes.c_int(), (ctypes.c_ubyte * 16)(), ctypes.create_string_buffer(128)
        if library.cuDeviceGet(ctypes.byref(device), ctypes.c_int(ordinal)) or read(ctypes.byref(raw), device):
            continue
        library.cuDeviceGetName(name, ctypes.c_int(len(name)), device)
        found.append(f"{'MIG' if b' MIG ' in name.value else 'GPU'}-{uuid.UUID(bytes=bytes(raw))}")
    return found


def device_files() -> list[str]:
    """The device files of NVIDIA's driver, those of MIG and IMEX included."""
    found = [*Path("/dev").glob("nvidia*"), *Path("/dev").glob("nvidia-caps*/*")]
    return sorted(str(path) for path in found if not path.is_dir())


def can_be_opened(path: str) -> bool:
    """Whether the kernel lets this process open a device file, which the device cgroup decides."""
    for way in (os.O_RDWR, os.O_RDONLY):
        try:
            os.close(os.open(path, way | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            continue
        return True
    return False


def environment() -> dict[str, str]:
    """The variables that say to runtime and libraries which GPUs are meant."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(("NVIDIA_", "CUDA_"))}


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


def everything() -> dict[str, Any]:
    """What can be reached; ``devices`` are all UUIDs, ``seen_by`` says who saw which.

    Raises TimeoutError where the driver does not answer, which is no proof of anything.
    """
    seen: dict[str, list[str]] = {}

    def look() -> None:
        seen.update({"nvml": seen_by_nvml(), "nvidia-smi": seen_by_smi(), "cuda": seen_by_cuda()})

    if not in_time(look, PATIENCE):
        raise TimeoutError(f"the driver did not answer within {PATIENCE} s")
    files = device_files()
    return {
        "devices": sorted({name for names in seen.values() for name in names}),
        "seen_by": seen,
        "device_files": files,
        "opened": [path for path in files if can_be_opened(path)],
        "environment": environment(),
    }


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
    record: dict[str, Any] = {"probe": "isolation", "version": 1, "error": None}
    try:
        hold = seconds_to_hold(arguments)
        look_beside()
        record.update(everything())
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
        return say(record)
    code = say(record)
    time.sleep(hold)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

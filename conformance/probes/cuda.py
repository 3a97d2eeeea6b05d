"""Whether CUDA computes right on every GPU of this container: y = a * x + y in 32-bit integers, checked exactly.

A GPU that nvidia-smi lists may still refuse every computation (error 802 without Fabric Manager). The driver's own
library is all that is needed: it compiles the program from PTX, which every GPU since 2014 can run.

Prints one line, ``GPU-CONFORMANCE-PROBE`` and JSON; see docs/probes.md. With ``--hold SECONDS`` it then stays, so that
its devices stay taken.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "GPU-CONFORMANCE-PROBE"
ELEMENTS = 1 << 20
THREADS = 256
FACTOR = 2654435761
SMI_PATIENCE, PATIENCE, MIG_PATIENCE = 30, 60, 25
"""Seconds for nvidia-smi, for all computation together, and for that on one MIG device."""
AT_ONCE = 4
"""Processes on MIG devices at the same time. Each takes some hundred MiB of this container's memory."""
BESIDE = "/usr/local/nvidia/bin"
"""Where Google's device plugin puts nvidia-smi, which no stock image has on its path."""
LIBRARY = "libcuda.so.1"

# Of cuda.h, enum CUdevice_attribute.
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76

# Codes of ours: what hangs in the driver, and a process that the driver's library ended.
NO_ANSWER, CRASH = -1, -2
CRASHES = ("SIGILL", "SIGABRT", "SIGBUS", "SIGSEGV")
# cuda.h, enum cudaError_enum, for libraries that are too broken to name their own errors.
ERRORS = {
    NO_ANSWER: "NO_ANSWER",
    CRASH: "CRASH",
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    3: "CUDA_ERROR_NOT_INITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    218: "CUDA_ERROR_INVALID_PTX",
    222: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    304: "CUDA_ERROR_OPERATING_SYSTEM",
    700: "CUDA_ERROR_ILLEGAL_ADDRESS",
    719: "CUDA_ERROR_LAUNCH_FAILED",
    802: "CUDA_ERROR_SYSTEM_NOT_READY",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    805: "CUDA_ERROR_MPS_CONNECTION_FAILED",
    999: "CUDA_ERROR_UNKNOWN",
}

# PTX 6.0 is what CUDA 9 wrote; the driver translates it for the GPU at hand.
PROGRAM = b"""
.version 6.0
.target sm_50
.address_size 64

.visible .entry multiply_and_add(
    .param .u32 factor,
    .param .u64 xs,
    .param .u64 ys,
    .param .u32 count
)
{
    .reg .pred %beyond;
    .reg .b32 %factor, %count, %block, %width, %thread, %at, %x, %y;
    .reg .b64 %xs, %ys, %offset;

    ld.param.u32 %factor, [factor];
    ld.param.u64 %xs, [xs];
    ld.param.u64 %ys, [ys];
    ld.param.u32 %count, [count];
    mov.u32 %block, %ctaid.x;
    mov.u32 %width, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.u32 %at, %block, %width, %thread;
    setp.ge.u32 %beyond, %at, %count;
    @%beyond bra DONE;
    cvta.to.global.u64 %xs, %xs;
    cvta.to.global.u64 %ys, %ys;
    mul.wide.u32 %offset, %at, 4;
    add.u64 %xs, %xs, %offset;
    add.u64 %ys, %ys, %offset;
    ld.global.u32 %x, [%xs];
    ld.global.u32 %y, [%ys];
    mad.lo.u32 %y, %factor, %x, %y;
    st.global.u32 [%ys], %y;
DONE:
    ret;
}
"""


class CudaError(Exception):
    """A call of CUDA that did not succeed."""

    def __init__(self, code: int, name: str, call: str) -> None:
        super().__init__(f"{call}: {name} ({code})")
        self.found = {"code": code, "name": name, "call": call}


class NoLibrary(Exception):
    """The container did not get a library of the driver, or cannot load it."""


class Cuda:
    """The driver's library, initialised. Raises NoLibrary where it is missing, CudaError where it refuses."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NoLibrary(str(error)) from error
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver API."""
        code = getattr(self.library, name)(*arguments)
        if code:
            raise CudaError(code, self.name_of(code), name)

    def name_of(self, code: int) -> str:
        """The name of an error as the library gives it, else as the header did."""
        text = ctypes.c_char_p()
        if self.library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text)) == 0 and text.value:
            return text.value.decode()
        return ERRORS.get(code, f"CUDA_ERROR_{code}")

    def number(self, name: str, *arguments: Any) -> int:
        """Call a function that writes an int first."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def device_name(self, device: int) -> str:
        """The product name; that of a MIG device ends with its profile."""
        buffer = ctypes.create_string_buffer(128)
        self.call("cuDeviceGetName", buffer, ctypes.c_int(len(buffer)), ctypes.c_int(device))
        return buffer.value.decode("utf-8", "replace")

    def device_uuid(self, device: int, name: str) -> str:
        """The UUID as nvidia-smi writes it. Only the second version of the function knows MIG devices."""
        function = "cuDeviceGetUuid_v2" if hasattr(self.library, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
        raw = (ctypes.c_ubyte * 16)()
        self.call(function, ctypes.byref(raw), ctypes.c_int(device))
        prefix = "MIG" if " MIG " in name else "GPU"
        return f"{prefix}-{uuid.UUID(bytes=bytes(raw))}"

    def compute(self, device: int) -> str:
        """The compute capability, such as 8.0."""
        parts = (COMPUTE_MAJOR, COMPUTE_MINOR)
        return ".".join(str(self.number("cuDeviceGetAttribute", ctypes.c_int(p), ctypes.c_int(device))) for p in parts)


class Task:
    """The numbers that every device is given, and what has to come out."""

    def __init__(self) -> None:
        generator = random.Random(20140218)  # noqa: S311 - the same numbers every time
        xs, ys = generator.getrandbits(32 * ELEMENTS), generator.getrandbits(32 * ELEMENTS)
        self.xs, self.ys = (each.to_bytes(4 * ELEMENTS, "little") for each in (xs, ys))
        self.expected = words(multiplied_and_added(xs, ys).to_bytes(4 * ELEMENTS, "little"))

    def count_wrong(self, result: bytes) -> int:
        """How many elements of a result differ from what they have to be."""
        if result == self.expected.tobytes():
            return 0
        return sum(value != self.expected[at] for at, value in enumerate(words(result)))


def multiplied_and_added(xs: int, ys: int) -> int:
    """FACTOR * x + y, modulo 2**32, of each word of two long numbers.

    Every other word at a time, so that each has room for its product: word by word Python would take half a second on
    each node that is probed.
    """
    every_other = int.from_bytes((b"\xff" * 4 + bytes(4)) * (ELEMENTS // 2), "little")
    even = (xs & every_other) * FACTOR + (ys & every_other)
    odd = (xs >> 32 & every_other) * FACTOR + (ys >> 32 & every_other)
    return (even & every_other) | (odd & every_other) << 32


def words(raw: bytes) -> array.array[int]:
    """Bytes as unsigned 32-bit numbers of this machine."""
    found = array.array("I")
    found.frombytes(raw)
    return found


def computed(cuda: Cuda, device: int, task: Task) -> bytes:
    """What the device makes of the task. Its primary context is given back whatever happens."""
    context = ctypes.c_void_p()
    cuda.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), ctypes.c_int(device))
    try:
        cuda.call("cuCtxSetCurrent", context)
        return launched(cuda, task)
    finally:
        cuda.library.cuDevicePrimaryCtxRelease_v2(ctypes.c_int(device))


def launched(cuda: Cuda, task: Task) -> bytes:
    """Load the program into the current context, run it on the task, and fetch the result."""
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    xs, ys = ctypes.c_uint64(), ctypes.c_uint64()
    size = ctypes.c_size_t(4 * ELEMENTS)
    cuda.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(PROGRAM))
    cuda.call("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(b"multiply_and_add"))
    cuda.call("cuMemAlloc_v2", ctypes.byref(xs), size)
    cuda.call("cuMemAlloc_v2", ctypes.byref(ys), size)
    cuda.call("cuMemcpyHtoD_v2", xs, ctypes.c_char_p(task.xs), size)
    cuda.call("cuMemcpyHtoD_v2", ys, ctypes.c_char_p(task.ys), size)
    values = (ctypes.c_uint32(FACTOR), xs, ys, ctypes.c_uint32(ELEMENTS))
    addresses = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
    # Blocks and threads in x, y and z, then shared memory, stream, arguments, extras.
    shape = (-(-ELEMENTS // THREADS), 1, 1, THREADS, 1, 1, 0)
    cuda.call("cuLaunchKernel", function, *[ctypes.c_uint(each) for each in shape], None, addresses, None)
    cuda.call("cuCtxSynchronize")
    result = ctypes.create_string_buffer(4 * ELEMENTS)
    cuda.call("cuMemcpyDtoH_v2", result, ys, size)
    for memory in (xs, ys):
        cuda.call("cuMemFree_v2", memory)
    return result.raw


def tried(cuda: Cuda, ordinal: int, task: Task) -> dict[str, Any]:
    """One device: who it is, and how many of its results are wrong; all of them when it could not compute."""
    device = cuda.number("cuDeviceGet", ctypes.c_int(ordinal))
    name = cuda.device_name(device)
    found: dict[str, Any] = {
        "ordinal": ordinal,
        "uuid": cuda.device_uuid(device, name),
        "name": name,
        "compute": cuda.compute(device),
        "elements": ELEMENTS,
        "wrong": ELEMENTS,
        "seconds": None,
        "cuda_error": None,
    }
    began = time.perf_counter()
    try:
        found["wrong"] = task.count_wrong(computed(cuda, device, task))
        found["seconds"] = round(time.perf_counter() - began, 4)
    except CudaError as error:
        found["cuda_error"] = error.found
    return found


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


def every_device() -> dict[str, Any]:
    """The devices that CUDA shows in this process, and the first error. Raises NoLibrary without libcuda."""
    devices: list[dict[str, Any]] = []

    def look() -> None:
        cuda = Cuda()
        task = Task()
        for ordinal in range(cuda.number("cuDeviceGetCount")):
            devices.append(tried(cuda, ordinal, task))

    try:
        if not in_time(look, PATIENCE):
            raise CudaError(NO_ANSWER, ERRORS[NO_ANSWER], "CUDA")
    except CudaError as error:
        return {"devices": list(devices), "cuda_error": error.found}
    return {"devices": devices, "cuda_error": first_error(devices)}


def first_error(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first error of any device, or of any process."""
    return next((each["cuda_error"] for each in found if each["cuda_error"]), None)


def mig_uuids() -> list[str]:
    """The MIG devices of this container, by nvidia-smi; none where it cannot be asked."""
    try:
        _, output = output_of(("nvidia-smi", "-L"), SMI_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"\(UUID: (MIG-[^)]+)\)", output)


def each_alone(uuids: list[str]) -> dict[str, Any]:
    """The MIG devices, each in a process of its own: a process sees only the one that its environment names.

    What could not be begun in time is left out.
    """
    until = time.monotonic() + PATIENCE
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seen = list(pool.map(lambda name: alone(name, until), uuids))
    devices = [{**device, "ordinal": ordinal} for ordinal, each in enumerate(seen) for device in each["devices"]]
    return {"devices": devices, "cuda_error": first_error(seen)}


def alone(name: str, until: float) -> dict[str, Any]:
    """What a process sees to which only this device is visible.

    Raises NoLibrary without libcuda, RuntimeError when the process could not look for a reason that is not CUDA's.
    """
    seconds = min(MIG_PATIENCE, until - time.monotonic())
    if seconds <= 0:
        return {"devices": [], "cuda_error": None}
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": name}
    try:
        code, output = output_of((sys.executable, __file__, "--here"), seconds, env)
    except subprocess.TimeoutExpired:
        return broken(name, NO_ANSWER)
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    if not lines and -code in [getattr(signal, each) for each in CRASHES]:
        return broken(name, CRASH)
    if not lines:
        raise RuntimeError(f"the computation on {name} ended with {code}: {output[-500:]}")
    seen: dict[str, Any] = json.loads(lines[-1][len(MARK) :])
    if seen.get("missing"):
        raise NoLibrary(seen["error"])
    if seen["error"]:
        raise RuntimeError(f"{name}: {seen['error']}")
    return seen


def broken(name: str, code: int) -> dict[str, Any]:
    """A MIG device whose process said nothing."""
    error = {"code": code, "name": ERRORS[code], "call": "CUDA"}
    device = {
        "ordinal": 0, "uuid": name, "name": "", "compute": "", "elements": ELEMENTS, "wrong": ELEMENTS,
        "seconds": None, "cuda_error": error,
    }  # fmt: skip
    return {"devices": [device], "cuda_error": error}


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
    """Compute on every device, say what came out, and stay if told to. ``--here`` leaves MIG devices aside."""
    record: dict[str, Any] = {"probe": "cuda", "version": 1, "error": None, "missing": None}
    here = arguments == ["--here"]
    # Nothing may be written into this container, and a kept translation would hide that the driver cannot translate.
    os.environ["CUDA_CACHE_DISABLE"] = "1"
    try:
        hold = 0 if here else seconds_to_hold(arguments)
        look_beside()
        parts = [] if here else mig_uuids()
        record.update(each_alone(parts) if parts else every_device())
    except NoLibrary as error:
        record.update(error=str(error), missing=LIBRARY)
        return say(record)
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
        return say(record)
    code = say(record)
    time.sleep(hold)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

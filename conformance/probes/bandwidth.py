"""How fast bytes move between this container's memory and its GPUs, within a GPU, and from one GPU to another.

What is right depends on machine and slot, so nothing is judged here. Figures are GiB/s; each byte counts once,
although a copy within a device reads and writes it. MIG devices are measured as far as CUDA shows them.

Prints one line, ``GPU-CONFORMANCE-PROBE`` and JSON; see docs/probes.md.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "GPU-CONFORMANCE-PROBE"
GIB = 1 << 30
SIZE = 64 << 20
ROUNDS = 20
PEER_ACCESS_ALREADY_ENABLED = 704


class CudaError(Exception):
    """A call of CUDA that did not succeed."""

    def __init__(self, code: int, name: str, call: str) -> None:
        super().__init__(f"{call}: {name} ({code})")
        self.found = {"code": code, "name": name, "call": call}


class Cuda:
    """The driver's library, initialised. Raises OSError where it is missing, CudaError where it refuses."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver API."""
        code = getattr(self.library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            known = self.library.cuGetErrorName(ctypes.c_int(code), ctypes.byref(text)) == 0 and text.value
            raise CudaError(code, text.value.decode() if known and text.value else f"CUDA_ERROR_{code}", name)

    def number(self, name: str, *arguments: Any) -> int:
        """Call a function that writes an int first."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def memory(self, name: str) -> ctypes.c_uint64:
        """Allocate SIZE bytes, on the current device or (cuMemAllocHost_v2) pinned in this process."""
        address = ctypes.c_uint64()
        self.call(name, ctypes.byref(address), ctypes.c_size_t(SIZE))
        return address


class Device:
    """One GPU with its primary context, and two buffers in it. Close it to give them back."""

    def __init__(self, cuda: Cuda, ordinal: int) -> None:
        self.cuda = cuda
        self.device = cuda.number("cuDeviceGet", ctypes.c_int(ordinal))
        self.uuid = self.read_uuid()
        self.context = ctypes.c_void_p()
        cuda.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), ctypes.c_int(self.device))
        self.enter()
        self.one, self.other = cuda.memory("cuMemAlloc_v2"), cuda.memory("cuMemAlloc_v2")

    def read_uuid(self) -> str:
        """The UUID as nvidia-smi writes it."""
        name, raw = ctypes.create_string_buffer(128), (ctypes.c_ubyte * 16)()
        self.cuda.call("cuDeviceGetName", name, ctypes.c_int(len(name)), ctypes.c_int(self.device))
        function = "cuDeviceGetUuid_v2" if hasattr(self.cuda.library, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
        self.cuda.call(function, ctypes.byref(raw), ctypes.c_int(self.device))
        return f"{'MIG' if b' MIG ' in name.value else 'GPU'}-{uuid.UUID(bytes=bytes(raw))}"

    def enter(self) -> None:
        """Make its context the current one."""
        self.cuda.call("cuCtxSetCurrent", self.context)

    def close(self) -> None:
        """Give everything back; the buffers go with the context."""
        self.cuda.library.cuDevicePrimaryCtxRelease_v2(ctypes.c_int(self.device))


def speed(cuda: Cuda, copy: Callable[[], None]) -> float:
    """GiB/s of a copy of SIZE bytes that is queued ROUNDS times, after one that does not count."""
    copy()
    cuda.call("cuCtxSynchronize")
    began = time.perf_counter()
    for _ in range(ROUNDS):
        copy()
    cuda.call("cuCtxSynchronize")
    return round(SIZE * ROUNDS / GIB / (time.perf_counter() - began), 2)


def measured(cuda: Cuda, device: Device) -> dict[str, Any]:
    """The three speeds of one GPU."""
    device.enter()
    pinned, size = cuda.memory("cuMemAllocHost_v2"), ctypes.c_size_t(SIZE)
    host = ctypes.c_void_p(pinned.value)
    try:
        return {
            "uuid": device.uuid,
            "host_to_device_gib_s": speed(
                cuda, lambda: cuda.call("cuMemcpyHtoDAsync_v2", device.one, host, size, None)
            ),
            "device_to_host_gib_s": speed(
                cuda, lambda: cuda.call("cuMemcpyDtoHAsync_v2", host, device.one, size, None)
            ),
            "device_to_device_gib_s": speed(
                cuda, lambda: cuda.call("cuMemcpyDtoDAsync_v2", device.other, device.one, size, None)
            ),
        }
    finally:
        cuda.library.cuMemFreeHost(host)


def between(cuda: Cuda, giver: Device, taker: Device) -> dict[str, Any]:
    """The speed from one GPU to another. ``possible``: directly; otherwise the copy goes through this machine."""
    possible = bool(cuda.number("cuDeviceCanAccessPeer", ctypes.c_int(giver.device), ctypes.c_int(taker.device)))
    giver.enter()
    if possible:
        code = cuda.library.cuCtxEnablePeerAccess(taker.context, ctypes.c_uint(0))
        possible = code in (0, PEER_ACCESS_ALREADY_ENABLED)
    size = ctypes.c_size_t(SIZE)
    fast = speed(
        cuda,
        lambda: cuda.call("cuMemcpyPeerAsync", taker.one, taker.context, giver.one, giver.context, size, None),
    )
    return {"from": giver.uuid, "to": taker.uuid, "possible": possible, "gib_s": fast}


def everything() -> dict[str, Any]:
    """All figures; ``cuda_error`` is the call that ended the measurement. Raises OSError without libcuda."""
    found: dict[str, Any] = {"devices": [], "peers": [], "cuda_error": None}
    devices: list[Device] = []
    try:
        cuda = Cuda()
        devices += [Device(cuda, ordinal) for ordinal in range(cuda.number("cuDeviceGetCount"))]
        found["devices"] = [measured(cuda, device) for device in devices]
        found["peers"] = [between(cuda, one, other) for one, other in itertools.permutations(devices, 2)]
    except CudaError as error:
        found["cuda_error"] = error.found
    finally:
        for device in devices:
            device.close()
    return found


def main(arguments: list[str]) -> int:
    """Measure and say what came out."""
    record: dict[str, Any] = {"probe": "bandwidth", "version": 1, "error": None}
    try:
        if arguments:
            raise ValueError(f"it takes no arguments, not {' '.join(arguments)}")
        record.update(everything())
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
    print(MARK, json.dumps(record), flush=True)
    return 2 if record["error"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

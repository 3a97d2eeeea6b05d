"""What runs in a container whose image a node cannot have: ``program.py CONTAINER IMAGE COMMAND...``.

As on a simulated node: init containers of NVIDIA's operands end well, a program that only looks at GPUs does so with
what the container has, metrics come from the node's agent, everything else stays until it is told to end. Standard
library only, Python 3.8 or later, one file.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import sys
import threading

# Init containers of the GPU Operator's operands, and containers that only try something out.
ENDING = {
    "driver-validation", "toolkit-validation", "cuda-validation", "plugin-validation", "nvidia-fs-validation",
    "mofed-validation", "k8s-driver-manager", "config-manager-init", "nvidia-cuda-validator",
    "nvidia-device-plugin-validator", "init-container", "gpu-feature-discovery-init",
    "nvidia-device-plugin-init", "mps-control-daemon-mounts", "wait-for-driver",
}  # fmt: skip
EXPORTERS = {"nvidia-dcgm-exporter", "nvidia-dcgm-exporter-dra", "dcgm-exporter"}
EXPORTER_PORT, AGENT_PORT = 9400, 9401
LIBRARY = "/usr/local/nvidia/lib64/libcuda.so.1"
ELEMENTS = 50000


def main(container: str, image: str, command: list[str]) -> int:
    """Do what the container's program would; the exit code."""
    words = command[2].split() if len(command) == 3 and command[1] == "-c" else command
    program = os.path.basename(words[0]) if words else ""
    if program == "nvidia-smi":
        return nvidia_smi(words[1:])
    if container in ENDING:
        return 0
    if "vectoradd" in image.lower() or program == "vectorAdd":
        return vector_add()
    if container in EXPORTERS:
        threading.Thread(target=export, daemon=True).start()
    stay()
    return 0


def nvidia_smi(arguments: list[str]) -> int:
    """The one that came with the devices, if there is one."""
    found = shutil.which("nvidia-smi")
    if found is None:
        print('exec: "nvidia-smi": executable file not found in $PATH', file=sys.stderr)
        return 127
    sys.stdout.flush()
    os.execv("/usr/local/bin/python3", ["python3", "-I", found, *arguments])  # noqa: S606
    return 127


def vector_add() -> int:
    """The CUDA sample of that name, on the library that came with the devices."""
    print(f"[Vector addition of {ELEMENTS} elements]")
    try:
        code = ctypes.CDLL(LIBRARY).cuInit(0)
    except OSError:
        code = 100
    if code:
        why = {100: "no CUDA-capable device is detected", 802: "system not yet initialized"}.get(code, "unknown error")
        print(f"Failed to allocate device vector A (error code {why})!")
        return 1
    print("Test PASSED\nDone")
    return 0


def stay() -> None:
    """Stay until told to end; whoever loses its parent here is reaped."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    while not ended.wait(3600):
        pass


def export() -> None:
    """Hand connections to the exporter's port on to the node's agent, which knows the GPUs."""
    listener = socket.create_server(("", EXPORTER_PORT), backlog=16)
    while True:
        near, _ = listener.accept()
        threading.Thread(target=carry, args=(near,), daemon=True).start()


def carry(near: socket.socket) -> None:
    """One connection, there and back."""
    with near:
        try:
            far = socket.create_connection((gateway(), AGENT_PORT), timeout=10)
        except OSError:
            return
        with far:
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy until one side ends, and tell the other."""
    try:
        while True:
            chunk = source.recv(65536)
            if not chunk:
                break
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def gateway() -> str:
    """The node as a pod reaches it: its default route, or itself on the node's own network."""
    with open("/proc/net/route", encoding="utf-8") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if fields[1] == "00000000" and fields[2] != "00000000":
                return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    return "127.0.0.1"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))

"""The probes: programs that print one marked line of JSON (docs/probes.md describes it).

The form of the line is an interface that both sides keep; what stands in it is worked out here from the view.
"""

import json
from typing import Any

from conformance.simulator.programs import smi
from conformance.simulator.programs.view import View, Visible

MARK = "GPU-CONFORMANCE-PROBE"
ELEMENTS = 1 << 20
VERSION = 1

_SYSTEM_NOT_READY = {"code": 802, "name": "CUDA_ERROR_SYSTEM_NOT_READY", "call": "cuInit"}
_NO_DEVICE = {"code": 100, "name": "CUDA_ERROR_NO_DEVICE", "call": "cuInit"}
_DRIVER_MISMATCH = {"code": 803, "name": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "call": "cuInit"}
_LIBRARY = "libcuda.so.1"
_NO_LIBRARY = f"{_LIBRARY}: cannot open shared object file: No such file or directory"


def devices(view: View) -> dict[str, Any]:
    """devices.py: what NVML, nvidia-smi, the files and the environment say."""
    failure = _nvml_error(view)
    usable = view.injected and failure is None
    return {
        "driver": view.driver if usable else None,
        "cuda": view.cuda if usable else None,
        "devices": [_as_nvml(index, group) for index, group in enumerate(view.gpus)] if usable else [],
        "nvml_error": failure,
        "nvidia_smi": _smi(view),
        "device_files": list(view.files),
        "environment": view.environment,
    }


def cuda(view: View) -> dict[str, Any]:
    """cuda.py: one computation on each device."""
    if not view.injected:
        return {"error": _NO_LIBRARY, "missing": _LIBRARY}
    error = _cuda_error(view)
    found = [] if error else [_computed(view, ordinal, device) for ordinal, device in enumerate(_in_order(view))]
    return {"devices": found, "cuda_error": error, "missing": None}


def bandwidth(view: View) -> dict[str, Any]:
    """bandwidth.py: figures of a PCIe 4 machine; peers reach each other directly where they are of one machine."""
    if not view.injected:
        return {"error": f"OSError: {_NO_LIBRARY}"}
    error = _cuda_error(view)
    if error:
        return {"devices": [], "peers": [], "cuda_error": error}
    names = [device.own_uuid for device in _in_order(view)]
    figures = {"host_to_device_gib_s": 23.4, "device_to_host_gib_s": 24.1, "device_to_device_gib_s": 612.0}
    peers = [{"from": one, "to": two, "possible": True, "gib_s": 21.8} for one in names for two in names if one != two]
    return {"devices": [{"uuid": name, **figures} for name in names], "peers": peers, "cuda_error": None}


def isolation(view: View) -> dict[str, Any]:
    """isolation.py: everything that can be reached."""
    usable = view.injected and _nvml_error(view) is None
    gpus = [group[0].uuid for group in view.gpus] if usable else []
    own = [device.own_uuid for device in view.devices] if usable else []
    seen = {"nvml": gpus, "nvidia-smi": sorted({*gpus, *own}), "cuda": [] if _cuda_error(view) else own}
    return {
        "devices": sorted({name for names in seen.values() for name in names}),
        "seen_by": seen,
        "device_files": list(view.files),
        "opened": list(view.files),
        "environment": view.environment,
    }


_PROBES = {"devices": devices, "cuda": cuda, "bandwidth": bandwidth, "isolation": isolation}
NAMES = tuple(_PROBES)


def probe(name: str, view: View) -> tuple[int, str]:
    """Exit code and the line of a probe."""
    record = {"probe": name, "version": VERSION, "error": None, **_PROBES[name](view)}
    return (2 if record["error"] else 0), f"{MARK} {json.dumps(record)}"


def _in_order(view: View) -> list[Visible]:
    return [device for group in view.gpus for device in group]


def _as_nvml(index: int, group: tuple[Visible, ...]) -> dict[str, Any]:
    gpu = group[0]
    parts = [
        {"uuid": each.mig_uuid, "profile": each.profile, "memory_mib": each.mig_memory_mib}
        for each in group
        if each.profile
    ]
    return {"index": index, "uuid": gpu.uuid, "name": gpu.name, "memory_mib": gpu.memory_mib, "mig": parts}


def _nvml_error(view: View) -> dict[str, Any] | None:
    if not view.injected:
        return {"code": 12, "name": "NVML_ERROR_LIBRARY_NOT_FOUND", "call": "dlopen"}
    failed = smi.why_nvml_fails(view)
    if failed is None:
        return None
    words = failed[1]
    if words == smi.NOT_LOADED:
        return {"code": 9, "name": "NVML_ERROR_DRIVER_NOT_LOADED", "call": "nvmlInit_v2"}
    if words == smi.LOST:
        return {"code": 999, "name": "NVML_ERROR_UNKNOWN", "call": "nvmlInit_v2"}
    return {"code": 18, "name": "NVML_ERROR_LIB_RM_VERSION_MISMATCH", "call": "nvmlInit_v2"}


def _smi(view: View) -> dict[str, Any] | None:
    code, text = smi.nvidia_smi(view, ["-L"])
    if code == smi.NOT_FOUND:
        return None
    table_code, table = smi.nvidia_smi(view, [])
    return {"exit_code": code or table_code, "listing": text, "table": table}


def _cuda_error(view: View) -> dict[str, Any] | None:
    if not view.injected or not view.driver or not view.devices:
        return _NO_DEVICE
    if view.broken("driver-mismatch"):
        return _DRIVER_MISMATCH
    return _SYSTEM_NOT_READY if view.broken("fabric-manager") else None


def _computed(view: View, ordinal: int, device: Visible) -> dict[str, Any]:
    # A GPU that computes wrong gets a few elements wrong, not all.
    wrong = 17 if view.broken("wrong-results") else 0
    name = f"{device.name} MIG {device.profile}" if device.profile else device.name
    return {
        "ordinal": ordinal,
        "uuid": device.own_uuid,
        "name": name,
        "compute": view.machine.compute,
        "elements": ELEMENTS,
        "wrong": wrong,
        "seconds": 0.0123,
        "cuda_error": None,
    }

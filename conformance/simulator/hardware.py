"""What a simulated machine holds: GPUs, driver, and what is broken about it, as an annotation of its node says.

Only the simulator reads the annotation. It stands for the hardware, which no API shows: a suite that looked at it
would look at the answer.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.kube.names import DOMAIN

HARDWARE = f"{DOMAIN}/hardware"
"""The annotation of a node, JSON of a Machine."""

BROKEN: Mapping[str, str] = {
    "plugin-blind": "the device plugin runs and finds no device",
    "plugin-crashes": "the device plugin ends a moment after it has registered, again and again (real nodes)",
    "plugin-registers-once": "the device plugin does not register with a kubelet that has started anew (real nodes)",
    "plugin-miscounts": "the device plugin offers so many devices too many, too few if negative (real nodes)",
    "allocate-fails": "the device plugin gives nothing out: Allocate fails with the value as its text (real nodes)",
    "stale-allocation": "the device plugin gives the first devices, whatever the kubelet has chosen (real nodes)",
    "mig-busy": "a process holds the GPUs, so that no MIG layout can be applied",
    "mig-reboots": "a MIG layout needs a reboot, which happens",
    "mig-never-reboots": "a MIG layout needs a reboot, which nobody does",
    "fabric-manager": "the fabric manager does not run: CUDA error 802 on every start",
    "inforom": "an InfoROM is corrupt: nvidia-smi ends with 14",
    "driver-mismatch": "kernel module and libraries of the driver have different versions",
    "nvml-lost": "containers lose their devices after a while: NVML says Unknown Error",
    "visible-devices-honoured": "whoever asks for the runtime class gets what NVIDIA_VISIBLE_DEVICES names",
    "devices-by-class-only": "a pod gets the devices that were allocated to it only with the NVIDIA runtime class",
    "nvidia-is-default-runtime": "every container gets what NVIDIA_VISIBLE_DEVICES names",
    "exporter-unattributed": "the metrics exporter names no pods",
    "exporter-silent": "the metrics exporter runs and answers nothing",
    "exporter-implausible": "the metrics exporter gives values that no GPU can have",
    "exporter-driver": "the metrics exporter runs with the libraries of another driver, whose version is the value",
    "exporter-xid": "the metrics exporter remembers an XID error, whose number is the value, of the first GPU",
    "exporter-counts-xids": "the metrics exporter has another list of counters than the others: XID errors are counted",
    "exporter-mig": "the metrics exporter tells of each GPU the memory of its first MIG device alone (first-device), "
    "or knows nothing of MIG and reports whole GPUs (whole-gpus)",
    "wrong-results": "CUDA computes wrong results",
    "stale-accounting": "the kubelet counts devices as taken that nobody holds; a number says how many, true all",
    "driver-fails": "the driver does not build: its container restarts for ever",
    "runtime-not-configured": "the container runtime knows no handler for the NVIDIA runtime class",
}
"""What can be wrong with a machine beside its GPUs: the keys of Machine.broken, each a fault of field reports."""

_NAMES = uuid.UUID("7a0c7f6e-5d38-4d0b-9d4e-3a4c1d1f2b6a")


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The GPUs of one machine, all of one model.

    ``product`` is the name that NVML gives (``NVIDIA A100-SXM4-40GB``, ``Tesla T4``), ``memory_mib`` is per GPU,
    ``compute`` the compute capability (``8.0``). ``driver`` is the version of a driver on the host, empty where an
    operator has to bring one. ``unhealthy`` are indices of GPUs that the driver lists and no pod may get, ``missing``
    indices of GPUs that fell off the bus. ``broken`` names what else is wrong: a key of BROKEN, with a value that is
    true or as its text says. ``offered_as`` is the resource as which a device plugin in the node image offers the
    GPUs, before and without any stack; empty where a stack has to bring driver and plugin.
    """

    product: str
    gpus: int
    memory_mib: int
    compute: str
    family: str = ""
    driver: str = ""
    mig_capable: bool = False
    machine: str = ""
    unhealthy: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    offered_as: str = ""
    broken: dict[str, Any] = {}

    @property
    def present(self) -> tuple[int, ...]:
        """The indices of the GPUs that the driver lists."""
        return tuple(index for index in range(self.gpus) if index not in self.missing)


# Made before any thread needs it; see kube/client.py.
_MACHINES = msgspec.json.Decoder(Machine)


def machine_of(node: Mapping[str, Any]) -> Machine | None:
    """The machine behind a node; None for one without GPUs. Raises msgspec.ValidationError for an odd annotation."""
    text = (node["metadata"].get("annotations") or {}).get(HARDWARE)
    return None if text is None else _MACHINES.decode(text)


def gpu_uuid(node: str, index: int) -> str:
    """The UUID of a GPU as NVML writes it; the same at every start."""
    return f"GPU-{uuid.uuid5(_NAMES, f'{node}/{index}')}"


def mig_uuid(node: str, index: int, profile: str, number: int) -> str:
    """The UUID of the MIG device number ``number`` of a profile on a GPU."""
    return f"MIG-{uuid.uuid5(_NAMES, f'{node}/{index}/{profile}/{number}')}"

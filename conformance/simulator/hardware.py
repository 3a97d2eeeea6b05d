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

_NAMES = uuid.UUID("7a0c7f6e-5d38-4d0b-9d4e-3a4c1d1f2b6a")


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The GPUs of one machine, all of one model.

    ``product`` is the name that NVML gives (``NVIDIA A100-SXM4-40GB``, ``Tesla T4``), ``memory_mib`` is per GPU,
    ``compute`` the compute capability (``8.0``). ``driver`` is the version of a driver on the host, empty where an
    operator has to bring one. ``unhealthy`` are indices of GPUs that the driver lists and no pod may get, ``missing``
    indices of GPUs that fell off the bus. ``broken`` names what else is wrong, see programs and operands.
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

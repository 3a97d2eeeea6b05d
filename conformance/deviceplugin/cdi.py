"""The CDI specification of a node's devices, for container runtimes that inject devices by name (containerd 1.7, 2).

Source: cncf-tags/container-device-interface, SPEC.md, version 0.6.0.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from conformance.gpu.resources import GPU as CDI_KIND

from .giving import VISIBLE, Given, given

if TYPE_CHECKING:
    from pathlib import Path

    from .hostfiles import HostFiles
    from .inventory import Inventory

VERSION = "0.6.0"
FILE = "gpu-conformance-devices.json"


def specification(inventory: Inventory, files: HostFiles) -> dict[str, Any]:
    """The specification with one device for each UUID that is offered. Several add up, but for the environment."""
    devices = {device.uuid: device for offer in inventory.offers.values() for device in offer.devices}
    entries = [
        {"name": uuid, "containerEdits": edits(given(inventory, files, [device]))} for uuid, device in devices.items()
    ]
    return {"cdiVersion": VERSION, "kind": CDI_KIND, "devices": entries}


def edits(given: Given) -> dict[str, Any]:
    """What the runtime changes about a container, as CDI says it.

    NVIDIA_VISIBLE_DEVICES is ``void``, as NVIDIA's toolkit sets it: a list cannot be added up device by device.
    """
    environment = {**given.environment, VISIBLE: "void"}
    return {
        "env": [f"{name}={value}" for name, value in environment.items()],
        "mounts": [
            {"hostPath": outside, "containerPath": inside, "options": ["ro", "nosuid", "nodev", "bind"]}
            for inside, outside in given.mounts.items()
        ],
        "deviceNodes": [
            {"path": inside, "hostPath": outside, "permissions": "rw"} for inside, outside in given.device_files.items()
        ],
    }


def write(folder: Path, inventory: Inventory, files: HostFiles) -> None:
    """Write the specification where container runtimes look for it (``/var/run/cdi``), in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f".{FILE}.new"
    half.write_text(json.dumps(specification(inventory, files), indent=2), encoding="utf-8")
    half.rename(folder / FILE)

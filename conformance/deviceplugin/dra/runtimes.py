"""Whether a container runtime gives containers the devices that a DRA plugin names: by CDI, which not every one has."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Injection", "injection"]

_VERSION = re.compile(r"^(?P<name>[a-z-]+)://v?(?P<major>\d+)\.(?P<minor>\d+)")
_OPTIONAL = "containerd 1.7 injects devices only where its configuration has enable_cdi = true"

# containerd, docs/cri/config.md and RELEASES.md: CDI came with 1.7, where it is off, and is on from 2.0 on. CRI-O,
# pull request 6742: the field by which kubelets name CDI devices is read from 1.28 on. cri-dockerd reads none.
_SINCE = {"containerd": (1, 7), "cri-o": (1, 28)}
_NEVER = ("docker",)


class Injection(NamedTuple):
    """``names``: whether the plugin names CDI devices to the kubelet; ``why``: what containers lack, or may lack."""

    names: bool
    why: str = ""


def injection(runtime: str) -> Injection:
    """What to do with the runtime that a Node names (status.nodeInfo.containerRuntimeVersion).

    Of one that nobody here knows it is assumed that it has CDI, without which no DRA driver works.
    """
    found = _VERSION.match(runtime)
    if found is None:
        return Injection(True)
    name, version = found["name"], (int(found["major"]), int(found["minor"]))
    if name in _NEVER or version < _SINCE.get(name, (0, 0)):
        plain = runtime.replace("://", " ")
        return Injection(False, f"{plain} has no CDI: claims are prepared, and containers see no device of them")
    return Injection(True, _OPTIONAL if name == "containerd" and version == (1, 7) else "")

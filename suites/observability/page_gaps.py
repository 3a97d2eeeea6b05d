"""What a metrics page lacks: GPUs, MIG devices by the declared layout, metrics of each device.

Under MIG each GPU instance (GPU_I_ID) is a device of its own: memory is told of each, utilisation of whole GPUs only.
Sources: NVIDIA/dcgm-exporter issues 507 (the second MIG device lacks a metric) and 512 (memory of whole GPUs only);
NVIDIA DCGM user guide, feature overview: which fields MIG has.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from conformance.gpu import dcgm
from conformance.gpu.sharing import NodeGpus

OF_WHOLE_GPUS = frozenset(
    {dcgm.UTILISATION, "DCGM_FI_DEV_MEM_COPY_UTIL", "DCGM_FI_DEV_ENC_UTIL", "DCGM_FI_DEV_DEC_UTIL"}
)
"""Metrics that DCGM has for whole GPUs only, not for MIG devices."""

_PROFILE = "GPU_I_PROFILE"
_MEDIA = re.compile(r"[.+]me")


class Gaps(NamedTuple):
    """The GPUs that a page has, the metrics that it lacks, and how its MIG devices differ from the layout."""

    gpus: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    layout: str = ""


def gaps_of(page: dcgm.Page, wanted: Iterable[str], declared: NodeGpus | None) -> Gaps:
    """What a page lacks of the wanted metrics and of the declared MIG devices."""
    names = tuple(wanted)
    every = _names_by_device(page)
    divided = {device.uuid for device in every if device.instance}
    of_mig = {name for device, there in every.items() if device.instance for name in there}
    missing = []
    for device, there in sorted(every.items()):
        if device.instance:
            expected = [name for name in dict.fromkeys((*names, *sorted(of_mig))) if name not in OF_WHOLE_GPUS]
        elif device.uuid in divided:
            continue
        else:
            expected = list(names)
        missing += [f"{name} of {device}" for name in expected if name not in there]
    return Gaps(page.gpus, tuple(missing), _layout_difference(page, declared))


def _names_by_device(page: dcgm.Page) -> dict[dcgm.DeviceKey, set[str]]:
    found: dict[dcgm.DeviceKey, set[str]] = {}
    for sample in page.samples:
        if sample.device is not None:
            found.setdefault(sample.device, set()).add(sample.name)
    return found


def _layout_difference(page: dcgm.Page, declared: NodeGpus | None) -> str:
    """How the MIG devices of a page differ from the declared ones; empty where they do not, or cannot be compared.

    A profile of compute instances (1c.3g.40gb) is told by the name of its GPU instance, which may be shared.
    """
    if declared is None or not declared.mig or not declared.layouts_known:
        return ""
    wanted = Counter({_plain(profile): count for profile, count in declared.devices().items()})
    if any("c." in profile for profile in wanted):
        return ""
    devices = {
        sample.device: _plain(sample.labels.get(_PROFILE, ""))
        for sample in page.samples
        if sample.device is not None and sample.device.instance
    }
    there = Counter(devices.values())
    return "" if there == wanted else f"MIG devices {_told(there)}, and the layout has {_told(wanted)}"


def _plain(profile: str) -> str:
    return _MEDIA.sub("+me", profile)


def _told(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {profile}" for profile, count in sorted(counted.items())) or "none"

"""What dcgm-exporter says: its page read by the line, and which values no GPU can have.

Sources: NVIDIA/dcgm-exporter, etc/default-counters.csv and internal/pkg/transformation; Prometheus, "Exposition
formats". The labels of a sample are gpu, UUID, device, modelName, Hostname, DCGM_FI_DRIVER_VERSION (newer releases),
GPU_I_ID and GPU_I_PROFILE for a MIG device, and container, namespace, pod for a device that a pod holds.
"""

import math
import re
from collections.abc import Iterable, Mapping

import msgspec

UTILISATION = "DCGM_FI_DEV_GPU_UTIL"
USED, FREE, RESERVED = "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED"
XID = "DCGM_FI_DEV_XID_ERRORS"
XID_COUNT = "DCGM_EXP_XID_ERRORS_COUNT"
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"
POWER = "DCGM_FI_DEV_POWER_USAGE"
DRIVER_LABEL = "DCGM_FI_DRIVER_VERSION"

# DCGM writes what it does not know as very large numbers (dcgm_structs.h: DCGM_INT64_BLANK, DCGM_FP64_BLANK).
BLANK = 0x7FFFFFF0
BLANK_LONG = 0x7FFFFFFFFFFFFFF0

# The least and the greatest value that a healthy sensor can give. Memory in MiB, temperature in degrees Celsius,
# power in watts (the largest module, a GB300, is rated at 1,400), fractions of time for the PROF metrics.
BOUNDS: Mapping[str, tuple[float, float]] = {
    UTILISATION: (0, 100),
    "DCGM_FI_DEV_MEM_COPY_UTIL": (0, 100),
    "DCGM_FI_DEV_ENC_UTIL": (0, 100),
    "DCGM_FI_DEV_DEC_UTIL": (0, 100),
    TEMPERATURE: (1, 120),
    "DCGM_FI_DEV_MEMORY_TEMP": (0, 130),
    POWER: (0, 2500),
    USED: (0, 1_048_576),
    FREE: (0, 1_048_576),
    RESERVED: (0, 1_048_576),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": (0, 1),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": (0, 1),
    "DCGM_FI_PROF_DRAM_ACTIVE": (0, 1),
}

COUNTERS = (ENERGY, "DCGM_FI_DEV_PCIE_REPLAY_COUNTER")
"""Metrics that never go down while the driver stays loaded."""

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>[^\s]+)(?:\s+-?\d+)?", re.ASCII)
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?', re.ASCII)
_ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class Sample(msgspec.Struct, frozen=True):
    """One value of one metric of one device."""

    name: str
    labels: dict[str, str]
    value: float

    @property
    def device(self) -> "DeviceKey | None":
        """The device that it is about; None for a sample that is about none."""
        uuid = self.labels.get("UUID") or self.labels.get("uuid") or ""
        return DeviceKey(uuid, self.labels.get("GPU_I_ID", "")) if uuid else None

    @property
    def blank(self) -> bool:
        """Whether DCGM says that it has no value: sensors that a model lacks, metrics that MIG does not give."""
        return math.isnan(self.value) or BLANK <= self.value <= BLANK + 15 or self.value >= BLANK_LONG

    @property
    def pod(self) -> str:
        """``namespace/name`` of the pod that holds the device; empty for one that nobody holds."""
        name = self.labels.get("pod") or self.labels.get("exported_pod") or self.labels.get("pod_name") or ""
        namespace = self.labels.get("namespace") or self.labels.get("exported_namespace") or ""
        return f"{namespace or self.labels.get('pod_namespace', '')}/{name}" if name else ""


class DeviceKey(msgspec.Struct, frozen=True, order=True):
    """A GPU by its UUID, and one of its MIG devices by the id of its GPU instance; empty for the whole GPU."""

    uuid: str
    instance: str = ""

    def __str__(self) -> str:
        return f"{self.uuid} instance {self.instance}" if self.instance else self.uuid


class Page(msgspec.Struct, frozen=True):
    """One page of an exporter. ``odd`` are lines that are no samples."""

    samples: tuple[Sample, ...]
    odd: tuple[str, ...] = ()

    def of(self, name: str) -> tuple[Sample, ...]:
        """The samples of one metric."""
        return tuple(sample for sample in self.samples if sample.name == name)

    @property
    def devices(self) -> tuple[DeviceKey, ...]:
        """Every device that any DCGM metric is about, sorted."""
        return tuple(sorted({sample.device for sample in self.samples if sample.device is not None}))

    @property
    def gpus(self) -> tuple[str, ...]:
        """The UUIDs of all GPUs, each once, sorted."""
        return tuple(sorted({device.uuid for device in self.devices}))

    def holders(self) -> dict[DeviceKey, str]:
        """Which pod (``namespace/name``) each device is said to be held by; devices of nobody left out."""
        return {sample.device: sample.pod for sample in self.samples if sample.device is not None and sample.pod}


def parse(text: str) -> Page:
    """Read a page in Prometheus' text format. Whatever the text, the answer is a value; nothing is raised."""
    samples, odd = [], []
    for line in text.split("\n"):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        sample = _sample(stripped)
        if sample is None:
            odd.append(stripped)
        else:
            samples.append(sample)
    return Page(tuple(samples), tuple(odd))


def _sample(line: str) -> Sample | None:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        return None
    labels: dict[str, str] = {}
    rest = found["labels"] or ""
    while rest.strip():
        label = _LABEL.match(rest)
        if label is None:
            return None
        labels[label[1]] = re.sub(r"\\.", lambda escaped: _ESCAPED.get(escaped[0], escaped[0]), label[2])
        rest = rest[label.end() :]
    try:
        return Sample(found["name"], labels, float(found["value"]))
    except ValueError:
        return None


class Implausible(msgspec.Struct, frozen=True):
    """A value that no healthy device can have."""

    metric: str
    device: DeviceKey
    text: str

    def __str__(self) -> str:
        return f"{self.metric} of {self.device}: {self.text}"


def implausible(page: Page, memory_mib: int = 0) -> tuple[Implausible, ...]:
    """Every value outside its bounds, two values for one device, and memory that does not add up.

    ``memory_mib`` is that of one whole GPU as declared, 0 when it is not: then only a sum of zero is wrong. The sum of
    used, free and reserved is compared within a tenth, for whole GPUs only; older exporters leave reserved out.
    """
    return (*_out_of_bounds(page), *_repeated(page), *_memory(page, memory_mib))


def _out_of_bounds(page: Page) -> Iterable[Implausible]:
    for sample in page.samples:
        least, greatest = BOUNDS.get(sample.name, (-math.inf, math.inf))
        if sample.device is not None and not sample.blank and not least <= sample.value <= greatest:
            yield Implausible(sample.name, sample.device, f"{sample.value:g} is not within {least:g} to {greatest:g}")


def _repeated(page: Page) -> Iterable[Implausible]:
    # A device that is shared may have one sample for each pod that holds a share of it.
    seen: dict[tuple[str, DeviceKey, str], float] = {}
    for sample in page.samples:
        if sample.device is None or sample.name not in BOUNDS:
            continue
        key = (sample.name, sample.device, f"{sample.pod}/{sample.labels.get('container', '')}")
        if key in seen and seen[key] != sample.value:
            yield Implausible(sample.name, sample.device, f"{seen[key]:g} and {sample.value:g} at the same time")
        seen[key] = sample.value


def _memory(page: Page, memory_mib: int) -> Iterable[Implausible]:
    sums: dict[DeviceKey, dict[str, float]] = {}
    for sample in page.samples:
        if sample.name in (USED, FREE, RESERVED) and sample.device is not None and not sample.blank:
            sums.setdefault(sample.device, {})[sample.name] = sample.value
    for device, parts in sums.items():
        if device.instance or not {USED, FREE} <= set(parts):
            continue
        total = sum(parts.values())
        if not total or (memory_mib and abs(total - memory_mib) > 0.1 * memory_mib):
            wanted = f"{memory_mib} MiB" if memory_mib else "more than nothing"
            yield Implausible(USED, device, f"used, free and reserved make {total:g} MiB, and it has {wanted}")


def went_down(before: Page, after: Page) -> tuple[Implausible, ...]:
    """Counters of which a device has a smaller value in the later of two pages."""
    earlier = {(sample.name, sample.device): sample.value for sample in before.samples if not sample.blank}
    return tuple(
        Implausible(
            sample.name, sample.device, f"went from {earlier[sample.name, sample.device]:g} to {sample.value:g}"
        )
        for sample in after.samples
        if sample.name in COUNTERS
        and sample.device is not None
        and not sample.blank
        and sample.value < earlier.get((sample.name, sample.device), -math.inf)
    )

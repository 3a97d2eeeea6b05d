"""On which nodes there is a share of a GPU for a pod, as KAI gives it: by an annotation, of GPUs that nodes have whole.

A GPU of which shares are given is held whole by a reservation pod of KAI, so that no device plugin gives it away; the
pods that share it have its group in a label. Sources: https://github.com/NVIDIA/KAI-Scheduler (docs/gpu-sharing;
pkg/common/constants: gpu-fraction, gpu-memory in MiB, gpu-fraction-num-devices, runai-gpu-group, and that label with
a slash and the group behind it where a pod has shares of several GPUs).
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from conformance.gpu.labels import GPU_MEMORY, KAI_FRACTION, KAI_FRACTION_DEVICES, KAI_MEMORY
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import GPU

Manifest: TypeAlias = Mapping[str, Any]

_GROUP = "runai-gpu-group"
_WHOLE = Fraction(1)


class Lack(NamedTuple):
    """What a node lacks for a share: in words, the part of a GPU that is wanted of each, and the most that is free.

    ``none`` where the node offers no whole GPU at all.
    """

    words: str
    wanted: Fraction
    free: Fraction
    none: bool


class RequestedFraction:
    """The part of a GPU, or of each of several, that one pod asks for; ``undecided`` says what could not be judged."""

    def __init__(self, pod: Manifest) -> None:
        self._annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
        self._devices = int(quantity(self._annotations.get(KAI_FRACTION_DEVICES) or 0)) or 1
        self.undecided: tuple[str, ...] = ()

    def on(self, node: Manifest, here: Sequence[Manifest], taken: Fraction) -> Iterator[Lack]:
        """What keeps the pod off the node; ``taken`` are the GPUs that pods there hold whole."""
        total = quantity(((node.get("status") or {}).get("allocatable") or {}).get(GPU, "0"))
        if not total:
            yield Lack(
                f"a share of a GPU ({self._stated()}) asked for, and it offers none ({GPU})", _WHOLE, total, True
            )
            return
        wanted = _share(self._annotations, node)
        if wanted is None or any(_share_of(each, node) is None for each in here):
            self.undecided = ("shares of GPUs by their memory, where a node has no label with the memory of its GPUs",)
            return
        if any(_share_of(each, node) and not _groups(each) for each in here):
            self.undecided = ("which GPU the pods hold that have a share without a group (label runai-gpu-group)",)
            return
        rooms = [_WHOLE - used for used in _used(here, node).values()]
        free = max(0, int(total - taken))
        if self._devices > free + sum(room >= wanted for room in rooms):
            most = _WHOLE if free else max(rooms, default=Fraction(0))
            yield Lack(
                f"{_told(wanted)} of a GPU ({self._stated()}) asked for, at most {_told(most)} of one free",
                wanted,
                most,
                False,
            )

    def _stated(self) -> str:
        stated = (f"{key}: {self._annotations[key]}" for key in _ANNOTATIONS if key in self._annotations)
        return f"annotation {', '.join(stated)}"


_ANNOTATIONS = (KAI_FRACTION, KAI_MEMORY, KAI_FRACTION_DEVICES)


def asks_for_a_share(pod: Manifest) -> bool:
    """Whether a pod asks for a share of a GPU as only KAI understands it."""
    return bool({KAI_FRACTION, KAI_MEMORY} & (pod["metadata"].get("annotations") or {}).keys())


def _share_of(pod: Manifest, node: Manifest) -> Fraction | None:
    return _share(pod["metadata"].get("annotations") or {}, node) if asks_for_a_share(pod) else Fraction(0)


def _share(annotations: Mapping[str, str], node: Manifest) -> Fraction | None:
    """The part of a GPU of a node that annotations ask for; None where the memory of its GPUs is not known."""
    if KAI_FRACTION in annotations:
        return quantity(annotations[KAI_FRACTION])
    memory = quantity((node["metadata"].get("labels") or {}).get(GPU_MEMORY) or 0)
    return quantity(annotations[KAI_MEMORY]) / memory if memory else None


def _groups(pod: Manifest) -> tuple[str, ...]:
    labels = pod["metadata"].get("labels") or {}
    several = tuple(key.partition("/")[2] for key in labels if key.startswith(f"{_GROUP}/"))
    return several or ((str(labels[_GROUP]),) if _GROUP in labels else ())


def _used(here: Sequence[Manifest], node: Manifest) -> Mapping[str, Fraction]:
    """How much of each shared GPU is given away, by its group."""
    used: dict[str, Fraction] = {}
    for pod in here:
        share = _share_of(pod, node)
        for group in _groups(pod) if share else ():
            used[group] = used.get(group, Fraction(0)) + (share or Fraction(0))
    return used


def _told(share: Fraction) -> str:
    return f"{float(share):.3g}"

"""Why no node offers what a pod asks for: GPUs under another name, a device plugin that offers nothing, a wrong slice.

Names: NVIDIA/k8s-device-plugin README (shared resources, MIG strategies), NVIDIA MIG user guide.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conformance.gpu.labels import GPU_PRESENT, MIG_STRATEGY
from conformance.gpu.placement import NONE_OF_IT, Obstacle
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import GPU, MIG_PREFIX

_SHARED = ".shared"
_MOST = 4


def why_none_offers(
    meant: Mapping[str, Sequence[Obstacle]], nodes: Sequence[Mapping[str, Any]], drivers: Sequence[str]
) -> str:
    """What is asked for, with the likeliest reason that these nodes have none; ``drivers`` have resource slices."""
    missing = [each for kept in meant.values() for each in kept if each.kind == NONE_OF_IT]
    asked = next((each for each in missing if each.resource), missing[0])
    hint = _hint(asked.resource, nodes, drivers) if asked.resource else ""
    return f"{asked.text}{f'; {hint}' if hint else ''}"


def _hint(resource: str, nodes: Sequence[Mapping[str, Any]], drivers: Sequence[str]) -> str:
    renamed = f"{resource}{_SHARED}"
    if _offering(nodes, (renamed,)):
        return f"{_names(_offering(nodes, (renamed,)))} offers shared ones, which are called {renamed}"
    single = [each for each in nodes if _label(each, MIG_STRATEGY) == "single" and _amount(each, GPU)]
    if resource.startswith(MIG_PREFIX) and single:
        return f"the MIG strategy of {_names(single)} is single, there a slice is called {GPU}"
    withheld = [each for each in nodes if _amount(each, resource, "capacity")]
    if withheld:
        return f"{_names(withheld)} has them in its capacity and none to give: unhealthy, or the device plugin is gone"
    others = sorted({each for node in nodes for each in _extended(node) if _amount(node, each)})
    if resource == GPU or resource.startswith(MIG_PREFIX):
        slices = [each for each in others if each.startswith(MIG_PREFIX) or each == GPU]
        if slices:
            return f"nodes offer {', '.join(slices[:_MOST])}"
        present = [each for each in nodes if _label(each, GPU_PRESENT) == "true"]
        if present:
            return f"{_names(present)} has GPUs, which no device plugin offers (it is not there, or it found none)"
    if others:
        return f"nodes offer {', '.join(others[:_MOST])}"
    if drivers:
        return f"devices are in resource slices of {', '.join(drivers[:_MOST])}: a ResourceClaim asks for those"
    return "no node has devices to offer"


def _offering(nodes: Iterable[Mapping[str, Any]], resources: Sequence[str]) -> list[Mapping[str, Any]]:
    return [each for each in nodes if any(_amount(each, resource) for resource in resources)]


def _extended(node: Mapping[str, Any]) -> list[str]:
    return [each for each in (node.get("status") or {}).get("allocatable") or {} if "/" in each]


def _amount(node: Mapping[str, Any], resource: str, member: str = "allocatable") -> bool:
    return quantity(((node.get("status") or {}).get(member) or {}).get(resource, "0")) > 0


def _label(node: Mapping[str, Any], key: str) -> str:
    return str((node["metadata"].get("labels") or {}).get(key) or "")


def _names(nodes: Sequence[Mapping[str, Any]]) -> str:
    names = sorted(str(each["metadata"]["name"]) for each in nodes)
    return f"node {names[0]}" if len(names) == 1 else f"each of {', '.join(names[:_MOST])}"

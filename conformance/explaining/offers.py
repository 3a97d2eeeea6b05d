"""Why no node offers what a pod asks for: GPUs under another name, a device plugin that offers nothing, a wrong slice.

Names: NVIDIA/k8s-device-plugin README (shared resources, MIG strategies), NVIDIA MIG user guide.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conformance.gpu.labels import GPU_PRODUCT, HAMI_RESOURCES, MIG_STRATEGY
from conformance.gpu.placement import NONE_OF_IT, Obstacle
from conformance.gpu.presence import has_gpus
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import GPU, MIG_PREFIX, is_gpu_resource

_SHARED = ".shared"
_DIVIDED = "-MIG-"
"""Between product and profile in what gpu-feature-discovery says (NVIDIA/k8s-device-plugin, internal/lm)."""
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
    if resource in HAMI_RESOURCES:
        return "it is known to HAMi only, whose own scheduler is to place the pod (schedulerName)"
    renamed = f"{resource}{_SHARED}"
    if _offering(nodes, (renamed,)):
        return f"{_names(_offering(nodes, (renamed,)))} offers shared ones, which are called {renamed}"
    if resource.startswith(MIG_PREFIX) and (single := [each for each in nodes if _is_one_slice_size(each)]):
        return f"the MIG strategy of {_names(single)} is single, there a slice is called {GPU}"
    others = sorted({each for node in nodes for each in _extended(node) if _amount(node, each)})
    withheld = [each for each in nodes if _amount(each, resource, "capacity")]
    if withheld:
        return _withheld(resource, withheld)
    if resource.startswith(MIG_PREFIX) and GPU in others and not any(each.startswith(MIG_PREFIX) for each in others):
        return f"no GPU is divided (MIG) there: nodes offer {', '.join(others[:_MOST])}"
    if resource == GPU or resource.startswith(MIG_PREFIX):
        slices = [each for each in others if each.startswith(MIG_PREFIX) or each == GPU]
        if slices:
            return f"nodes offer {', '.join(slices[:_MOST])}"
        present = [each for each in nodes if has_gpus(each["metadata"].get("labels") or {})]
        if present:
            return f"{_names(present)} has GPUs, which no device plugin offers"
    if others:
        return f"nodes offer {', '.join(others[:_MOST])}"
    if drivers:
        # Of network cards and other devices a pod for GPUs need not be told.
        of_vendor = [each for each in drivers if each.endswith(resource.partition("/")[0])] or drivers
        return f"devices are in resource slices of {', '.join(of_vendor[:_MOST])}: a ResourceClaim asks for those"
    return "no node has devices to offer"


def _is_one_slice_size(node: Mapping[str, Any]) -> bool:
    """Whether a node's GPUs are divided into slices that are called as whole GPUs are.

    The strategy is a label of every node, also where no GPU is divided: the product then has no profile behind it.
    """
    divided = _DIVIDED in _label(node, GPU_PRODUCT)
    return divided and _label(node, MIG_STRATEGY) == "single" and _amount(node, GPU)


def _withheld(resource: str, nodes: Sequence[Mapping[str, Any]]) -> str:
    """A kubelet keeps in its capacity what it once offered, also when a device plugin now calls it something else."""
    vendor = f"{resource.partition('/')[0]}/"
    instead = sorted({each for node in nodes for each in _extended(node) if each.startswith(vendor)})
    offered = [each for each in instead if any(_amount(node, each) for node in nodes)]
    if offered:
        return f"{_names(nodes)} had them before, and offers {', '.join(offered[:_MOST])} now"
    return f"{_names(nodes)} has them in its capacity and none to give: unhealthy, or the device plugin is gone"


def offers_devices(nodes: Iterable[Mapping[str, Any]], drivers: Sequence[str] = ()) -> bool:
    """Whether any of the nodes offers a device of any name, or there are some in resource slices."""
    return bool(drivers) or any(_amount(node, each) for node in nodes for each in _extended(node))


def offers_gpus(node: Mapping[str, Any]) -> bool:
    """Whether a node offers GPUs of NVIDIA, whole, shared or divided; network interfaces beside them do not count."""
    return any(is_gpu_resource(each) and _amount(node, each) for each in _extended(node))


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

"""The GPUs of a node: its labels of GPU Feature Discovery, and what its kubelet offers and remembers."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from conformance.facts import Facts, Node
from conformance.gpu.drivers import labelled_driver
from conformance.gpu.labels import GPU_COUNT, GPU_MEMORY, GPU_PRODUCT
from conformance.gpu.mig import Unknown, model_of
from conformance.gpu.presence import has_gpus
from conformance.gpu.sharing import Offer
from conformance.reference.expected import gpu_resources
from conformance.reference.model import Gpu, Pool, Reference
from conformance.verdict import Inconclusive, UnknownAccelerator
from suites._shared.resource_slices import devices_on

# Sharing and MIG append themselves to the product: NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED is still that A100. Names of
# profiles may hold a dash: 1g.24gb-me.
_SHARING_SUFFIX = re.compile(r"(-MIG-[\w.-]+?)?(-SHARED)?$")
# The driver reports less than the nominal size: 23028 MiB of 24576 on an A10, 15360 of 16384 on a T4.
_MEMORY_TOLERANCE = 0.1


def product(node: Node) -> str:
    """The product label of GPU Feature Discovery without the suffixes of sharing and MIG; empty when unlabelled."""
    return _without_suffixes(node.labels.get(GPU_PRODUCT, ""))


# Thousands of nodes have the same few products.
@lru_cache(maxsize=256)
def _without_suffixes(label: str) -> str:
    return _SHARING_SUFFIX.sub("", label)


def driver(node: Node) -> str:
    """The driver version label of GPU Feature Discovery; empty when unlabelled."""
    return labelled_driver(node.labels)


DRIVER_TRAIT = "driver"
KERNEL_TRAIT = "kernel"
TRAITS: dict[str, Callable[[Node], str]] = {
    DRIVER_TRAIT: driver,
    KERNEL_TRAIT: lambda node: node.kernel,
    "GPU product": product,
}
"""In what the nodes of one pool must be alike, and how to read it from a node."""


def is_the_product(node: Node, gpu: Gpu) -> bool:
    """Whether the node's product is the declared one; any product is right where none is declared."""
    return not gpu.product or product(node) == gpu.product


def has_the_memory(node: Node, gpu: Gpu) -> bool:
    """Whether a device has about the declared memory; with MIG the label is that of one MIG device and not compared."""
    reported = node.labels.get(GPU_MEMORY, "")
    if not gpu.memory_mib or not reported.isdigit() or "-MIG-" in node.labels.get(GPU_PRODUCT, ""):
        return True
    return memory_agrees(int(reported), gpu.memory_mib)


def memory_agrees(found_mib: int | None, declared_mib: int) -> bool:
    """Whether a GPU has about the declared memory; any is right where none is declared, or the driver names none."""
    if found_mib is None or not declared_mib:
        return True
    return abs(found_mib - declared_mib) <= _MEMORY_TOLERANCE * declared_mib


def shows_gpus(node: Node, reference: Reference, facts: Facts) -> bool:
    """Whether a node has GPUs: by a label of whoever looked at its hardware, its capacity, or its ResourceSlices."""
    if has_gpus(node.labels):
        return True
    counted = any(node.gpu_capacity(name) for name in {*gpu_resources(reference), *node.gpu_resources})
    return counted or bool(devices_on(node, facts))


def offered(node: Node, expected: Mapping[str, int]) -> dict[str, int]:
    """What a node offers of the expected resources and of every other GPU resource, counts of 0 left out."""
    return _counted(node, expected, node.gpus)


def counted(node: Node, expected: Mapping[str, int]) -> dict[str, int]:
    """The same by capacity: devices that the device plugin reports as unhealthy are among them.

    A name that is not expected, and of which nothing is allocatable beside another name that has some, is left out: the
    kubelet remembers what a plugin offered under its former configuration until the kubelet itself is restarted.
    Source: kubernetes/kubernetes, pkg/kubelet/cm/devicemanager/manager.go: GetCapacity, stopped endpoints.
    """
    there = _counted(node, expected, node.gpu_capacity)
    living = {name for name in there if node.gpus(name)}
    return {name: count for name, count in there.items() if not living or name in living or name in expected}


def leftovers(node: Node, expected: Mapping[str, int]) -> dict[str, int]:
    """What the kubelet remembers of a former configuration: other names, of which nothing is allocatable."""
    every = _counted(node, expected, node.gpu_capacity)
    return {name: count for name, count in every.items() if name not in expected and not node.gpus(name)}


def _counted(node: Node, expected: Mapping[str, int], count: Callable[[str], int]) -> dict[str, int]:
    return {name: devices for name in sorted({*expected, *node.gpu_resources}) if (devices := count(name))}


def missing_gpus(node: Node, gpu: Gpu) -> int:
    """How many of the declared GPUs the driver does not list; 0 without a label of GPU Feature Discovery."""
    found = node.labels.get(GPU_COUNT, "")
    return max(0, gpu.count - int(found)) if found.isdigit() and int(found) else 0


def agrees(node: Node, pool: Pool, expected: Mapping[str, int]) -> bool:
    """Whether a node's capacity is what is expected of the GPUs that are present.

    A GPU that fell off the bus or is unhealthy is reported by POOL-04: it says nothing about sharing.
    """
    there, gpu = counted(node, expected), pool.gpu
    if gpu is None or pool.mig_layout or there == expected:
        return there == expected
    present = gpu.count - missing_gpus(node, gpu)
    return there == {name: count // gpu.count * present for name, count in expected.items()}


def format_amounts(resources: Mapping[str, int]) -> str:
    """Resources as ``8 nvidia.com/gpu and 4 nvidia.com/mig-1g.5gb``; nothing where there are none."""
    return " and ".join(f"{count} {name}" for name, count in resources.items()) or "nothing"


def not_known(pool: Pool, offer: Offer) -> Inconclusive | UnknownAccelerator:
    """The reason why it is unknown what the nodes of a pool must offer, to be raised."""
    reason = (
        f"{pool}: {'; '.join(offer.problems) or 'it is unknown what its nodes must offer'} (layout {pool.mig_layout})"
    )
    model = model_of(pool.gpu.product, pool.gpu.memory_mib or None) if pool.gpu else Unknown("it has no GPUs")
    if isinstance(model, Unknown):
        return UnknownAccelerator(f"{reason}; {model.why}")
    return Inconclusive(f"{reason}; declare the layout under stack.mig_layouts, without device-filter")

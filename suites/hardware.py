"""What a node says about its GPUs: the labels of feature discovery, and why it offers another number than declared."""

import re
from collections.abc import Callable

from conformance.facts import Node
from conformance.reference.model import Gpu, Reference

# Labels of GPU Feature Discovery, of the operator and of Node Feature Discovery.
PRODUCT = "nvidia.com/gpu.product"
MEMORY = "nvidia.com/gpu.memory"
DRIVER = "nvidia.com/cuda.driver-version.full"
# The labels that DRIVER replaced, still written by older releases.
_OLD_DRIVER = ("nvidia.com/cuda.driver.major", "nvidia.com/cuda.driver.minor", "nvidia.com/cuda.driver.rev")
_PRESENT = (
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0300_10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present",
)
# Sharing and MIG append themselves to the product: NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED is still that A100.
_SHARING_SUFFIX = re.compile(r"(-MIG-[\w.]+)?(-SHARED)?$")
# The driver reports less than the nominal size: 23028 MiB of 24576 on an A10, 15360 of 16384 on a T4.
_MEMORY_TOLERANCE = 0.1


def product(node: Node) -> str:
    """The GPU product that feature discovery found, without what sharing and MIG append; empty when unlabelled."""
    return _SHARING_SUFFIX.sub("", node.labels.get(PRODUCT, ""))


def driver(node: Node) -> str:
    """The driver version that feature discovery found; empty when unlabelled."""
    older = [node.labels[key] for key in _OLD_DRIVER if node.labels.get(key)]
    return node.labels.get(DRIVER) or ".".join(older)


TRAITS: dict[str, Callable[[Node], str]] = {
    "driver": driver,
    "kernel": lambda node: node.kernel,
    "GPU product": product,
}
"""In what the nodes of one pool must be alike, and how to read it from a node."""


def is_the_product(node: Node, gpu: Gpu) -> bool:
    """Whether the node's product is the declared one; any product is right where none is declared."""
    return not gpu.product or product(node) == gpu.product


def has_the_memory(node: Node, gpu: Gpu) -> bool:
    """Whether a device has about the declared memory; under MIG the label speaks of one slice and proves nothing."""
    reported = node.labels.get(MEMORY, "")
    if not gpu.memory_mib or not reported.isdigit() or "-MIG-" in node.labels.get(PRODUCT, ""):
        return True
    return abs(int(reported) - gpu.memory_mib) <= _MEMORY_TOLERANCE * gpu.memory_mib


def shows_gpus(node: Node, reference: Reference) -> bool:
    """Whether anything about the node says that it has GPUs: its capacity, or a label of a discovery."""
    declared = {reference.gpu_resource, *(pool.gpu.resource for pool in reference.pools if pool.gpu)}
    counted = any(node.gpu_capacity(name) for name in {*declared, *node.gpu_resources})
    return counted or any(node.labels.get(label) == "true" for label in _PRESENT)


def why_the_number_differs(node: Node, gpu: Gpu) -> tuple[str, str]:
    """The first broken link between the devices and the number that a node offers, and what to do about it."""
    capacity, offered = node.gpu_capacity(gpu.resource), node.gpus(gpu.resource)
    if offered < capacity:
        return (
            f"the device plugin holds back {capacity - offered} of {capacity} as unhealthy",
            "Look for the XID in the device plugin's log, reset or replace the device, then restart the plugin pod: "
            "it never takes a device back by itself.",
        )
    if not offered:
        return _why_none_is_offered(node, gpu)
    if offered < gpu.count:
        seen = node.labels.get("nvidia.com/gpu.count", "")
        and_driver = f", and the driver sees {seen}" if seen else ""
        return f"the device plugin registered only {offered} devices{and_driver}", "Check the node's PCI bus and dmesg."
    replicas = node.labels.get("nvidia.com/gpu.replicas", "")
    shared = f": sharing is on with {replicas} replicas" if replicas not in ("", "1") else ""
    return f"the node offers {offered - gpu.count} more than were declared{shared}", "Declare what the pool really has."


def _why_none_is_offered(node: Node, gpu: Gpu) -> tuple[str, str]:
    others = {name: devices for name in node.gpu_resources if (devices := node.gpus(name))}
    if others:
        names = ", ".join(f"{name}={devices}" for name, devices in others.items())
        return f"the GPUs are offered under another name: {names}", "Declare that resource for the pool."
    deploy = node.labels.get("nvidia.com/gpu.deploy.device-plugin", "true")
    if deploy != "true":
        return (
            f"label nvidia.com/gpu.deploy.device-plugin={deploy} keeps the device plugin off the node",
            "Finish the driver upgrade that set the label, or restore it to true.",
        )
    return (
        f"no device plugin has registered {gpu.resource} with the kubelet of {node.name}",
        "Check that the device plugin's DaemonSet tolerates every taint of the node and that its pod found the driver.",
    )

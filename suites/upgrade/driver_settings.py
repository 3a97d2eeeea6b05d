"""What the operator is told about the driver of a node: by the node's NVIDIADriver, else by the ClusterPolicy."""

import re
from typing import Any

from conformance.facts import Facts, Node
from conformance.gpu.driver_hardware import Architecture, Modules, architecture_of, architecture_of_product
from conformance.gpu.labels import GPU_COMPUTE, OS_ID, OS_VERSION, PLATFORM_PRODUCTS
from conformance.reference.model import Gpu
from conformance.upgrading.policy import driver_object_of
from suites._shared.node_gpus import product
from suites._shared.operator_resource import OperatorResource

# As a kubelet tells it: Ubuntu 24.04.3 LTS.
_UBUNTU = re.compile(r"Ubuntu (\d\d\.\d\d)", re.ASCII)
_BESIDE_DRIVER = ("gds", "gdrcopy")
"""Blocks that a ClusterPolicy has beside ``driver``, and an NVIDIADriver has like the others."""


def setting(path: str, node: Node, operator_resource: OperatorResource, facts: Facts) -> Any:
    """The value at a path such as ``rdma.enabled`` for the driver of a node; None where it is not set."""
    owner = driver_object_of(node, facts) if operator_resource.uses_nvidia_driver_objects else None
    if owner is not None:
        return OperatorResource(owner).at(path)
    beside = path.partition(".")[0] in _BESIDE_DRIVER
    return operator_resource.at(path if beside else f"driver.{path}")


def modules_asked(node: Node, operator_resource: OperatorResource, facts: Facts) -> Modules:
    """The kernel modules that are asked for on a node; AUTO where nothing is said."""
    asked = setting("kernelModuleType", node, operator_resource, facts)
    return Modules(asked) if asked in list(Modules) else Modules.AUTO


def architecture_on(node: Node, declared: Gpu | None = None) -> Architecture | None:
    """The architecture of a node's GPUs; None where nothing tells one that the tables know.

    Told by the compute capability that GPU Feature Discovery labels, else by the product: labelled by it or by a
    platform, or as the node's pool declares it.
    """
    major, minor = (node.labels.get(key, "") for key in GPU_COMPUTE)
    if major.isdigit() and minor.isdigit():
        return architecture_of((int(major), int(minor)))
    told = [product(node), *(node.labels.get(key, "") for key in PLATFORM_PRODUCTS)]
    told += [declared.product, declared.model] if declared is not None else []
    return next((found for each in told if (found := architecture_of_product(each)) is not None), None)


def system_of(node: Node) -> str:
    """The operating system as in the tags of driver images, such as ubuntu24.04; empty where nothing tells it."""
    name, version = node.labels.get(OS_ID, ""), node.labels.get(OS_VERSION, "")
    if name and version:
        return f"{name}{version}"
    ubuntu = _UBUNTU.match(node.os_image)
    return f"ubuntu{ubuntu[1]}" if ubuntu else ""

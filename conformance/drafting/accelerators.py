"""By which resources pods ask for accelerators, NVIDIA's and others', and how many of them a node has."""

from conformance.facts import Node
from conformance.gpu.labels import HAMI_RESOURCES
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import PARTS_OF_GPUS, is_for_virtual_machines, is_gpu_resource, is_of_other_maker

# AWS' plugin offers its devices, and the cores of the same devices, under names of their own.
_SAME_DEVICES = {
    "aws.amazon.com/neuroncore": "aws.amazon.com/neuron",
    "aws.amazon.com/neurondevice": "aws.amazon.com/neuron",
}


def is_accelerator(resource: str) -> bool:
    """Whether an extended resource stands for accelerators: GPUs, parts of them, passthrough devices, others' chips."""
    if resource in HAMI_RESOURCES:  # memory and cores of a GPU, beside nvidia.com/gpu
        return False
    known = is_gpu_resource(resource) or resource in PARTS_OF_GPUS or is_of_other_maker(resource)
    return known or is_for_virtual_machines(resource)


def offered(node: Node) -> dict[str, int]:
    """The accelerators that a node counts, by resource; names whose allocatable and capacity are 0 left out.

    Capacity decides: devices that a plugin holds back are there and ought to be offered. A name that the kubelet only
    remembers, capacity without anything allocatable beside another name that has some, is left out, and so is a second
    name of the same devices.
    """
    capacity = {name: number_of(amount) for name, amount in node.capacity.items() if is_accelerator(name)}
    there = {name: count for name, count in capacity.items() if count}
    living = {name: count for name, count in there.items() if number_of(node.allocatable.get(name, "0"))}
    return {name: count for name, count in (living or there).items() if _SAME_DEVICES.get(name) not in there}


def number_of(amount: str) -> int:
    """An amount of devices as a number; 0 where it is none."""
    try:
        return int(quantity(amount))
    except ValueError:
        return 0

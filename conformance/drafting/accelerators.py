"""By which resources pods ask for accelerators, NVIDIA's and others'."""

from conformance.gpu.labels import HAMI_RESOURCES
from conformance.gpu.resources import PARTS_OF_GPUS, is_gpu_resource, is_of_other_maker

# Beside nvidia.com/gpu HAMi asks for parts of a GPU by these; they count memory and cores, not devices.
_NVIDIA = "nvidia.com/"


def is_accelerator(resource: str) -> bool:
    """Whether an extended resource stands for accelerators: GPUs, parts of them, passthrough devices, others' chips."""
    if resource in HAMI_RESOURCES:
        return False
    # NVIDIA/kubevirt-gpu-device-plugin offers passthrough devices by the name of the model: nvidia.com/GA102GL_A10.
    known = is_gpu_resource(resource) or resource in PARTS_OF_GPUS or is_of_other_maker(resource)
    return known or resource.startswith(_NVIDIA)

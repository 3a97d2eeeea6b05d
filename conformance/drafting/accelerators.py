"""By which resources pods ask for accelerators, NVIDIA's and others'."""

from conformance.gpu.labels import HAMI_RESOURCES
from conformance.gpu.resources import is_gpu_resource, is_of_other_maker

# Shares of NVIDIA's GPUs that other device plugins offer: Volcano's vGPU plugin, Alibaba's GPU sharing.
OTHERS = ("volcano.sh/vgpu-number", "aliyun.com/gpu-mem")
# Beside nvidia.com/gpu HAMi asks for parts of a GPU by these; they count memory and cores, not devices.
_NVIDIA = "nvidia.com/"


def is_accelerator(resource: str) -> bool:
    """Whether an extended resource stands for accelerators: GPUs, parts of them, passthrough devices, others' chips."""
    if resource in HAMI_RESOURCES:
        return False
    # NVIDIA/kubevirt-gpu-device-plugin offers passthrough devices by the name of the model: nvidia.com/GA102GL_A10.
    known = is_gpu_resource(resource) or resource in OTHERS or is_of_other_maker(resource)
    return known or resource.startswith(_NVIDIA)

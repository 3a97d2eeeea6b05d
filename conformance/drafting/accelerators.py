"""By which resources pods ask for accelerators, NVIDIA's and others'."""

from conformance.gpu.labels import HAMI_RESOURCES
from conformance.gpu.resources import is_gpu_resource

# The README of each device plugin: ROCm/k8s-device-plugin, GKE TPU, AWS Neuron, Habana, Intel, HAMi, Volcano, ACK.
OTHERS = (
    "amd.com/gpu",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "aws.amazon.com/neuroncore",
    "aws.amazon.com/neurondevice",
    "habana.ai/gaudi",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
    "volcano.sh/vgpu-number",
    "aliyun.com/gpu-mem",
)
# Beside nvidia.com/gpu HAMi asks for parts of a GPU by these; they count memory and cores, not devices.
_NVIDIA = "nvidia.com/"


def is_accelerator(resource: str) -> bool:
    """Whether an extended resource stands for accelerators: GPUs, parts of them, passthrough devices, others' chips."""
    if resource in HAMI_RESOURCES:
        return False
    # NVIDIA/kubevirt-gpu-device-plugin offers passthrough devices by the name of the model: nvidia.com/GA102GL_A10.
    return is_gpu_resource(resource) or resource in OTHERS or resource.startswith(_NVIDIA)

"""Names under which GPUs are offered as extended resources."""

GPU = "nvidia.com/gpu"
SHARED_GPU = "nvidia.com/gpu.shared"
MIG_PREFIX = "nvidia.com/mig-"

DRA_DRIVER = "gpu.nvidia.com"
"""The name under which NVIDIA's DRA driver publishes GPUs in ResourceSlices."""


OTHER_MAKERS = (
    "amd.com/gpu",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "aws.amazon.com/neuroncore",
    "aws.amazon.com/neurondevice",
    "habana.ai/gaudi",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
)
"""Under what the device plugins of other makers offer accelerators, which none of NVIDIA's software serves.

Sources: the README of each: ROCm/k8s-device-plugin, GKE's TPU device plugin, AWS Neuron, Habana, Intel.
"""


def is_gpu_resource(name: str) -> bool:
    """Whether NVIDIA's device plugin offers GPUs, replicas of GPUs or MIG devices under this name.

    Source: NVIDIA/k8s-device-plugin, README: ``nvidia.com/gpu``, with renameByDefault ``nvidia.com/gpu.shared``,
    with the mixed strategy ``nvidia.com/mig-<profile>``.
    """
    return name in (GPU, SHARED_GPU) or name.startswith(MIG_PREFIX)


def mig_resource(profile: str) -> str:
    """The resource of a MIG profile with the mixed strategy: ``1g.10gb+me`` is ``nvidia.com/mig-1g.10gb.me``."""
    return f"{MIG_PREFIX}{profile.replace('+', '.')}"


def quota_key(resource: str) -> str:
    """The only key of a ResourceQuota that limits an extended resource; the bare name and limits.* are ignored.

    Source: kubernetes pkg/quota/v1/evaluator/core/pods.go.
    """
    return f"requests.{resource}"

"""Names under which GPUs are offered as extended resources."""

GPU = "nvidia.com/gpu"
SHARED_GPU = "nvidia.com/gpu.shared"
MIG_PREFIX = "nvidia.com/mig-"

DRA_DRIVER = "gpu.nvidia.com"
"""The name under which NVIDIA's DRA driver publishes GPUs in ResourceSlices."""


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

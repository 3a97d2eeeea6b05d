"""Which environment variables are looked at: those that say how GPUs are given. Any other may hold a credential."""

import re
from functools import lru_cache

# NVIDIA Container Toolkit (NVIDIA_), CUDA and MPS (CUDA_), DCGM, and the flags of NVIDIA/k8s-device-plugin v0.20.0
# (cmd/nvidia-device-plugin, cmd/gpu-feature-discovery, cmd/config-manager) and kubernetes-sigs/dra-driver-nvidia-gpu
# as environment variables.
KEPT = (
    "NVIDIA_", "CUDA_", "DCGM_", "MIG_", "DEVICE_", "DEFAULT_CONFIG", "FALLBACK_STRATEGIES", "CONFIG_",
    "PASS_DEVICE_SPECS", "ACCEPT_", "WITH_", "GFD_",
)  # fmt: skip

# How the container toolkit is told of a container runtime: no program of a team has variables of these names.
# Source: NVIDIA/nvidia-container-toolkit, cmd/nvidia-ctk-installer. FEATURE_GATES are those of the DRA driver's
# programs (kubernetes-sigs/dra-driver-nvidia-gpu, pkg/flags): names with true or false.
KEPT_NAMES = frozenset(
    {
        "CDI_ENABLED",
        "CONTAINERD_CONFIG",
        "CONTAINERD_RUNTIME_CLASS",
        "CONTAINERD_SET_AS_DEFAULT",
        "CONTAINERD_SOCKET",
        "CRIO_CONFIG_MODE",
        "FAIL_ON_INIT_ERROR",
        "FEATURE_GATES",
        "NRI_MANAGEMENT_CDI_DEVICE_NAMESPACES",
        "NRI_SOCKET",
        "RUNTIME_CONFIG",
        "RUNTIME_CONFIG_SOURCE",
        "RUNTIME_CONFIG_SOURCES",
        "RUNTIME_DROP_IN_CONFIG",
        "RUNTIME_SOCKET",
    }
)

CREDENTIAL = r"(?:token|passw|secret|api[-_]?key|access[-_]?key|private[-_]?key|credential)"
"""What a name has in it that stands for a credential, as a regular expression; case does not matter."""

_CREDENTIAL = re.compile(CREDENTIAL, re.IGNORECASE)


@lru_cache(maxsize=4096)
def is_kept(name: str) -> bool:
    """Whether the literal value of a variable is kept. NVIDIA_API_KEY, for one, is not: it is NGC's credential."""
    return name in KEPT_NAMES or (name.startswith(KEPT) and not is_credential(name))


def is_credential(name: str) -> bool:
    """Whether a name says that what it stands for is a credential."""
    return _CREDENTIAL.search(name) is not None

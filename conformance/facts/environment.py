"""Which environment variables are looked at: those that say how GPUs are given. Any other may hold a credential."""

import re
from functools import lru_cache

# NVIDIA Container Toolkit (NVIDIA_), CUDA and MPS (CUDA_), DCGM, and the flags of NVIDIA/k8s-device-plugin v0.20.0
# (cmd/nvidia-device-plugin, cmd/config-manager) and kubernetes-sigs/dra-driver-nvidia-gpu as environment variables.
KEPT = (
    "NVIDIA_", "CUDA_", "DCGM_", "MIG_", "DEVICE_", "DEFAULT_CONFIG", "FALLBACK_STRATEGIES", "CONFIG_",
    "PASS_DEVICE_SPECS", "ACCEPT_", "WITH_",
)  # fmt: skip

CREDENTIAL = r"(?:token|passw|secret|api[-_]?key|access[-_]?key|private[-_]?key|credential)"
"""What a name has in it that stands for a credential, as a regular expression; case does not matter."""

_CREDENTIAL = re.compile(CREDENTIAL, re.IGNORECASE)


@lru_cache(maxsize=4096)
def is_kept(name: str) -> bool:
    """Whether the literal value of a variable is kept. NVIDIA_API_KEY, for one, is not: it is NGC's credential."""
    return name.startswith(KEPT) and not is_credential(name)


def is_credential(name: str) -> bool:
    """Whether a name says that what it stands for is a credential."""
    return _CREDENTIAL.search(name) is not None

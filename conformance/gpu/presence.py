"""Which nodes have GPUs of NVIDIA whatever they offer, told from the labels of whoever looked at their hardware."""

from collections.abc import Mapping

from conformance.gpu.labels import GPU_PRESENT, PCI_PRESENT

# Labels of platforms and the values that mean NVIDIA: GKE (Run GPUs in Standard node pools), AKS (Use GPUs), the
# cluster autoscaler on AWS, Karpenter on AWS (instance-gpu-manufacturer).
_ACCELERATORS = (
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
    "kubernetes.azure.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-manufacturer",
)
_MAKER = "nvidia"


def has_gpus(labels: Mapping[str, str]) -> bool:
    """Whether labels say that the node has GPUs of NVIDIA."""
    if any(labels.get(key) == "true" for key in (GPU_PRESENT, *PCI_PRESENT)):
        return True
    return any(str(labels.get(key) or "").lower().startswith(_MAKER) for key in _ACCELERATORS)

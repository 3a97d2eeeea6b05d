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
_PRESENT = (GPU_PRESENT, *PCI_PRESENT)


def has_gpus(labels: Mapping[str, str]) -> bool:
    """Whether labels say that the node has GPUs of NVIDIA."""
    # A loop, for thousands of nodes are asked for each pod.
    for key in _PRESENT:
        if labels.get(key) == "true":
            return True
    return any(str(labels[key] or "").lower().startswith(_MAKER) for key in _ACCELERATORS if key in labels)

"""What known words in messages of runtimes, kubelets and programs mean on GPU nodes, and what to do about it.

Only the meaning is added; the message itself is always told. Sources: NVIDIA/nvidia-container-toolkit and
NVIDIA/libnvidia-container (errors of the hook), NVIDIA CUDA driver API (error codes 35, 100, 802, 803, 804), NVIDIA
XID catalogue, containerd (no runtime for), kubernetes/pkg/kubelet (admission and volume errors).
"""

import re

import msgspec


class Sign(msgspec.Struct, frozen=True):
    """What words mean; ``hardware`` where they say that a GPU is broken."""

    words: str
    means: str
    remedy: str
    hardware: bool = False


_SIGNS = (
    Sign(
        r"unsatisfied condition: (?:cuda|driver|brand)|please update your driver|CUDA driver version is insufficient|"
        r"cudaErrorInsufficientDriver|forward compatibility was attempted|unsupported display driver / cuda driver",
        "the node's driver is too old for the CUDA of the image",
        "Use an image of a CUDA that the node's driver supports, or update the driver of the pool. Label "
        "nvidia.com/cuda.driver-version.full has the driver of a node.",
    ),
    Sign(
        r"Driver/library version mismatch",
        "the kernel module and the driver's libraries on the node are of different versions",
        "The driver was updated under a module that is still loaded: when its jobs have ended, reload it or reboot.",
    ),
    Sign(
        r"\bXid\b|fallen off the bus|GPU is lost|uncorrectable ECC",
        "a GPU of the node reported an error (XID)",
        "Look the XID up in NVIDIA's catalogue: 13, 31, 43 and 45 are mostly of the program itself; for one of the "
        "hardware cordon the node, and do what the catalogue says.",
        hardware=True,
    ),
    Sign(
        r"system not yet initialized|cudaErrorSystemNotReady|error 802",
        "NVLink is not set up on the node: the Fabric Manager does not run or does not match the driver",
        "See that nvidia-fabricmanager of the driver's own version runs on the node.",
        hardware=True,
    ),
    Sign(
        r"no runtime for \"?[\w.-]+\"? is configured|RuntimeHandler \"?[\w.-]+\"? not supported",
        "the node's container runtime does not have the handler that the RuntimeClass names",
        "The NVIDIA container toolkit sets the handler up: see whether it ran on the node and restarted the runtime.",
    ),
    Sign(
        r"unresolvable CDI devices|CDI device injection failed|failed to inject CDI",
        "the CDI specification of the node does not have the device",
        "Make the specification anew (nvidia-ctk cdi generate, or restart toolkit and device plugin on the node).",
    ),
    Sign(
        r"nvidia-container-cli: initialization error|nvml error: driver not loaded|could not select device driver|"
        r"NVIDIA-SMI has failed|libnvidia-ml\.so.*(?:not found|cannot open)",
        "the node's NVIDIA driver is not loaded, or not visible to the runtime",
        "See whether the driver of the node is loaded (nvidia-smi there) and the driver pod is ready.",
    ),
    Sign(
        r"no CUDA-capable device|libcuda\.so\.1: cannot open",
        "the container sees no GPU",
        "See that it asks for a GPU in its limits, and that its runtime (RuntimeClass, CDI) is NVIDIA's.",
    ),
    Sign(
        r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|OutOfMemoryError: CUDA",
        "the memory of the GPU was not enough, which is no OOMKilled",
        "Use a smaller batch or model, a GPU or slice with more memory, or see who shares the GPU.",
    ),
    Sign(
        r"No space left on device.*(?:shm|shared memory)|shared memory segment",
        "shared memory (/dev/shm) is full: a container has 64 MiB of it unless it asks for more",
        "Mount an emptyDir with medium Memory and a sizeLimit at /dev/shm.",
    ),
    Sign(
        r"maximum request size for shared resources is 1",
        "more than one replica of a shared GPU was asked for, which the sharing of this node refuses",
        "Ask for one; several replicas may be of the same GPU and give no larger share.",
    ),
    Sign(
        r"toomanyrequests|429 Too Many Requests",
        "the registry refuses so many pulls",
        "Pull with an account, or through a mirror.",
    ),
    Sign(
        r"no match for platform|exec format error",
        "the image is not for the architecture of the node",
        "Use an image of the node's architecture, or select nodes by kubernetes.io/arch.",
    ),
    Sign(
        r"unauthorized|authentication required|403 Forbidden|pull access denied",
        "the registry refuses: no right to pull",
        "Give the pod or its service account a pull secret of the registry, in the pod's namespace.",
    ),
    Sign(
        r"no space left on device",
        "the disk of the node is full",
        "Clean images and logs on the node, or give it a larger disk.",
    ),
    Sign(
        r"Multi-Attach error",
        "its volume is still attached to another node",
        "The pod that uses the volume there has to end first; if its node is gone, see VolumeAttachment objects.",
    ),
)  # fmt: skip
_COMPILED = tuple((re.compile(sign.words, re.IGNORECASE), sign) for sign in _SIGNS)


def read(text: str) -> Sign | None:
    """The first sign in a message, None where there is none that is known."""
    return next((sign for pattern, sign in _COMPILED if pattern.search(text)), None)

"""The words that signs are made of, the narrower ones first: the first that is found is told.

Sources: NVIDIA/nvidia-container-toolkit and NVIDIA/libnvidia-container (errors of the hook; troubleshooting: NVML
Unknown Error), NVIDIA CUDA runtime API (cudaError: 35, 100, 209, 214, 222, 802, 803, 804, 805), NVIDIA CUDA
compatibility (forward compatibility), NVIDIA XID catalogue, NVIDIA/nccl (ncclResult_t), NVIDIA/k8s-device-plugin
(MPS), kubernetes-sigs/dra-driver-nvidia-gpu (ComputeDomain), containerd (no runtime for, pulling),
kubernetes/pkg/kubelet (admission, volumes, devicemanager), aws/amazon-vpc-cni-k8s.
"""

from enum import Flag, auto

import msgspec


class Where(Flag):
    """In whose words a sign is looked for."""

    PULL = auto()
    """Of a runtime that gets an image."""
    START = auto()
    """Of a kubelet or a runtime before a program runs."""
    PROGRAM = auto()
    """Of a program that ended, and of a node that reports about its GPUs."""
    ANY = PULL | START | PROGRAM


class Sign(msgspec.Struct, frozen=True):
    """What words (a regular expression, in any case) mean; ``hardware`` where they say that a GPU is broken."""

    words: str
    means: str
    remedy: str
    where: Where = Where.ANY
    hardware: bool = False


_RUNTIME = "See that the pod's RuntimeClass is NVIDIA's, or that NVIDIA's is the default runtime of the node."

_DRIVER_AND_CUDA = (
    Sign(
        r"forward compatibility was attempted|cudaErrorCompatNotSupportedOnDevice",
        "the image brings libraries for forward compatibility, which only GPUs of data centers support, and only with "
        "the driver branches that its CUDA names",
        "Use an image without cuda-compat, of a CUDA that the node's own driver supports, or update the driver.",
    ),
    Sign(
        r"unsatisfied condition: (?:cuda|driver|brand)|please update your driver|CUDA driver version is insufficient|"
        r"cudaErrorInsufficientDriver|unsupported display driver / cuda driver",
        "the node's driver is too old for the CUDA of the image",
        "Use an image of a CUDA that the node's driver supports, or update the driver of the pool. Label "
        "nvidia.com/cuda.driver-version.full has the driver of a node.",
    ),
    Sign(
        r"PTX was compiled with an unsupported toolchain|cudaErrorUnsupportedPtxVersion",
        "its PTX was made by a newer CUDA than the node's driver knows",
        "Update the driver of the pool, or build the program with the CUDA of the driver, or for the GPU itself (SASS) "
        "instead of PTX.",
    ),
    Sign(
        r"no kernel image is available|cudaErrorNoKernelImageForDevice",
        "the program was not built for the architecture of this GPU",
        "Use a build that has the compute capability of the GPU (labels nvidia.com/gpu.compute.major and minor of the "
        "node), or select nodes with a GPU that it is built for.",
    ),
    Sign(
        r"Driver/library version mismatch",
        "the kernel module and the driver's libraries on the node are of different versions",
        "The driver was updated under a module that is still loaded: when its jobs have ended, reload it or reboot.",
    ),
)
_CLAIMS = (
    Sign(
        # kubernetes/pkg/kubelet/cm/dra: the claim's status.reservedFor lacks the pod.
        r"not allowed to use resource claim",
        "the claim is not reserved for it, as kube-scheduler does when it binds a pod",
        "Let kube-scheduler place it: no nodeName in the template, and no scheduler that knows nothing of claims "
        "(DynamicResourceAllocation).",
        Where.START,
    ),
    Sign(
        # kubernetes/pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go; the second form up to 1.33.
        r"DRA driver \S+ is not registered|not found in the list of registered DRA plugins",
        "no kubelet plugin of that DRA driver runs on the node, though its ResourceSlices may still be there",
        "Bring the driver's kubelet plugin back to the node: its DaemonSet's nodeSelector and tolerations, then the "
        "pod's log. The kubelet tries again by itself.",
        Where.START,
    ),
    Sign(
        # kubernetes-sigs/dra-driver-nvidia-gpu, cmd/gpu-kubelet-plugin/device_state.go; issue 1278.
        r"requested device \S+ is already allocated to different claim",
        "the DRA driver of the node still has the device prepared for another claim: one that still ends, or one that "
        "was deleted behind its back, as when a pod is deleted by force while the kubelet plugin is away",
        "See whether the claim of that UID is still there (kubectl get resourceclaims -A -o yaml). If not, keep pods "
        "off the device (cordon the node, or a DeviceTaintRule); kubernetes-sigs/dra-driver-nvidia-gpu issue 1278 says "
        "what the driver keeps. Do not delete pods by force.",
        Where.START,
    ),
)
_GPUS = (
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
        r"MPS client failed to connect|cudaErrorMps|MPS (?:server|control daemon)",
        "the MPS control daemon of the node does not answer the container",
        "See that the MPS control daemon of the device plugin runs on the node (its pod, and its log), and that the "
        "container has the daemon's pipe directory.",
        Where.PROGRAM,
    ),
    Sign(
        r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|OutOfMemoryError: CUDA",
        "the memory of the GPU was not enough, which is no OOMKilled",
        "Use a smaller batch or model, a GPU or slice with more memory, or see who shares the GPU.",
        Where.PROGRAM,
    ),
    Sign(
        r"ncclRemoteError|remote process exited or there was a network error",
        "NCCL lost another worker of the job: it ended first, or the network between them failed",
        "Look at the other pods of the job: the one that ended first has the cause. If none did, see the network.",
        Where.PROGRAM,
    ),
)
_GIVING_GPUS = (
    Sign(
        r"no runtime for \"?[\w.-]+\"? is configured|RuntimeHandler \"?[\w.-]+\"? not supported",
        "the node's container runtime does not have the handler that the RuntimeClass names",
        "The NVIDIA container toolkit sets the handler up: see whether it ran on the node and restarted the runtime.",
    ),
    Sign(
        r"nvidia-container-runtime[\w.-]*: no such file",
        "the configuration of the node's container runtime names NVIDIA's runtime, which is not installed there",
        "Let the NVIDIA container toolkit of the node install it again, and see that both mean the same folder.",
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
        r"Failed to initialize NVML: Unknown Error",
        "the container has lost its devices, as happens when systemd on the node reloads and sets up its cgroup anew",
        "Start it again. So that it does not come back, give devices by CDI, or let the device plugin pass the device "
        "files to the kubelet as well (PASS_DEVICE_SPECS=true, compatWithCPUManager of its chart).",
        Where.PROGRAM,
    ),
    Sign(
        r"NVML: Insufficient Permissions",
        "the container may not use the device files of its GPUs",
        f"{_RUNTIME} With SELinux or a user of its own, see who may use /dev/nvidia* there.",
        Where.PROGRAM,
    ),
    Sign(
        r"exec: \"(?:/usr/bin/)?nvidia-smi\": |nvidia-smi: (?:command )?not found",
        "the container was started without NVIDIA's runtime, which brings nvidia-smi and the driver's libraries",
        f"{_RUNTIME} It needs a GPU in its limits, too.",
    ),
    Sign(
        r"libcuda\.so[.\d]*: cannot open",
        "the container sees no GPU: it has none of the libraries of the node's driver",
        "See that it asks for a GPU in its limits, and that its runtime (RuntimeClass, CDI) is NVIDIA's.",
    ),
    Sign(
        r"no CUDA-capable device",
        "the container sees no GPU",
        "See that it asks for a GPU in its limits, and that its runtime (RuntimeClass, CDI) is NVIDIA's.",
    ),
    Sign(
        r"maximum request size for shared resources is 1",
        "more than one replica of a shared GPU was asked for, which the sharing of this node refuses",
        "Ask for one; several replicas may be of the same GPU and give no larger share.",
    ),
    Sign(
        r"can't allocate unregistered device",
        "the device plugin was not registered with the kubelet, as after a restart of the kubelet",
        "See whether the device plugin of the node runs and has registered since its kubelet started (its log). The "
        "pod stays as it is; its owner makes another one.",
        Where.START,
    ),
    Sign(
        r"ComputeDomain not Ready|no IMEX channel|IMEX daemon",
        "the nodes of its ComputeDomain are not all there (IMEX)",
        "A ComputeDomain is ready when all of its pods have a node and the daemon runs on each: see the other pods of "
        "the job, and the pods of the ComputeDomain's DaemonSet.",
        Where.START,
    ),
)
_IMAGES = (
    Sign(
        r"toomanyrequests|429 Too Many Requests",
        "the registry refuses so many pulls",
        "Pull with an account, or through a mirror.",
        Where.PULL,
    ),
    Sign(
        r"no match for platform|no matching manifest|exec format error",
        "the image is not for the architecture of the node",
        "Use an image of the node's architecture, or select nodes by kubernetes.io/arch.",
    ),
    Sign(
        r"unauthorized|authentication required|403 Forbidden|pull access denied|insufficient_scope",
        "the registry refuses: no right to pull",
        "Give the pod or its service account a pull secret of the registry, in the pod's namespace.",
        Where.PULL,
    ),
    Sign(
        r"x509:|failed to verify certificate",
        "the node does not trust the certificate of the registry",
        "Give the node's container runtime the authority of the certificate (containerd: hosts.toml), or the registry "
        "a certificate that nodes trust; see the node's clock, too.",
        Where.PULL,
    ),
    Sign(
        r"no such host|server misbehaving|i/o timeout|connection refused|network is unreachable|no route to host|"
        r"Client\.Timeout|deadline exceeded",
        "the node does not reach the registry",
        "See its DNS, proxy and firewall. Nodes without internet need a mirror that they reach (containerd: hosts.toml)"
        " or the image under the name of a registry of your own.",
        Where.PULL,
    ),
    Sign(
        r"No space left on device.*(?:shm|shared memory)|shared memory segment",
        "shared memory (/dev/shm) is full: a container has 64 MiB of it unless it asks for more",
        "Mount an emptyDir with medium Memory and a sizeLimit at /dev/shm.",
        Where.PROGRAM,
    ),
    Sign(
        r"no space left on device",
        "the disk of the node is full",
        "Clean images and logs on the node, or give it a larger disk.",
        Where.PULL | Where.START,
    ),
    Sign(
        r"no space left on device",
        "the disk that it writes to is full: its volume, or the node's own",
        "See which volume the path is on; what is not on a volume is on the node's disk (ephemeral-storage).",
        Where.PROGRAM,
    ),
    Sign(
        r"exec: \"[^\"]+\": (?:executable file not found|stat [^:]+: no such file)|"
        r"exec: \"[^\"]+\": (?:no such file|permission denied)",
        "the program of its command is not in the image, or is no program",
        "Correct the container's command, or use the image that has it. This is neither of the node nor of its GPUs.",
    ),
)
_KUBELETS = (
    Sign(
        r"Multi-Attach error",
        "its volume is still attached to another node",
        "The pod that uses the volume there has to end first; if its node is gone, see VolumeAttachment objects.",
        Where.START,
    ),
    Sign(
        r"hostPath type check failed",
        "what it mounts from the node (hostPath) is not there",
        "See whether the path exists on the node, and what is to make it (the driver, a DaemonSet): select nodes that "
        "have it.",
        Where.START,
    ),
    Sign(
        r"failed to assign an IP address|no available IP addresses|no IP addresses available|IPAM.*exhausted",
        "the network has no address left for another pod on the node",
        "Give the subnet or the node's pool more addresses, or let fewer pods run there. It is not the GPUs.",
        Where.START,
    ),
    Sign(
        r"cni plugin not initialized|network plugin is not ready|failed to find plugin",
        "the network plugin of the node is not set up",
        "See whether the network plugin's pod runs on the node.",
        Where.START,
    ),
    Sign(
        r"Predicate NodeAffinity failed",
        "the node's labels were not those that the pod selects when its kubelet looked, as after a restart that "
        "registered the node anew",
        "The pod stays as it is; its owner makes another one. Let the node group set the labels, so that they come "
        "with the node.",
        Where.START,
    ),
)
SIGNS = (*_DRIVER_AND_CUDA, *_CLAIMS, *_GPUS, *_GIVING_GPUS, *_IMAGES, *_KUBELETS)

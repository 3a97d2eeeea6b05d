"""Names under which GPUs are offered as extended resources."""

import re

_NVIDIA = "nvidia.com/"
GPU = "nvidia.com/gpu"
SHARED_GPU = "nvidia.com/gpu.shared"
MIG_PREFIX = "nvidia.com/mig-"

DRA_DRIVER = "gpu.nvidia.com"
"""The name under which NVIDIA's DRA driver publishes GPUs in ResourceSlices."""

BY_DEVICE_CLASS = "deviceclass.resource.kubernetes.io/"
"""What precedes the name of a DeviceClass where pods ask for its devices by a counted resource, without a claim.

Source: kubernetes: staging/src/k8s.io/api/resource/v1/types.go, ResourceDeviceClassPrefix."""


OTHER_MAKERS = (
    "amd.com",
    "google.com",
    "aws.amazon.com",
    "habana.ai",
    "gpu.intel.com",
    "huawei.com",
    "cambricon.com",
    "hygon.com",
    "iluvatar.com",
    "iluvatar.ai",
    "metax-tech.com",
    "mthreads.com",
    "enflame.com",
    "kunlunxin.com",
    "qualcomm.com",
    "furiosa.ai",
    "rebellions.ai",
    "tenstorrent.com",
)
"""The domains under which device plugins of other makers offer accelerators, which none of NVIDIA's software serves.

Whatever follows the slash (``amd.com/gpu``, ``huawei.com/Ascend910``, ``aws.amazon.com/neuroncore``). Sources: the
README of each: ROCm/k8s-device-plugin, GKE's TPU device plugin, AWS Neuron, Habana, Intel, Qualcomm Cloud AI, Furiosa,
Rebellions, Tenstorrent, Iluvatar's ix-device-plugin; Project-HAMi/HAMi, supported devices, for the others.
"""

# Beside devices some of them offer amounts of these (memory, cores, percent), and Intel's a way to watch all of a node.
_NOT_DEVICES = re.compile(
    r"(?i)(_monitoring|[-.](memory|mem|vmem|core|cores|vcore|percentage)|/(vmemory|vcore|monitoring|millicores|tiles)"
    r"|\.vmemory|/memory\.max|/dcu(mem|cores))$"
)

# NVIDIA's network operator offers network devices under the same domain, by names that its users choose.
_OF_NETWORK = re.compile(
    r"(?i)hostdev|host_dev|sriov|rdma|mlnx|mellanox|roce|infiniband|doca|(?:^|[-_.])rail|"
    r"(?:^|[-_.])(?:ib|nics?|vfs?|bf|cx|eth|net)(?:\d|[-_.]|$)|^res(?:ib|en)"
)

ALIBABA_MEMORY, ALIBABA_GPUS = "aliyun.com/gpu-mem", "aliyun.com/gpu-count"
"""What Alibaba's GPU sharing offers: memory of all GPUs of a node, in GiB, beside the number of the GPUs.

Source: AliyunContainerService/gpushare-device-plugin, pkg/gpu/nvidia/const.go.
"""

PARTS_OF_GPUS = ("volcano.sh/vgpu-number", ALIBABA_MEMORY)
"""By what pods ask other device plugins than NVIDIA's for parts of NVIDIA's GPUs: Volcano's vGPU plugin, Alibaba's."""

ACCELERATOR_DRIVERS = ("gpu", "vgpu", "hami-core-gpu", "gaudi", "npu", "tpu", "neuron")
"""How the name of a DRA driver begins whose devices are accelerators (``gpu.nvidia.com``, ``tpu.google.com``).

Sources: kubernetes-sigs/dra-driver-nvidia-gpu, ROCm/k8s-gpu-dra-driver, intel/intel-resource-drivers-for-kubernetes,
kubernetes-sigs/dra-example-driver (gpu.example.com), GKE: dynamic resource allocation for TPUs, AWS Neuron,
Project-HAMi/k8s-dra-driver (hami-core-gpu.project-hami.io).
"""


def is_of_other_maker(name: str) -> bool:
    """Whether an extended resource is accelerators of another maker than NVIDIA, which a pod holds.

    Not what goes with them: memory and cores of the devices, and ``gpu.intel.com/i915_monitoring``, by which an
    exporter sees every GPU of its node. Sources: intel/intel-device-plugins-for-kubernetes, cmd/gpu_plugin/README.md;
    Project-HAMi/HAMi, supported devices.
    """
    return name.partition("/")[0] in OTHER_MAKERS and not _NOT_DEVICES.search(name)


def is_for_virtual_machines(name: str) -> bool:
    """Whether an extended resource is NVIDIA GPUs, or vGPUs, that virtual machines get.

    Everything that NVIDIA's plugin for containers offers is_gpu_resource; the plugin for KubeVirt names devices by
    their models (``nvidia.com/GA102GL_A10``, ``nvidia.com/NVIDIA_A10-12Q``) or as it is told (``nvidia.com/pgpu``).
    Source: NVIDIA/kubevirt-gpu-device-plugin, README.
    """
    return name.startswith(_NVIDIA) and not is_gpu_resource(name) and not is_of_network(name)


def is_of_network(name: str) -> bool:
    """Whether an extended resource of NVIDIA's domain is network devices, such as ``nvidia.com/sriov_rdma_vf``.

    Sources: NVIDIA network operator documentation, SR-IOV and host device networks (resourcePrefix nvidia.com, and
    ``nvidia.com/hostdev``, ``nvidia.com/resibp12s0`` as its examples); oracle-quickstart/oci-hpc-oke, README.
    """
    return name.startswith(_NVIDIA) and bool(_OF_NETWORK.search(name.removeprefix(_NVIDIA)))


def is_accelerator_driver(name: str) -> bool:
    """Whether a DRA driver publishes accelerators, by its name."""
    return name.partition(".")[0] in ACCELERATOR_DRIVERS


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

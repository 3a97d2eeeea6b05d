"""Keys of labels and annotations by which NVIDIA's programs and Node Feature Discovery speak to each other.

Each key stands here once, below the program that writes or reads it. The simulator keeps keys of its own on purpose:
what both spelled wrong alike nobody would see (docs/decisions/0006-the-simulator-decides-for-itself.md).
"""

NVIDIA = "nvidia.com/"
"""The prefix of all keys and extended resources of NVIDIA's programs, the DRA driver's aside."""

# Node Feature Discovery labels what it finds on a node (kubernetes-sigs/node-feature-discovery v0.19.0,
# api/nfd/v1alpha1/annotations_labels.go, source/pci/pci.go, source/cpu/cpu.go). The operator, the device plugin's
# chart and its node affinity go by these.
NFD = "feature.node.kubernetes.io/"
NFD_ANNOTATIONS = "nfd.node.kubernetes.io/"
PCI_PRESENT = (
    f"{NFD}pci-10de.present",
    f"{NFD}pci-0302_10de.present",
    f"{NFD}pci-0300_10de.present",
)
"""By any of these the operator knows a node with GPUs (NVIDIA/gpu-operator v26.7.0: controllers/state_manager.go,
gpuNodeLabels): 10de is NVIDIA's PCI vendor, 0302 a 3D controller, 0300 a VGA controller."""
CPU_VENDOR = f"{NFD}cpu-model.vendor_id"
OS_ID = f"{NFD}system-os_release.ID"
OS_VERSION = f"{NFD}system-os_release.VERSION_ID"
OSTREE_VERSION = f"{NFD}system-os_release.OSTREE_VERSION"
"""The release of RHEL CoreOS, by which the operator chooses OpenShift's driver toolkit."""
MELLANOX_PRESENT = f"{NFD}pci-15b3.present"
"""The node has a network adapter of Mellanox (cmd/nvidia-validator/main.go of the operator: MellanoxDeviceLabelKey)."""

# The GPU Operator labels nodes with GPUs, and reads what owners say there (NVIDIA/gpu-operator v26.7.0: the keys are in
# controllers/state_manager.go, controllers/nodelabeling_controller.go writes them).
GPU_PRESENT = f"{NVIDIA}gpu.present"
DEPLOY = f"{NVIDIA}gpu.deploy."
"""Labels with this prefix say of a node whether an operand goes there; the operator sets them to true."""
DEPLOY_OPERANDS = f"{DEPLOY}operands"
"""At false no operand at all goes to the node."""
DEPLOY_DRIVER = f"{DEPLOY}driver"
DEPLOY_DEVICE_PLUGIN = f"{DEPLOY}device-plugin"
DEPLOY_GPU_FEATURE_DISCOVERY = f"{DEPLOY}gpu-feature-discovery"
DEPLOY_DCGM_EXPORTER = f"{DEPLOY}dcgm-exporter"
DEPLOY_DCGM_EXPORTER_DRA = f"{DEPLOY}dcgm-exporter-dra"
WORKLOAD_CONFIG = f"{NVIDIA}gpu.workload.config"
"""For whom the GPUs of a node are: container, vm-passthrough or vm-vgpu."""
DRIVER_OWNER = f"{NVIDIA}gpu-operator.driver.owner"
"""Names the NVIDIADriver that a node gets its driver from (internal/consts/consts.go, written by
internal/nvidiadriver/nvidiadriver.go)."""

# The driver upgrade controller of the operator (NVIDIA/k8s-operator-libs, as gpu-operator v26.7.0 vendors it:
# pkg/upgrade/consts.go, whose keys have a gap for the driver's name; cmd/gpu-operator/main.go says gpu).
UPGRADE_STATE = f"{NVIDIA}gpu-driver-upgrade-state"
UPGRADE_SKIP = f"{NVIDIA}gpu-driver-upgrade.skip"
UPGRADE_DRAIN_SKIP = f"{NVIDIA}gpu-driver-upgrade-drain.skip"
"""With the value true on a pod: no drain of an upgrade takes it."""

# The Network Operator's pods that bring a network driver (MLNX_OFED, DOCA-OFED) have this label, and its own upgrades
# of that driver the state of each node (Mellanox/network-operator: manifests/state-ofed-driver, and the library above).
OFED_DRIVER = f"{NVIDIA}ofed-driver"
OFED_UPGRADE_STATE = f"{NVIDIA}ofed-driver-upgrade-state"

# GPU Feature Discovery labels what the driver says of the GPUs (NVIDIA/k8s-device-plugin v0.20.0: docs/gpu-feature-
# discovery/README.md; internal/lm: resource.go and mig-strategy.go for a resource's labels, nvml.go and vgpu.go).
GPU_PRODUCT = f"{NVIDIA}gpu.product"
GPU_MEMORY = f"{NVIDIA}gpu.memory"
GPU_CLIQUE = f"{NVIDIA}gpu.clique"
"""UUID of the NVLink fabric and number of the partition in it, where the GPUs of a node have registered there. The DRA
driver's kubelet plugin can set it instead (v0.5, resources.computeDomains; kubernetes-sigs/dra-driver-nvidia-gpu,
cmd/compute-domain-kubelet-plugin)."""
GPU_COUNT = f"{NVIDIA}gpu.count"
GPU_REPLICAS = f"{NVIDIA}gpu.replicas"
GPU_COMPUTE = (f"{NVIDIA}gpu.compute.major", f"{NVIDIA}gpu.compute.minor")
DRIVER_VERSION = f"{NVIDIA}cuda.driver-version.full"
DRIVER_VERSION_PARTS = (f"{NVIDIA}cuda.driver.major", f"{NVIDIA}cuda.driver.minor", f"{NVIDIA}cuda.driver.rev")
"""What DRIVER_VERSION replaced; older releases write these only."""
VGPU_HOST_DRIVER = f"{NVIDIA}vgpu.host-driver-version"
"""On a node that is a virtual machine with a vGPU: the driver of its host. The operator then takes the node's GPUs as
not capable of MIG and deploys no MIG manager (controllers/state_manager.go, hasMIGCapableGPU)."""
MIG_CAPABLE = f"{NVIDIA}mig.capable"
MIG_STRATEGY = f"{NVIDIA}mig.strategy"
MPS_CAPABLE = f"{NVIDIA}mps.capable"

# The device plugin's config manager reads which key of the ConfigMap a node wants (NVIDIA/k8s-device-plugin v0.20.0:
# cmd/config-manager/main.go).
DEVICE_PLUGIN_CONFIG = f"{NVIDIA}device-plugin.config"

# The MIG manager reads the layout that a node wants, and writes how far it is (NVIDIA/mig-parted v0.15.0:
# cmd/nvidia-mig-manager/main.go and pkg/mig/reconfigure/reconfigure.go).
MIG_CONFIG = f"{NVIDIA}mig.config"
MIG_CONFIG_STATE = f"{NVIDIA}mig.config.state"

# Resources by which pods ask HAMi for parts of a GPU (Project-HAMi/HAMi: docs/config.md).
HAMI_RESOURCES = (f"{NVIDIA}gpumem", f"{NVIDIA}gpumem-percentage", f"{NVIDIA}gpucores", f"{NVIDIA}priority")
# Keys of a ResourceQuota that HAMi's scheduler holds, and Kubernetes does not (Project-HAMi/HAMi pull request 1359).
HAMI_QUOTA_KEYS = tuple(f"limits.{name}" for name in (f"{NVIDIA}gpu", *HAMI_RESOURCES))

# What annotations of nodes begin with by which HAMi's device plugins tell its scheduler of their devices.
HAMI_NODE = "hami.io/node-"

# Annotations by which pods ask KAI for a part of a GPU (kai-scheduler/KAI-Scheduler: docs/gpu-sharing).
KAI_FRACTION = "gpu-fraction"
KAI_FRACTION_DEVICES = "gpu-fraction-num-devices"
KAI_MEMORY = "gpu-memory"

VOLCANO = "volcano"
"""The schedulerName of Volcano's pods."""
VOLCANO_GROUP_KEYS = ("scheduling.k8s.io/group-name", "scheduling.volcano.sh/group-name")
"""The annotations that name a pod's PodGroup of Volcano (volcano-sh/apis, pkg/apis/scheduling/v1beta1)."""
VOLCANO_QUEUE = "scheduling.volcano.sh/queue-name"
VOLCANO_DEFAULT_QUEUE = "default"

YUNIKORN = "yunikorn"
"""The schedulerName of YuniKorn's pods."""
YUNIKORN_CONFIGS = ("yunikorn-defaults", "yunikorn-configs")
"""The ConfigMaps with its queues, beside its scheduler; of an entry in both the later one counts (service_config)."""
YUNIKORN_SCHEDULER = "yunikorn-scheduler"
"""What its scheduler's Deployment, or the label ``component`` of its pods, is called (apache/yunikorn-release)."""

NODE_POOL = "karpenter.sh/nodepool"
"""The label by which Karpenter names the NodePool of which it made a node (karpenter.sh: well-known labels)."""

PLATFORM_PRODUCTS = (
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "k8s.amazonaws.com/accelerator",
    "eks.amazonaws.com/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
)
"""The labels by which platforms name a node's GPUs of NVIDIA where GPU Feature Discovery does not: GKE, Karpenter on
AWS, EKS, EKS Auto Mode, Karpenter on AKS."""

PLATFORM_COUNTS = (
    "karpenter.k8s.aws/instance-gpu-count",
    "eks.amazonaws.com/instance-gpu-count",
    "karpenter.azure.com/sku-gpu-count",
)
"""The labels by which some of them say how many GPUs the machine has (karpenter.sh: well-known labels)."""

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""On every namespace: its name, so that selectors can name it (kubernetes.io: Well-known labels)."""

KUEUE = "kueue.x-k8s.io/"
"""How Kueue's labels, annotations and scheduling gates begin."""
KUEUE_QUEUE = f"{KUEUE}queue-name"
"""Names the LocalQueue in which an object waits (kubernetes-sigs/kueue: pkg/controller/constants)."""

DYNAMO_GRAPH = "nvidia.com/dynamo-graph-deployment-name"
"""On the pods of a DynamoGraphDeployment (ai-dynamo/dynamo: deploy/operator/internal/consts)."""

SPOT = (
    ("kubernetes.azure.com/scalesetpriority", "spot"),
    ("karpenter.sh/capacity-type", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("cloud.google.com/gke-spot", "true"),
    ("cloud.google.com/gke-preemptible", "true"),
)
"""Labels by which platforms mark nodes whose machines the cloud may take back at any time (AKS: spot node pools;
karpenter.sh: Well-known labels; EKS: Managed node groups; GKE: Spot VMs, Preemptible VMs)."""

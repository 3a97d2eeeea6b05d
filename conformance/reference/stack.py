"""The declared GPU stack: what makes GPUs reach pods, and how it is configured to share them.

The names of settings follow NVIDIA's charts (gpu-operator v26.7, deployments/gpu-operator/values.yaml), so that an
owner finds each of them again; what the charts leave to their defaults is left out here, too.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta

from conformance.reference.base import Declared
from conformance.reference.value_types import LabelKey, LabelValue, NamespaceName, ObjectName
from conformance.subjects import ObjectReference

_NOTHING_BESIDE: dict[str, Any] = {
    "driver_managed": False,
    "toolkit": False,
    "gpu_feature_discovery": False,
    "dcgm_exporter": False,
    "mig_manager": False,
    "mig_strategy": "",
}
DEFAULTS_BY_KIND = {
    "device-plugin": _NOTHING_BESIDE,
    "dra-driver": _NOTHING_BESIDE,
    "simulated-plugin": _NOTHING_BESIDE,
}
"""What a stack without an operator brings where the set-up does not say: what its chart brings with its own values.

Sources: NVIDIA/k8s-device-plugin 0.20, deployments/helm/nvidia-device-plugin/values.yaml (gfd.enabled: false,
migStrategy: null, no other program); NVIDIA/k8s-dra-driver-gpu, deployments/helm/nvidia-dra-driver-gpu/values.yaml (no
other program). The GPU Operator's chart brings all of them, which are the defaults of ``Stack``.
"""


class PluginConfigs(Declared, frozen=True):
    """The ConfigMap of device plugin configurations, and which of them nodes without a label get."""

    config_map: ObjectName
    configs: Annotated[
        dict[str, dict[str, Any]],
        Meta(min_length=1, description="by key: a configuration as the device plugin reads it (version: v1, ...)"),
    ]
    default: Annotated[
        str,
        Meta(description="devicePlugin.config.default; without it only nodes with nvidia.com/device-plugin.config"),
    ] = ""


class MigLayouts(Declared, frozen=True):
    """The ConfigMap of MIG layouts; a node chooses one with the label nvidia.com/mig.config."""

    config_map: ObjectName
    layouts: Annotated[
        dict[str, tuple[dict[str, Any], ...]],
        Meta(min_length=1, description="by name: entries as nvidia-mig-parted reads them (devices, mig-enabled, ...)"),
    ]


class DraDriver(Declared, frozen=True):
    """NVIDIA's DRA driver beside the stack, for the pools whose GPUs it allocates."""

    namespace: NamespaceName = "nvidia-dra-driver-gpu"
    version: Annotated[str, Meta(description="of the chart nvidia-dra-driver-gpu")] = ""
    node_selector: Annotated[
        dict[LabelKey, LabelValue], Meta(description="labels of the nodes on which its kubelet plugin runs")
    ] = {}
    values: Annotated[dict[str, Any], Meta(description="further values of the chart")] = {}


class Metrics(Declared, frozen=True):
    """What owners expect of dcgm-exporter."""

    names: Annotated[tuple[str, ...], Meta(description="metrics that every GPU must have")] = (
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_XID_ERRORS",
    )
    per_pod: Annotated[bool, Meta(description="whether a device that a pod holds must be labelled with that pod")] = (
        True
    )


class Stack(Declared, frozen=True):
    """What makes GPUs reach pods on all pools, those with ``allocated_by: dra`` aside.

    ``tolerations`` are given to the operands and to Node Feature Discovery; when absent they are those that the
    taints of the GPU pools ask for. The defaults are those of the GPU Operator; loading puts in DEFAULTS_BY_KIND.
    """

    kind: Literal["gpu-operator", "device-plugin", "dra-driver", "simulated-plugin"]
    namespace: NamespaceName = "gpu-operator"
    version: Annotated[
        str, Meta(description="of the chart, such as v26.7.0: --gpu-deploy installs it, OPER-01 judges it")
    ] = ""
    driver: Annotated[str, Meta(description="the driver version that every GPU node must have")] = ""
    driver_managed: Annotated[bool, Meta(description="driver.enabled: the operator installs the driver")] = True
    toolkit: Annotated[bool, Meta(description="toolkit.enabled: the operator installs the container toolkit")] = True
    gpu_feature_discovery: Annotated[bool, Meta(description="gfd.enabled: GPU Feature Discovery labels the nodes")] = (
        True
    )
    dcgm_exporter: Annotated[bool, Meta(description="dcgmExporter.enabled: metrics of every GPU")] = True
    mig_manager: Annotated[bool, Meta(description="migManager.enabled: it applies MIG layouts")] = True
    runtime_class: Annotated[
        str,
        Meta(
            description="the RuntimeClass that pods with GPUs have to name, such as nvidia on k3s; empty where none is "
            "needed: devices come by CDI, or nvidia is the default runtime"
        ),
    ] = ""
    mig_strategy: Annotated[
        Literal["", "none", "single", "mixed"],
        Meta(
            description="mig.strategy, for all nodes; empty leaves it to flags.migStrategy of each plugin configuration"
        ),
    ] = "single"
    tolerations: Annotated[tuple[dict[str, Any], ...], Meta(description="as Kubernetes has them")] = ()
    plugin_configs: PluginConfigs | None = None
    mig_layouts: MigLayouts | None = None
    metrics: Metrics = Metrics()
    image: Annotated[
        str,
        Meta(
            description="of the simulated plugin, where nodes find it: gpu-conformance cluster image simulated-plugin "
            "makes it, and localhost/gpu-conformance/simulated-plugin:1 is its name there"
        ),
    ] = ""
    dra: DraDriver | None = None
    values: Annotated[dict[str, Any], Meta(description="further values of the chart, merged over ours")] = {}

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Stack", self.kind, namespace=self.namespace, text=str(self), declared=True)

    def __str__(self) -> str:
        return f"GPU stack {self.kind} in namespace {self.namespace}"


Gpus = Annotated[float, Meta(ge=-1, description="in GPUs; -1 is without bound")]


class KaiQueue(Declared, frozen=True):
    """A queue of KAI. What is left out is not judged."""

    name: ObjectName
    parent: Annotated[ObjectName | None, Meta(description="the queue above it, spec.parentQueue")] = None
    gpu_quota: Annotated[Gpus | None, Meta(description="spec.resources.gpu.quota: what it is sure to get")] = None
    gpu_limit: Annotated[Gpus | None, Meta(description="spec.resources.gpu.limit: what it may have at most")] = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Queue", self.name, declared=True)

    def __str__(self) -> str:
        return f"queue {self.name}"


class Kai(Declared, frozen=True):
    """NVIDIA's KAI scheduler beside kube-scheduler, for workloads that name it."""

    namespace: NamespaceName = "kai-scheduler"
    scheduler: Annotated[str, Meta(min_length=1, description="the schedulerName of its pods")] = "kai-scheduler"
    queue_label: Annotated[LabelKey, Meta(description="the label by which a workload names its queue")] = (
        "kai.scheduler/queue"
    )
    queues: tuple[KaiQueue, ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of("Kai", self.scheduler, namespace=self.namespace, text=str(self), declared=True)

    def __str__(self) -> str:
        return f"scheduler {self.scheduler}"


RUN_AI = Kai(namespace="runai", scheduler="runai-scheduler", queue_label="runai/queue")
"""Run:ai's scheduler, of which KAI is the open part: the same queues, under another name and label.

Sources: run-ai/docs, Researcher/scheduling/the-runai-scheduler.md; run-ai/runai-cli, cmd/util/const.go.
"""

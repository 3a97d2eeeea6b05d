"""The operands of a ClusterPolicy: what the operator deploys for each component, and where.

Names, labels, containers and selectors are those of NVIDIA/gpu-operator v26.7.0, assets/; what a ClusterPolicy changes
about them is what controllers/object_controls.go does there. Left out is what nobody sees through the API: scripts,
probes, and most mounts of the host.
"""

from collections.abc import Mapping

import msgspec

DEPLOY = "nvidia.com/gpu.deploy."
"""How the node labels begin that say which operands a node gets."""

DRIVER_COMPONENT = {"app.kubernetes.io/component": "nvidia-driver"}
"""What every pod with a driver carries, whichever object asked for it."""

MPS_CAPABLE = "nvidia.com/mps.capable"
MANAGER = "k8s-driver-manager"

DRIVER_VALIDATION, TOOLKIT_VALIDATION = "driver-validation", "toolkit-validation"
CUDA_VALIDATION, PLUGIN_VALIDATION = "cuda-validation", "plugin-validation"
CONFIG_MANAGER_INIT, CONFIG_MANAGER = "config-manager-init", "config-manager"
MPS_MOUNTS = "mps-control-daemon-mounts"

NODE_NAME: Mapping[str, str] = {"NODE_NAME": "spec.nodeName"}
OPERATOR_NAMESPACE: Mapping[str, str] = {"OPERATOR_NAMESPACE": "metadata.namespace"}
"""Variables that hold a field of their pod, by name."""

_VALIDATIONS, _DRIVER_DIR = "/run/nvidia/validations", "/run/nvidia/driver"


class Operand(msgspec.Struct, frozen=True):
    """One operand.

    ``state`` is what the operator calls it in messages, ``component`` its block in the ClusterPolicy, ``deploy`` the
    end of the node label that brings it to a node, ``init`` its init containers, ``env`` what its container is always
    told, ``fields`` which of its variables hold a field of the pod, ``host`` paths of the host by volume,
    ``configured`` whether it reads the device plugin's ConfigMap, ``process`` what a change of that is signalled to.
    ``runs_with_gpus`` ones need the NVIDIA runtime class. ``unused_account`` is there, and no pod has it. Those that
    are ``for_virtual_machines`` come with sandboxWorkloads, and some only in one ``mode`` of it. ``selector`` is the
    label with the name by which its pods are selected, ``resources`` are those where the policy names none.
    """

    name: str
    state: str
    component: str
    deploy: str
    account: str
    container: str
    init: tuple[str, ...] = (TOOLKIT_VALIDATION,)
    env: Mapping[str, str] = {}
    fields: Mapping[str, str] = msgspec.field(default_factory=lambda: NODE_NAME)
    host: Mapping[str, str] = msgspec.field(default_factory=lambda: {"run-nvidia": "/run/nvidia"})
    ports: Mapping[str, int] = {}
    host_pid: bool = False
    runs_with_gpus: bool = True
    configured: bool = False
    process: str = ""
    labels: Mapping[str, str] = {}
    selects: Mapping[str, str] = {}
    unused_account: str = ""
    for_virtual_machines: bool = False
    mode: str = ""
    selector: str = "app"
    resources: Mapping[str, Mapping[str, str]] = {}

    @property
    def pod_labels(self) -> dict[str, str]:
        """By what its pods are selected, and the labels that they carry."""
        return {self.selector: self.name, **self.labels}

    @property
    def own_labels(self) -> dict[str, str]:
        """The labels of its DaemonSet."""
        return {"app": self.name, **self.labels}

    @property
    def node_selector(self) -> dict[str, str]:
        """The labels of the nodes that get it."""
        return {f"{DEPLOY}{self.deploy}": "true", **self.selects}


DRIVER = Operand(
    name="nvidia-driver-daemonset",
    state="state-driver",
    component="driver",
    deploy="driver",
    account="nvidia-driver",
    container="nvidia-driver-ctr",
    fields={**NODE_NAME, "NODE_IP": "status.hostIP"},
    init=(MANAGER,),
    host={"run-nvidia": "/run/nvidia", "host-root": "/"},
    host_pid=True,
    runs_with_gpus=False,
    labels=DRIVER_COMPONENT,
)
TOOLKIT = Operand(
    name="nvidia-container-toolkit-daemonset",
    state="state-container-toolkit",
    component="toolkit",
    deploy="container-toolkit",
    account="nvidia-container-toolkit",
    container="nvidia-container-toolkit-ctr",
    fields={"NRI_NAMESPACE": "metadata.namespace"},
    init=(DRIVER_VALIDATION,),
    env={
        "ROOT": "/usr/local/nvidia",
        "NVIDIA_CONTAINER_RUNTIME_MODES_CDI_DEFAULT_KIND": "management.nvidia.com/gpu",
        "NVIDIA_VISIBLE_DEVICES": "void",
        "TOOLKIT_PID_FILE": "/run/nvidia/toolkit/toolkit.pid",
    },
    host={"run-nvidia-validations": _VALIDATIONS, "driver-install-dir": _DRIVER_DIR, "host-root": "/"},
    host_pid=True,
    runs_with_gpus=False,
)
VALIDATOR = Operand(
    name="nvidia-operator-validator",
    state="state-operator-validation",
    component="validator",
    deploy="operator-validator",
    account="nvidia-operator-validator",
    container="nvidia-operator-validator",
    fields={},
    init=(DRIVER_VALIDATION, TOOLKIT_VALIDATION, CUDA_VALIDATION, PLUGIN_VALIDATION),
    host={"run-nvidia-validations": _VALIDATIONS, "driver-install-dir": _DRIVER_DIR, "host-root": "/"},
    labels={"app.kubernetes.io/part-of": "gpu-operator"},
)
PLUGIN = Operand(
    name="nvidia-device-plugin-daemonset",
    state="state-device-plugin",
    component="devicePlugin",
    deploy="device-plugin",
    account="nvidia-device-plugin",
    container="nvidia-device-plugin",
    fields={},
    env={
        "PASS_DEVICE_SPECS": "true",
        "FAIL_ON_INIT_ERROR": "true",
        "DEVICE_LIST_STRATEGY": "envvar",
        "DEVICE_ID_STRATEGY": "uuid",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "all",
        "MPS_ROOT": "/run/nvidia/mps",
    },
    host={"device-plugin": "/var/lib/kubelet/device-plugins", "run-nvidia-validations": _VALIDATIONS},
    configured=True,
    process="nvidia-device-plugin",
)
MPS_DAEMON = Operand(
    name="nvidia-device-plugin-mps-control-daemon",
    state="state-mps-control-daemon",
    component="devicePlugin",
    deploy="device-plugin",
    account="nvidia-device-plugin",
    unused_account="nvidia-device-plugin-mps-control-daemon",
    container="mps-control-daemon-ctr",
    init=(TOOLKIT_VALIDATION, MPS_MOUNTS),
    env={"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"},
    host={"run-nvidia": "/run/nvidia", "mps-root": "/run/nvidia/mps", "mps-shm": "/run/nvidia/mps/shm"},
    host_pid=True,
    configured=True,
    process="/usr/bin/mps-control-daemon",
    selects={MPS_CAPABLE: "true"},
)
DCGM = Operand(
    name="nvidia-dcgm",
    state="state-dcgm",
    component="dcgm",
    deploy="dcgm",
    account="nvidia-dcgm",
    container="nvidia-dcgm-ctr",
    fields={},
    ports={"dcgm": 5555},
)
EXPORTER = Operand(
    name="nvidia-dcgm-exporter",
    state="state-dcgm-exporter",
    component="dcgmExporter",
    deploy="dcgm-exporter",
    account="nvidia-dcgm-exporter",
    container="nvidia-dcgm-exporter",
    env={
        "DCGM_EXPORTER_LISTEN": ":9400",
        "DCGM_EXPORTER_KUBERNETES": "true",
        "DCGM_EXPORTER_COLLECTORS": "/etc/dcgm-exporter/dcp-metrics-included.csv",
    },
    host={"pod-gpu-resources": "/var/lib/kubelet/pod-resources", "run-nvidia": "/run/nvidia"},
    ports={"metrics": 9400},
)
GFD = Operand(
    name="gpu-feature-discovery",
    state="gpu-feature-discovery",
    component="gfd",
    deploy="gpu-feature-discovery",
    account="nvidia-gpu-feature-discovery",
    container="gpu-feature-discovery",
    fields={**NODE_NAME, "NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"},
    env={"GFD_SLEEP_INTERVAL": "60s", "GFD_FAIL_ON_INIT_ERROR": "true"},
    host={"run-nvidia": "/run/nvidia", "host-sys": "/sys"},
    configured=True,
    process="gpu-feature-discovery",
    labels={"app.kubernetes.io/part-of": "nvidia-gpu"},
)
MIG_MANAGER = Operand(
    name="nvidia-mig-manager",
    state="state-mig-manager",
    component="migManager",
    deploy="mig-manager",
    account="nvidia-mig-manager",
    container="nvidia-mig-manager",
    fields={
        **NODE_NAME,
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "DEFAULT_GPU_CLIENTS_NAMESPACE": "metadata.namespace",
    },
    env={"GPU_CLIENTS_FILE": "/gpu-clients/clients.yaml"},
    host={"host-sys": "/sys", "run-nvidia-validations": _VALIDATIONS, "host-root": "/"},
    host_pid=True,
)
STATUS_EXPORTER = Operand(
    name="nvidia-node-status-exporter",
    state="state-node-status-exporter",
    component="nodeStatusExporter",
    deploy="node-status-exporter",
    account="nvidia-node-status-exporter",
    container="nvidia-node-status-exporter",
    fields={**NODE_NAME, **OPERATOR_NAMESPACE},
    init=(),
    env={"NVIDIA_VISIBLE_DEVICES": "void", "COMPONENT": "metrics", "METRICS_PORT": "8000"},
    ports={"node-status": 8000},
    runs_with_gpus=False,
)

OPERANDS = (
    DRIVER,
    TOOLKIT,
    VALIDATOR,
    PLUGIN,
    MPS_DAEMON,
    DCGM,
    EXPORTER,
    GFD,
    MIG_MANAGER,
    STATUS_EXPORTER,
)
"""Those of containers, in the order in which the operator goes through them."""

BY_APP: Mapping[str, Operand] = {operand.name: operand for operand in OPERANDS}
"""Operands by the label ``app`` of their pods."""

SERVICES: Mapping[str, tuple[str, int, str]] = {
    DCGM.name: ("dcgm", 5555, "Local"),
    EXPORTER.name: ("gpu-metrics", 9400, "Cluster"),
    STATUS_EXPORTER.name: ("node-status", 8000, "Cluster"),
}
"""The services in front of operands: the name of the port, the port, and how traffic inside the cluster is spread."""

CONTAINER_LABELS = (
    "driver",
    "gpu-feature-discovery",
    "container-toolkit",
    "device-plugin",
    "dcgm",
    "dcgm-exporter",
    "node-status-exporter",
    "operator-validator",
    "client",
)
"""Ends of the deploy labels of a node whose GPUs are for containers (controllers/state_manager.go)."""

DRA_LABELS = ("driver", "dra-driver", "dra-validator", "dcgm-dra", "dcgm-exporter-dra")
"""Those of a node under a GPUCluster."""

SANDBOX_LABELS: Mapping[str, tuple[str, ...]] = {
    "vm-passthrough": (
        "sandbox-device-plugin",
        "sandbox-validator",
        "vfio-manager",
        "kata-manager",
        "cc-manager",
        "client",
    ),
    "vm-vgpu": (
        "sandbox-device-plugin",
        "vgpu-manager",
        "vgpu-device-manager",
        "sandbox-validator",
        "cc-manager",
        "client",
    ),
}
"""Those of a node whose GPUs are for virtual machines, by what its label nvidia.com/gpu.workload.config says."""

"""The components of a GPU stack: what each is called, what switches it on, and which GPU nodes need it.

This is the guide's list of seven components as it ought to be read. Which of them there have to be follows from the
object that the operator obeys and from the declared pools; no list of names is right for two clusters.
Sources: NVIDIA/gpu-operator v26.7.0, assets, manifests and controllers/state_manager.go (isStateEnabled,
gpuStateLabels); kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from conformance.facts import Facts, Node, Workload
from conformance.gpu.mig import Unknown, model_of
from conformance.gpu.operator_stack import CUSTOM_KINDS
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import ObjectReference
from suites._shared.operand_versions import Version
from suites._shared.operator_resource import Root, declared_stack, root_of

DEPLOY = "nvidia.com/gpu.deploy."
"""Labels with this prefix say of a node whether a component goes there; the operator sets them to true."""

ALL_OPERANDS = f"{DEPLOY}operands"
WORKLOAD_CONFIG = "nvidia.com/gpu.workload.config"
"""For whom the GPUs of a node are: container, vm-passthrough or vm-vgpu."""

MIG_MANAGER = "mig-manager"
"""The end of the one such label that the operator sets only once GPU feature discovery has found MIG."""

CONTAINER = "container"
ON = "true"
PRE_INSTALLED = "pre-installed"
"""With this value the driver container has stepped back: it found a driver in the node's image."""


class Nodes(Enum):
    """Which GPU nodes need a component."""

    ALL = "every GPU node"
    MIG = "GPU nodes whose GPUs have MIG"
    MPS = "GPU nodes whose GPUs are shared by MPS"
    DRA = "GPU nodes whose GPUs are allocated by DRA"
    VIRTUAL = "GPU nodes that are set aside for virtual machines"
    NONE = "no GPU node: it runs once for the cluster"


class Component(NamedTuple):
    """One component.

    ``name`` is that of its workload, ``deploy`` the end of its node label, ``switch`` its block in the object that the
    operator follows (one without a switch is always there), ``mode`` the one mode of sandbox workloads that has it,
    ``since`` the first version of the operator that has it, where older ones are still in use.
    """

    title: str
    name: str
    deploy: str = ""
    switch: str = ""
    nodes: Nodes = Nodes.ALL
    kind: str = "DaemonSet"
    mode: str = ""
    since: Version = (0, 0, 0)

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return ObjectReference.of(self.kind, self.name, text=self.title)

    def __str__(self) -> str:
        return self.title

    def is_wanted(self, root: Root, drivers: int) -> bool:
        """Whether the operator has to deploy it; ``drivers`` is the number of NVIDIADriver objects."""
        if self.nodes is Nodes.VIRTUAL:
            mode = root.at("sandboxWorkloads.mode") or "kubevirt"
            right_mode = not self.mode or self.mode == mode
            return root.enabled("sandboxWorkloads") and right_mode and (not self.switch or root.enabled(self.switch))
        if self is DRIVER and root.leaves_drivers_to_objects:
            return drivers > 0 and (root.kind == "GPUCluster" or root.enabled("driver"))
        return not self.switch or root.enabled(self.switch)

    def is_run_by(self, workload: Workload) -> bool:
        """Whether a workload runs this component, by its name or label.

        Drivers have a name for each kernel, vGPU managers one for each release of OpenShift.
        """
        if workload.kind != self.kind:
            return False
        if self is DRIVER and workload.labels.get("app.kubernetes.io/component") == "nvidia-driver":
            return True
        named = workload.name == self.name or workload.labels.get("app") == self.name
        return named or (self in (DRIVER, VGPU_MANAGER) and workload.name.startswith(f"{self.name}-"))


DRIVER = Component("driver", "nvidia-driver-daemonset", "driver", "driver")
TOOLKIT = Component("container toolkit", "nvidia-container-toolkit-daemonset", "container-toolkit", "toolkit")
PLUGIN = Component("device plugin", "nvidia-device-plugin-daemonset", "device-plugin", "devicePlugin")
VGPU_MANAGER = Component(
    "vGPU manager", "nvidia-vgpu-manager-daemonset", "vgpu-manager", "vgpuManager", nodes=Nodes.VIRTUAL
)
VALIDATOR = Component("validator", "nvidia-operator-validator", "operator-validator")
DRA_VALIDATOR = Component("validator", "nvidia-dra-validator", "dra-validator")
OWN_DRA_DRIVER = Component("DRA driver", "nvidia-dra-driver-kubelet-plugin", "dra-driver")
DRA_DRIVER = Component("DRA driver", "dra-driver-nvidia-gpu-kubelet-plugin", nodes=Nodes.DRA)
"""The DRA driver of the operator, and the one of a chart of its own."""

# In each table whoever needs another component stands below it.
COMPONENTS: dict[str, tuple[Component, ...]] = {
    "ClusterPolicy": (
        DRIVER,
        TOOLKIT,
        PLUGIN,
        Component(
            "MPS control daemon",
            "nvidia-device-plugin-mps-control-daemon",
            "device-plugin",
            "devicePlugin",
            nodes=Nodes.MPS,
            since=(24, 3, 0),
        ),
        Component("GPU feature discovery", "gpu-feature-discovery", "gpu-feature-discovery", "gfd"),
        Component("MIG manager", "nvidia-mig-manager", MIG_MANAGER, "migManager", nodes=Nodes.MIG),
        Component("DCGM", "nvidia-dcgm", "dcgm", "dcgm"),
        Component("dcgm-exporter", "nvidia-dcgm-exporter", "dcgm-exporter", "dcgmExporter"),
        Component("node status exporter", "nvidia-node-status-exporter", "node-status-exporter", "nodeStatusExporter"),
        VALIDATOR,
        Component("VFIO manager", "nvidia-vfio-manager", "vfio-manager", "vfioManager", nodes=Nodes.VIRTUAL),
        VGPU_MANAGER,
        Component(
            "vGPU device manager",
            "nvidia-vgpu-device-manager",
            "vgpu-device-manager",
            "vgpuDeviceManager",
            nodes=Nodes.VIRTUAL,
        ),
        Component(
            "sandbox device plugin",
            "nvidia-sandbox-device-plugin-daemonset",
            "sandbox-device-plugin",
            "sandboxDevicePlugin",
            nodes=Nodes.VIRTUAL,
            mode="kubevirt",
        ),
        Component("sandbox validator", "nvidia-sandbox-validator", "sandbox-validator", nodes=Nodes.VIRTUAL),
    ),
    "GPUCluster": (
        DRIVER,
        OWN_DRA_DRIVER,
        Component("DCGM", "nvidia-dcgm-dra", "dcgm-dra", "dcgm"),
        Component("dcgm-exporter", "nvidia-dcgm-exporter-dra", "dcgm-exporter-dra", "dcgmExporter"),
        DRA_VALIDATOR,
        Component(
            "DRA controller",
            "nvidia-dra-driver-controller",
            switch="draDriver.computeDomains",
            nodes=Nodes.NONE,
            kind="Deployment",
        ),
    ),
}
VALIDATORS = (VALIDATOR, DRA_VALIDATOR)
TESTED = (DRIVER, TOOLKIT, PLUGIN, OWN_DRA_DRIVER)
"""The components that a validator tries."""


class Part(NamedTuple):
    """A component that the cluster is meant to have, and the workloads by which it has it."""

    component: Component
    workloads: tuple[Workload, ...]
    root: Root | None = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.component.subject

    def __str__(self) -> str:
        return str(self.component)

    def is_needed_on(self, pool: Pool, node: Node | None = None) -> bool:
        """Whether the nodes of a pool need the component, by the declaration.

        Of the node only that is believed which nobody can declare: that it brings its own driver, and that its
        driver knows no MIG.
        """
        if pool.gpu is None or _switched_off(self.component, pool) or purpose_of(pool, self.root) != CONTAINER:
            return False
        labels = node.labels if node is not None else {}
        if self.component is DRIVER and labels.get(f"{DEPLOY}{DRIVER.deploy}") == PRE_INSTALLED:
            return False
        return _needs(self.component, pool.gpu, labels)


def components_of(root: Root) -> tuple[Component, ...]:
    """Every component that the operator may deploy for this kind of object, in the order of their needs."""
    return COMPONENTS[root.kind]


def may_be_unknown(component: Component, version: Version | None, reference: Reference) -> bool:
    """Whether an operator of this version is too old for a component, and no pool needs it, so that none is missed."""
    if version is None or version >= component.since:
        return False
    return not any(pool.gpu is not None and _needs(component, pool.gpu, {}) for pool in reference.gpu_pools)


def parts_of(facts: Facts, reference: Reference) -> tuple[Part, ...]:
    """The components that the cluster is meant to have on GPU nodes, in the order of their needs.

    With an operator those that its object switches on, else the one that offers the GPUs. Raises NotApplicable where
    no stack is declared, Inconclusive where the object is missing or workloads could not be read.
    """
    stack = declared_stack(reference)
    parts: list[Part] = []
    if stack.kind == "gpu-operator":
        root = root_of(facts, reference)
        drivers = len(facts.nvidia_drivers)
        own = operator_workloads(facts, reference)
        parts = [
            Part(component, tuple(each for each in own if component.is_run_by(each)), root)
            for component in components_of(root)
            if component.nodes is not Nodes.NONE and component.is_wanted(root, drivers)
        ]
    elif stack.kind == "device-plugin":
        parts = [Part(PLUGIN, _placed(facts, facts.stack.device_plugins))]
    if stack.kind == "dra-driver" or stack.dra is not None:
        parts.append(Part(DRA_DRIVER, _placed(facts, facts.stack.dra_drivers)))
    return tuple(parts)


def operator_workloads(facts: Facts, reference: Reference) -> tuple[Workload, ...]:
    """The DaemonSets and Deployments of the operator's namespace and those that its objects own elsewhere."""
    homes = {place.partition("/")[0] for place in facts.stack.operators} or {declared_stack(reference).namespace}
    return tuple(
        each
        for each in facts.workloads
        if each.kind in ("DaemonSet", "Deployment") and (each.namespace in homes or each.owner_kind in CUSTOM_KINDS)
    )


def discovery_workers(facts: Facts) -> tuple[Workload, ...]:
    """The DaemonSets of Node Feature Discovery that look at nodes, of whatever release."""
    return tuple(each for each in facts.workloads if each.kind == "DaemonSet" and _discovers(each))


def discovery_masters(facts: Facts) -> tuple[Workload, ...]:
    """The Deployments of Node Feature Discovery that write the labels."""
    ends = ("node-feature-discovery-master", "nfd-master")
    return tuple(each for each in facts.workloads if each.kind == "Deployment" and each.name.endswith(ends))


def has_mig(gpu: Gpu) -> bool:
    """Whether the declared GPUs are of a model that has MIG; no for one that the tables do not know."""
    model = model_of(gpu.product, gpu.memory_mib or None)
    return not isinstance(model, Unknown) and bool(model.profiles)


def wants_discovery(pool: Pool) -> bool:
    """Whether feature discovery has to find the nodes of a pool; not where the owners keep the whole stack off."""
    if pool.gpu is None:
        return False
    return pool.gpu.allocated_by == "dra" or pool.labels.get(ALL_OPERANDS, ON) == ON


def purpose_of(pool: Pool, root: Root | None) -> str:
    """For whom the GPUs of a pool are; without sandbox workloads always for containers."""
    if root is None or not root.enabled("sandboxWorkloads"):
        return CONTAINER
    return str(pool.labels.get(WORKLOAD_CONFIG) or root.at("sandboxWorkloads.defaultWorkload") or CONTAINER)


def _discovers(workload: Workload) -> bool:
    ends = ("node-feature-discovery-worker", "nfd-worker")
    labels = workload.labels
    labelled = labels.get("app.kubernetes.io/name") == "node-feature-discovery" and labels.get("role") == "worker"
    return labelled or workload.name.endswith(ends)


def _placed(facts: Facts, places: Iterable[str]) -> tuple[Workload, ...]:
    split = (place.partition("/") for place in places)
    found = (facts.workload("DaemonSet", namespace, name) for namespace, _, name in split)
    return tuple(each for each in found if each is not None)


def _switched_off(component: Component, pool: Pool) -> bool:
    """Whether the owners' labels keep a component of the operator off the pool."""
    keys = (ALL_OPERANDS, f"{DEPLOY}{component.deploy}")
    return bool(component.deploy) and any(pool.labels.get(key, ON) != ON for key in keys)


def _needs(component: Component, gpu: Gpu, labels: dict[str, str]) -> bool:
    if component is PLUGIN:
        return gpu.allocated_by == "device-plugin"
    if component.nodes is Nodes.MIG:
        return has_mig(gpu) and labels.get("nvidia.com/mig.capable", ON) == ON
    if component.nodes is Nodes.MPS:
        return gpu.shared_by == "mps"
    if component.nodes is Nodes.DRA:
        return gpu.allocated_by == "dra"
    return component.nodes is Nodes.ALL

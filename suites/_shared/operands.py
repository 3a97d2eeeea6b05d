"""The components of a GPU stack: what each is called, what enables it, and which GPU nodes need it.

The guide lists seven components. Which of them a cluster must have follows from the ClusterPolicy or GPUCluster and
from the declared pools; no list of names is right for two clusters.
Sources: NVIDIA/gpu-operator v26.7.0, assets, manifests and controllers/state_manager.go (isStateEnabled,
gpuStateLabels); kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1.
"""

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from conformance.facts import Facts, Node, Workload
from conformance.facts.programs import runs_program
from conformance.gpu.labels import DEPLOY, DEPLOY_OPERANDS, MIG_CAPABLE, WORKLOAD_CONFIG
from conformance.gpu.mig import Unknown, model_of
from conformance.gpu.operator_stack import CUSTOM_KINDS, is_dra_plugin
from conformance.gpu.resources import is_gpu_resource
from conformance.gpu.stack_programs import NFD_MASTER, NFD_WORKER
from conformance.reference.model import Gpu, Pool, Reference
from conformance.subjects import ObjectReference
from suites._shared.operand_versions import Version
from suites._shared.operator_resource import (
    OperatorResource,
    declared_stack,
    find_operator_resource,
    require_operator_resource,
)
from suites._shared.pool_nodes import is_for_containers, is_of_another_maker

WORKERS_END = ("node-feature-discovery-worker", "nfd-worker")
"""The ends of names of the DaemonSets of Node Feature Discovery's workers."""

MIG_MANAGER = "mig-manager"
"""The end of the one such label that the operator sets only once GPU Feature Discovery has found MIG."""

CONTAINER = "container"
ON = "true"
PRE_INSTALLED = "pre-installed"
"""The value that the driver container sets where it found a driver in the node image, and does not install one."""


class Nodes(Enum):
    """Which GPU nodes need a component."""

    ALL = "every GPU node"
    MIG = "GPU nodes whose GPUs have MIG"
    MPS = "GPU nodes whose GPUs are shared by MPS"
    DRA = "GPU nodes whose GPUs are allocated by DRA"
    VIRTUAL = "GPU nodes that are for virtual machines"
    NONE = "no GPU node: it runs once for the cluster"


class Component(NamedTuple):
    """One component.

    ``name`` is that of its workload, ``deploy`` the end of its node label, ``switch`` its block in the operator
    resource (one without a switch is always deployed), ``mode`` the one mode of sandbox workloads that has it,
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

    def is_wanted(self, operator_resource: OperatorResource, drivers: int) -> bool:
        """Whether the operator has to deploy it; ``drivers`` is the number of NVIDIADriver objects."""
        if self.nodes is Nodes.VIRTUAL:
            mode = operator_resource.at("sandboxWorkloads.mode") or "kubevirt"
            right_mode = not self.mode or self.mode == mode
            return (
                operator_resource.enabled("sandboxWorkloads")
                and right_mode
                and (not self.switch or operator_resource.enabled(self.switch))
            )
        if self is DRIVER and operator_resource.uses_nvidia_driver_objects:
            return drivers > 0 and (operator_resource.kind == "GPUCluster" or operator_resource.enabled("driver"))
        return not self.switch or operator_resource.enabled(self.switch)

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
GPU_FEATURE_DISCOVERY = Component("GPU Feature Discovery", "gpu-feature-discovery", "gpu-feature-discovery", "gfd")
VGPU_MANAGER = Component(
    "vGPU manager", "nvidia-vgpu-manager-daemonset", "vgpu-manager", "vgpuManager", nodes=Nodes.VIRTUAL
)
VALIDATOR = Component("validator", "nvidia-operator-validator", "operator-validator")
DRA_VALIDATOR = Component("validator", "nvidia-dra-validator", "dra-validator")
OWN_DRA_DRIVER = Component("DRA driver", "nvidia-dra-driver-kubelet-plugin", "dra-driver")
DRA_DRIVER = Component("DRA driver", "dra-driver-nvidia-gpu-kubelet-plugin", nodes=Nodes.DRA)
"""The DRA driver of the operator, and the one of a chart of its own."""

# In each table a component that needs another one is below it.
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
        GPU_FEATURE_DISCOVERY,
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
"""The components that a validator tests."""
LABELLING = (DRIVER, TOOLKIT, GPU_FEATURE_DISCOVERY)
"""The components without which GPU Feature Discovery sets no labels."""


class ExpectedComponent(NamedTuple):
    """A component that the cluster is expected to have, and the workloads that run it."""

    component: Component
    workloads: tuple[Workload, ...]
    operator_resource: OperatorResource | None = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.component.subject

    def __str__(self) -> str:
        return str(self.component)

    def is_needed_on(self, pool: Pool, node: Node | None = None) -> bool:
        """Whether the nodes of a pool need the component, by the declaration.

        Of the node's labels only those count that nobody can declare: that its image has a driver, and that its
        driver does not support MIG.
        """
        if not _belongs_to(self.component, pool, self.operator_resource):
            return False
        if node is None:
            return True
        if self.component is DRIVER:
            return node.labels.get(f"{DEPLOY}{DRIVER.deploy}") != PRE_INSTALLED
        return self.component.nodes is not Nodes.MIG or node.labels.get(MIG_CAPABLE, ON) == ON


def components_of(operator_resource: OperatorResource) -> tuple[Component, ...]:
    """Every component that the operator may deploy for this kind of resource, in the order of their dependencies."""
    return COMPONENTS[operator_resource.kind]


def may_be_unknown(component: Component, version: Version | None, reference: Reference) -> bool:
    """Whether an operator of this version has no such component, and no pool needs it, so that none is missing."""
    if version is None or version >= component.since:
        return False
    return not any(pool.gpu is not None and _needs(component, pool.gpu) for pool in reference.gpu_pools)


def expected_components(facts: Facts, reference: Reference) -> tuple[ExpectedComponent, ...]:
    """The components that the cluster is expected to have on GPU nodes, in the order of their dependencies.

    With an operator those that its resource enables, else the one that offers the GPUs. Raises NotApplicable where
    no stack is declared, Inconclusive where that resource is missing or workloads could not be read.
    """
    stack = declared_stack(reference)
    components: list[ExpectedComponent] = []
    if stack.kind == "gpu-operator":
        operator_resource = require_operator_resource(facts, reference)
        drivers = len(facts.nvidia_drivers)
        own = operator_workloads(facts, reference)
        components = [
            ExpectedComponent(component, tuple(each for each in own if component.is_run_by(each)), operator_resource)
            for component in components_of(operator_resource)
            if component.nodes is not Nodes.NONE and component.is_wanted(operator_resource, drivers)
        ]
    elif stack.kind == "device-plugin":
        components = [ExpectedComponent(PLUGIN, _placed(facts, facts.stack.device_plugins))]
    if stack.kind == "dra-driver" or stack.dra is not None or _is_simulated_for_claims(reference):
        components.append(ExpectedComponent(DRA_DRIVER, _placed(facts, facts.stack.dra_drivers)))
    return tuple(components)


def _is_simulated_for_claims(reference: Reference) -> bool:
    simulated = reference.stack is not None and reference.stack.kind == "simulated-plugin"
    return simulated and any(pool.gpu is not None and pool.gpu.allocated_by == "dra" for pool in reference.gpu_pools)


def operator_workloads(facts: Facts, reference: Reference) -> tuple[Workload, ...]:
    """The DaemonSets and Deployments of the operator's namespace and those that its custom resources own elsewhere."""
    namespaces = {place.partition("/")[0] for place in facts.stack.operators} or {declared_stack(reference).namespace}
    return tuple(
        each
        for each in facts.workloads
        if each.kind in ("DaemonSet", "Deployment")
        and (each.namespace in namespaces or each.owner_kind in CUSTOM_KINDS)
    )


def workloads_there(facts: Facts) -> tuple[Workload, ...]:
    """The workloads of whatever offers GPUs here, whoever declared it, in the order of their dependencies."""
    operator_resource = find_operator_resource(facts)
    known = components_of(operator_resource) if operator_resource is not None else ()
    owned = [each for each in facts.workloads if each.owner_kind in CUSTOM_KINDS]
    operands = [each for component in known for each in owned if component.is_run_by(each)]
    return (*operands, *_placed(facts, (*facts.stack.device_plugins, *facts.stack.dra_drivers)))


def discovery_workers(facts: Facts) -> tuple[Workload, ...]:
    """The worker DaemonSets of Node Feature Discovery, of whatever release."""
    return tuple(each for each in facts.workloads if each.kind == "DaemonSet" and is_discovery_worker(each))


def is_discovery_worker(workload: Workload) -> bool:
    """Whether a workload is the worker of Node Feature Discovery, by its labels, its name or what it runs."""
    labels = workload.labels
    labelled = labels.get("app.kubernetes.io/name") == "node-feature-discovery" and labels.get("role") == "worker"
    return labelled or workload.name.endswith(WORKERS_END) or runs_program(workload.template, NFD_WORKER)


def discovery_masters(facts: Facts) -> tuple[Workload, ...]:
    """The Deployments of Node Feature Discovery that write the labels."""
    ends = ("node-feature-discovery-master", "nfd-master")
    return tuple(
        each
        for each in facts.workloads
        if each.kind == "Deployment" and (each.name.endswith(ends) or runs_program(each.template, NFD_MASTER))
    )


def dra_driver_parts(facts: Facts) -> tuple[Workload, ...]:
    """The workloads of NVIDIA's DRA driver, whether it offers GPUs or ComputeDomains: kubelet plugin and controller.

    Source: kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1, deployments/helm: the controller is there for ComputeDomains.
    """
    plugins = [each for each in facts.workloads if each.kind == "DaemonSet" and is_dra_plugin(each.name)]
    namespaces = {each.namespace for each in plugins}
    controllers = [
        each
        for each in facts.workloads
        if each.kind == "Deployment"
        and each.namespace in namespaces
        and "dra-driver" in each.name
        and each.name.endswith("-controller")
    ]
    return (*controllers, *plugins)


@lru_cache(maxsize=64)
def has_mig(gpu: Gpu) -> bool:
    """Whether the declared GPUs are of a model that has MIG; no for one that the tables do not know."""
    model = model_of(gpu.product, gpu.memory_mib or None)
    return not isinstance(model, Unknown) and bool(model.profiles)


def wants_discovery(pool: Pool) -> bool:
    """Whether Node Feature Discovery has to label the nodes of a pool; not where the owners keep all operands off."""
    if pool.gpu is None or is_of_another_maker(pool):
        return False
    return pool.gpu.allocated_by == "dra" or pool.labels.get(DEPLOY_OPERANDS, ON) == ON


def purpose_of(pool: Pool, operator_resource: OperatorResource | None) -> str:
    """What the GPUs of a pool are for; without sandbox workloads always for containers."""
    if operator_resource is None or not operator_resource.enabled("sandboxWorkloads"):
        return CONTAINER
    return str(
        pool.labels.get(WORKLOAD_CONFIG) or operator_resource.at("sandboxWorkloads.defaultWorkload") or CONTAINER
    )


def _placed(facts: Facts, places: Iterable[str]) -> tuple[Workload, ...]:
    split = (place.partition("/") for place in places)
    found = (facts.workload("DaemonSet", namespace, name) for namespace, _, name in split)
    return tuple(each for each in found if each is not None)


# Asked for each component on each node of thousands; the answer is the pool's.
@lru_cache(maxsize=512)
def _belongs_to(component: Component, pool: Pool, operator_resource: OperatorResource | None) -> bool:
    """Whether the GPUs of a pool need a component, and neither the owners' labels nor their purpose keep it off."""
    if pool.gpu is None or not is_for_containers(pool) or _switched_off(component, pool):
        return False
    return _needs(component, pool.gpu) and purpose_of(pool, operator_resource) == CONTAINER


def _switched_off(component: Component, pool: Pool) -> bool:
    """Whether the owners' labels keep a component of the operator off the pool."""
    keys = (DEPLOY_OPERANDS, f"{DEPLOY}{component.deploy}")
    return bool(component.deploy) and any(pool.labels.get(key, ON) != ON for key in keys)


def _needs(component: Component, gpu: Gpu) -> bool:
    """Whether GPUs that are declared so need a component."""
    if component is PLUGIN:
        return gpu.allocated_by == "device-plugin" and is_gpu_resource(gpu.resource)
    if component.nodes is Nodes.MIG:
        return has_mig(gpu)
    if component.nodes is Nodes.MPS:
        return gpu.shared_by == "mps"
    if component.nodes is Nodes.DRA:
        return gpu.allocated_by == "dra"
    return component.nodes is Nodes.ALL

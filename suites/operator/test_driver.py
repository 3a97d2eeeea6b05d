"""Driver: the declared version on every GPU node, and upgrades that neither stand still nor would fail.

A driver is upgraded node by node: pods leave, the node is cordoned, the driver is loaded anew, the validator tries it.
Each step can stop for good. A pod with an emptyDir may not be deleted, a cordoned node uses up what may be unavailable,
a wait for jobs has no end. Nothing is in an error state then: some nodes only keep the old driver, for weeks.
"""

from collections.abc import Sequence

from conformance.catalog import MUST, SHOULD, requirement
from conformance.facts import Facts, Node
from conformance.gpu.drivers import DriverVersion, Support, known_regressions, lifecycle
from conformance.gpu.resources import GPU, MIG_PREFIX
from conformance.reference.expected import driver_of, gpus_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Judge, NotApplicable, Unsupported
from suites._shared.node_gpus import DRIVER, driver
from suites._shared.operands import DRIVER as DRIVER_COMPONENT
from suites._shared.operands import ON, parts_of
from suites._shared.operator_resource import declared_stack, found_root, root_of
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.resource_slices import devices_on
from suites._shared.upgrade_states import DONE, REQUIRED, SKIP, STATE, UNDER_WAY, is_changing, policy_for, state_of
from suites.operator.operator_settings import asked_for
from suites.operator.stuck_upgrades import managed_nodes, stuck_nodes
from suites.operator.upgrade_obstacles import undeletable, unseen_users

GUIDE = "guide part 2"
UPGRADES = "NVIDIA GPU Operator: GPU Driver Upgrades"
TROUBLESHOOTING = "NVIDIA GPU Operator: Troubleshooting"
LIBRARY = "NVIDIA/k8s-operator-libs: pkg/upgrade"
BRANCHES = "NVIDIA Data Center Drivers: Supported Drivers and CUDA Toolkit Versions"
_UPGRADED = "its driver is being upgraded"


@requirement(
    "OPER-15",
    "Every GPU node has the declared driver version",
    level=MUST,
    sources=[GUIDE, UPGRADES, "NVIDIA/k8s-device-plugin: GPU Feature Discovery labels"],
    remedy="Finish the upgrade that stopped half-way, or declare the version that the pool really has.",
)
def test_every_gpu_node_has_the_declared_driver(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    declared = [(pool, node, version) for pool, node, _ in gpu_pool_nodes if (version := driver_of(reference, pool))]
    if not declared:
        raise NotApplicable(f"{reference} declares no driver version for a pool that has nodes")
    _discovered([node for _, node, _ in declared], facts, reference)
    goes_on = any(state_of(node) in UNDER_WAY for _, node, _ in declared)
    for pool, node, version in declared:
        found = _told(node, facts)
        if is_changing(node) or (goes_on and state_of(node) == REQUIRED):
            judge.pass_over(node, _UPGRADED)
            continue
        if not found:
            judge.pass_over(node, _untold(node))
            continue
        judge(
            node,
            ok=_same(found, version),
            expected=f"driver {version}, as declared for {pool}",
            actual=found,
            cause=_why_another(node, found, facts),
            hidden_because="each node works with the driver that it has; jobs fail that span two of them",
            inspect=f"kubectl get nodes -l {pool.selector_text} -L {DRIVER},{STATE},{SKIP}",
        )


@requirement(
    "OPER-16",
    "Every GPU node has a driver that NVIDIA still maintains",
    level=SHOULD,
    sources=[BRANCHES],
    remedy="Plan the upgrade to a production or long term support branch that has years to go.",
)
def test_every_driver_is_maintained(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    _discovered([node for _, node, _ in gpu_pool_nodes], facts, reference)
    today = facts.taken_at.date()
    unknown = ""
    for _, node, _ in gpu_pool_nodes:
        version = _version(node, facts)
        support = lifecycle(version, today) if version is not None else None
        if support is None or support.support is Support.UNKNOWN:
            unknown = f"{node}: {support.reason}" if support else unknown
            judge.pass_over(node, support.reason if support else _untold(node))
            continue
        judge(
            node,
            ok=support.support is Support.SUPPORTED,
            expected=f"a driver branch that is maintained on {today}",
            actual=f"{version}: {support.reason}",
            cause=support.reason,
            hidden_because="the driver goes on working; its flaws are no longer mended",
            inspect=f"kubectl get node {node.name} -L {DRIVER}",
        )
    if not judge.findings and unknown:
        raise Unsupported(f"no source tells how long the drivers are maintained ({unknown})")


@requirement(
    "OPER-17",
    "No GPU node has a driver with a defect that the pool would meet",
    level=MUST,
    sources=[TROUBLESHOOTING, "NVIDIA/gpu-operator#1361", "NVIDIA GPU Operator: release notes of v25.3.2"],
    remedy="Upgrade to the first driver without the defect.",
)
def test_no_driver_has_a_defect_that_the_pool_meets(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    _discovered([node for _, node, _ in gpu_pool_nodes], facts, reference)
    for pool, node, gpu in gpu_pool_nodes:
        version = _version(node, facts)
        if version is None:
            judge.pass_over(node, _untold(node))
            continue
        met = [each for each in known_regressions(version, gpu.product) if _meets(each.id, reference, pool, node)]
        judge(
            node,
            ok=not met,
            expected="a driver without a known defect in what the pool does",
            actual=str(version),
            cause="; ".join(each.effect for each in met),
            hidden_because="nvidia-smi and the validator are content; only pods of this kind of node fail",
            remedy="; ".join(each.remedy for each in met),
            inspect=f"kubectl get node {node.name} -L {DRIVER}",
        )


@requirement(
    "OPER-18",
    "No driver upgrade stands still half-way",
    level=MUST,
    sources=[UPGRADES, LIBRARY, "NVIDIA/gpu-operator#2509"],
    remedy=f"Mend what it waits for; after a failure set the label {STATE}=upgrade-required again.",
)
def test_no_driver_upgrade_stands_still(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    root, parts = root_of(facts, reference), parts_of(facts, reference)
    nodes = managed_nodes(gpu_pool_nodes, parts)
    if not nodes:
        raise NotApplicable("the operator manages the driver of no GPU node")
    stuck = stuck_nodes(nodes, parts, root, facts)
    for pool, node in nodes:
        trouble = stuck.get(node.name)
        judge(
            node,
            ok=trouble is None,
            expected="no upgrade, one that is done, or one that goes on",
            actual=f"{STATE}={node.labels.get(STATE) or 'not set'}",
            cause=trouble.link if trouble else "",
            hidden_because="the node is Ready, and the operator waits without an error",
            remedy=trouble.remedy if trouble else "",
            inspect=f"kubectl get nodes -l {pool.selector_text} -L {STATE},{SKIP}; kubectl get events -n default",
        )


@requirement(
    "OPER-19",
    "Nothing on a GPU node would make a driver upgrade fail",
    level=SHOULD,
    sources=[UPGRADES, LIBRARY, "NVIDIA/gpu-operator issues 367, 2166 and 2509"],
    remedy="Settle it before the upgrade: afterwards the node is upgrade-failed and cordoned.",
)
def test_nothing_would_make_a_driver_upgrade_fail(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    root = root_of(facts, reference)
    managed = [node for _, node in managed_nodes(gpu_pool_nodes, parts_of(facts, reference))]
    nodes = [node for node in managed if policy_for(node, root, facts).automatic]
    if not nodes:
        raise NotApplicable("the operator upgrades the driver of no GPU node by itself")
    stack = {declared_stack(reference).namespace, *facts.stack_namespaces}
    found = [
        each for node in nodes for each in undeletable(facts.pods_on(node.name), policy_for(node, root, facts), facts)
    ]
    found += unseen_users(nodes, facts, stack)
    blocked = {each.pod.node for each in found}
    for node in nodes:
        if node.name not in blocked:
            judge(node, ok=True, expected="no pod in the way of an upgrade", actual="none")
    for obstacle in found:
        judge(
            obstacle.pod,
            ok=False,
            expected="out of the way of a driver upgrade, or known to it",
            actual=obstacle.how,
            cause=f"{obstacle.how}; the upgrade of {obstacle.pod.node} would end with upgrade-failed",
            hidden_because="the pod runs well; it is the driver that cannot be unloaded under it",
            remedy=obstacle.remedy,
            inspect=f"kubectl get pod -n {obstacle.pod.namespace} {obstacle.pod.name} -o yaml",
        )


def _discovered(nodes: Sequence[Node], facts: Facts, reference: Reference) -> None:
    """Raise Unsupported where no node tells its driver, and nothing is declared that would make it."""
    stack = reference.stack
    declared = stack is None or stack.gpu_feature_discovery
    if not declared and not any(_told(node, facts) or is_changing(node) for node in nodes):
        raise Unsupported(f"no GPU node carries {DRIVER}, and no GPU feature discovery is declared that would set it")


def _told(node: Node, facts: Facts) -> str:
    """The driver of a node as feature discovery labels it, else as the DRA driver publishes it; empty when unknown.

    Where DRA gives the GPUs away, feature discovery need not run.
    """
    return driver(node) or next((each.driver for each in devices_on(node, facts) if each.driver), "")


def _version(node: Node, facts: Facts) -> DriverVersion | None:
    """The driver of a node; None where nobody tells it, or what is told is no version."""
    try:
        return DriverVersion.parse(_told(node, facts))
    except ValueError:
        return None


def _untold(node: Node) -> str:
    """Why no label tells the driver of a node."""
    found = driver(node)
    return f"label {DRIVER} says {found}, which is no version of a driver" if found else f"no label {DRIVER}"


def _same(found: str, declared: str) -> bool:
    """Whether two texts are one version: 580.95.5 is how some labels write 580.95.05."""
    try:
        return DriverVersion.parse(found) == DriverVersion.parse(declared)
    except ValueError:
        return found == declared


def _meets(defect: str, reference: Reference, pool: Pool, node: Node) -> bool:
    """Whether a node does what a defect breaks; an unknown defect is met by every node.

    Mixed is a node that is declared to have GPUs with and without MIG, and one that offers both whatever is declared.
    """
    gpus = gpus_of(reference, pool)
    if defect == "cdmm-580":
        return gpus is not None and bool(gpus.mig)
    if defect != "mixed-mig-570":
        return True
    offered = [name for name in node.gpu_resources if node.gpus(name)]
    offers_both = GPU in offered and any(name.startswith(MIG_PREFIX) for name in offered)
    return offers_both or (gpus is not None and bool(gpus.mig) and gpus.whole > 0)


def _why_another(node: Node, found: str, facts: Facts) -> str:
    """Why a node has another driver than the declared one."""
    if node.labels.get(SKIP) == ON:
        return f"label {SKIP}=true keeps the operator from upgrading the node"
    if state_of(node) not in ("", DONE):
        return f"the upgrade of the node stands at {state_of(node)}"
    root = found_root(facts)
    if root is None:
        return "the driver is that of the node image, and no operator is there to change it"
    if any(_same(found, version) for version in asked_for(root, facts)):
        return f"the operator was told to install driver {found}"
    if not any(pod.labels.get("app.kubernetes.io/component") == "nvidia-driver" for pod in facts.pods_on(node.name)):
        return f"the operator runs no {DRIVER_COMPONENT} on the node: it has that of the node image"
    return "the driver pod of the node has not been replaced since the version was changed"

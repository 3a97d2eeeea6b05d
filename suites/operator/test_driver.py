"""Driver: the declared version on every GPU node, and upgrades that are neither stuck nor would fail.

A driver is upgraded node by node: the node is cordoned, its GPU pods are removed, the driver is reloaded, the validator
tests it. Each step can get stuck. A pod with an emptyDir may not be deleted, a cordoned node uses up maxUnavailable, a
wait for jobs has no timeout. No object is in an error state then: some nodes only keep the old driver, for weeks.
"""

from collections.abc import Collection, Iterable, Sequence

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Node, Pod
from conformance.gpu.drivers import DriverVersion, Support, known_regressions, lifecycle
from conformance.gpu.labels import DEPLOY_DRIVER, DRIVER_VERSION, GPU_PRODUCT, UPGRADE_SKIP, UPGRADE_STATE
from conformance.reference.expected import driver_of
from conformance.reference.model import Pool, Reference
from conformance.upgrading.policy import driver_object_of, policy_for
from conformance.verdict import Judge, NotApplicable, Unsupported, Waits
from suites._shared.driver_defects import is_affected
from suites._shared.driver_objects import CONFLICT, reason_of, why_refused
from suites._shared.grace import is_changing, is_left_behind, is_upgrading
from suites._shared.node_gpus import driver
from suites._shared.operand_status import awaits_labelling
from suites._shared.operands import DRIVER as DRIVER_COMPONENT
from suites._shared.operands import ON, PRE_INSTALLED, expected_components
from suites._shared.operator_resource import declared_stack, find_operator_resource, require_operator_resource
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.resource_slices import devices_on
from suites._shared.stuck_upgrades import managed_nodes, stuck_nodes
from suites._shared.unseen_gpu_users import unseen_users, what_becomes_of
from suites._shared.unseen_gpus import awaits_devices
from suites._shared.upgrade_obstacles import undeletable
from suites._shared.upgrade_states import DONE, REQUIRED, state_of
from suites.operator.operator_settings import asked_for

_UPGRADED = "its driver is being upgraded"


_UNTOLD = "unknown.unknown.unknown"
"""What GPU Feature Discovery writes for a driver version that it cannot tell."""


@requirement(
    "OPER-15",
    "Every GPU node has the declared driver version",
    level=MUST,
    sources=["guide-2", "operator-upgrades", "gpu-feature-discovery"],
    remedy="Finish the upgrade that stopped half-way, or declare the version that the pool really has.",
)
def test_every_gpu_node_has_the_declared_driver(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    declared = [(pool, node, version) for pool, node, _ in nvidia_pool_nodes if (version := driver_of(reference, pool))]
    if not declared:
        raise NotApplicable(f"{reference} declares no driver version for a pool that has nodes")
    _require_driver_versions([node for _, node, _ in declared], facts, reference)
    upgrading = any(is_upgrading(node, facts) for _, node, _ in declared)
    for pool, node, version in declared:
        found = _driver_version_of(node, facts)
        if is_changing(node, facts) or (upgrading and state_of(node) == REQUIRED):
            judge.pass_over(node, _UPGRADED)
            continue
        if not found:
            judge.pass_over(node, _why_no_driver_version(pool, node, facts, reference))
            continue
        same = _same(found, version)
        judge(
            node,
            ok=same,
            expected=f"driver {version}, as declared for {pool}",
            actual=found,
            cause="" if same else _why_another(node, found, facts),
            remedy="" if same else _how_to_have_another(node, facts),
            hidden_because="each node works with its own driver; jobs that span two of them fail",
            inspect=f"kubectl get nodes -l {pool.selector_text} -L {DRIVER_VERSION},{UPGRADE_STATE},{UPGRADE_SKIP}",
        )


@requirement(
    "OPER-16",
    "Every GPU node has a driver of a branch that NVIDIA still maintains",
    level=SHOULD,
    sources=["driver-branches"],
    remedy="Upgrade to a Production or Long Term Support branch that is maintained.",
)
def test_every_driver_is_maintained(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    _require_driver_versions([node for _, node, _ in nvidia_pool_nodes], facts, reference)
    today = facts.taken_at.date()
    unknown = ""
    for pool, node, _ in nvidia_pool_nodes:
        version = _version(node, facts)
        support = lifecycle(version, today) if version is not None else None
        if support is None or support.support is Support.UNKNOWN:
            unknown = f"{node}: {support.reason}" if support else unknown
            why = support.reason if support else _why_no_driver_version(pool, node, facts, reference)
            judge.pass_over(node, why)
            continue
        judge(
            node,
            ok=support.support is Support.SUPPORTED,
            expected=f"a driver branch that is maintained on {today}",
            actual=f"{version}: {support.reason}",
            cause=support.reason,
            hidden_because="the driver keeps working; its defects are no longer fixed",
            inspect=f"kubectl get node {node.name} -L {DRIVER_VERSION}",
        )
    if not judge.judged and unknown:
        raise Unsupported(f"NVIDIA publishes no end of support for these drivers ({unknown})")
    _require_tellable_drivers([node for _, node, _ in nvidia_pool_nodes])


@requirement(
    "OPER-17",
    "No GPU node has a driver version with a known defect that affects its pool",
    level=MUST,
    sources=["operator-troubleshooting", "operator-1361", "operator-notes-25.3.2"],
    remedy="Upgrade to the first driver without the defect.",
)
def test_no_driver_has_a_defect_that_affects_the_pool(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    _require_driver_versions([node for _, node, _ in nvidia_pool_nodes], facts, reference)
    for pool, node, gpu in nvidia_pool_nodes:
        version = _version(node, facts)
        if version is None:
            judge.pass_over(node, _why_no_driver_version(pool, node, facts, reference))
            continue
        defects = [
            each for each in known_regressions(version, gpu.product) if is_affected(each.id, reference, pool, node)
        ]
        judge(
            node,
            ok=not defects,
            expected="a driver without a known defect in the features that the pool uses",
            actual=str(version),
            cause="; ".join(each.effect for each in defects),
            hidden_because="nvidia-smi and the validator succeed; only pods of this kind of node fail",
            remedy="; ".join(each.remedy for each in defects),
            inspect=f"kubectl get node {node.name} -L {DRIVER_VERSION}",
        )
    _require_tellable_drivers([node for _, node, _ in nvidia_pool_nodes])


@requirement(
    "OPER-18",
    "No driver upgrade of the GPU Operator is stuck or failed on a GPU node, or left over as a label of it",
    level=MUST,
    sources=["operator-upgrades", "operator-upgrade-library", "operator-2509"],
    remedy="Fix the cause that the finding names; after a failure set the label "
    f"{UPGRADE_STATE}=upgrade-required again.",
)
def test_no_driver_upgrade_is_stuck(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    operator_resource, components = require_operator_resource(facts, reference), expected_components(facts, reference)
    nodes = managed_nodes(nvidia_pool_nodes, components)
    _judge_left_behind([node for _, node, _ in nvidia_pool_nodes if is_left_behind(node, facts)], judge)
    judge.without_subjects(NotApplicable("the operator manages the driver of no GPU node"))
    stuck = stuck_nodes(nodes, components, operator_resource, facts)
    for pool, node in nodes:
        failure = stuck.get(node.name)
        judge(
            node,
            ok=failure is None,
            expected="no upgrade, one that is done, or one in progress",
            actual=f"{UPGRADE_STATE}={node.labels.get(UPGRADE_STATE) or 'not set'}",
            cause=failure.cause if failure else "",
            hidden_because="the node is Ready, and the operator waits without an error",
            remedy=failure.remedy if failure else "",
            inspect=(
                f"kubectl get nodes -l {pool.selector_text} -L {UPGRADE_STATE},{UPGRADE_SKIP}; "
                "kubectl get events -n default"
            ),
        )


@requirement(
    "OPER-19",
    "No pod on a GPU node would make an automatic driver upgrade fail",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["operator-upgrades", "operator-upgrade-library", "operator-367", "operator-2166", "operator-2509"],
    remedy="Move the pod or change the upgradePolicy first: otherwise the node becomes upgrade-failed and cordoned.",
)
def test_nothing_would_make_a_driver_upgrade_fail(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    require_operator_resource(facts, reference)
    managed = [node for _, node in managed_nodes(nvidia_pool_nodes, expected_components(facts, reference))]
    nodes = [node for node in managed if policy_for(node, facts).automatic]
    if not nodes:
        raise NotApplicable("the operator upgrades the driver of no GPU node by itself")
    stack = {declared_stack(reference).namespace, *facts.stack_namespaces}
    unseen = list(unseen_users(nodes, facts, reference, stack))
    found = [each for node in nodes for each in undeletable(facts.pods_on(node.name), policy_for(node, facts), facts)]
    _judge_free_nodes(nodes, {*(each.pod.node for each in found), *(each.pod.node for each in unseen)}, judge)
    for obstacle in found:
        becomes = f"the upgrade of {obstacle.pod.node} would end with upgrade-failed"
        _judge_in_the_way(obstacle.pod, obstacle.why, becomes, obstacle.remedy, judge)
    for user in unseen:
        if user.sure:
            _judge_in_the_way(user.pod, user.why, what_becomes_of(user.pod), user.remedy, judge)
        else:
            judge.pass_over(user.pod, f"{user.why}: if it does, {what_becomes_of(user.pod)}; no read tells")


def _judge_free_nodes(nodes: Iterable[Node], blocked: Collection[str], judge: Judge) -> None:
    for node in nodes:
        if node.name not in blocked:
            judge(node, ok=True, expected="no pod that would make an upgrade fail", actual="none")


def _judge_in_the_way(pod: Pod, why: str, becomes: str, remedy: str, judge: Judge) -> None:
    judge(
        pod,
        ok=False,
        expected="deletable by a driver upgrade, or known to use GPUs",
        actual=why,
        cause=f"{why}; {becomes}",
        hidden_because="the pod runs well; only the driver cannot be unloaded while it runs",
        remedy=remedy,
        inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o yaml",
    )


def _judge_left_behind(nodes: Iterable[Node], judge: Judge) -> None:
    """The nodes whose label speaks of an upgrade that nobody will end, because nobody manages their driver."""
    for node in nodes:
        judge(
            node,
            ok=False,
            expected=f"no label {UPGRADE_STATE}: the operator manages no driver here",
            actual=f"{UPGRADE_STATE}={state_of(node)}",
            cause="the label is left over from a time when the operator managed the driver: nobody upgrades this node",
            hidden_because="what is broken on the node looks like a part of an upgrade that is under way",
            remedy=f"kubectl label node {node.name} {UPGRADE_STATE}-; then look whether the node is still cordoned",
            inspect=f"kubectl get node {node.name} -L {UPGRADE_STATE}",
        )


def _require_driver_versions(nodes: Sequence[Node], facts: Facts, reference: Reference) -> None:
    """Raise Unsupported where no node tells its driver, and nothing is declared that would make it."""
    stack = reference.stack
    declared = stack is not None and stack.gpu_feature_discovery
    if not declared and not any(_driver_version_of(node, facts) or is_changing(node, facts) for node in nodes):
        raise Unsupported(
            f"no GPU node carries {DRIVER_VERSION}, and GPU Feature Discovery, which sets it, is not declared"
        )


def _driver_version_of(node: Node, facts: Facts) -> str:
    """The driver of a node by the label of GPU Feature Discovery, else by its ResourceSlice; empty when unknown.

    Where DRA allocates the GPUs, GPU Feature Discovery need not run.
    """
    return driver(node) or next((each.driver for each in devices_on(node, facts) if each.driver), "")


def _version(node: Node, facts: Facts) -> DriverVersion | None:
    """The driver of a node; None where it is unknown or no version."""
    try:
        return DriverVersion.parse(_driver_version_of(node, facts))
    except ValueError:
        return None


def _require_tellable_drivers(nodes: Sequence[Node]) -> None:
    """Raise Unsupported where GPU Feature Discovery cannot tell the driver of any node.

    On Tegra, where NVML does not tell it, the label says unknown for each part of the version.
    Source: NVIDIA/k8s-device-plugin, internal/resource/cuda-lib.go (GetDriverVersion).
    """
    if nodes and all(driver(node) == _UNTOLD for node in nodes):
        raise Unsupported(f"label {DRIVER_VERSION} of every GPU node is {_UNTOLD}: nothing tells the driver of a Tegra")


def _why_no_driver_version(pool: Pool, node: Node, facts: Facts, reference: Reference) -> str | Waits:
    """Why no label has the driver version of a node."""
    if found := driver(node):
        return f"label {DRIVER_VERSION} is {found}, which is no driver version"
    if awaited := awaits_labelling(pool, node, facts, reference):
        return awaited
    if unseen := awaits_devices(node, facts):
        return unseen
    judged = any(each.gpu and (each.gpu.product or each.gpu.memory_mib) for each in reference.gpu_pools)
    if judged and GPU_PRODUCT not in node.labels:
        return Waits("it has no labels of GPU Feature Discovery", on="POOL-06")
    return f"no label {DRIVER_VERSION}"


def _how_to_have_another(node: Node, facts: Facts) -> str:
    """What to do about another driver where the usual remedy does not help: the node has its own, which stays."""
    if node.labels.get(DEPLOY_DRIVER) != PRE_INSTALLED:
        return ""
    return (
        f"Label {DEPLOY_DRIVER}={PRE_INSTALLED} says that the operator found the driver of the node image, which it "
        "never replaces. Make the node pool without a driver (AKS: --gpu-driver none), or take a node image with the "
        "declared one; else declare driver_managed: false and the version that the image has."
    )


def _same(found: str, declared: str) -> bool:
    """Whether two texts are one version: 580.95.5 is how some labels write 580.95.05."""
    try:
        return DriverVersion.parse(found) == DriverVersion.parse(declared)
    except ValueError:
        return found == declared


def _why_another(node: Node, found: str, facts: Facts) -> str:
    """Why a node has another driver than the declared one."""
    if node.labels.get(UPGRADE_SKIP) == ON:
        return f"label {UPGRADE_SKIP}=true keeps the operator from upgrading the node"
    if state_of(node) not in ("", DONE) and not is_left_behind(node, facts):
        return f"the upgrade of the node is in state {state_of(node)}"
    operator_resource = find_operator_resource(facts)
    if operator_resource is None:
        return "the driver is that of the node image, and the cluster has no operator that would change it"
    source = driver_object_of(node, facts) if operator_resource.uses_nvidia_driver_objects else None
    if _same(found, asked_for(operator_resource, node, facts)):
        return f"the operator is configured to install driver {found}" + (f" by {source}" if source else "")
    if source is not None and reason_of(source) == CONFLICT:
        return why_refused(source, facts)[0]
    if not any(pod.labels.get("app.kubernetes.io/component") == "nvidia-driver" for pod in facts.pods_on(node.name)):
        return f"the operator runs no {DRIVER_COMPONENT} on the node: its driver is that of the node image"
    return "the driver pod of the node has not been replaced since the version was changed"

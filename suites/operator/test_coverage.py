"""Coverage: the GPU stack on every GPU node.

Every operand can be missing on one node while the whole says ready, because a DaemonSet that wants no pods counts as
ready. A taint that one list does not tolerate, a label that an upgrade left behind, a node that Node Feature Discovery
did not label: each takes the GPUs of a node away without an error anywhere.

So coverage is counted against the declared nodes, and of each node only the first broken operand is named: what comes
after it waits for it. A node that joined a minute ago, that is not Ready, or on which an upgrade is under way is not
judged for what time will settle.
"""

from conformance.catalog import MUST, requirement
from conformance.facts import Facts, Node
from conformance.gpu.labels import GPU_PRESENT, PCI_PRESENT
from conformance.gpu.taints import why_repelled
from conformance.reference.model import Pool, Reference
from conformance.verdict import Judge, NotApplicable, Waits, format_value
from suites._shared.device_plugin_configs import outside_kubernetes
from suites._shared.grace import driver_being_replaced
from suites._shared.operand_status import Coverage, coverage_of, discovery_failure
from suites._shared.operands import TESTED, VALIDATORS, expected_components, wants_discovery
from suites._shared.operator_resource import declared_stack, require_operator_resource, require_operator_stack
from suites._shared.pool_nodes import GpuPoolNode
from suites.operator.node_discovery import how_to_bring_back, undeclared_labels, why_undiscovered
from suites.operator.operand_tolerations import untolerated_taints, workloads_on_gpu_nodes
from suites.operator.pod_health import without_workloads

WHAT_GREEN_PROVES = (
    "the driver, the toolkit and one CUDA program; neither the number of GPUs nor their allocation by the device plugin"
)


@requirement(
    "OPER-10",
    "Every operand and Node Feature Discovery tolerate every taint of the GPU nodes that need them",
    level=MUST,
    sources=[
        "guide-2",
        "operator-troubleshooting",
        "operator-26",
        "operator-360",
        "operator-397",
        "operator-423",
        "k8s-daemonset",
    ],
    remedy="Tolerate the taint in daemonsets.tolerations and for the worker of Node Feature Discovery "
    "(node-feature-discovery.worker.tolerations in the operator's chart). Both lists replace the chart's own, so "
    "repeat what they had.",
)
def test_every_component_tolerates_the_gpu_nodes(facts: Facts, reference: Reference, judge: Judge) -> None:
    workloads = workloads_on_gpu_nodes(facts, reference)
    if not workloads:
        raise without_workloads(facts, reference)
    for needed in workloads:
        refused = untolerated_taints(needed, facts)
        judge(
            needed.workload,
            ok=not refused,
            expected=f"tolerates every taint of {format_value(needed.pools)}",
            actual=needed.workload.template.tolerations,
            cause="; ".join(
                f"{each} {why_repelled(needed.workload.template.tolerations, each.taint)}" for each in refused
            ),
            hidden_because="it desires no pod there, and a DaemonSet with 0 desired pods counts as ready",
            remedy=needed.remedy(refused, facts) if refused else "",
            inspect=f"kubectl get daemonset -n {needed.workload.namespace} {needed.workload.name} "
            "-o jsonpath='{.spec.template.spec.tolerations}'",
        )


@requirement(
    "OPER-11",
    "Node Feature Discovery and the GPU Operator have labelled every declared GPU node",
    level=MUST,
    sources=["operator-troubleshooting", "operator-labelling", "operator-423"],
    remedy="Fix the cause that the finding names: the NFD worker on the node, the NFD master, or the operator.",
)
def test_every_gpu_node_is_discovered(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    require_operator_stack(reference)
    for pool, node, _ in nvidia_pool_nodes:
        failure = discovery_failure(node, facts.taken_at) if wants_discovery(pool) else None
        if failure is not None and (failure.transient or not node.ready):
            judge.pass_over(node, f"it joined just now: {failure.cause}" if node.ready else "it is not Ready")
        elif wants_discovery(pool):
            judge(
                node,
                ok=failure is None,
                expected=f"labels {PCI_PRESENT[0]}=true and {GPU_PRESENT}=true",
                actual=failure.cause if failure else "both",
                cause=why_undiscovered(node, facts) if failure else "",
                hidden_because="no component is desired on a node without these labels, so none counts as missing",
                inspect=f"kubectl get node {node.name} --show-labels; kubectl get nodefeatures -A",
            )
    judge.without_subjects(NotApplicable("no GPU pool has nodes that Node Feature Discovery has to label"))


@requirement(
    "OPER-12",
    "No node label (nvidia.com/gpu.deploy.*) keeps an operand off a GPU node unless the pool declares it",
    level=MUST,
    sources=["operator-upgrades", "operator-notes-26.3.2", "operator-states"],
    remedy='Set the label of an operand to "true", remove one that is for all of them. To keep it, declare it for the '
    "pool.",
)
def test_no_component_is_switched_off_on_a_gpu_node(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    operator_resource = require_operator_resource(facts, reference)
    for pool, node, _ in nvidia_pool_nodes:
        wrong = undeclared_labels(pool, node, operator_resource, facts)
        if wrong and driver_being_replaced(node, facts):
            judge.pass_over(node, Waits("the driver does not work", on="OPER-13"))
            continue
        labels = " and ".join(f"{key}={value}" for key, value in wrong.items())
        judge(
            node,
            ok=not wrong,
            expected="no label that disables a component, but those of the pool",
            actual=labels or "no such label",
            cause=f"{labels} disables a component on the node, and no upgrade or change of MIG is under way",
            hidden_because="the label stays after the upgrade that set it; a disabled component is not missing",
            remedy=f"{how_to_bring_back(node, wrong, operator_resource)}; to keep it, declare it",
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.metadata.labels}}' | tr ',' '\\n' | grep gpu.deploy",
        )


@requirement(
    "OPER-13",
    "Every operand runs on every GPU node that needs it",
    level=MUST,
    sources=["guide-2", "operator-troubleshooting", "operator-26"],
    remedy="Fix the first operand that is not Ready; the others wait for it.",
)
def test_every_component_runs_on_every_gpu_node(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    components = [
        expected for expected in expected_components(facts, reference) if expected.component not in VALIDATORS
    ]
    if outside := outside_kubernetes(declared_stack(reference), facts):
        raise NotApplicable(f"the {outside} runs outside Kubernetes, so that its nodes are unknown")
    found = declared_stack(reference).kind == "gpu-operator"
    for pool, node, _ in nvidia_pool_nodes:
        needed = [expected for expected in components if expected.is_needed_on(pool, node)]
        if not needed:
            continue
        coverage = coverage_of(needed, node, facts, found=found)
        failure = coverage.failure
        if not_judged := coverage.not_judged or _awaits_labels(coverage, pool, node, facts):
            judge.pass_over(node, not_judged)
        else:
            judge(
                node,
                ok=failure is None,
                expected=[str(expected) for expected in needed],
                actual=f"the {failure.component} does not work" if failure else coverage.working,
                cause=failure.cause if failure else "",
                hidden_because="the DaemonSet is ready when it desires no pod here, and waiting pods are in Init",
                remedy=failure.remedy if failure else "",
                inspect=f"kubectl get pods -A -o wide --field-selector spec.nodeName={node.name}",
            )
    judge.without_subjects(NotApplicable("no GPU pool needs a component"))


@requirement(
    "OPER-14",
    "The validator pod of the GPU Operator is Ready on every GPU node",
    level=MUST,
    sources=["guide-2", "operator-validator", "operator-validation"],
    remedy="Read the log of the validator's init container that has not ended.",
)
def test_the_validator_has_passed_on_every_gpu_node(
    facts: Facts, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    require_operator_stack(reference)
    components = expected_components(facts, reference)
    before = [expected for expected in components if expected.component in TESTED]
    validators = [expected for expected in components if expected.component in VALIDATORS]
    for pool, node, _ in nvidia_pool_nodes:
        needed = [expected for expected in validators if expected.is_needed_on(pool, node)]
        if not needed:
            continue
        earlier = coverage_of([expected for expected in before if expected.is_needed_on(pool, node)], node, facts)
        coverage = coverage_of(needed, node, facts) if not (earlier.failure or earlier.not_judged) else earlier
        if earlier.failure or coverage.not_judged:
            failed = earlier.failure
            judge.pass_over(
                node,
                _awaits_labels(earlier, pool, node, facts)
                or Waits(f"the {failed.component} that it tests does not work", on="OPER-13")
                if failed
                else coverage.not_judged,
            )
            continue
        judge(
            node,
            ok=coverage.failure is None,
            expected=f"validator Ready, which proves {WHAT_GREEN_PROVES}",
            actual="Ready" if coverage.failure is None else "not Ready",
            cause=coverage.failure.cause if coverage.failure else "",
            hidden_because="the components are Running; only the validator tests them",
            remedy=coverage.failure.remedy if coverage.failure else "",
            inspect=f"kubectl get pods -A -o wide --field-selector spec.nodeName={node.name}",
        )
    judge.without_subjects(NotApplicable("no GPU pool has a validator"))


def _awaits_labels(coverage: Coverage, pool: Pool, node: Node, facts: Facts) -> Waits | None:
    """That no operand comes to a node because it lacks the labels of discovery, which OPER-11 judges; else None."""
    undiscovered = coverage.failure is not None and coverage.failure == discovery_failure(node, facts.taken_at)
    return (
        Waits("it lacks the labels that bring operands to it", on="OPER-11")
        if undiscovered and wants_discovery(pool)
        else None
    )

"""Coverage: the GPU stack on every GPU node.

Every component can be missing on one node while the whole says ready, because a DaemonSet that wants no pods counts as
ready. A taint that one list does not tolerate, a label that an upgrade left behind, a node that discovery never saw:
each takes the GPUs of a node away without an error anywhere.

So coverage is counted against the declared nodes, and of each node only the first broken component is named: what
comes after it waits for it and is its victim. A node that joined a minute ago, that is not Ready, or on which an
upgrade is under way is not judged for what time will mend.
"""

from conformance.catalog import MUST, requirement
from conformance.facts import Facts
from conformance.reference.model import Reference
from conformance.verdict import Judge, NotApplicable, format_value
from suites._shared.operand_status import PCI_LABELS, PRESENT, standing, undiscovered
from suites._shared.operands import TESTED, VALIDATORS, parts_of, wants_discovery
from suites._shared.operator_resource import declared_stack, operated_stack, root_of
from suites._shared.pool_nodes import GpuPoolNode
from suites.operator.node_discovery import undeclared_labels, why_undiscovered
from suites.operator.operand_tolerations import keepers_away, workloads_on_gpu_nodes
from suites.operator.pod_health import without_workloads
from suites.operator.stack_faults import is_outside_kubernetes

GUIDE = "guide part 2"
OPERATOR = "NVIDIA/gpu-operator v26.7.0"
TROUBLESHOOTING = "NVIDIA GPU Operator: Troubleshooting"
UPGRADES = "NVIDIA GPU Operator: GPU Driver Upgrades"

WHAT_GREEN_PROVES = (
    "the driver, the toolkit and one CUDA program; neither the number of GPUs nor that the device plugin gives them out"
)


@requirement(
    "OPER-10",
    "Every component and feature discovery tolerate every taint of the GPU nodes that need them",
    level=MUST,
    sources=[GUIDE, TROUBLESHOOTING, "NVIDIA/gpu-operator issues 26, 360, 397, 423", "kubernetes.io: DaemonSet"],
    remedy="Tolerate the taint in daemonsets.tolerations and in node-feature-discovery.worker.tolerations. Both lists "
    "replace the chart's own, so repeat what they had.",
)
def test_every_component_tolerates_the_gpu_nodes(facts: Facts, reference: Reference, judge: Judge) -> None:
    workloads = workloads_on_gpu_nodes(facts, reference)
    if not workloads:
        raise without_workloads(facts, reference)
    for needed in workloads:
        refused = keepers_away(needed, facts)
        judge(
            needed.workload,
            ok=not refused,
            expected=f"tolerates every taint of {format_value(needed.pools)}",
            actual=needed.workload.template.tolerations,
            cause="; ".join(f"{taint} of {format_value(pools)}" for taint, pools in refused.items())
            + " is not tolerated",
            hidden_because="it wants no pod there, and wanting none counts as ready",
            remedy=needed.remedy(list(refused)),
            inspect=f"kubectl get daemonset -n {needed.workload.namespace} {needed.workload.name} "
            "-o jsonpath='{.spec.template.spec.tolerations}'",
        )


@requirement(
    "OPER-11",
    "Every declared GPU node is discovered",
    level=MUST,
    sources=[TROUBLESHOOTING, f"{OPERATOR}: controllers/nodelabeling_controller.go", "NVIDIA/gpu-operator issue 423"],
    remedy="Follow the cause: the worker on the node, the master that writes the label, the operator.",
)
def test_every_gpu_node_is_discovered(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    operated_stack(reference)
    for pool, node, _ in gpu_pool_nodes:
        trouble = undiscovered(node, facts.taken_at) if wants_discovery(pool) else None
        if trouble is not None and (trouble.passing or not node.ready):
            judge.pass_over(node, f"it joined just now: {trouble.link}" if node.ready else "it is not Ready")
        elif wants_discovery(pool):
            judge(
                node,
                ok=trouble is None,
                expected=f"labels {PCI_LABELS[0]}=true and {PRESENT}=true",
                actual=trouble.link if trouble else "both",
                cause=why_undiscovered(node, facts) if trouble else "",
                hidden_because="no component is ever wanted on a node that nobody found, so none is missing",
                inspect=f"kubectl get node {node.name} --show-labels; kubectl get nodefeatures -A",
            )
    judge.without_subjects(NotApplicable("no GPU pool leaves its nodes to feature discovery"))


@requirement(
    "OPER-12",
    "No component is switched off on a GPU node but by the owners",
    level=MUST,
    sources=[UPGRADES, "NVIDIA GPU Operator: release notes of v26.3.2", f"{OPERATOR}: controllers/state_manager.go"],
    remedy="Remove the label: the operator sets it again to what it ought to be. To keep it, declare it for the pool.",
)
def test_no_component_is_switched_off_on_a_gpu_node(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    root = root_of(facts, reference)
    for pool, node, _ in gpu_pool_nodes:
        wrong = undeclared_labels(pool, node, root)
        labels = " and ".join(f"{key}={value}" for key, value in wrong.items())
        judge(
            node,
            ok=not wrong,
            expected="no label that keeps a component away, but those of the pool",
            actual=labels or "no such label",
            cause=f"{labels} keeps a component off the node, and no change of the node is under way",
            hidden_because="the label outlives whoever set it; the component is not missed, because it is not wanted",
            remedy=f"kubectl label node {node.name} {' '.join(f'{key}-' for key in wrong)}; to keep it, declare it",
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.metadata.labels}}' | tr ',' '\\n' | grep gpu.deploy",
        )


@requirement(
    "OPER-13",
    "Every component runs on every GPU node that needs it",
    level=MUST,
    sources=[GUIDE, TROUBLESHOOTING, "NVIDIA/gpu-operator issue 26"],
    remedy="Mend the first broken component; those after it wait for it.",
)
def test_every_component_runs_on_every_gpu_node(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    parts = [part for part in parts_of(facts, reference) if part.component not in VALIDATORS]
    if is_outside_kubernetes(declared_stack(reference), facts):
        raise NotApplicable("the device plugin runs outside Kubernetes, where nothing shows on which nodes")
    found = declared_stack(reference).kind == "gpu-operator"
    for pool, node, _ in gpu_pool_nodes:
        if not any(part.is_needed_on(pool, node) for part in parts):
            continue
        stands = standing(parts, pool, node, facts, found=found)
        trouble = stands.trouble
        if stands.excuse:
            judge.pass_over(node, stands.excuse)
        else:
            judge(
                node,
                ok=trouble is None,
                expected=format_value([str(part) for part in parts if part.is_needed_on(pool, node)]),
                actual=f"the {trouble.component} does not work" if trouble else format_value(stands.working),
                cause=trouble.link if trouble else "",
                hidden_because="the DaemonSet counts as ready when it wants no pod here, and pods that wait say Init",
                remedy=trouble.remedy if trouble else "",
                inspect=f"kubectl get pods -A -o wide --field-selector spec.nodeName={node.name}",
            )
    judge.without_subjects(NotApplicable("no GPU pool needs a component"))


@requirement(
    "OPER-14",
    "The validator has passed on every GPU node",
    level=MUST,
    sources=[GUIDE, f"{OPERATOR}: cmd/nvidia-validator, assets/state-operator-validation"],
    remedy="Read the log of the init container that the pod stands at.",
)
def test_the_validator_has_passed_on_every_gpu_node(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    operated_stack(reference)
    parts = parts_of(facts, reference)
    before = [part for part in parts if part.component in TESTED]
    validators = [part for part in parts if part.component in VALIDATORS]
    for pool, node, _ in gpu_pool_nodes:
        if not any(part.is_needed_on(pool, node) for part in validators):
            continue
        earlier = standing(before, pool, node, facts)
        stands = standing(validators, pool, node, facts) if not (earlier.trouble or earlier.excuse) else earlier
        if earlier.trouble or stands.excuse:
            broken = earlier.trouble.component if earlier.trouble else ""
            judge.pass_over(node, f"what it tests is broken, the {broken}" if broken else stands.excuse)
            continue
        judge(
            node,
            ok=stands.trouble is None,
            expected=f"validator Ready, which proves {WHAT_GREEN_PROVES}",
            actual="Ready" if stands.trouble is None else "not Ready",
            cause=stands.trouble.link if stands.trouble else "",
            hidden_because="the components that it tests are Running: it is the one that tried them",
            remedy=stands.trouble.remedy if stands.trouble else "",
            inspect=f"kubectl get pods -A -o wide --field-selector spec.nodeName={node.name}",
        )
    judge.without_subjects(NotApplicable("no GPU pool has a validator"))

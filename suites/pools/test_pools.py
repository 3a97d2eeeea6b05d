"""Pools: GPU nodes and ordinary nodes, separated by labels and taints.

A GPU node costs as much as dozens of ordinary ones, so all other profiles depend on four facts: the declared nodes
exist, they have the labels that pods select them by, they have every taint that repels other pods, and they offer the
GPUs that were paid for. Each of them fails silently. A node that lost a taint still looks healthy while web pods use
its CPUs; a node that lost one GPU of eight stays Ready; no pod selects a node whose label has a typo.

A node belongs to a pool by the pool's selector, the labels that the cloud or the installer gave it. Labels and taints
of the owners are then judged against the declaration, never taken from the node.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pytest

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Node
from conformance.gpu.labels import (
    DEPLOY_DRIVER,
    GPU_MEMORY,
    GPU_PRESENT,
    GPU_PRODUCT,
    MIG_CONFIG,
    NODE_POOL,
    WORKLOAD_CONFIG,
)
from conformance.gpu.node_health import broken_conditions, open_conditions, usual_statuses
from conformance.reference.expected import offer_of
from conformance.reference.model import Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits, format_value
from suites._shared.formatting import join_limited, pairs
from suites._shared.grace import is_changing, is_upgrading, joined_just_now, system_updated_by
from suites._shared.node_gpus import (
    DRIVER_TRAIT,
    KERNEL_TRAIT,
    TRAITS,
    format_amounts,
    has_the_memory,
    is_the_product,
    not_known,
    shows_gpus,
)
from suites._shared.operand_status import awaits_labelling, why_still_starting
from suites._shared.pod_terms import taints_of
from suites._shared.pool_nodes import GpuPoolNode, Members, PoolNode, without_gpus
from suites._shared.replicas import awaits_replicas
from suites._shared.unseen_gpus import awaits_devices
from suites.pools.gpu_amounts import GpuAmounts
from suites.pools.node_state import (
    NodeProblem,
    problem_of,
    removal_of,
    why_not_initialized,
    why_taken_back,
    why_under_test,
)
from suites.pools.pool_findings import (
    how_to_bring_back,
    how_to_move,
    how_to_taint,
    judge_alike,
    kept_off_discovery,
    occupies_without_gpus,
    other_nodes_first,
    state,
    wants_gpu_discovery,
    who_moves,
    why_closed_to_ordinary_pods,
    why_it_was_admitted,
    why_of_two_models,
    why_unlabelled,
)

_ACTED_ON = {WORKLOAD_CONFIG, MIG_CONFIG, DEPLOY_DRIVER}
"""Labels by which operands take GPUs away from whoever uses them, as soon as they are set."""
_WITHOUT_PODS = "Once no pod uses its GPUs, which are taken away at once: "


@requirement(
    "POOL-01",
    "Every declared node pool has at least its declared number of nodes",
    level=MUST,
    sources=["guide-1"],
    remedy="Bring the missing nodes back, or label them as the selector asks; or declare fewer.",
)
def test_every_pool_has_its_nodes(pools: tuple[Pool, ...], members: Members, judge: Judge) -> None:
    for pool in pools:
        nodes = members(pool)
        judge(
            pool,
            ok=len(nodes) >= pool.nodes,
            expected=f"at least {pool.nodes} nodes labelled {pool.selector_text}",
            actual=f"{len(nodes)}: {', '.join(node.name for node in nodes)}" if nodes else "none",
            cause=f"{pool.nodes - len(nodes)} nodes with these labels are missing from the API server",
            hidden_because="pods that need the pool stay Pending; nothing else reports the missing node",
            inspect=f"kubectl get nodes -l {pool.selector_text}",
        )


@requirement(
    "POOL-02",
    "Every node of a pool carries the labels declared for the pool",
    level=MUST,
    sources=["guide-1"],
    remedy="Set the labels where the nodes are made (node group, machine template), so that a new node has them too.",
)
def test_every_node_carries_the_declared_labels(pool_nodes: tuple[PoolNode, ...], judge: Judge) -> None:
    labelled = [(pool, node) for pool, node in pool_nodes if pool.labels]
    if not labelled:
        raise NotApplicable("no declared pool that has nodes declares labels")
    for pool, node in labelled:
        wrong = {key: node.labels.get(key) for key, value in pool.labels.items() if node.labels.get(key) != value}
        judge(
            node,
            ok=not wrong,
            expected=pairs(pool.labels),
            actual=pairs({key: node.labels.get(key) for key in pool.labels}),
            cause=f"{pairs(wrong)}, not {pairs({key: pool.labels[key] for key in wrong})} as declared",
            hidden_because="the node is Ready; only pods that select the label are never scheduled there",
            remedy=f"{_WITHOUT_PODS if _ACTED_ON & wrong.keys() else ''}kubectl label node {node.name} --overwrite "
            f"{_settings(pool, wrong)}; then in the node group",
            inspect=f"kubectl get node {node.name} -L {','.join(pool.labels)}",
        )


@requirement(
    "POOL-03",
    "Every GPU node carries every taint declared for its pool",
    level=MUST,
    sources=["guide-1", "k8s-taints"],
    remedy="Set the taints where the nodes are made: a taint put by hand is lost when the node is replaced.",
)
def test_every_gpu_node_carries_every_declared_taint(gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge) -> None:
    tainted = [(pool, node) for pool, node, _ in gpu_pool_nodes if pool.taints]
    if not tainted:
        raise NotApplicable("no declared GPU pool that has nodes declares taints")
    for pool, node in tainted:
        there = {str(taint) for taint in node.taints}
        missing = [str(taint) for taint in pool.taints if str(taint) not in there]
        judge(
            node,
            ok=not missing,
            expected=f"taints {format_value(pool.taints)}",
            actual=node.taints,
            cause=f"{' and '.join(missing)} is not on the node",
            hidden_because="the node works; pods that do not belong there are scheduled to it one by one",
            remedy=how_to_taint(node, missing),
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.spec.taints}}'",
        )


@requirement(
    "POOL-04",
    "Every node of a GPU pool has the declared number of GPUs in status.allocatable",
    level=MUST,
    sources=["guide-6", "operator-troubleshooting", "device-plugin-234", "device-plugin-426", "device-plugin-519"],
    remedy="Fix the cause that the finding names: driver, device plugin, then the device itself.",
)
def test_every_gpu_node_advertises_its_gpus(
    gpu_pool_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    offers = {pool.name: offer_of(reference, pool) for pool, _, _ in gpu_pool_nodes}
    expected = {name: format_amounts(offer.resources or {}) for name, offer in offers.items()}
    for pool, node, gpu in gpu_pool_nodes:
        offer = offers[pool.name]
        if offer.resources is None:
            continue
        amounts = GpuAmounts(pool, node, gpu, offer, facts)
        waiting = [pod for pod in amounts.plugins if not pod.ready]
        until = _label_of_what_has_started(node, reference, facts)
        if not amounts.agree and (not_now := why_still_starting(node, facts, pods=waiting, until=until)):
            judge.pass_over(node, not_now)
            continue
        if not amounts.agree and (awaits := awaits_replicas(pool, node, offer.resources)):
            judge.pass_over(node, awaits)
            continue
        cause, remedy = ("", "") if amounts.agree else amounts.why(reference)
        judge(
            node,
            ok=amounts.agree,
            expected=f"{expected[pool.name]} allocatable, as {pool} declares",
            actual=amounts,
            cause=cause,
            hidden_because="the node stays Ready; pods are only 'Insufficient' when its last free GPUs are requested",
            remedy=remedy,
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.capacity}} {{.status.allocatable}}'",
        )
    unknown = [pool for pool, _, _ in gpu_pool_nodes if offers[pool.name].resources is None]
    if unknown:
        raise not_known(unknown[0], offers[unknown[0].name])


def _label_of_what_has_started(node: Node, reference: Reference, facts: Facts) -> str:
    """The label that a new node gets when its GPUs are there, or nearly.

    nvidia.com/gpu.present is the GPU Operator's. Where there is none, owners set it where nodes are made, so that the
    device plugin's affinity matches (NVIDIA/k8s-device-plugin: values.yaml), and a new node has it from the beginning.
    """
    operated = reference.stack is not None and reference.stack.kind == "gpu-operator"
    return GPU_PRESENT if operated or not joined_just_now(node, facts) else GPU_PRODUCT


@requirement(
    "POOL-05",
    "Every node that shows GPUs belongs to exactly one declared pool, and to a GPU pool",
    level=MUST,
    sources=["guide-1"],
    remedy="Declare the pool of the node, make the selectors exclusive, or take the node out of the cluster.",
)
@pytest.mark.usefixtures("gpu_pools")
def test_every_node_with_gpus_belongs_to_one_pool(
    facts: Facts, reference: Reference, members: Members, judge: Judge
) -> None:
    equipped = [node for node in facts.nodes if shows_gpus(node, reference, facts)]
    if not equipped:
        raise without_gpus(reference, members)
    for node in equipped:
        found = [pool for pool in reference.pools if pool.holds(node.labels)]
        if not found and (made := _of_a_declared_node_pool(node, reference)):
            judge.pass_over(node, made)
            continue
        judge(
            node,
            ok=len(found) == 1 and found[0].gpu is not None,
            expected="exactly one declared pool, and one with GPUs",
            actual=found or "no declared pool",
            cause=_why_not_in_one_gpu_pool(found),
            hidden_because="pods are scheduled there by accident: no requirement of this report is judged for the node",
            remedy=_how_to_separate(found) if len(found) > 1 else "",
            inspect=f"kubectl get node {node.name} --show-labels",
        )


@requirement(
    "POOL-06",
    "GPU product and memory labels of GPU Feature Discovery agree with the declaration of the pool",
    level=SHOULD,
    sources=["guide-1", "gpu-feature-discovery"],
    remedy="Correct the declaration and the site's labels, or move the node to the pool that its GPUs belong to.",
)
def test_site_labels_agree_with_the_hardware(
    gpu_pool_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    if not any(gpu.product or gpu.memory_mib for _, _, gpu in gpu_pool_nodes):
        raise NotApplicable("no declared GPU pool that has nodes declares a product or a memory size")
    judge.without_subjects(
        Unsupported(f"no GPU node carries {GPU_PRODUCT}: GPU Feature Discovery does not label this cluster")
    )
    for pool, node, gpu in gpu_pool_nodes:
        if GPU_PRODUCT not in node.labels:
            if wants_gpu_discovery(pool, reference, facts):
                _judge_undiscovered(node, awaits_labelling(pool, node, facts, reference), facts, judge)
            continue
        of_two_models = why_of_two_models(pool, node, reference)
        judge(
            node,
            ok=is_the_product(node, gpu) and has_the_memory(node, gpu) and not of_two_models,
            expected=f"{gpu.product or 'any product'} with {gpu.memory_mib or 'any number of'} MiB, as {pool} declares",
            actual=f"{node.labels[GPU_PRODUCT]} with {node.labels.get(GPU_MEMORY, 'an unknown number of')} MiB",
            cause=of_two_models
            or f"{pool} declares {pairs(pool.labels)}; GPU Feature Discovery found "
            f"{GPU_PRODUCT}={node.labels[GPU_PRODUCT]}",
            hidden_because="the owners set one label and GPU Feature Discovery the other; nothing compares them",
            inspect=f"kubectl get node {node.name} -L {','.join((*pool.labels, GPU_PRODUCT, GPU_MEMORY))}",
        )


@requirement(
    "POOL-07",
    "Nodes of one GPU pool are alike in driver, kernel and GPU product",
    level=SHOULD,
    sources=["guide-2", "gpu-feature-discovery", "operator-upgrades"],
    remedy="Finish the upgrade that stopped half-way, or split the pool in two; pools may differ from each other.",
)
def test_nodes_of_one_pool_are_alike(gpu_pools: tuple[Pool, ...], members: Members, facts: Facts, judge: Judge) -> None:
    groups = [(pool, nodes) for pool in gpu_pools if len(nodes := members(pool)) > 1]
    if not groups:
        raise NotApplicable("no declared GPU pool has two nodes that could differ")
    for pool, nodes in groups:
        upgraded = next((node for node in nodes if is_upgrading(node, facts)), None)
        updated = next((node for node in nodes if system_updated_by(node, facts)), None)
        for trait, of in TRAITS.items():
            if trait == DRIVER_TRAIT and upgraded is not None:
                judge.pass_over(pool, f"the driver of {upgraded} is being upgraded")
                continue
            if trait == KERNEL_TRAIT and updated is not None:
                judge.pass_over(pool, f"the system of {updated} is being updated")
                continue
            judge_alike(pool, nodes, trait, of, judge)


@requirement(
    "POOL-08",
    "At least one Ready, schedulable node outside the tainted GPU pools has no taint that repels ordinary pods",
    level=MUST,
    sources=["guide-1", "k8s-taints"],
    remedy="Keep a node pool without GPUs and without taints: cluster add-ons and the GPU Operator itself run there.",
)
def test_ordinary_pods_have_a_node(facts: Facts, gpu_pools: tuple[Pool, ...], judge: Judge) -> None:
    guarded = [pool for pool in gpu_pools if taints_of([pool])]
    refusals = {node.name: why_closed_to_ordinary_pods(node, guarded) for node in facts.nodes}
    found = [name for name, refusal in refusals.items() if not refusal]
    judge(
        ObjectReference.many("Pod", "ordinary pods"),
        ok=bool(found),
        expected="a Ready, schedulable node without taints, outside the GPU pools that declare taints",
        actual=join_limited(found) or f"none among {len(refusals)} nodes",
        cause=join_limited(other_nodes_first(refusals), apart="; "),
        hidden_because="running pods keep running; CoreDNS and the operator are Pending after their next restart",
        inspect=(
            "kubectl get nodes -o custom-columns=NAME:.metadata.name,CORDONED:.spec.unschedulable,TAINTS:.spec.taints"
        ),
    )


@requirement(
    "POOL-09",
    "No pod without GPU request or claim runs on a tainted GPU pool, except node agents of the platform",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["guide-1"],
    remedy="Taint the node (POOL-03) and delete the pod, so that its controller places it elsewhere.",
)
def test_no_ordinary_pod_occupies_a_gpu_node(
    facts: Facts, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    guarded = [(pool, node) for pool, node, _ in gpu_pool_nodes if taints_of([pool])]
    if not guarded:
        raise NotApplicable("no GPU pool that has nodes declares a taint: ordinary pods may run there")
    for pool, node in guarded:
        others = [pod for pod in facts.pods_on(node.name) if occupies_without_gpus(pod, reference, facts)]
        if not others:
            judge(node, ok=True, expected="only pods that request GPUs", actual="only such pods")
        for pod in others:
            judge(
                pod,
                ok=False,
                expected="a GPU request, or another node",
                actual=f"no GPU request, running on {node.name} of {pool}",
                cause=why_it_was_admitted(pod, node),
                hidden_because="it uses CPU and memory, not GPUs: the node looks free until a GPU pod does not fit",
                remedy=how_to_move(pod, node, reference, facts),
                owner=who_moves(pod, node, reference, facts),
                inspect=f"kubectl get pods -A --field-selector spec.nodeName={node.name}",
            )


@requirement(
    "POOL-10",
    "Every GPU node is Ready and schedulable, and no condition of a health agent says that its GPUs are broken",
    level=SHOULD,
    sources=["operator-upgrades"],
    remedy="Repair or replace a node that is not Ready or whose GPUs are broken; uncordon one whose maintenance is "
    "over.",
)
def test_every_gpu_node_is_ready_and_schedulable(
    gpu_pool_nodes: tuple[GpuPoolNode, ...], facts: Facts, reference: Reference, judge: Judge
) -> None:
    usual = usual_statuses(node.conditions for _, node, _ in gpu_pool_nodes)
    healthy = reference.platform.healthy_conditions
    unclear: dict[str, str] = {}
    ready = Counter(pool.name for pool, node, _ in gpu_pool_nodes if node.ready)
    taints = {pool.name: taints_of([pool]) for pool in reference.gpu_pools}
    for pool, node, gpu in gpu_pool_nodes:
        # A pool may lose spot nodes as long as it has those that its owners declare.
        if ready[pool.name] >= pool.nodes and (why := why_taken_back(node)):
            judge.pass_over(node, why)
            continue
        broken = broken_conditions(node.conditions, healthy)
        problem = problem_of(node, facts) or why_not_initialized(node, taints[pool.name], facts)
        ok = node.ready and not node.unschedulable and not broken and not problem
        passing = "" if ok else is_changing(node, facts) or why_under_test(node, facts)
        if change := passing or removal_of(node, facts):
            judge.pass_over(node, change)
            continue
        if not node.ready and joined_just_now(node, facts):
            judge.pass_over(node, "it joined just now and is not Ready yet")
            continue
        if ok and (told := open_conditions(node.conditions, usual, healthy)):
            unclear[node.name] = format_value(told)
            continue
        cause = f"{gpu.count} GPUs of {pool} take no new pods while the node is {state(node)}"
        judge(
            node,
            ok=ok,
            expected="Ready and schedulable, no condition that says that GPUs are broken",
            actual=" and ".join((state(node), *broken, *filter(None, [problem.seen]))),
            cause=f"a health agent has set {', '.join(broken)}" if broken else problem.cause or cause,
            hidden_because=_hidden_because(broken, problem, node),
            remedy=problem.remedy if problem and not broken else how_to_bring_back(node, broken, facts),
            inspect=f"kubectl describe node {node.name}",
        )
    if unclear:
        raise _not_told(unclear)


def _not_told(unclear: Mapping[str, str]) -> Inconclusive:
    """That conditions of nodes are of a kind of which nobody knows whether they say that GPUs are broken."""
    told = join_limited([f"{said} of node {name}" for name, said in unclear.items()])
    return Inconclusive(
        f"it is not known whether {told} says that its GPUs are broken: look at the condition's message, and declare "
        "under platform.healthy_conditions which status it has on a node that is well"
    )


def _hidden_because(broken: tuple[str, ...], problem: NodeProblem, node: Node) -> str:
    if problem and not node.ready:
        return "its GPUs are in status.allocatable as before, although no pod can use them"
    if broken:
        return "the node is Ready, and the scheduler does not look at other conditions"
    if problem:
        return "the node is Ready, and kubectl get nodes shows nothing else"
    return "a cordon does not expire; a driver upgrade that failed leaves the node cordoned for weeks"


def _judge_undiscovered(node: Node, awaited: Waits | None, facts: Facts, judge: Judge) -> None:
    """A finding for a node without the labels that GPU Feature Discovery is declared to set.

    None for a new one, and none where what keeps GPU Feature Discovery from working is judged elsewhere.
    """
    not_now = (
        kept_off_discovery(node)
        or why_still_starting(node, facts, until=GPU_PRODUCT)
        or awaited
        or awaits_devices(node, facts)
    )
    if not_now:
        judge.pass_over(node, not_now)
        return
    cause, remedy = why_unlabelled(node, facts)
    judge(
        node,
        ok=False,
        expected=f"label {GPU_PRODUCT} and its kin, as GPU Feature Discovery is declared",
        actual=f"no label {GPU_PRODUCT}",
        cause=cause,
        hidden_because="the device plugin goes on without them; pods that select a product are never scheduled here",
        remedy=remedy,
        inspect=f"kubectl get node {node.name} -L {GPU_PRODUCT},{GPU_MEMORY}; kubectl get nodefeatures -A",
    )


def _why_not_in_one_gpu_pool(pools: list[Pool]) -> str:
    if not pools:
        return "no selector of the declared pools matches the node's labels"
    if len(pools) > 1:
        both = " and ".join(f"{pool} ({pool.selector_text})" for pool in pools)
        return f"a mistake of the set-up, not of the cluster: the selectors of {both} overlap"
    return f"{pools[0]} is declared without GPUs"


def _of_a_declared_node_pool(node: Node, reference: Reference) -> str:
    """Why no pool holds a node that Karpenter made of a NodePool of which others are declared; empty elsewhere.

    A NodePool may take many instance types, and which one it takes next is Karpenter's choice.
    """
    name = node.labels.get(NODE_POOL)
    declared = [pool for pool in reference.gpu_pools if name and pool.selector.get(NODE_POOL) == name]
    if not declared:
        return ""
    differing = {key for pool in declared for key, _ in pool.selector.items() - node.labels.items()}
    shown = pairs({key: node.labels.get(key) for key in sorted(differing)})
    return (
        f"it is of Karpenter's NodePool {name} with {shown}, for which no pool is declared: declare one, or allow the "
        "NodePool only what is declared"
    )


def _how_to_separate(pools: Sequence[Pool]) -> str:
    keys = [key for key in pools[0].selector if all(key in pool.selector for pool in pools)]
    by = f"by {keys[0]}" if keys else "by one label that every node has"
    return f"Select {' and '.join(map(str, pools))} {by}, with different values; the nodes need no change for that."


def _settings(pool: Pool, wrong: Iterable[str]) -> str:
    return " ".join(f"{key}={pool.labels[key]}" for key in wrong)

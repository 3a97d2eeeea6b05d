"""MIG: one GPU divided into devices that share nothing, each with memory and compute of its own.

A division is a matter of placement, not of sums: seven slices are there, and four instances of two do not fit. So the
first question is asked before anything is applied. Then a configuration has to reach the node: the ClusterPolicy names
a ConfigMap, the MIG manager reads one key of it, the node's label chooses a layout, and the label that comes back says
how it ended. What pods then ask for depends on a setting that has nothing to do with the layout: the strategy decides
whether a device is a nvidia.com/gpu or goes by the name of its profile, and a name that no node offers waits for ever.

Containers are not inspected here: that two pods get two different devices is judged by the probes of the workloads
profile.
"""

from collections.abc import Mapping

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, ON_PICKED_NODES, SHOULD, Owner, requirement
from conformance.facts import Facts, Node
from conformance.gpu import mig_config
from conformance.gpu.labels import GPU_COUNT, GPU_PRODUCT, MIG_CAPABLE, MIG_CONFIG, MIG_CONFIG_STATE, MIG_STRATEGY
from conformance.gpu.mig_config import MigSelection
from conformance.gpu.plugin_config_selection import Chain
from conformance.gpu.sharing import MigStrategy, Offer, advertised
from conformance.lab import RequirementLab
from conformance.reference.expected import gpus_of, layout_of, mig_strategy_of, offer_of
from conformance.reference.model import Gpu, Pool, Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, UnknownAccelerator, Unsupported, Waits
from suites._shared.device_plugin_configs import PluginConfigs
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import agrees, counted, format_amounts, missing_gpus, not_known
from suites._shared.operand_status import why_still_starting
from suites._shared.pool_nodes import GpuPoolNode, Members, require_nodes
from suites._shared.replicas import NO_GPU
from suites.mig.layout_findings import (
    judge_gpu_layouts,
    judge_meaning,
    judge_problems,
    require_judged_mig_nodes,
    strategies_of,
    what_to_do,
    who_sets_the_strategy,
    why_no_success,
)
from suites.mig.layouts import (
    FAILED,
    SUCCESS,
    WORKING,
    MigNodes,
    declared_layouts,
    declared_mig_config,
    gpu_layouts_of,
    mig_pools,
    offered_names,
    unknown_layout,
)
from suites.mig.mig_devices import (
    counts_by_label,
    counts_devices,
    counts_devices_as_gpus,
    has_no_mig_devices,
    mig_device_requests,
    offered_devices,
    why_the_devices_differ,
    why_the_name_is_not_offered,
)

LACKS_GPUS = Waits("GPUs are missing", on="POOL-04")


@pytest.fixture
def mig(reference: Reference) -> tuple[Pool, ...]:
    """The pools with a MIG layout."""
    return mig_pools(reference)


@pytest.fixture
def mig_nodes(
    mig: tuple[Pool, ...],
    gpu_pool_nodes: tuple[GpuPoolNode, ...],
    reference: Reference,
    facts: Facts,
    members: Members,
) -> MigNodes:
    """Their nodes, with their layouts."""
    return MigNodes(reference, facts, require_nodes(mig, gpu_pool_nodes, reference, members))


# --- Before anything is applied ----------------------------------------------------------------------------------


@requirement(
    "MIG-01",
    "Every declared MIG layout can be placed on the GPUs of its pool",
    level=MUST,
    sources=["guide-3", "mig-profiles", "mig-parted-spec", "mig-parted-config"],
    remedy="Choose a layout that can be placed on this GPU model; profiles differ by model.",
)
def test_every_layout_can_exist(mig: tuple[Pool, ...], mig_nodes: MigNodes, reference: Reference, judge: Judge) -> None:
    unknown: list[Inconclusive | UnknownAccelerator] = []
    for pool in mig:
        try:
            unknown += judge_gpu_layouts(f"layout {pool.mig_layout}", pool, gpu_layouts_of(reference, pool), judge)
        except (Inconclusive, UnknownAccelerator) as reason:
            unknown.append(reason)
    for pool, node, gpu in mig_nodes.one_each:
        source, gpu_layouts = mig_nodes.changed_gpu_layouts(pool, node, gpu)
        if source:
            unknown += judge_gpu_layouts(source, pool, gpu_layouts, judge)
    if unknown:
        raise unknown[0]


@requirement(
    "MIG-02",
    "MIG configurations are valid, and the ConfigMap on the cluster has the declared layouts",
    level=MUST,
    sources=["guide-3", "mig-parted-spec", "mig-parted-config", "operator-mig"],
    remedy="Correct the configuration at the named path, under the key config.yaml of the ConfigMap.",
)
def test_layouts_are_written_as_declared(
    mig: tuple[Pool, ...], mig_nodes: MigNodes, reference: Reference, judge: Judge
) -> None:
    declared = declared_mig_config(reference)
    if declared:
        judge_problems(reference.subject.only("MIG layouts"), mig_config.parse(declared).problems, "the set-up", judge)
    for pool, node, gpu in mig_nodes.one_each:
        choice = mig_nodes.choice(node)
        if choice.generated or choice.config_map is None:
            continue
        judge_problems(choice.subject, choice.selection.problems, choice.inspect, judge)
        if pool.mig_layout in declared_layouts(reference):
            judge_meaning(choice, pool, layout_of(reference, pool), gpu.count, judge)
    judge.without_subjects(
        NotApplicable(f"no layout of {reference} is declared: those of its pools are provided by the MIG manager")
    )


# --- From the ConfigMap to the node ------------------------------------------------------------------------------


@requirement(
    "MIG-03",
    "The declared MIG layout is selected on every node of a MIG pool",
    level=MUST,
    sources=["operator-mig", "operator-mig-manager"],
    remedy="Check in this order: migManager.config.name, the ConfigMap in the operator's namespace with the key "
    "config.yaml, the node's labels nvidia.com/mig.capable and nvidia.com/mig.config, the layout of that name.",
)
def test_every_mig_node_is_reached_by_its_layout(mig_nodes: MigNodes, judge: Judge) -> None:
    unknown = []
    for pool, node, _ in mig_nodes.nodes:
        choice = mig_nodes.choice(node)
        selection = choice.selection
        not_read = selection.outcome is Chain.UNKNOWN and bool(selection.layout)
        provided = not_read and mig_nodes.is_provided(pool, selection.layout)
        if not_read and not provided:
            unknown.append(f"{node}: {selection.cause}, and {selection.layout} is not a layout for every node")
            continue
        reached = selection.outcome is Chain.APPLIED or choice.refused or provided
        not_judged = (
            why_still_starting(node, mig_nodes.facts, until=MIG_CAPABLE) if _lacks_a_label(node, selection) else ""
        )
        if not_judged and not reached:
            judge.pass_over(node, not_judged)
            continue
        judge(
            node,
            ok=reached and selection.layout == pool.mig_layout,
            expected=f"layout {pool.mig_layout}, as {pool} declares",
            actual=f"layout {selection.layout}" if reached else f"none: {selection.outcome.value}",
            cause=(not reached and selection.cause) or f"label {MIG_CONFIG} of the node chooses {selection.layout}",
            hidden_because=selection.hidden_because
            or "the node is Ready, and its GPUs keep their previous MIG devices",
            remedy=f"Fix it: {selection.remedy}." if not reached and selection.remedy else "",
            inspect=choice.inspect,
        )
    if unknown:
        raise Inconclusive(join_limited(unknown, apart="; "))


@requirement(
    "MIG-04",
    "Every node of a MIG pool has the label nvidia.com/mig.config.state=success",
    level=MUST,
    sources=["operator-mig", "mig-parted-reconfigure", "operator-603", "operator-668"],
    remedy="Drain the node, correct the layout, and set the label nvidia.com/mig.config again: the MIG manager tries "
    "once for each change of it.",
)
def test_the_mig_manager_reports_success(mig_nodes: MigNodes, judge: Judge) -> None:
    for pool, node, _ in mig_nodes.managed:
        state = node.labels.get(MIG_CONFIG_STATE, "")
        not_judged = _why_no_success_yet(mig_nodes, node, state)
        if not_judged:
            judge.pass_over(node, not_judged)
            continue
        judge(
            node,
            ok=state == SUCCESS,
            expected=f"{MIG_CONFIG_STATE}={SUCCESS}",
            actual=f"{MIG_CONFIG_STATE}={state}" if state else f"no label {MIG_CONFIG_STATE}",
            cause=why_no_success(mig_nodes, pool, node, state),
            hidden_because="the node and the ClusterPolicy are ready; only this label shows it",
            remedy=what_to_do(mig_nodes, node, state),
            inspect=(
                f"kubectl get node {node.name} -L {MIG_CONFIG},{MIG_CONFIG_STATE}; "
                "kubectl logs -l app=nvidia-mig-manager -A"
            ),
        )


@requirement(
    "MIG-05",
    "Every node of a MIG pool has the declared MIG strategy",
    level=MUST,
    sources=["operator-mig", "operator-values", "device-plugin-mig-labels"],
    remedy="Set mig.strategy of the ClusterPolicy, which holds for all nodes, or leave it empty and set "
    "flags.migStrategy in the plugin's configuration of these nodes.",
)
def test_every_mig_node_has_the_declared_strategy(mig_nodes: MigNodes, facts: Facts, judge: Judge) -> None:
    if not any(GPU_PRODUCT in each.node.labels for each in mig_nodes.nodes):
        raise Unsupported(
            f"no node of these pools carries {GPU_PRODUCT}: GPU Feature Discovery does not label this cluster"
        )
    configs = PluginConfigs(facts, mig_nodes.reference)
    strategies = {pool.name: mig_strategy_of(mig_nodes.reference, pool).value for pool, _ in mig_nodes.pools}
    for pool, node, _ in mig_nodes.nodes:
        if GPU_PRODUCT not in node.labels:
            judge.pass_over(node, f"no label {GPU_PRODUCT}")
            continue
        declared = strategies[pool.name]
        found = node.labels.get(MIG_STRATEGY, MigStrategy.NONE.value)
        judge(
            node,
            ok=found == declared,
            expected=f"strategy {declared}, as declared for {pool}",
            actual=f"strategy {found}" if MIG_STRATEGY in node.labels else f"no label {MIG_STRATEGY}, which is none",
            cause=who_sets_the_strategy(configs, node, declared),
            hidden_because="GPUs are offered, and under another name than the one that pods request",
            inspect=(
                f"kubectl get node {node.name} -L {MIG_STRATEGY}; kubectl get clusterpolicy -o yaml | grep -A1 ' mig:'"
            ),
        )


# --- What the nodes offer ----------------------------------------------------------------------------------------


@requirement(
    "MIG-06",
    "Every node of a MIG pool offers the devices of its layout under the names of its MIG strategy",
    level=MUST,
    sources=["device-plugin-device-map", "operator-mig"],
    remedy="Restart the device plugin after the layout was applied; where names differ, see the strategy (MIG-05).",
)
def test_every_mig_node_offers_its_devices(mig_nodes: MigNodes, judge: Judge) -> None:
    offers = {pool.name: offer_of(mig_nodes.reference, pool) for pool, _ in mig_nodes.pools}
    for pool, node, gpu in mig_nodes.nodes:
        offer = offers[pool.name]
        expected = offer.resources or {}
        there = counted(node, expected)
        if offer.resources == {}:
            continue
        not_judged = mig_nodes.why_not_configured(pool, node) or _why_not_comparable(node, gpu, offer, there)
        if not_judged:
            judge.pass_over(node, not_judged)
            continue
        judge(
            node,
            ok=agrees(node, pool, expected),
            expected=f"{format_amounts(expected)}, as layout {pool.mig_layout} of {pool}",
            actual=format_amounts(there),
            cause=why_the_devices_differ(there, expected),
            hidden_because=(
                "the MIG manager has created devices and reports success; pods wait for names no node offers"
            ),
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.capacity}}'",
        )
    require_judged_mig_nodes(judge, mig_nodes, "offers MIG devices that can be compared with its layout")


@requirement(
    "MIG-07",
    "GPU Feature Discovery labels count the MIG devices of the declared layout",
    level=MUST,
    sources=["device-plugin-mig-labels"],
    remedy="Restart GPU Feature Discovery; if it still counts others, the devices on the node are not the layout's.",
)
def test_gpu_feature_discovery_counts_the_devices(mig_nodes: MigNodes, judge: Judge) -> None:
    if all(has_no_mig_devices(mig_nodes.reference, pool) for pool, _ in mig_nodes.pools):
        raise NotApplicable("no declared layout has MIG devices to be counted")
    counts = {pool.name: counts_by_label(mig_nodes.reference, pool) for pool, _ in mig_nodes.pools}
    for pool, node, gpu in mig_nodes.nodes:
        expected = counts[pool.name]
        if not expected:
            continue
        unlabelled = f"no label {GPU_PRODUCT}" if GPU_PRODUCT not in node.labels else ""
        lacking = LACKS_GPUS if missing_gpus(node, gpu) and GPU_COUNT not in expected else None
        not_judged = mig_nodes.why_not_configured(pool, node) or unlabelled or lacking
        if not_judged:
            judge.pass_over(node, not_judged)
            continue
        found = {key: node.labels.get(key, "absent") for key in expected}
        found |= {key: value for key, value in node.labels.items() if counts_devices(key) and value != "0"}
        judge(
            node,
            ok=found == expected and "-MIG-INVALID" not in node.labels[GPU_PRODUCT],
            expected=", ".join(f"{key}={value}" for key, value in expected.items()),
            actual=", ".join(f"{key}={value}" for key, value in found.items())
            + f", {GPU_PRODUCT}={node.labels[GPU_PRODUCT]}",
            cause="the MIG devices that GPU Feature Discovery last found on the node are not those of the layout",
            hidden_because="the MIG manager's label shows its own result, these labels show the devices that exist",
            inspect=f"kubectl get node {node.name} --show-labels",
        )
    require_judged_mig_nodes(judge, mig_nodes, "has labels of GPU Feature Discovery that count MIG devices")


@requirement(
    "MIG-08",
    "The MIG strategy of every MIG pool can advertise the devices of its layout",
    level=MUST,
    sources=["device-plugin-device-map", "operator-mig"],
    remedy="Take the strategy mixed, or give every GPU of the node MIG devices of one and the same profile.",
)
def test_the_strategy_can_offer_what_the_layout_makes(
    mig: tuple[Pool, ...], mig_nodes: MigNodes, reference: Reference, facts: Facts, judge: Judge
) -> None:
    unknown = []
    for pool in mig:
        gpus = gpus_of(reference, pool)
        if gpus is None or not gpus.layouts_known:
            unknown.append(unknown_layout(reference, pool, layout_of(reference, pool)))
            continue
        nodes = [each.node for each in mig_nodes.one_each if each.pool.name == pool.name]
        for source, strategy in strategies_of(reference, pool, PluginConfigs(facts, reference), nodes).items():
            offer = advertised(gpus, strategy=strategy)
            judge(
                pool,
                ok=bool(offer.resources),
                expected=f"devices that the strategy {strategy.value} offers, from layout {pool.mig_layout}",
                actual=format_amounts(offer.resources or {}),
                cause=f"{source} has the strategy {strategy.value}: {'; '.join(offer.problems)}",
                hidden_because="the layout is applied with success; the device plugin exits, and no GPU is offered",
                inspect=f"kubectl get nodes -l {pool.selector_text} -L {MIG_CONFIG},{MIG_STRATEGY},{GPU_PRODUCT}",
            )
    if unknown:
        raise unknown[0]


@requirement(
    "MIG-09",
    "Pods, workloads and quotas that name MIG devices use a resource name that their pools offer",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["operator-mig", "operator-values"],
    remedy="Ask for nvidia.com/gpu where the strategy is single, for nvidia.com/mig-<profile> where it is mixed, and "
    "for a profile that a layout makes.",
)
def test_whoever_asks_for_mig_devices_asks_for_what_is_offered(
    mig_nodes: MigNodes, reference: Reference, facts: Facts, judge: Judge
) -> None:
    offered = {name for node in facts.nodes for name in counted(node, {})}
    for request in mig_device_requests(reference, facts):
        declared, complete = offered_names(reference, request.pools or reference.gpu_pools)
        if request.resource not in declared and not complete:
            continue
        judge(
            request.subject.only(request.resource),
            ok=request.resource in declared or (not request.pools and request.resource in offered),
            expected=f"a resource that {join_limited([str(pool) for pool in request.pools]) or 'a pool'} offers",
            actual=f"{request.resource}, which none of them offers",
            cause=why_the_name_is_not_offered(reference, request.resource, declared),
            hidden_because="any name is a valid resource: the pod is accepted and stays Pending",
            inspect=request.inspect,
        )
    for pool, _ in mig_nodes.pools:
        offer = offer_of(reference, pool).resources
        if offer is not None:
            judge(pool, ok=True, expected="resource names to request", actual=format_amounts(offer))
        else:
            judge.without_subjects(not_known(pool, offer_of(reference, pool)))


# --- Pods that request MIG devices -------------------------------------------------------------------------------


@requirement(
    "MIG-10",
    "A pod that requests a MIG device runs; one that requests more than a node has stays Pending",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["guide-3", "operator-mig"],
    remedy="Look at the events of the pod that does not run; for one that runs and should not, look for a policy that "
    "rewrites GPU requests.",
)
def test_mig_devices_are_given_to_pods(mig_nodes: MigNodes, lab: RequirementLab) -> None:
    for pool, resource, count, nodes in offered_devices(mig_nodes):
        node = lab.pick_idle(nodes, 1)[0]
        pod = lab.pod(gpus=1, resource=resource, on=node, tolerates=node, name_hint="one-device")
        pod.wait_until_running(because=f"{node} of {pool} offers {count} {resource}")
        pod.delete(wait=True)

        too_many = lab.pod(gpus=count + 1, resource=resource, on=node, tolerates=node, name_hint="too-many")
        too_many.stays_pending(because=f"{node} has {count} {resource}, and a pod runs on one node")
        too_many.delete()
        lab.let_go(node)


@requirement(
    "MIG-11",
    "No user pod holds a GPU on a node while the MIG manager changes its layout, or after the change failed",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["guide-summary", "operator-mig"],
    remedy="Cordon and drain the node before its label nvidia.com/mig.config is changed, then change the label.",
)
def test_layouts_are_changed_on_empty_nodes(mig_nodes: MigNodes, judge: Judge) -> None:
    for _, node, _ in mig_nodes.nodes:
        state = node.labels.get(MIG_CONFIG_STATE, SUCCESS)
        holders = mig_nodes.holders(node) if state in (*WORKING, FAILED) else ()
        judge(
            node,
            ok=not holders,
            expected="no pod with GPUs while the MIG manager works, and none after it failed",
            actual=f"{MIG_CONFIG_STATE}={state}, {join_limited([str(pod) for pod in holders]) or 'no such pod'}",
            cause="the label was changed while pods held the GPUs: MIG mode cannot change while they do",
            hidden_because="the pods keep running; the layout is not applied, and only a node label shows it",
            inspect=f"kubectl get pods -A --field-selector spec.nodeName={node.name}",
        )


def _why_not_comparable(node: Node, gpu: Gpu, offer: Offer, there: Mapping[str, int]) -> Waits | None:
    """Why the resources of a node cannot be compared with its layout; None where they can."""
    if offer.resources is None:
        return Waits("the MIG devices of its layout are unknown", on="MIG-01")
    if not there:
        return NO_GPU
    lacking = missing_gpus(node, gpu) and not counts_devices_as_gpus(node)
    return LACKS_GPUS if lacking else None


def _lacks_a_label(node: Node, selection: MigSelection) -> bool:
    """Whether a node has no layout because it lacks a label."""
    by_the_node = selection.outcome in (Chain.NOT_APPLIED, Chain.UNKNOWN)
    return by_the_node and not {MIG_CAPABLE, MIG_CONFIG} <= node.labels.keys()


def _why_no_success_yet(mig_nodes: MigNodes, node: Node, state: str) -> str:
    """Why the label mig.config.state=success may be missing for a while; empty where it is a failure.

    A MIG manager that is still working on a Ready node may hang: that is judged, and so is one that failed.
    """
    judged = state in (SUCCESS, FAILED) or (state in WORKING and node.ready)
    return "" if judged else why_still_starting(node, mig_nodes.facts, until=MIG_CONFIG_STATE)

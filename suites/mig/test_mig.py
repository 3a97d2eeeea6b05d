"""MIG: one GPU cut into devices that share nothing, each with memory and compute of its own.

A cut is a matter of places, not of sums: seven slices are there, and four instances of two do not fit. So the first
question is asked before anything is applied. Then a text has to reach the node: the ClusterPolicy names a ConfigMap,
the MIG manager reads one key of it, the node's label chooses a layout, and the label that comes back says how it
ended. What pods then ask for depends on a setting that has nothing to do with the layout: the strategy decides
whether a device is a nvidia.com/gpu or goes by the name of its profile, and a name that nobody offers waits for ever.

Nothing here looks into a container: that two pods get two different devices is shown where programs run.
"""

from collections.abc import Mapping

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, SHOULD, requirement
from conformance.facts import Facts, Node
from conformance.gpu import mig_config
from conformance.gpu.mig_config import CAPABLE_LABEL, CONFIG_LABEL, MigSelection
from conformance.gpu.plugin_config import Chain
from conformance.gpu.sharing import MigStrategy, Offer, advertised
from conformance.lab import RequirementLab
from conformance.reference.expected import gpus_of, layout_of, mig_strategy_of, offer_of
from conformance.reference.model import Gpu, Pool, Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, UnknownAccelerator, Unsupported
from suites._shared.device_plugin_configs import PluginConfigs
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import COUNT, PRODUCT, agrees, counted, format_amounts, missing_gpus, not_known
from suites._shared.operand_status import excuse_of
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.replicas import NO_GPU
from suites.mig.layout_findings import (
    WHAT_TO_DO,
    given_judged,
    judge_meaning,
    judge_parts,
    judge_problems,
    strategies_of,
    who_sets_the_strategy,
    why_no_success,
)
from suites.mig.layouts import (
    FAILED,
    STATE,
    STRATEGY,
    SUCCESS,
    WORKING,
    MigNodes,
    declared_layouts,
    declared_text,
    mig_pools,
    offered_names,
    parts_of,
    unknown_layout,
)
from suites.mig.mig_devices import (
    asking_for_mig_devices,
    counts_by_label,
    counts_devices,
    counts_devices_as_gpus,
    offered_devices,
    why_the_devices_differ,
    why_the_name_is_not_offered,
)

GUIDE = "guide part 3"
MIG = "NVIDIA GPU Operator: GPU Operator with MIG"
USER_GUIDE = "NVIDIA Multi-Instance GPU User Guide: Supported MIG Profiles"
PARTED = "NVIDIA/mig-parted: api/spec/v1, pkg/mig/config"
PLUGIN = "NVIDIA/k8s-device-plugin: internal/rm/device_map.go"
DISCOVERY = "NVIDIA/k8s-device-plugin: internal/lm/mig-strategy.go"

LACKS_GPUS = "it lacks GPUs (POOL-04)"


@pytest.fixture
def mig(reference: Reference) -> tuple[Pool, ...]:
    """The pools that ask for a MIG layout."""
    return mig_pools(reference)


@pytest.fixture
def mig_nodes(
    mig: tuple[Pool, ...], gpu_pool_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts
) -> MigNodes:
    """Their nodes, and the layouts that reach them."""
    return MigNodes(reference, facts, tuple(each for each in gpu_pool_nodes if each.pool in mig))


# --- Before anything is applied ----------------------------------------------------------------------------------


@requirement(
    "MIG-01",
    "Every declared MIG layout can exist on the GPUs of its pool",
    level=MUST,
    sources=[GUIDE, USER_GUIDE, PARTED],
    remedy="Take one of the layouts that fit, or a model with more memory; profiles are per model.",
)
def test_every_layout_can_exist(mig: tuple[Pool, ...], mig_nodes: MigNodes, reference: Reference, judge: Judge) -> None:
    unknown: list[Inconclusive | UnknownAccelerator] = []
    for pool in mig:
        try:
            unknown += judge_parts(f"layout {pool.mig_layout}", pool, parts_of(reference, pool), judge)
        except (Inconclusive, UnknownAccelerator) as reason:
            unknown.append(reason)
    for pool, node, gpu in mig_nodes.one_each:
        text, parts = mig_nodes.changed_parts(pool, node, gpu)
        if text:
            unknown += judge_parts(text, pool, parts, judge)
    if unknown:
        raise unknown[0]


@requirement(
    "MIG-02",
    "The texts of MIG layouts are well written, and the one on the cluster is the declared one",
    level=MUST,
    sources=[GUIDE, PARTED, MIG],
    remedy="Correct the text at the path that is named, under the key config.yaml of the ConfigMap.",
)
def test_layouts_are_written_as_declared(
    mig: tuple[Pool, ...], mig_nodes: MigNodes, reference: Reference, judge: Judge
) -> None:
    text = declared_text(reference)
    if text:
        judge_problems(reference.subject.only("MIG layouts"), mig_config.parse(text).problems, "the set-up", judge)
    for pool, node, gpu in mig_nodes.one_each:
        choice = mig_nodes.choice(node)
        if choice.generated or choice.config_map is None:
            continue
        judge_problems(choice.subject, choice.selection.problems, choice.inspect, judge)
        if pool.mig_layout in declared_layouts(reference):
            judge_meaning(choice, pool, layout_of(reference, pool), gpu.count, judge)
    judge.without_subjects(
        NotApplicable(f"no layout of {reference} is declared: those that are asked for come with the MIG manager")
    )


# --- From the text to the node -----------------------------------------------------------------------------------


@requirement(
    "MIG-03",
    "Every node of a MIG pool is reached by the layout that was declared for it",
    level=MUST,
    sources=[MIG, "NVIDIA/gpu-operator: controllers/object_controls.go, TransformMIGManager"],
    remedy="Follow the chain: migManager.config.name, the ConfigMap in the operator's namespace with the key "
    "config.yaml, the node's labels nvidia.com/mig.capable and nvidia.com/mig.config, the layout of that name.",
)
def test_every_mig_node_is_reached_by_its_layout(mig_nodes: MigNodes, judge: Judge) -> None:
    unknown = []
    for pool, node, _ in mig_nodes.nodes:
        choice = mig_nodes.choice(node)
        selection = choice.selection
        unseen = selection.outcome is Chain.UNKNOWN and bool(selection.layout)
        brought_along = unseen and mig_nodes.brought_along(pool, selection.layout)
        if unseen and not brought_along:
            unknown.append(f"{node}: {selection.cause}, and {selection.layout} is no layout of every node")
            continue
        reached = selection.outcome is Chain.APPLIED or choice.refused or brought_along
        excuse = excuse_of(node, mig_nodes.facts, until=CAPABLE_LABEL) if _lacks_a_label(node, selection) else ""
        if excuse and not reached:
            judge.pass_over(node, excuse)
            continue
        judge(
            node,
            ok=reached and selection.layout == pool.mig_layout,
            expected=f"layout {pool.mig_layout}, as {pool} declares",
            actual=f"layout {selection.layout}" if reached else f"none: {selection.outcome.value}",
            cause=(not reached and selection.cause) or f"label {CONFIG_LABEL} of the node chooses {selection.layout}",
            hidden_because=selection.hidden_because
            or "the node is Ready, and its GPUs stay as they were divided before",
            remedy=f"Mend it: {selection.remedy}." if not reached and selection.remedy else "",
            inspect=choice.inspect,
        )
    if unknown:
        raise Inconclusive(join_limited(unknown, apart="; "))


@requirement(
    "MIG-04",
    "The MIG manager reports success on every node of a MIG pool",
    level=MUST,
    sources=[MIG, "NVIDIA/mig-parted: pkg/mig/reconfigure/reconfigure.go", "NVIDIA/gpu-operator issues 603, 668"],
    remedy="Drain the node, correct the layout, and set the label nvidia.com/mig.config again: the MIG manager tries "
    "once for each change of it.",
)
def test_the_mig_manager_reports_success(mig_nodes: MigNodes, judge: Judge) -> None:
    for pool, node, _ in mig_nodes.managed:
        state = node.labels.get(STATE, "")
        excuse = _why_no_success_yet(mig_nodes, node, state)
        if excuse:
            judge.pass_over(node, excuse)
            continue
        judge(
            node,
            ok=state == SUCCESS,
            expected=f"{STATE}={SUCCESS}",
            actual=f"{STATE}={state}" if state else f"no label {STATE}",
            cause=why_no_success(mig_nodes, pool, node, state),
            hidden_because="the node is Ready and the ClusterPolicy says ready; only this label tells",
            remedy=WHAT_TO_DO.get(state, ""),
            inspect=(
                f"kubectl get node {node.name} -L {CONFIG_LABEL},{STATE}; kubectl logs -l app=nvidia-mig-manager -A"
            ),
        )


@requirement(
    "MIG-05",
    "Every node of a MIG pool has the declared MIG strategy",
    level=MUST,
    sources=[MIG, "NVIDIA/gpu-operator: values.yaml, whose mig.strategy is single", DISCOVERY],
    remedy="Set mig.strategy of the ClusterPolicy, which holds for all nodes, or leave it empty and set "
    "flags.migStrategy in the plugin's configuration of these nodes.",
)
def test_every_mig_node_has_the_declared_strategy(mig_nodes: MigNodes, facts: Facts, judge: Judge) -> None:
    if not any(PRODUCT in each.node.labels for each in mig_nodes.nodes):
        raise Unsupported(
            f"no node of these pools carries {PRODUCT}: GPU Feature Discovery does not label this cluster"
        )
    configs = PluginConfigs(facts)
    strategies = {pool.name: mig_strategy_of(mig_nodes.reference, pool).value for pool, _ in mig_nodes.pools}
    for pool, node, _ in mig_nodes.nodes:
        if PRODUCT not in node.labels:
            judge.pass_over(node, f"no label {PRODUCT}")
            continue
        declared = strategies[pool.name]
        found = node.labels.get(STRATEGY, MigStrategy.NONE.value)
        judge(
            node,
            ok=found == declared,
            expected=f"strategy {declared}, as declared for {pool}",
            actual=f"strategy {found}" if STRATEGY in node.labels else f"no label {STRATEGY}, which is none",
            cause=who_sets_the_strategy(configs, node, declared),
            hidden_because="GPUs are offered, and under another name than the one that pods ask for",
            inspect=f"kubectl get node {node.name} -L {STRATEGY}; kubectl get clusterpolicy -o yaml | grep -A1 ' mig:'",
        )


# --- What the nodes then offer -----------------------------------------------------------------------------------


@requirement(
    "MIG-06",
    "Every node of a MIG pool offers the devices of its layout under the names of its strategy",
    level=MUST,
    sources=[PLUGIN, MIG],
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
        unseen = mig_nodes.why_unsettled(pool, node) or _why_offers_tell_nothing(node, gpu, offer, there)
        if unseen:
            judge.pass_over(node, unseen)
            continue
        judge(
            node,
            ok=agrees(node, pool, expected),
            expected=f"{format_amounts(expected)}, as layout {pool.mig_layout} makes of {pool}",
            actual=format_amounts(there),
            cause=why_the_devices_differ(there, expected),
            hidden_because=(
                "MIG devices are made and the MIG manager reports success; pods wait for names nobody offers"
            ),
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.capacity}}'",
        )
    given_judged(judge, mig_nodes, "offers MIG devices that can be compared with its layout")


@requirement(
    "MIG-07",
    "Feature discovery counts the MIG devices that the layout makes",
    level=MUST,
    sources=[DISCOVERY],
    remedy="Restart GPU Feature Discovery; if it still counts others, the devices on the node are not the layout's.",
)
def test_feature_discovery_counts_the_devices(mig_nodes: MigNodes, judge: Judge) -> None:
    counts = {pool.name: counts_by_label(mig_nodes.reference, pool) for pool, _ in mig_nodes.pools}
    for pool, node, gpu in mig_nodes.nodes:
        expected = counts[pool.name]
        if not expected:
            continue
        unlabelled = f"no label {PRODUCT}" if PRODUCT not in node.labels else ""
        lacking = LACKS_GPUS if missing_gpus(node, gpu) and COUNT not in expected else ""
        unseen = mig_nodes.why_unsettled(pool, node) or unlabelled or lacking
        if unseen:
            judge.pass_over(node, unseen)
            continue
        found = {key: node.labels.get(key, "absent") for key in expected}
        found |= {key: value for key, value in node.labels.items() if counts_devices(key) and value != "0"}
        judge(
            node,
            ok=found == expected and "-MIG-INVALID" not in node.labels[PRODUCT],
            expected=", ".join(f"{key}={value}" for key, value in expected.items()),
            actual=", ".join(f"{key}={value}" for key, value in found.items()) + f", {PRODUCT}={node.labels[PRODUCT]}",
            cause="the devices that feature discovery last saw on the node are not the layout's",
            hidden_because="the label of the MIG manager speaks of its own work, and this one of what is there",
            inspect=f"kubectl get node {node.name} --show-labels",
        )
    given_judged(judge, mig_nodes, "has labels of feature discovery that count MIG devices")


@requirement(
    "MIG-08",
    "The MIG strategy of a pool can offer what its layout makes",
    level=MUST,
    sources=[PLUGIN, MIG],
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
        for source, strategy in strategies_of(reference, pool, PluginConfigs(facts), nodes).items():
            offer = advertised(gpus, strategy=strategy)
            judge(
                pool,
                ok=bool(offer.resources),
                expected=f"devices that the strategy {strategy.value} offers, from layout {pool.mig_layout}",
                actual=format_amounts(offer.resources or {}),
                cause=f"{source} has the strategy {strategy.value}: {'; '.join(offer.problems)}",
                hidden_because="the layout is applied with success; the device plugin ends, and the node's GPUs vanish",
                inspect=f"kubectl get nodes -l {pool.selector_text} -L {CONFIG_LABEL},{STRATEGY},{PRODUCT}",
            )
    if unknown:
        raise unknown[0]


@requirement(
    "MIG-09",
    "Whoever asks for MIG devices asks under a name that is offered",
    level=MUST,
    sources=[MIG, "NVIDIA/gpu-operator: values.yaml, whose mig.strategy is single"],
    remedy="Ask for nvidia.com/gpu where the strategy is single, for nvidia.com/mig-<profile> where it is mixed, and "
    "for a profile that a layout makes.",
)
def test_whoever_asks_for_mig_devices_asks_for_what_is_offered(
    mig_nodes: MigNodes, reference: Reference, facts: Facts, judge: Judge
) -> None:
    there = {name for node in facts.nodes for name in counted(node, {})}
    for asking in asking_for_mig_devices(reference, facts):
        declared, complete = offered_names(reference, asking.pools or reference.gpu_pools)
        if asking.resource not in declared and not complete:
            continue
        judge(
            asking.who.only(asking.resource),
            ok=asking.resource in declared or (not asking.pools and asking.resource in there),
            expected=f"a resource that {join_limited([str(pool) for pool in asking.pools]) or 'a pool'} offers",
            actual=f"{asking.resource}, which none of them offers",
            cause=why_the_name_is_not_offered(reference, asking.resource, declared),
            hidden_because="any name is a valid resource: the pod is accepted and waits as Pending for ever",
            inspect=asking.inspect,
        )
    for pool, _ in mig_nodes.pools:
        offer = offer_of(reference, pool).resources
        if offer is not None:
            judge(pool, ok=True, expected="names to ask for", actual=format_amounts(offer))
        else:
            judge.without_subjects(not_known(pool, offer_of(reference, pool)))


# --- What becomes of pods ----------------------------------------------------------------------------------------


@requirement(
    "MIG-10",
    "A pod that asks for a MIG device runs, and one that asks for more than a node has waits",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[GUIDE, MIG],
    remedy="Look at the events of the pod that does not run; for one that runs and should not, look for a policy that "
    "rewrites GPU requests.",
)
def test_mig_devices_are_given_to_pods(mig_nodes: MigNodes, lab: RequirementLab) -> None:
    for pool, resource, count, nodes in offered_devices(mig_nodes):
        node = lab.pick_idle(nodes, 1)[0]
        pod = lab.pod(gpus=1, resource=resource, on=node, tolerates=node, name_hint="one-device")
        pod.wait_until_running(because=f"{node} of {pool} offers {count} {resource}")
        pod.delete(wait=True)

        greedy = lab.pod(gpus=count + 1, resource=resource, on=node, tolerates=node, name_hint="too-many")
        greedy.stays_pending(because=f"{node} has {count} {resource}, and a pod has one node")
        greedy.delete()


@requirement(
    "MIG-11",
    "No pod of a user holds a GPU on a node whose MIG layout is being changed, or failed to be",
    level=SHOULD,
    sources=["guide, summary: drain before MIG is changed", MIG],
    remedy="Cordon and drain the node before its label nvidia.com/mig.config is changed, then change the label.",
)
def test_layouts_are_changed_on_empty_nodes(mig_nodes: MigNodes, judge: Judge) -> None:
    for _, node, _ in mig_nodes.nodes:
        state = node.labels.get(STATE, SUCCESS)
        holders = mig_nodes.holders(node) if state in (*WORKING, FAILED) else ()
        judge(
            node,
            ok=not holders,
            expected="no pod with GPUs while the MIG manager is at work, and none after it failed",
            actual=f"{STATE}={state}, {join_limited([str(pod) for pod in holders]) or 'no such pod'}",
            cause="the label was changed while pods held the GPUs: MIG mode cannot be switched under them",
            hidden_because="the pods go on; the layout is not applied, and nobody told whoever set the label",
            inspect=f"kubectl get pods -A --field-selector spec.nodeName={node.name}",
        )


def _why_offers_tell_nothing(node: Node, gpu: Gpu, offer: Offer, there: Mapping[str, int]) -> str:
    """Why what a node offers cannot be compared with its layout; empty where it can."""
    if offer.resources is None:
        return "what its layout makes is not known (MIG-01)"
    if not there:
        return NO_GPU
    lacking = missing_gpus(node, gpu) and not counts_devices_as_gpus(node)
    return LACKS_GPUS if lacking else ""


def _lacks_a_label(node: Node, selection: MigSelection) -> bool:
    """Whether a layout does not reach a node because a label of the node is not there."""
    by_the_node = selection.outcome in (Chain.NOT_APPLIED, Chain.UNKNOWN)
    return by_the_node and not {CAPABLE_LABEL, CONFIG_LABEL} <= node.labels.keys()


def _why_no_success_yet(mig_nodes: MigNodes, node: Node, state: str) -> str:
    """Why a node may carry no label of success for a while; empty where it is missed.

    A manager that is at work on a Ready node may hang: that is judged, and so is one that gave up.
    """
    judged = state in (SUCCESS, FAILED) or (state in WORKING and node.ready)
    return "" if judged else excuse_of(node, mig_nodes.facts, until=STATE)

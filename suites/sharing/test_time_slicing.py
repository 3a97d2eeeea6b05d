"""Time-slicing: one GPU advertised as several replicas, to pods that take turns.

It is a setting of one configuration in one ConfigMap, and between that ConfigMap and a pod are four references, each of
which can be missing without an error: the ClusterPolicy has to name the ConfigMap, a default or the node's label has to
choose a key, the configuration under the key has to say what was meant, and the device plugin has to have read it.
Where one of them is missing the GPUs go on being offered whole, or they vanish.

A replica is a turn, not a part. Its pods see the whole GPU and all of its memory, nothing keeps them apart, and two
replicas give no more than one. So replicas are for pods of one owner, under a name that tells them from GPUs.
"""

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, ON_PICKED_NODES, SHOULD, requirement
from conformance.facts import Facts, Node
from conformance.gpu.labels import GPU_PRODUCT
from conformance.gpu.plugin_config_selection import Chain
from conformance.gpu.sharing import Offer, SharingStrategy
from conformance.lab import RequirementLab
from conformance.reference.expected import offer_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, Waits
from suites._shared.device_plugin_configs import PluginConfigs
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import counted
from suites._shared.pool_nodes import GpuPoolNode, Members, require_nodes
from suites._shared.replicas import (
    SHARED_PRODUCT,
    STRATEGY,
    all_replicas_run_and_one_more_pod_waits,
    judge_labels,
    judge_offers,
    requests_for_several_replicas_end_as_configured,
)
from suites._shared.shared_nodes import (
    CHAIN_HIDDEN_BECAUSE,
    SharedNodes,
    as_sentence,
    broken_for_shared_nodes,
    judge_chain,
    judge_configurations,
    judge_freshness,
    shared_pools,
    what_it_gets,
)


@pytest.fixture
def sliced_pools(reference: Reference) -> tuple[Pool, ...]:
    """The pools whose GPUs are shared by time-slicing."""
    return shared_pools(reference, SharingStrategy.TIME_SLICING)


@pytest.fixture
def sliced(
    sliced_pools: tuple[Pool, ...],
    gpu_pool_nodes: tuple[GpuPoolNode, ...],
    reference: Reference,
    facts: Facts,
    members: Members,
) -> SharedNodes:
    """Their nodes, with their configurations."""
    nodes = require_nodes(sliced_pools, gpu_pool_nodes, reference, members)
    return SharedNodes(SharingStrategy.TIME_SLICING, reference, facts, nodes)


@pytest.fixture
def unshared_nodes(reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...]) -> tuple[GpuPoolNode, ...]:
    """The nodes of pools whose GPUs a device plugin gives to one pod each."""
    nodes = tuple(
        each for each in gpu_pool_nodes if each.gpu.shared_by is None and each.gpu.allocated_by == "device-plugin"
    )
    if not nodes:
        raise NotApplicable(f"every GPU pool of {reference} that has nodes is shared, or its GPUs are allocated by DRA")
    return nodes


# --- From the configuration to the node --------------------------------------------------------------------------


@requirement(
    "TS-01",
    "Time-slicing configurations are valid and share GPUs as the pools declare",
    level=MUST,
    sources=["guide-3", "device-plugin-sharing", "device-plugin-1433"],
    remedy="Correct the configuration at the named path, then restart the device plugin: it does not watch the "
    "ConfigMap.",
)
def test_time_slicing_configurations_mean_what_is_declared(sliced: SharedNodes, judge: Judge) -> None:
    judge_configurations(sliced, judge)


@requirement(
    "TS-02",
    "The declared time-slicing configuration is selected on every node of a time-sliced pool",
    level=MUST,
    sources=["guide-3", "operator-time-slicing", "operator-412", "device-plugin-321", "device-plugin-990"],
    remedy="Check in this order: devicePlugin.config.name, the ConfigMap in the operator's namespace, "
    "devicePlugin.config.default or the node's label nvidia.com/device-plugin.config, the key.",
)
def test_every_sliced_node_is_reached_by_its_configuration(sliced: SharedNodes, judge: Judge) -> None:
    judge_chain(sliced, judge)


@requirement(
    "TS-03",
    "The device plugin has read the current content of its time-slicing ConfigMap",
    level=MUST,
    sources=["operator-time-slicing"],
    remedy="Restart the device plugin after each change of the ConfigMap: it is read at start only.",
)
def test_the_plugin_has_read_the_current_configuration(sliced: SharedNodes, judge: Judge) -> None:
    judge_freshness(sliced, judge)


# --- What the nodes offer ----------------------------------------------------------------------------------------


@requirement(
    "TS-04",
    "Every node of a time-sliced pool offers the declared number of replicas under the declared name",
    level=MUST,
    sources=["guide-3", "operator-time-slicing", "device-plugin-sharing"],
    remedy="Fix the configuration (TS-01) and its selection (TS-02), restart the device plugin (TS-03), or declare it.",
)
def test_every_sliced_node_offers_its_replicas(sliced: SharedNodes, judge: Judge) -> None:
    judge_offers(sliced, judge)


@requirement(
    "TS-05",
    "GPU Feature Discovery labels show the declared time-slicing replicas and strategy",
    level=MUST,
    sources=["gpu-feature-discovery", "operator-time-slicing"],
    remedy="Restart GPU Feature Discovery: it reads the same ConfigMap as the device plugin, and only when it starts.",
)
def test_gpu_feature_discovery_labels_time_slicing(sliced: SharedNodes, judge: Judge) -> None:
    judge_labels(sliced, judge)


@requirement(
    "TS-06",
    "GPUs that are not declared as shared have no replicas, and no configuration gives them any",
    level=MUST,
    sources=["guide-3", "operator-time-slicing"],
    remedy="Give these nodes a configuration without sharing (devicePlugin.config.default, or their own label), or "
    "declare the sharing.",
)
def test_undeclared_gpus_are_not_shared(
    unshared_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    configs = PluginConfigs(facts, reference)
    offers = {pool.name: offer_of(reference, pool) for pool, _, _ in unshared_nodes}
    for pool, node, _ in unshared_nodes:
        signs = _signs_of_sharing(node)
        configured = _configured_sharing(configs, node, offers[pool.name])
        judge(
            node,
            ok=not signs and not configured,
            expected=f"each GPU for one pod, as {pool} declares",
            actual=join_limited(signs) or configured or "each GPU for one pod",
            cause=configured or "the device plugin runs with a configuration that shares",
            hidden_because=("pods start as before; they only share a GPU that they expect to have alone"),
            inspect=f"kubectl get node {node.name} --show-labels",
        )


@requirement(
    "TS-11",
    "The configuration that the device plugin of an unshared GPU node is to read exists and is valid",
    level=MUST,
    sources=["operator-time-slicing", "operator-412", "device-plugin-sharing"],
    remedy="Check in this order: devicePlugin.config.name, the ConfigMap in the operator's namespace, "
    "devicePlugin.config.default or the node's label nvidia.com/device-plugin.config, the key, its text.",
)
def test_every_unshared_node_has_a_configuration_to_start_with(
    unshared_nodes: tuple[GpuPoolNode, ...],
    gpu_pool_nodes: tuple[GpuPoolNode, ...],
    reference: Reference,
    facts: Facts,
    judge: Judge,
) -> None:
    configs = PluginConfigs(facts, reference)
    try:
        elsewhere = broken_for_shared_nodes(gpu_pool_nodes, configs)
        unshared = [(node, configs.known(node)) for _, node, _ in unshared_nodes]
    except Waits as waits:
        if not waits.requirement:  # What tells it may not be read.
            raise
        raise NotApplicable(f"there is no device plugin that would read one: {waits}") from None
    for node, chosen in unshared:
        selection = chosen.selection
        if selection.outcome is Chain.UNKNOWN:
            judge.pass_over(node, selection.cause)
        elif selection.cause in elsewhere:
            judge.pass_over(node, elsewhere[selection.cause])
        elif selection.outcome in (Chain.APPLIED, Chain.BROKEN):
            judge(
                node,
                ok=selection.outcome is Chain.APPLIED,
                expected="a configuration that its device plugin can read",
                actual=what_it_gets(chosen),
                cause=selection.cause,
                hidden_because=selection.hidden_because or CHAIN_HIDDEN_BECAUSE[selection.outcome],
                remedy=as_sentence(selection.remedy),
                inspect=chosen.inspect,
            )
    judge.without_subjects(NotApplicable("no configuration of the device plugin is meant for an unshared node"))


# --- Pods that request replicas ----------------------------------------------------------------------------------


@requirement(
    "TS-07",
    "As many pods as a node has time-slicing replicas run at once, and the next one stays Pending",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["guide-3", "operator-time-slicing"],
    remedy="Look for a policy that rewrites GPU requests, and at the events of a pod that the kubelet rejected; "
    "restart a kubelet whose device accounting is stale.",
)
def test_as_many_pods_as_replicas_run_and_one_more_waits(sliced: SharedNodes, lab: RequirementLab) -> None:
    all_replicas_run_and_one_more_pod_waits(sliced, lab)


@requirement(
    "TS-08",
    "A pod that requests two time-slicing replicas runs or fails as failRequestsGreaterThanOne says",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["device-plugin-sharing", "device-plugin-requests"],
    remedy="Set failRequestsGreaterThanOne under sharing.timeSlicing as intended, and restart the device plugin.",
)
def test_asking_for_more_than_one_replica_ends_as_configured(sliced: SharedNodes, lab: RequirementLab) -> None:
    requests_for_several_replicas_end_as_configured(sliced, lab)


# --- Namespaces and names ----------------------------------------------------------------------------------------


@requirement(
    "TS-09",
    "The pods that hold time-slicing replicas of a node's GPUs belong to one namespace",
    level=SHOULD,
    sources=["guide-summary", "operator-time-slicing"],
    remedy="Give each team time-sliced nodes of its own, or MIG where tenants must share a GPU.",
)
def test_replicas_of_one_node_belong_to_one_namespace(sliced: SharedNodes, facts: Facts, judge: Judge) -> None:
    for pool, node, gpu in sliced.nodes:
        names = sliced.replica_names(pool, gpu)
        pods = [pod for pod in facts.pods_on(node.name) if not pod.finished and any(map(pod.gpus, names))]
        holders = {pod.namespace for pod in pods} - set(facts.stack_namespaces)
        judge(
            node,
            ok=len(holders) <= 1,
            expected="pods with its replicas in one namespace",
            actual=join_limited(sorted(holders)) or "no such pod",
            cause=f"{len(holders)} namespaces hold replicas of the same GPUs: time-slicing isolates neither "
            "memory nor faults",
            hidden_because="all of them run, until one uses all the memory and the others run out of it",
            inspect=f"kubectl get pods -A --field-selector spec.nodeName={node.name}",
        )


@requirement(
    "TS-10",
    "Time-slicing configurations set renameByDefault or failRequestsGreaterThanOne to true",
    level=SHOULD,
    sources=["guide-3", "device-plugin-sharing"],
    remedy="Set renameByDefault or failRequestsGreaterThanOne under sharing.timeSlicing, and declare the new name.",
)
def test_replicas_cannot_be_taken_for_fractions(sliced: SharedNodes, judge: Judge) -> None:
    for pool, gpu in sliced.pools:
        for source, sharing in sliced.sharings(pool):
            judge(
                source.only(f"for {pool}"),
                ok=sharing.rename_by_default or sharing.refuses_more_than_one,
                expected="renameByDefault or failRequestsGreaterThanOne",
                actual="neither: replicas are offered as GPUs, and two may be requested",
                cause=f"a pod that requests 2 {join_limited(sliced.replica_names(pool, gpu))} may get one GPU "
                "twice, and no more of it",
                hidden_because="it is admitted and runs; it is only as fast as with one",
            )
    judge.without_subjects(Inconclusive("no configuration is declared for these pools, and their nodes get none"))


def _signs_of_sharing(node: Node) -> list[str]:
    """The labels and resources of a node that sharing makes, as text."""
    labels = node.labels
    shared = {
        key: value for key, value in labels.items() if key.endswith(".replicas") and key.startswith("nvidia.com/")
    }
    signs = [f"{name}={count}" for name, count in counted(node, {}).items() if name.endswith(".shared")]
    signs += [f"{key}={value}" for key, value in shared.items() if value.isdigit() and int(value) > 1]
    signs += [f"{GPU_PRODUCT}={labels[GPU_PRODUCT]}"] if labels.get(GPU_PRODUCT, "").endswith(SHARED_PRODUCT) else []
    labelled = labels.get(STRATEGY) in (SharingStrategy.TIME_SLICING, SharingStrategy.MPS)
    return [*signs, f"{STRATEGY}={labels[STRATEGY]}"] if labelled else signs


def _configured_sharing(configs: PluginConfigs, node: Node, offer: Offer) -> str:
    """What the configuration of a node shares, whether or not the plugin has loaded it; empty for nothing."""
    try:
        chosen = configs.of(node)
    except (Inconclusive, Unsupported):
        return ""
    config = chosen.selection.config
    shared = [] if config is None else [each for each in config.sharing.resources if offer.count(each.resource)]
    if not shared:
        return ""
    what = ", ".join(f"{each.resource} {each.replicas} times" for each in shared)
    return f"{chosen.config_name}, chosen by {chosen.selection.chosen_by}, shares {what}"

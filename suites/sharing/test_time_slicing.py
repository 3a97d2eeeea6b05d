"""Time-slicing: one GPU offered several times, to pods that take turns.

It is a setting of one text in one ConfigMap, and between that text and a pod stand four references, each of which can
be missing without a word: the ClusterPolicy has to name the ConfigMap, a default or the node's label has to choose a
key, the text under the key has to say what was meant, and the device plugin has to have read it. Where one of them is
missing the GPUs go on being offered whole, or they vanish.

A share is a turn, not a part. Its pods see the whole GPU and all of its memory, nothing keeps them apart, and two
shares give no more than one. So shares are for pods of one owner, under a name that tells them from GPUs.
"""

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, SHOULD, requirement
from conformance.facts import Facts, Node
from conformance.gpu.sharing import Offer, SharingStrategy
from conformance.lab import RequirementLab
from conformance.reference.expected import offer_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable
from suites._shared.device_plugin_configs import PluginConfigs
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import PRODUCT, counted
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.replicas import (
    SHARED_PRODUCT,
    STRATEGY,
    all_run_and_one_more_waits,
    judge_labels,
    judge_offers,
    more_than_one_is,
)
from suites._shared.shared_nodes import SharedNodes, judge_chain, judge_freshness, judge_texts, shared_pools

GUIDE = "guide part 3"
SHARING = "NVIDIA GPU Operator: Time-Slicing GPUs in Kubernetes"
PLUGIN = "NVIDIA/k8s-device-plugin: README, shared access to GPUs"
DISCOVERY = "NVIDIA/k8s-device-plugin: GPU Feature Discovery labels"


@pytest.fixture
def sliced_pools(reference: Reference) -> tuple[Pool, ...]:
    """The pools whose GPUs are shared by time-slicing."""
    return shared_pools(reference, SharingStrategy.TIME_SLICING)


@pytest.fixture
def sliced(
    sliced_pools: tuple[Pool, ...], gpu_pool_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts
) -> SharedNodes:
    """Their nodes, and the configurations that reach them."""
    nodes = tuple(each for each in gpu_pool_nodes if each.pool in sliced_pools)
    return SharedNodes(SharingStrategy.TIME_SLICING, reference, facts, nodes)


@pytest.fixture
def unshared_nodes(reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...]) -> tuple[GpuPoolNode, ...]:
    """The nodes of pools whose GPUs a device plugin gives to one pod each."""
    nodes = tuple(
        each for each in gpu_pool_nodes if each.gpu.shared_by is None and each.gpu.allocated_by == "device-plugin"
    )
    if not nodes:
        raise NotApplicable(f"every GPU pool of {reference} that has nodes is shared, or DRA gives its GPUs to pods")
    return nodes


# --- From the text to the node -----------------------------------------------------------------------------------


@requirement(
    "TS-01",
    "Time-slicing configurations are well written and mean what the pools declare",
    level=MUST,
    sources=[GUIDE, PLUGIN, "NVIDIA/k8s-device-plugin issue 1433"],
    remedy="Correct the text at the path that is named, then restart the device plugin: it does not watch the text.",
)
def test_time_slicing_configurations_mean_what_is_declared(sliced: SharedNodes, judge: Judge) -> None:
    judge_texts(sliced, judge)


@requirement(
    "TS-02",
    "Every node of a time-sliced pool is reached by the configuration that was meant for it",
    level=MUST,
    sources=[GUIDE, SHARING, "NVIDIA/gpu-operator issue 412", "NVIDIA/k8s-device-plugin issues 321, 990"],
    remedy="Follow the chain: devicePlugin.config.name, the ConfigMap in the operator's namespace, "
    "devicePlugin.config.default or the node's label nvidia.com/device-plugin.config, the key.",
)
def test_every_sliced_node_is_reached_by_its_configuration(sliced: SharedNodes, judge: Judge) -> None:
    judge_chain(sliced, judge)


@requirement(
    "TS-03",
    "The device plugin has read the time-slicing configuration as it stands",
    level=MUST,
    sources=[SHARING],
    remedy="Restart the device plugin after each change of the ConfigMap: nobody watches its content.",
)
def test_the_plugin_has_read_the_configuration_as_it_stands(sliced: SharedNodes, judge: Judge) -> None:
    judge_freshness(sliced, judge)


# --- What the nodes then offer -----------------------------------------------------------------------------------


@requirement(
    "TS-04",
    "Every node of a time-sliced pool offers its GPUs times the declared shares, under the declared name",
    level=MUST,
    sources=[GUIDE, SHARING, PLUGIN],
    remedy="Mend the chain (TS-02) and the text (TS-01), restart the device plugin (TS-03), or declare what is wanted.",
)
def test_every_sliced_node_offers_its_shares(sliced: SharedNodes, judge: Judge) -> None:
    judge_offers(sliced, judge)


@requirement(
    "TS-05",
    "Feature discovery tells of the time-slicing that was declared",
    level=MUST,
    sources=[DISCOVERY, SHARING],
    remedy="Restart GPU Feature Discovery: it reads the same ConfigMap as the device plugin, and only when it starts.",
)
def test_feature_discovery_tells_of_the_shares(sliced: SharedNodes, judge: Judge) -> None:
    judge_labels(sliced, judge)


@requirement(
    "TS-06",
    "GPUs that nobody declared to be shared are not shared",
    level=MUST,
    sources=[GUIDE, SHARING],
    remedy="Give these nodes a configuration without sharing (devicePlugin.config.default, or their own label), or "
    "declare the sharing.",
)
def test_undeclared_gpus_are_not_shared(
    unshared_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    configs = PluginConfigs(facts)
    offers = {pool.name: offer_of(reference, pool) for pool, _, _ in unshared_nodes}
    for pool, node, _ in unshared_nodes:
        signs = _signs_of_sharing(node)
        plan = _what_will_be_shared(configs, node, offers[pool.name])
        judge(
            node,
            ok=not signs and not plan,
            expected=f"each GPU for one pod, as {pool} declares",
            actual=join_limited(signs) or plan or "each GPU for one pod",
            cause=plan or "the device plugin runs with a configuration that shares",
            hidden_because=(
                "pods start as before; they only take turns with others on a GPU that they believe their own"
            ),
            inspect=f"kubectl get node {node.name} --show-labels",
        )


# --- What becomes of pods ----------------------------------------------------------------------------------------


@requirement(
    "TS-07",
    "As many pods as a node has shares run at once, and the next one waits",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[GUIDE, SHARING],
    remedy="Look for a policy that rewrites GPU requests, and at the events of a pod that the node refused; a kubelet "
    "whose accounts are stale wants a restart.",
)
def test_as_many_pods_as_shares_run_and_one_more_waits(sliced: SharedNodes, lab: RequirementLab) -> None:
    all_run_and_one_more_waits(sliced, lab)


@requirement(
    "TS-08",
    "A pod that asks for more than one time-sliced share is treated as configured",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[PLUGIN, "NVIDIA/k8s-device-plugin: internal/rm/rm.go"],
    remedy="Set failRequestsGreaterThanOne under sharing.timeSlicing as it is meant, and restart the device plugin.",
)
def test_asking_for_more_than_one_share_ends_as_configured(sliced: SharedNodes, lab: RequirementLab) -> None:
    more_than_one_is(sliced, lab)


# --- Habits ------------------------------------------------------------------------------------------------------


@requirement(
    "TS-09",
    "The pods that share the GPUs of a node by time-slicing belong to one namespace",
    level=SHOULD,
    sources=["guide, summary: no time-slicing between tenants", SHARING],
    remedy="Give each team sliced nodes of its own, or MIG where tenants must share a GPU.",
)
def test_shares_of_one_node_belong_to_one_namespace(sliced: SharedNodes, facts: Facts, judge: Judge) -> None:
    for pool, node, gpu in sliced.nodes:
        names = sliced.share_names(pool, gpu)
        pods = [pod for pod in facts.pods_on(node.name) if not pod.finished and any(map(pod.gpus, names))]
        holders = {pod.namespace for pod in pods} - set(facts.stack_namespaces)
        judge(
            node,
            ok=len(holders) <= 1,
            expected="holders of its shares in one namespace",
            actual=join_limited(sorted(holders)) or "no holder",
            cause=f"{len(holders)} namespaces hold shares of GPUs that nothing divides: neither memory nor "
            "faults are kept apart",
            hidden_because="all of them run, until one takes the memory of all and the others run out of it",
            inspect=f"kubectl get pods -A --field-selector spec.nodeName={node.name}",
        )


@requirement(
    "TS-10",
    "Time-sliced shares have a name of their own, or requests for more than one are refused",
    level=SHOULD,
    sources=["guide part 3, which calls a share a quarter of a GPU", PLUGIN],
    remedy="Set renameByDefault or failRequestsGreaterThanOne under sharing.timeSlicing, and declare the new name.",
)
def test_shares_cannot_be_taken_for_fractions(sliced: SharedNodes, judge: Judge) -> None:
    for pool, gpu in sliced.pools:
        for source, sharing in sliced.sharings(pool):
            judge(
                source.only(f"for {pool}"),
                ok=sharing.rename_by_default or sharing.refuses_more_than_one,
                expected="renameByDefault or failRequestsGreaterThanOne",
                actual="neither: shares are offered as GPUs, and two may be asked for",
                cause=f"a pod that asks for 2 {join_limited(sliced.share_names(pool, gpu))} may get one GPU "
                "twice, and no more of it",
                hidden_because="it is admitted and runs; it is only as fast as with one",
            )
    judge.without_subjects(Inconclusive("no configuration is declared for these pools, and none reaches their nodes"))


def _signs_of_sharing(node: Node) -> list[str]:
    """What a node shows of sharing, in words."""
    labels = node.labels
    shared = {
        key: value for key, value in labels.items() if key.startswith("nvidia.com/") and key.endswith(".replicas")
    }
    signs = [f"{name}={count}" for name, count in counted(node, {}).items() if name.endswith(".shared")]
    signs += [f"{key}={value}" for key, value in shared.items() if value.isdigit() and int(value) > 1]
    signs += [f"{PRODUCT}={labels[PRODUCT]}"] if labels.get(PRODUCT, "").endswith(SHARED_PRODUCT) else []
    shows = labels.get(STRATEGY) in (SharingStrategy.TIME_SLICING, SharingStrategy.MPS)
    return [*signs, f"{STRATEGY}={labels[STRATEGY]}"] if shows else signs


def _what_will_be_shared(configs: PluginConfigs, node: Node, offer: Offer) -> str:
    """What the configuration that reaches a node shares, whether or not the plugin has read it; empty for nothing."""
    try:
        chosen = configs.of(node)
    except Inconclusive:
        return ""
    config = chosen.selection.config
    shares = [] if config is None else [each for each in config.sharing.shares if offer.count(each.resource)]
    if not shares:
        return ""
    what = ", ".join(f"{each.resource} {each.replicas} times" for each in shares)
    return f"{chosen.text}, chosen by {chosen.selection.chosen_by}, shares {what}"

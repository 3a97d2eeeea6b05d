"""MPS: several pods on one GPU at the same time, behind one server that separates their memory and threads.

MPS is configured in the same ConfigMap as time-slicing, and has more preconditions. A control daemon has to run on the
node, or the plugin offers nothing; the daemon goes only to nodes that GPU Feature Discovery has labelled; it serves a
limited number of clients; and it excludes MIG, even the MIG strategy mixed, which an operator sets for all nodes at
once. Whichever of them is violated, the node stays Ready and offers no GPU.
"""

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, ON_PICKED_NODES, requirement
from conformance.facts import Facts, Node, Pod, Workload
from conformance.gpu import plugin_config
from conformance.gpu.labels import GPU_COMPUTE, MPS_CAPABLE
from conformance.gpu.plugin_config import Problem
from conformance.gpu.resources import GPU, MIG_PREFIX
from conformance.gpu.sharing import (
    MPS_FULL_CAPABILITY,
    MPS_MAX_REPLICAS,
    MPS_MAX_REPLICAS_BEFORE_7_5,
    MigStrategy,
    SharingStrategy,
)
from conformance.lab import RequirementLab
from conformance.reference.expected import gpus_of, mig_strategy_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive, Judge, format_value
from suites._shared.device_plugin_configs import ChosenConfig, mps_daemons, runs_mps_daemon
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import counted
from suites._shared.operand_status import why_still_starting
from suites._shared.pool_nodes import GpuPoolNode, Members, require_nodes
from suites._shared.replicas import (
    all_replicas_run_and_one_more_pod_waits,
    judge_labels,
    judge_offers,
    requests_for_several_replicas_end_as_configured,
)
from suites._shared.shared_nodes import SharedNodes, judge_chain, judge_configurations, judge_freshness, shared_pools

# Problems of a configuration that enables MPS together with what excludes it: judged by MPS-03, not by MPS-01.
EXCLUSIONS = ("sharing.timeSlicing", "flags.migStrategy")


@pytest.fixture
def mps_pools(reference: Reference) -> tuple[Pool, ...]:
    """The pools whose GPUs are shared by MPS."""
    return shared_pools(reference, SharingStrategy.MPS)


@pytest.fixture
def mps(
    mps_pools: tuple[Pool, ...],
    gpu_pool_nodes: tuple[GpuPoolNode, ...],
    reference: Reference,
    facts: Facts,
    members: Members,
) -> SharedNodes:
    """Their nodes, with their configurations."""
    nodes = require_nodes(mps_pools, gpu_pool_nodes, reference, members)
    return SharedNodes(SharingStrategy.MPS, reference, facts, nodes)


# --- From the configuration to the node --------------------------------------------------------------------------


@requirement(
    "MPS-01",
    "MPS configurations are valid and share GPUs as the pools declare",
    level=MUST,
    sources=["device-plugin-mps"],
    remedy="Correct the configuration at the named path, then restart the device plugin: it does not watch the "
    "ConfigMap.",
)
def test_mps_configurations_mean_what_is_declared(mps: SharedNodes, judge: Judge) -> None:
    judge_configurations(mps, judge, left_out=EXCLUSIONS)


@requirement(
    "MPS-02",
    "The declared MPS configuration is selected on every node of an MPS pool",
    level=MUST,
    sources=["device-plugin-mps", "operator-time-slicing"],
    remedy="Check in this order: devicePlugin.config.name, the ConfigMap in the operator's namespace, "
    "devicePlugin.config.default or the node's label nvidia.com/device-plugin.config, the key.",
)
def test_every_mps_node_is_reached_by_its_configuration(mps: SharedNodes, judge: Judge) -> None:
    judge_chain(mps, judge)


@requirement(
    "MPS-03",
    "MPS nodes enable neither MIG nor time-slicing and stay within the MPS client limit",
    level=MUST,
    sources=["device-plugin-mps", "device-plugin-mps-daemon", "operator-mig-manager"],
    remedy="Keep MIG off these GPUs, leave the operator's mig.strategy empty and set flags.migStrategy in each plugin "
    "configuration instead, and stay within the MPS client limit.",
)
def test_mps_nodes_enable_neither_mig_nor_time_slicing(mps: SharedNodes, judge: Judge) -> None:
    unknown = []
    declared = {pool.name: _declared_with_mig(mps.reference, pool) for pool, _ in mps.pools}
    texts = {pool.name: _problems_of_declared(mps, pool) for pool, _ in mps.pools}
    for pool, node, gpu, chosen in mps.configured(judge):
        wrong = declared[pool.name] or _with_mig(node, chosen)
        wrong = [*wrong, *_in_the_configuration(texts[pool.name], chosen)]
        clients = max(gpu.replicas, chosen.selection.config.sharing.replicas_of(GPU) if chosen.selection.config else 1)
        most = _most_clients(node, clients)
        if most is None:
            unknown.append(
                f"{node} has no label {GPU_COMPUTE[0]}, and {clients} clients are too many below compute capability 7.5"
            )
        elif clients > most:
            wrong.append(f"{clients} clients of each GPU, and its MPS server accepts {most}")
        judge(
            node,
            ok=not wrong,
            expected="no MIG, a MIG strategy other than mixed, no time-slicing, no more clients than MPS accepts",
            actual="; ".join(wrong) or f"{clients} clients of each GPU, neither MIG nor time-slicing",
            cause="; ".join(wrong),
            hidden_because="the device plugin or the daemon ends at its next start; the node stays Ready, without GPUs",
            inspect=chosen.inspect,
        )
    if unknown:
        raise Inconclusive("; ".join(unknown))


@requirement(
    "MPS-04",
    "The MPS control daemon is Ready on every node of an MPS pool",
    level=MUST,
    sources=["device-plugin-mps", "operator-mps-daemon", "device-plugin-712", "device-plugin-1132"],
    remedy="Install by Helm or by the operator, with GPU Feature Discovery on: its label nvidia.com/mps.capable "
    "brings the daemon to the node.",
)
def test_the_control_daemon_runs_on_every_mps_node(mps: SharedNodes, facts: Facts, judge: Judge) -> None:
    daemons = mps_daemons(facts)
    nodes = mps.nodes if daemons else mps.configured(judge)
    for _, node, *_ in nodes:
        pods = [pod for pod in facts.pods_on(node.name) if not pod.finished and runs_mps_daemon(pod)]
        ready = [pod for pod in pods if pod.ready and not pod.deleting]
        not_judged = why_still_starting(node, facts, pods=pods, until=MPS_CAPABLE) if daemons and not ready else ""
        if not_judged:
            judge.pass_over(node, not_judged)
            continue
        judge(
            node,
            ok=bool(ready),
            expected="a ready pod of the MPS control daemon",
            actual=ready or pods or "no pod of the control daemon",
            cause=_why_no_daemon(node, daemons, pods),
            hidden_because="a DaemonSet with 0 desired pods is ready, and the device plugin waits for the daemon",
            inspect=(
                f"kubectl get daemonsets -A | grep mps-control-daemon; kubectl get node {node.name} -L {MPS_CAPABLE}"
            ),
        )


@requirement(
    "MPS-05",
    "The device plugin has read the current content of its MPS ConfigMap",
    level=MUST,
    sources=["operator-time-slicing"],
    remedy="Once no pod has replicas of the node, restart its device plugin and MPS control daemon: they read the "
    "ConfigMap at start only, and the clients of a daemon that ends fail.",
)
def test_the_plugin_has_read_the_current_mps_configuration(mps: SharedNodes, judge: Judge) -> None:
    judge_freshness(mps, judge)


# --- What the nodes offer ----------------------------------------------------------------------------------------


@requirement(
    "MPS-06",
    "Every node of an MPS pool offers the declared number of replicas under the declared name",
    level=MUST,
    sources=["guide-3", "device-plugin-mps"],
    remedy="Fix the configuration (MPS-01) and its selection (MPS-02), restart the device plugin, or declare it.",
)
def test_every_mps_node_offers_its_replicas(mps: SharedNodes, judge: Judge) -> None:
    judge_offers(mps, judge)


@requirement(
    "MPS-07",
    "GPU Feature Discovery labels show the declared MPS replicas and strategy",
    level=MUST,
    sources=["gpu-feature-discovery"],
    remedy="Restart GPU Feature Discovery: it reads the same ConfigMap as the device plugin, and only when it starts.",
)
def test_gpu_feature_discovery_labels_mps(mps: SharedNodes, judge: Judge) -> None:
    judge_labels(mps, judge)


# --- Pods that request replicas ----------------------------------------------------------------------------------


@requirement(
    "MPS-08",
    "As many pods as a node has MPS replicas run at once, and the next one stays Pending",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["guide-3", "device-plugin-mps"],
    remedy="Look at the log of the control daemon for rejected clients, for a policy that rewrites GPU requests, and "
    "at the events of a pod that the kubelet rejected.",
)
def test_as_many_pods_as_mps_replicas_run_and_one_more_waits(mps: SharedNodes, lab: RequirementLab) -> None:
    all_replicas_run_and_one_more_pod_waits(mps, lab)


@requirement(
    "MPS-09",
    "A pod that requests two MPS replicas runs or fails as failRequestsGreaterThanOne says",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    pods=ON_PICKED_NODES,
    sources=["device-plugin-mps", "device-plugin-config"],
    remedy="Omit failRequestsGreaterThanOne under sharing.mps, or set it as intended, and restart the device plugin.",
)
def test_asking_for_more_than_one_mps_replica_ends_as_configured(mps: SharedNodes, lab: RequirementLab) -> None:
    requests_for_several_replicas_end_as_configured(mps, lab)


def _declared_with_mig(reference: Reference, pool: Pool) -> list[str]:
    """How the set-up itself declares MPS together with MIG."""
    gpus, found = gpus_of(reference, pool), []
    if gpus is not None and gpus.mig:
        found.append(f"{pool} declares the MIG layout {pool.mig_layout}")
    if mig_strategy_of(reference, pool) is MigStrategy.MIXED:
        found.append("the set-up declares the MIG strategy mixed for it")
    return found


def _with_mig(node: Node, chosen: ChosenConfig) -> list[str]:
    """How a node has MPS together with MIG."""
    found = []
    devices = [name for name in counted(node, {}) if name.startswith(MIG_PREFIX)]
    if devices:
        found.append(f"the node offers MIG devices: {join_limited(devices)}")
    if chosen.strategy is MigStrategy.MIXED:
        setter = chosen.source if chosen.mig_strategy_override else chosen.config_name
        found.append(f"the MIG strategy in effect is mixed, as {setter} sets it")
    return found


def _problems_of_declared(mps: SharedNodes, pool: Pool) -> tuple[Problem, ...]:
    declared = mps.declared_config(pool)
    return plugin_config.parse(declared.content).problems if declared else ()


def _in_the_configuration(of_declared: tuple[Problem, ...], chosen: ChosenConfig) -> list[str]:
    """What the configurations, declared and on the cluster, enable together with MPS that excludes it."""
    problems = (*of_declared, *chosen.selection.problems)
    return list(dict.fromkeys(str(problem) for problem in problems if problem.path in EXCLUSIONS))


def _most_clients(node: Node, clients: int) -> int | None:
    """How many clients an MPS server accepts on a node; None when that matters and is unknown."""
    if clients <= MPS_MAX_REPLICAS_BEFORE_7_5 or clients > MPS_MAX_REPLICAS:
        return MPS_MAX_REPLICAS
    major, minor = (node.labels.get(label, "") for label in GPU_COMPUTE)
    if not major.isdigit():
        return None
    capability = (int(major), int(minor) if minor.isdigit() else 0)
    return MPS_MAX_REPLICAS if capability >= MPS_FULL_CAPABILITY else MPS_MAX_REPLICAS_BEFORE_7_5


def _why_no_daemon(node: Node, daemons: list[Workload], pods: list[Pod]) -> str:
    """Why a node has no Ready pod of the control daemon."""
    if pods:
        waiting = {each.waiting or each.terminated for pod in pods for each in pod.statuses if not each.ready}
        reasons = format_value(sorted(waiting - {""})) or "no reason"
        return f"{format_value(pods)} is not Ready: {reasons}"
    if not daemons:
        return "no DaemonSet of the MPS control daemon exists"
    capable = node.labels.get(MPS_CAPABLE, "absent")
    if capable != "true":
        return (
            f"label {MPS_CAPABLE} is {capable}, and the daemon runs only where GPU Feature Discovery has set it to true"
        )
    daemon = daemons[0]
    untolerated = node.untolerated(daemon.template.tolerations)
    if untolerated:
        return f"taint {format_value(untolerated)} is not tolerated by {daemon}"
    if not daemon.template.selects(node):
        return f"the node lacks labels in the nodeSelector of {daemon}: {format_value(daemon.template.node_selector)}"
    return f"{daemon} has created no pod for the node"

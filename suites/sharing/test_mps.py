"""MPS: several pods on one GPU at the same time, behind one server that keeps their memory and their threads apart.

MPS is set up in the same text as time-slicing, and it is more particular. A control daemon has to run on the node, or
the plugin offers nothing; the daemon goes only to nodes that feature discovery has labelled; it serves a limited
number of clients; and it stands beside no MIG, not even beside the MIG strategy mixed, which an operator sets for all
nodes at once. Whatever is in its way, the node stays Ready and offers no GPU.
"""

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, requirement
from conformance.facts import Container, Facts, Node, Pod, Workload
from conformance.gpu import plugin_config
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
from suites._shared.device_plugin_configs import Chosen
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import counted
from suites._shared.operand_status import excuse_of
from suites._shared.pool_nodes import GpuPoolNode
from suites._shared.replicas import all_run_and_one_more_waits, judge_labels, judge_offers, more_than_one_is
from suites._shared.shared_nodes import SharedNodes, judge_chain, judge_freshness, judge_texts, shared_pools

GUIDE = "guide part 3"
SHARING = "NVIDIA GPU Operator: Time-Slicing GPUs in Kubernetes"
PLUGIN = "NVIDIA/k8s-device-plugin: README, shared access to GPUs with CUDA MPS"
DAEMON = "NVIDIA/k8s-device-plugin: cmd/mps-control-daemon"
DISCOVERY = "NVIDIA/k8s-device-plugin: GPU Feature Discovery labels"

CAPABLE = "nvidia.com/mps.capable"
COMPUTE = ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor")
DAEMON_CONTAINERS = ("mps-control-daemon-ctr", "nvidia-device-plugin-mps-control-daemon")
"""The container of the control daemon, in the operator's asset and in the plugin's own chart, and in its manifest."""

# Where a text says that MPS is to stand beside something that it cannot: told by MPS-03 and not by MPS-01.
EXCLUSIONS = ("sharing.timeSlicing", "flags.migStrategy")


@pytest.fixture
def mps_pools(reference: Reference) -> tuple[Pool, ...]:
    """The pools whose GPUs are shared by MPS."""
    return shared_pools(reference, SharingStrategy.MPS)


@pytest.fixture
def mps(
    mps_pools: tuple[Pool, ...], gpu_pool_nodes: tuple[GpuPoolNode, ...], reference: Reference, facts: Facts
) -> SharedNodes:
    """Their nodes, and the configurations that reach them."""
    nodes = tuple(each for each in gpu_pool_nodes if each.pool in mps_pools)
    return SharedNodes(SharingStrategy.MPS, reference, facts, nodes)


# --- From the text to the node -----------------------------------------------------------------------------------


@requirement(
    "MPS-01",
    "MPS configurations are well written and mean what the pools declare",
    level=MUST,
    sources=[PLUGIN],
    remedy="Correct the text at the path that is named, then restart the device plugin: it does not watch the text.",
)
def test_mps_configurations_mean_what_is_declared(mps: SharedNodes, judge: Judge) -> None:
    judge_texts(mps, judge, left_out=EXCLUSIONS)


@requirement(
    "MPS-02",
    "Every node of an MPS pool is reached by the configuration that was meant for it",
    level=MUST,
    sources=[PLUGIN, SHARING],
    remedy="Follow the chain: devicePlugin.config.name, the ConfigMap in the operator's namespace, "
    "devicePlugin.config.default or the node's label nvidia.com/device-plugin.config, the key.",
)
def test_every_mps_node_is_reached_by_its_configuration(mps: SharedNodes, judge: Judge) -> None:
    judge_chain(mps, judge)


@requirement(
    "MPS-03",
    "MPS stands beside nothing that it cannot stand beside",
    level=MUST,
    sources=[PLUGIN, DAEMON, "NVIDIA/gpu-operator: controllers/object_controls.go, applyMIGConfiguration"],
    remedy="Keep MIG off these GPUs, leave the operator's mig.strategy empty and set flags.migStrategy in each plugin "
    "configuration instead, and stay within the number of clients.",
)
def test_mps_stands_beside_nothing_that_excludes_it(mps: SharedNodes, judge: Judge) -> None:
    unknown = []
    declared = {pool.name: _declared_beside_mig(mps.reference, pool) for pool, _ in mps.pools}
    for pool, node, gpu in mps.nodes:
        chosen = mps.configs.of(node)
        wrong = declared[pool.name] or _beside_mig(node, chosen)
        wrong = [*wrong, *_in_the_text(mps, pool, chosen)]
        clients = max(gpu.shares, chosen.selection.config.sharing.replicas_of(GPU) if chosen.selection.config else 1)
        most = _most_clients(node, clients)
        if most is None:
            unknown.append(f"{node} has no label {COMPUTE[0]}, and {clients} clients are too many below 7.5")
        elif clients > most:
            wrong.append(f"{clients} clients of each GPU, and its MPS server takes {most}")
        judge(
            node,
            ok=not wrong,
            expected="no MIG, a MIG strategy other than mixed, no time-slicing, no more clients than its server takes",
            actual="; ".join(wrong) or f"{clients} clients of each GPU, and nothing else",
            cause="; ".join(wrong),
            hidden_because="the plugin or the daemon ends when it next starts; the node stays Ready, without GPUs",
            inspect=chosen.inspect,
        )
    if unknown:
        raise Inconclusive("; ".join(unknown))


@requirement(
    "MPS-04",
    "The MPS control daemon runs on every node of an MPS pool",
    level=MUST,
    sources=[
        PLUGIN,
        "NVIDIA/gpu-operator: assets/state-mps-control-daemon",
        "NVIDIA/k8s-device-plugin issues 712, 1132",
    ],
    remedy="Install by Helm or by the operator, with GPU Feature Discovery on: its label nvidia.com/mps.capable brings "
    "the daemon to the node.",
)
def test_the_control_daemon_runs_on_every_mps_node(mps: SharedNodes, facts: Facts, judge: Judge) -> None:
    daemons = [each for each in facts.workloads if each.kind == "DaemonSet" and _is_daemon(each.template.containers)]
    for _, node, _ in mps.nodes:
        pods = [pod for pod in facts.pods_on(node.name) if not pod.finished and _is_daemon(pod.containers)]
        ready = [pod for pod in pods if pod.ready and not pod.deleting]
        excuse = excuse_of(node, facts, pods=pods, until=CAPABLE) if daemons and not ready else ""
        if excuse:
            judge.pass_over(node, excuse)
            continue
        judge(
            node,
            ok=bool(ready),
            expected="a ready pod of the MPS control daemon",
            actual=ready or pods or "no pod of the control daemon",
            cause=_why_no_daemon(node, daemons, pods),
            hidden_because="a DaemonSet that wants no pod counts as ready, and the plugin waits for the daemon",
            inspect=f"kubectl get daemonsets -A | grep mps-control-daemon; kubectl get node {node.name} -L {CAPABLE}",
        )


@requirement(
    "MPS-05",
    "The device plugin has read the MPS configuration as it stands",
    level=MUST,
    sources=[SHARING],
    remedy="Restart the device plugin and the control daemon after each change of the ConfigMap: nobody watches it.",
)
def test_the_plugin_has_read_the_mps_configuration_as_it_stands(mps: SharedNodes, judge: Judge) -> None:
    judge_freshness(mps, judge)


# --- What the nodes then offer -----------------------------------------------------------------------------------


@requirement(
    "MPS-06",
    "Every node of an MPS pool offers its GPUs times the declared shares, under the declared name",
    level=MUST,
    sources=[GUIDE, PLUGIN],
    remedy="Mend the chain (MPS-02) and the text (MPS-01), restart the device plugin, or declare what is wanted.",
)
def test_every_mps_node_offers_its_shares(mps: SharedNodes, judge: Judge) -> None:
    judge_offers(mps, judge)


@requirement(
    "MPS-07",
    "Feature discovery tells of the MPS sharing that was declared",
    level=MUST,
    sources=[DISCOVERY],
    remedy="Restart GPU Feature Discovery: it reads the same ConfigMap as the device plugin, and only when it starts.",
)
def test_feature_discovery_tells_of_mps(mps: SharedNodes, judge: Judge) -> None:
    judge_labels(mps, judge)


# --- What becomes of pods ----------------------------------------------------------------------------------------


@requirement(
    "MPS-08",
    "As many pods as a node has MPS shares run at once, and the next one waits",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[GUIDE, PLUGIN],
    remedy="Look at the log of the control daemon for clients that it turned away, for a policy that rewrites GPU "
    "requests, and at the events of a pod that the node refused.",
)
def test_as_many_pods_as_mps_shares_run_and_one_more_waits(mps: SharedNodes, lab: RequirementLab) -> None:
    all_run_and_one_more_waits(mps, lab)


@requirement(
    "MPS-09",
    "A pod that asks for more than one MPS share is refused, unless configured otherwise",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[PLUGIN, "NVIDIA/k8s-device-plugin: api/config/v1/config.go, NewConfig"],
    remedy="Leave failRequestsGreaterThanOne under sharing.mps out, or set it as it is meant, and restart the plugin.",
)
def test_asking_for_more_than_one_mps_share_ends_as_configured(mps: SharedNodes, lab: RequirementLab) -> None:
    more_than_one_is(mps, lab)


def _declared_beside_mig(reference: Reference, pool: Pool) -> list[str]:
    """In which ways the set-up itself has MPS stand beside MIG."""
    gpus, found = gpus_of(reference, pool), []
    if gpus is not None and gpus.mig:
        found.append(f"{pool} declares the MIG layout {pool.mig_layout}")
    if mig_strategy_of(reference, pool) is MigStrategy.MIXED:
        found.append("the set-up declares the MIG strategy mixed for it")
    return found


def _beside_mig(node: Node, chosen: Chosen) -> list[str]:
    """In which ways MPS would have to stand beside MIG on a node."""
    found = []
    devices = [name for name in counted(node, {}) if name.startswith(MIG_PREFIX)]
    if devices:
        found.append(f"the node offers MIG devices: {join_limited(devices)}")
    if chosen.strategy is MigStrategy.MIXED:
        setter = chosen.source if chosen.strategy_told else chosen.text
        found.append(f"the MIG strategy in effect is mixed, as {setter} sets it")
    return found


def _in_the_text(mps: SharedNodes, pool: Pool, chosen: Chosen) -> list[str]:
    """What the texts, declared and on the cluster, set beside MPS that excludes it."""
    declared = mps.declared(pool)
    problems = (*(plugin_config.parse(declared.text).problems if declared else ()), *chosen.selection.problems)
    return list(dict.fromkeys(str(problem) for problem in problems if problem.path in EXCLUSIONS))


def _most_clients(node: Node, clients: int) -> int | None:
    """How many clients an MPS server takes on a node; None when that decides and cannot be known."""
    if clients <= MPS_MAX_REPLICAS_BEFORE_7_5 or clients > MPS_MAX_REPLICAS:
        return MPS_MAX_REPLICAS
    major, minor = (node.labels.get(label, "") for label in COMPUTE)
    if not major.isdigit():
        return None
    capability = (int(major), int(minor) if minor.isdigit() else 0)
    return MPS_MAX_REPLICAS if capability >= MPS_FULL_CAPABILITY else MPS_MAX_REPLICAS_BEFORE_7_5


def _is_daemon(containers: tuple[Container, ...]) -> bool:
    return any(each.name in DAEMON_CONTAINERS for each in containers)


def _why_no_daemon(node: Node, daemons: list[Workload], pods: list[Pod]) -> str:
    """The cause between the daemon's DaemonSet and a ready pod of it on a node."""
    if pods:
        waiting = {each.waiting or each.terminated for pod in pods for each in pod.statuses if not each.ready}
        reasons = format_value(sorted(waiting - {""})) or "no reason is told"
        return f"{format_value(pods)} is there and not ready: {reasons}"
    if not daemons:
        return "no DaemonSet of the MPS control daemon exists"
    capable = node.labels.get(CAPABLE, "absent")
    if capable != "true":
        return f"label {CAPABLE} is {capable}, and the daemon goes only where feature discovery has set it to true"
    daemon = daemons[0]
    repelling = node.untolerated(daemon.template.tolerations)
    if repelling:
        return f"taint {format_value(repelling)} is not tolerated by {daemon}"
    if not daemon.template.selects(node):
        return (
            f"the node does not carry the labels that {daemon} asks for: {format_value(daemon.template.node_selector)}"
        )
    return f"{daemon} has made no pod for the node"

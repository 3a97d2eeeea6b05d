"""The shares of shared GPUs: how many a node offers, what is said of them, and what becomes of pods that want them."""

from collections.abc import Mapping
from typing import Any

from conformance.facts import Node
from conformance.gpu.plugin_config import Chain
from conformance.gpu.resources import GPU
from conformance.gpu.sharing import MigStrategy, labels
from conformance.kube.errors import WaitTimeout
from conformance.kube.waits import wait_for
from conformance.lab import LabPod, RequirementLab
from conformance.reference.expected import gpus_of, offer_of
from conformance.reference.model import Gpu, Pool
from conformance.verdict import Inconclusive, Judge, Unsupported, expect
from suites._shared.formatting import join_limited, pairs
from suites._shared.node_gpus import PRODUCT, agrees, counted, format_amounts
from suites._shared.shared_nodes import SharedNodes

REPLICAS = f"{GPU}.replicas"
STRATEGY = f"{GPU}.sharing-strategy"
SHARED_PRODUCT = "-SHARED"

NO_GPU = "it offers no GPU (POOL-04)"
"""Why a node is passed over where offers are compared."""

RUNS = "runs"
REFUSED = "Failed with UnexpectedAdmissionError"
"""How a pod ends that the kubelet had to take and the device plugin refuses."""

_MOST_PODS = 80
# A kubelet takes 110 pods if nobody says otherwise, and those of DaemonSets are among them.


def judge_offers(shared: SharedNodes, judge: Judge) -> None:
    """Judge that each node offers its GPUs times the shares, under the declared name and no other."""
    offers = {pool.name: offer_of(shared.reference, pool).resources for pool, _ in shared.pools}
    for pool, node, gpu in shared.nodes:
        expected = offers[pool.name]
        there = counted(node, expected or {})
        if expected == {}:
            continue
        if expected is None or not there:
            judge.pass_over(node, "its layout is not known (MIG-01)" if expected is None else NO_GPU)
            continue
        judge(
            node,
            ok=agrees(node, pool, expected),
            expected=f"{format_amounts(expected)}{_by_arithmetic(shared, pool, gpu)}, as {pool} declares",
            actual=format_amounts(there),
            cause=_why_the_shares_differ(shared, node, there, expected),
            hidden_because="the node is Ready and offers GPUs; only their number or their name is not the declared one",
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.capacity}}'",
        )


def _by_arithmetic(shared: SharedNodes, pool: Pool, gpu: Gpu) -> str:
    return "" if shared.is_divided(pool) else f": {gpu.count} GPUs times {gpu.shares} shares"


def _why_the_shares_differ(
    shared: SharedNodes, node: Node, there: Mapping[str, int], expected: Mapping[str, int]
) -> str:
    (name,) = expected if len(expected) == 1 else ("",)
    if name and name not in there:
        return f"the GPUs are offered as {', '.join(there)}, and {name} was declared"
    try:
        selection = shared.configs.of(node).selection
    except Inconclusive:
        selection = None
    if selection is not None and selection.outcome is not Chain.APPLIED:
        return selection.cause
    replicas = node.labels.get(REPLICAS, "")
    return f"the plugin shares each GPU {replicas} times" if replicas else "the plugin shares them in another way"


def judge_labels(shared: SharedNodes, judge: Judge) -> None:
    """Judge that feature discovery tells of the shares as they were declared."""
    if not any(PRODUCT in each.node.labels for each in shared.nodes):
        raise Unsupported(
            f"no node of these pools carries {PRODUCT}: GPU Feature Discovery does not label this cluster"
        )
    for pool, node, gpu in shared.nodes:
        if PRODUCT not in node.labels:
            judge.pass_over(node, f"no label {PRODUCT}")
            continue
        if shared.is_divided(pool):
            _judge_labels_of_profiles(shared, pool, node, judge)
            continue
        expected = {REPLICAS: str(gpu.shares), STRATEGY: shared.strategy.value}
        found = {key: node.labels[key] for key in expected if key in node.labels}
        suffix = gpu.resource == GPU
        tells = found == {key: expected[key] for key in found} and REPLICAS in found
        judge(
            node,
            ok=tells and node.labels[PRODUCT].endswith(SHARED_PRODUCT) == suffix,
            expected=f"{REPLICAS}={gpu.shares}, {STRATEGY}={shared.strategy.value} and a product "
            f"{'with' if suffix else 'without'} {SHARED_PRODUCT}, as {pool} declares",
            actual=f"{REPLICAS}={found.get(REPLICAS, 'absent')}, {STRATEGY}={found.get(STRATEGY, 'absent')}, "
            f"{PRODUCT}={node.labels[PRODUCT]}",
            cause="feature discovery runs with another configuration than was declared for the node",
            hidden_because="schedulers and quotas do not read these labels; people and affinities do",
            inspect=f"kubectl get node {node.name} -L {','.join((*expected, PRODUCT))}",
        )


def _judge_labels_of_profiles(shared: SharedNodes, pool: Pool, node: Node, judge: Judge) -> None:
    """Judge what feature discovery tells of each profile whose MIG devices are shared."""
    gpus, sharing = gpus_of(shared.reference, pool), shared.declared_sharing(pool)
    profiles = [name for name in shared.names(pool) if sharing.replicas_of(name) > 1]
    told = labels(gpus, sharing, MigStrategy.MIXED) if gpus is not None else None
    if not profiles or told is None:
        judge.pass_over(node, f"the set-up does not say how MIG devices of {pool} are shared")
        return
    for name in profiles:
        expected = {key: value for key, value in told.items() if key.rpartition(".")[0] == name}
        found = {key: node.labels[key] for key in expected if key in node.labels}
        judge(
            node.subject.only(name),
            ok=f"{name}.replicas" in found and found == {key: expected[key] for key in found},
            expected=f"{pairs(expected)}, as {pool} declares",
            actual=pairs(found) or "none of these labels",
            cause="feature discovery runs with another configuration than was declared for the node",
            hidden_because="schedulers and quotas do not read these labels; people and affinities do",
            inspect=f"kubectl get node {node.name} -L {','.join(expected)}",
        )


# --- What becomes of pods ----------------------------------------------------------------------------------------


def all_run_and_one_more_waits(shared: SharedNodes, lab: RequirementLab) -> None:
    """Claim of one idle node of each pool: as many pods run as it has shares, and the next one waits."""
    for pool, resource in _share_names(shared):
        node, shares = _spare_node(shared, lab, pool, resource)
        options: dict[str, Any] = {"gpus": 1, "resource": resource, "on": node, "tolerates": node}
        pods = lab.pods(shares, name_hint="share", **options)
        for pod in pods:
            pod.wait_until_running(because=f"{node} offers {shares} shares, one for each pod")

        one_more = lab.pod(name_hint="one-more", **options)
        one_more.stays_pending(because=f"all {shares} shares of {node} are taken")
        one_more.delete()
        pods.delete()


def more_than_one_is(shared: SharedNodes, lab: RequirementLab) -> None:
    """Claim of one idle node of each pool: a pod that asks for two shares runs or is refused, as configured."""
    for pool, resource in _share_names(shared):
        node, _ = _spare_node(shared, lab, pool, resource)
        refuses = shared.in_effect(pool, node).sharing.refuses_more_than_one
        pod = lab.pod(gpus=2, resource=resource, on=node, tolerates=node, name_hint="greedy")
        expect(_what_becomes_of(pod, lab), pod.subject.only(f"which asks for 2 {resource}")).equals(
            REFUSED if refuses else RUNS,
            because=f"failRequestsGreaterThanOne is {str(refuses).lower()} in {shared.configs.of(node).text}",
            remedy="Restart the device plugin: it goes on as the text said that it read when it started.",
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.allocatable}}'",
        )
        pod.delete()


def _share_names(shared: SharedNodes) -> list[tuple[Pool, str]]:
    """The pools, and each name under which one offers shares."""
    found = [(pool, name) for pool, gpu in shared.pools for name in shared.share_names(pool, gpu)]
    if not found:
        raise Inconclusive("the set-up does not say how the MIG devices of these pools are shared")
    return found


def _spare_node(shared: SharedNodes, lab: RequirementLab, pool: Pool, resource: str) -> tuple[Node, int]:
    """An idle node of a pool that offers all its shares of this name, and how many these are."""
    shares = (offer_of(shared.reference, pool).resources or {}).get(resource, 0)
    if not shares or shares > _MOST_PODS:
        raise Inconclusive(
            f"a node of {pool} has {shares} {resource}; a trial fills from 1 to {_MOST_PODS} shares of a node"
        )
    nodes = [node for other, node, _ in shared.nodes if other.name == pool.name]
    whole = [node for node in nodes if node.gpus(resource) == shares and node.ready and not node.unschedulable]
    if not whole:
        names = join_limited([node.name for node in nodes])
        raise Inconclusive(
            f"no node of {pool} takes pods and offers {shares} {resource} (looked at {names}); POOL-04 says why"
        )
    return lab.pick_idle(whole, 1)[0], shares


def _what_becomes_of(pod: LabPod, lab: RequirementLab) -> str:
    """``runs``, or how it failed. Raises Inconclusive for a pod that neither starts nor ends in time."""

    def status() -> dict[str, Any]:
        found = pod.read() or {}
        return dict(found.get("status") or {"phase": "gone"})

    def decided(seen: dict[str, Any]) -> bool:
        return seen.get("phase") in ("Running", "Failed", "Succeeded", "gone")

    try:
        seen = wait_for(
            status, decided, what=f"{pod} runs or is refused", timeout=lab.timeouts.running, format_seen=_phase
        )
    except WaitTimeout as error:
        raise Inconclusive(f"{error}. {pod.explain()}") from error
    return RUNS if seen["phase"] == "Running" else _phase(seen)


def _phase(status: Mapping[str, Any]) -> str:
    return " with ".join(str(status[key]) for key in ("phase", "reason") if status.get(key))

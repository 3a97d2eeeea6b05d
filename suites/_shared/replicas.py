"""The replicas of shared GPUs: how many a node offers, its labels for them, and whether pods get them."""

from collections.abc import Mapping
from typing import Any

from conformance.facts import Node
from conformance.gpu.labels import GPU_PRODUCT, NVIDIA
from conformance.gpu.plugin_config_selection import Chain
from conformance.gpu.resources import GPU
from conformance.gpu.sharing import MigStrategy, SharingStrategy, labels
from conformance.kube.errors import WaitTimeout
from conformance.kube.waits import wait_for
from conformance.lab import LabPod, RequirementLab
from conformance.reference.expected import gpus_of, offer_of
from conformance.reference.model import Gpu, Pool
from conformance.verdict import Inconclusive, Judge, Unsupported, Waits, expect
from suites._shared.formatting import join_limited, pairs
from suites._shared.node_gpus import agrees, counted, format_amounts
from suites._shared.shared_nodes import SharedNodes

REPLICAS = f"{GPU}.replicas"
STRATEGY = f"{GPU}.sharing-strategy"
SHARED_PRODUCT = "-SHARED"

NO_GPU = Waits("it offers no GPU", on="POOL-04")
"""Why the replicas of a node are not judged."""

_JUDGED_BY = {SharingStrategy.TIME_SLICING.value: "TS-04", SharingStrategy.MPS.value: "MPS-06"}
"""The requirement that the nodes of a pool offer their replicas, by what shares the GPUs."""

RUNS = "runs"
REFUSED = "Failed with UnexpectedAdmissionError"
"""How a pod ends whose allocation the device plugin rejects."""

_MOST_PODS = 80
# maxPods of a kubelet is 110 by default, pods of DaemonSets included.


def judge_offers(shared: SharedNodes, judge: Judge) -> None:
    """Judge that each node offers its GPUs times the replicas, under the declared name and no other."""
    offers = {pool.name: offer_of(shared.reference, pool).resources for pool, _ in shared.pools}
    for pool, node, gpu in shared.nodes:
        expected = offers[pool.name]
        there = counted(node, expected or {})
        if expected == {}:
            continue
        if expected is None or not there:
            judge.pass_over(node, Waits("its layout is unknown", on="MIG-01") if expected is None else NO_GPU)
            continue
        judge(
            node,
            ok=agrees(node, pool, expected),
            expected=f"{format_amounts(expected)}{_by_arithmetic(shared, pool, gpu)}, as {pool} declares",
            actual=format_amounts(there),
            cause=_why_the_replicas_differ(shared, node, there, expected),
            hidden_because="the node is Ready and offers GPUs; only their number or their name is not the declared one",
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.capacity}}'",
        )


def awaits_replicas(pool: Pool, node: Node, expected: Mapping[str, int]) -> Waits | None:
    """That a node has its GPUs and offers other replicas than declared, which TS-04 or MPS-06 judges; else None."""
    gpu = pool.gpu
    judged_by = _JUDGED_BY.get(gpu.shared_by or "") if gpu is not None and gpu.resource.startswith(NVIDIA) else None
    if judged_by is None or not counted(node, expected) or agrees(node, pool, expected):
        return None
    return Waits("it offers other replicas than declared", on=judged_by)


def _by_arithmetic(shared: SharedNodes, pool: Pool, gpu: Gpu) -> str:
    return "" if shared.is_divided(pool) else f": {gpu.count} GPUs times {gpu.replicas} replicas"


def _why_the_replicas_differ(
    shared: SharedNodes, node: Node, there: Mapping[str, int], expected: Mapping[str, int]
) -> str:
    (name,) = expected if len(expected) == 1 else ("",)
    if name and name not in there:
        return f"the GPUs are offered as {', '.join(there)}, and {name} is declared"
    try:
        selection = shared.configs.known(node).selection
    except (Inconclusive, Unsupported):
        selection = None
    if selection is not None and selection.outcome not in (Chain.APPLIED, Chain.UNKNOWN):
        return selection.cause
    replicas = node.labels.get(REPLICAS, "")
    return (
        f"the device plugin makes {replicas} replicas of each GPU"
        if replicas
        else "the device plugin shares them in another way"
    )


def judge_labels(shared: SharedNodes, judge: Judge) -> None:
    """Judge that the labels of GPU Feature Discovery are those of the declared sharing."""
    if not any(GPU_PRODUCT in each.node.labels for each in shared.nodes):
        raise Unsupported(
            f"no node of these pools carries {GPU_PRODUCT}: GPU Feature Discovery does not label this cluster"
        )
    for pool, node, gpu in shared.nodes:
        if GPU_PRODUCT not in node.labels:
            judge.pass_over(node, f"no label {GPU_PRODUCT}")
            continue
        if shared.is_divided(pool):
            _judge_labels_of_profiles(shared, pool, node, judge)
            continue
        expected = {REPLICAS: str(gpu.replicas), STRATEGY: shared.strategy.value}
        found = {key: node.labels[key] for key in expected if key in node.labels}
        suffix = gpu.resource == GPU
        agreeing = found == {key: expected[key] for key in found} and REPLICAS in found
        judge(
            node,
            ok=agreeing and node.labels[GPU_PRODUCT].endswith(SHARED_PRODUCT) == suffix,
            expected=f"{REPLICAS}={gpu.replicas}, {STRATEGY}={shared.strategy.value} and a product "
            f"{'with' if suffix else 'without'} {SHARED_PRODUCT}, as {pool} declares",
            actual=f"{REPLICAS}={found.get(REPLICAS, 'absent')}, {STRATEGY}={found.get(STRATEGY, 'absent')}, "
            f"{GPU_PRODUCT}={node.labels[GPU_PRODUCT]}",
            cause="GPU Feature Discovery runs with another configuration than is declared for the node",
            hidden_because="schedulers and quotas do not use these labels; users and node affinity do",
            inspect=f"kubectl get node {node.name} -L {','.join((*expected, GPU_PRODUCT))}",
        )


def _judge_labels_of_profiles(shared: SharedNodes, pool: Pool, node: Node, judge: Judge) -> None:
    """Judge the labels of GPU Feature Discovery for each profile whose MIG devices are shared."""
    gpus, sharing = gpus_of(shared.reference, pool), shared.declared_sharing(pool)
    profiles = [name for name in shared.names(pool) if sharing.replicas_of(name) > 1]
    declared = labels(gpus, sharing, MigStrategy.MIXED) if gpus is not None else None
    if not profiles or declared is None:
        judge.pass_over(node, f"the set-up does not declare how the MIG devices of {pool} are shared")
        return
    for name in profiles:
        expected = {key: value for key, value in declared.items() if key.rpartition(".")[0] == name}
        found = {key: node.labels[key] for key in expected if key in node.labels}
        judge(
            node.subject.only(name),
            ok=f"{name}.replicas" in found and found == {key: expected[key] for key in found},
            expected=f"{pairs(expected)}, as {pool} declares",
            actual=pairs(found) or "none of these labels",
            cause="GPU Feature Discovery runs with another configuration than is declared for the node",
            hidden_because="schedulers and quotas do not use these labels; users and node affinity do",
            inspect=f"kubectl get node {node.name} -L {','.join(expected)}",
        )


# --- Pods that request replicas ----------------------------------------------------------------------------------


def all_replicas_run_and_one_more_pod_waits(shared: SharedNodes, lab: RequirementLab) -> None:
    """Expect of an idle node of each pool: as many pods run as it has replicas, and the next one stays Pending."""
    for pool, resource in _replica_names(shared):
        node, replicas = _idle_node(shared, lab, pool, resource)
        options: dict[str, Any] = {"gpus": 1, "resource": resource, "on": node, "tolerates": node}
        pods = lab.pods(replicas, name_hint="replica", **options)
        for pod in pods:
            pod.wait_until_running(because=f"{node} offers {replicas} replicas, one for each pod")

        one_more = lab.pod(name_hint="one-more", **options)
        one_more.stays_pending(because=f"all {replicas} replicas of {node} are in use")
        one_more.delete()
        pods.delete()
        lab.let_go(node)


def requests_for_several_replicas_end_as_configured(shared: SharedNodes, lab: RequirementLab) -> None:
    """Expect of an idle node of each pool: a pod that requests two replicas runs or is refused, as configured."""
    for pool, resource in _replica_names(shared):
        node, _ = _idle_node(shared, lab, pool, resource)
        refuses = shared.in_effect(pool, node).sharing.refuses_more_than_one
        pod = lab.pod(gpus=2, resource=resource, on=node, tolerates=node, name_hint="two-replicas")
        expect(_outcome(pod, lab), pod.subject.only(f"which requests 2 {resource}")).equals(
            REFUSED if refuses else RUNS,
            because=f"failRequestsGreaterThanOne is {str(refuses).lower()} in {shared.configs.of(node).config_name}",
            remedy="Restart the device plugin: it reads its configuration only when it starts.",
            inspect=f"kubectl get node {node.name} -o jsonpath='{{.status.allocatable}}'",
        )
        pod.delete()
        lab.let_go(node)


def _replica_names(shared: SharedNodes) -> list[tuple[Pool, str]]:
    """The pools, and each resource name under which one offers replicas."""
    found = [(pool, name) for pool, gpu in shared.pools for name in shared.replica_names(pool, gpu)]
    if not found:
        raise Inconclusive("the set-up does not declare how the MIG devices of these pools are shared")
    return found


def _idle_node(shared: SharedNodes, lab: RequirementLab, pool: Pool, resource: str) -> tuple[Node, int]:
    """An idle node of a pool that offers all replicas of this name, and their number."""
    replicas = (offer_of(shared.reference, pool).resources or {}).get(resource, 0)
    if not replicas or replicas > _MOST_PODS:
        raise Inconclusive(
            f"a node of {pool} has {replicas} {resource}; the scenario fills from 1 to {_MOST_PODS} replicas of a node"
        )
    nodes = [node for other, node, _ in shared.nodes if other.name == pool.name]
    whole = [node for node in nodes if node.gpus(resource) == replicas and node.ready and not node.unschedulable]
    if not whole:
        names = join_limited([node.name for node in nodes])
        awaited = [awaits for node in nodes if (awaits := awaits_replicas(pool, node, {resource: replicas}))]
        judged_by = awaited[0].requirement if awaited else "POOL-04"
        raise Waits(f"no node of {pool} takes pods and offers {replicas} {resource} (nodes: {names})", on=judged_by)
    return lab.pick_idle(whole, 1)[0], replicas


def _outcome(pod: LabPod, lab: RequirementLab) -> str:
    """``runs``, or how it failed. Raises Inconclusive for a pod that neither starts nor ends in time."""

    def status() -> dict[str, Any]:
        found = pod.read() or {}
        return dict(found.get("status") or {"phase": "gone"})

    def is_decided(observed: dict[str, Any]) -> bool:
        return observed.get("phase") in ("Running", "Failed", "Succeeded", "gone")

    try:
        observed = wait_for(
            status, is_decided, what=f"{pod} runs or is refused", timeout=lab.timeouts.running, format_seen=_phase
        )
    except WaitTimeout as error:
        raise Inconclusive(f"{error}. {pod.explain()}") from error
    return RUNS if observed["phase"] == "Running" else _phase(observed)


def _phase(status: Mapping[str, Any]) -> str:
    return " with ".join(str(status[key]) for key in ("phase", "reason") if status.get(key))

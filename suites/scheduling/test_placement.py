"""Placement: whether the declared workloads can go where they belong, go nowhere else, and are there.

The chapter on scheduling shows that taints and affinity work; this one shows that the workloads use them. A template
without one of two tolerations runs for months, until its pod has to be placed anew. A template without affinity is on
the right nodes by luck. A wish for nodes that the same template forbids changes nothing, and a request that no node
can ever meet waits behind the word Insufficient as if somebody only had to finish.

What is judged is the workload as it is deployed, or its declared manifest where it is not.
"""

from conformance.catalog import MUST, SHOULD, requirement
from conformance.facts import Facts, Pod
from conformance.gpu.affinity import preferred_terms, unmet
from conformance.gpu.taints import Toleration, untolerated
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, format_value
from suites._shared.declared_workloads import DeclaredWorkload, lacking, why_pending
from suites._shared.formatting import join_limited
from suites._shared.pool_nodes import Members

GUIDE = "guide part 4"
TAINTS = "kubernetes.io: Taints and Tolerations"
AFFINITY = "kubernetes.io: Assigning Pods to Nodes"
GPUS = "kubernetes.io: Schedule GPUs"


@requirement(
    "SCHED-13",
    "Every declared GPU workload tolerates every taint of its pools and is confined to them",
    level=MUST,
    sources=[GUIDE, TAINTS, AFFINITY],
    remedy="Give the pod template one toleration for each taint of its pools, and a required affinity or nodeSelector "
    "on labels that only their nodes carry: one without the other is no use.",
)
def test_declared_workloads_can_go_home_and_nowhere_else(
    gpu_workloads: tuple[DeclaredWorkload, ...], facts: Facts, members: Members, judge: Judge
) -> None:
    for workload in gpu_workloads:
        refused = untolerated(workload.template.tolerations, workload.taints)
        judge(
            workload,
            ok=not refused,
            expected=f"tolerations of {format_value(workload.taints)}",
            actual=workload.template.tolerations,
            cause=f"{format_value(refused)} of {format_value(workload.pools)} is not tolerated",
            hidden_because="pods that already run stay; the first one that has to be placed anew waits for ever",
            inspect=workload.inspect,
        )
        homes = [node.name for pool in workload.pools for node in members(pool)]
        if not homes:
            raise Inconclusive(f"{format_value(workload.pools)} has no node that {workload} could be confined to")
        allowed = [node.name for node in facts.nodes if workload.template.selects(node)]
        strays = [name for name in allowed if name not in homes]
        judge(
            workload,
            ok=bool(allowed) and not strays,
            expected=f"required affinity or nodeSelector that holds on nodes of {format_value(workload.pools)} alone",
            actual=f"it holds on {join_limited(allowed) or 'no node at all'}",
            cause=f"{join_limited(strays)} may take its pods" if strays else "no node meets its required terms",
            hidden_because="the scheduler places the pods well as long as the right pool happens to score best",
            inspect=workload.inspect,
        )


@requirement(
    "SCHED-14",
    "Each preferred term can be met by a node that the required terms allow",
    level=SHOULD,
    sources=["guide part 4, whose preferred gpu-memory no inference node can have", AFFINITY],
    remedy="Drop the preference, or widen the required terms so that a preferred node is among those allowed.",
)
def test_every_wish_can_come_true(gpu_workloads: tuple[DeclaredWorkload, ...], facts: Facts, judge: Judge) -> None:
    wishes = [
        (workload, wish.term) for workload in gpu_workloads for wish in preferred_terms(workload.template.node_affinity)
    ]
    if not wishes:
        raise NotApplicable("no declared GPU workload prefers any node")
    for workload, term in wishes:
        allowed = [node for node in facts.nodes if workload.template.selects(node)]
        unmet_by = {node.name: unmet(term, node.labels, node.name) for node in allowed}
        granted = [name for name, lacks in unmet_by.items() if not lacks]
        judge(
            workload,
            ok=bool(granted),
            expected="an allowed node that meets the preferred term",
            actual=join_limited(granted) or f"none among {join_limited(list(unmet_by)) or 'no allowed node'}",
            cause=f"no allowed node has {format_value(min(unmet_by.values(), key=len, default=()))}",
            hidden_because="a preference that nothing meets changes nothing: pods run, on nodes that nobody preferred",
            inspect=workload.inspect,
        )


@requirement(
    "SCHED-15",
    "Each declared workload fits on some node of its pools",
    level=MUST,
    sources=[GUIDE, GPUS],
    remedy="Ask for no more GPUs, CPU and memory than one node has, or declare the pool whose nodes are big enough.",
)
def test_every_declared_workload_fits_a_node(
    declared_workloads: tuple[DeclaredWorkload, ...], members: Members, judge: Judge
) -> None:
    for workload in declared_workloads:
        lacks = {node.name: lacking(workload.template, node) for pool in workload.pools for node in members(pool)}
        fitting = [name for name, lack in lacks.items() if not lack]
        nearest = min(lacks, key=lambda name: len(lacks[name]), default="")
        judge(
            workload,
            ok=bool(fitting),
            expected=f"an empty node of {format_value(workload.pools)} has room for one of its pods",
            actual=join_limited(fitting) or f"none of {len(lacks)} nodes has",
            cause=f"{nearest}: {'; '.join(lacks[nearest].values())}" if nearest else "its pools are empty",
            hidden_because="'Insufficient' reads as if waiting helped; no node will ever be big enough",
            inspect=workload.inspect,
        )


@requirement(
    "SCHED-16",
    "Declared workloads run where they were declared to run",
    level=MUST,
    sources=[GUIDE],
    remedy="Follow the cause; then restart the pods that run in the wrong place.",
)
def test_declared_workloads_run_where_they_were_declared_to(
    declared_workloads: tuple[DeclaredWorkload, ...], facts: Facts, members: Members, judge: Judge
) -> None:
    for workload in declared_workloads:
        homes = tuple(node for pool in workload.pools for node in members(pool))
        pods = [] if workload.live is None else [pod for pod in facts.pods_of(workload.live) if not pod.finished]
        _judge_replicas(workload, len(pods), judge)
        for pod in pods:
            judge(
                pod,
                ok=pod.phase == "Running" and pod.node in {node.name for node in homes},
                expected=f"Running on a node of {format_value(workload.pools)}",
                actual=f"{pod.phase} on {pod.node or 'no node'}",
                cause=f"{pod.node} is in another pool" if pod.node else why_pending(pod, homes, facts),
                inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o wide",
            )


@requirement(
    "SCHED-17",
    "No ordinary pod tolerates everything",
    level=SHOULD,
    sources=["guide part 1", TAINTS],
    remedy="Replace the toleration without key by one for each taint that the pod has to pass.",
)
def test_no_ordinary_pod_tolerates_everything(ordinary_pods: tuple[Pod, ...], judge: Judge) -> None:
    masters = [pod for pod in ordinary_pods if any(_opens_every_door(each) for each in pod.tolerations)]
    for pod in masters:
        judge(
            pod,
            ok=False,
            expected="tolerations that name the taints they mean",
            actual=pod.tolerations,
            cause="operator Exists without key tolerates every taint, those of GPU nodes included",
            hidden_because="it runs anywhere, so it never fails; taints just do not hold for it",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.tolerations}}'",
        )
    others = len(ordinary_pods) - len(masters)
    if others:
        which = ObjectReference.many("Pod", f"{others} ordinary pods")
        judge(which, ok=True, expected="tolerations that name their taints", actual="only such")


def _judge_replicas(workload: DeclaredWorkload, pods: int, judge: Judge) -> None:
    """Judge that the workload is there and has as many replicas as it wants."""
    live = workload.live
    if live is None:
        judge(
            workload,
            ok=False,
            expected="deployed, as the reference set-up declares",
            actual="nothing of that name",
            cause=f"namespace {workload.declared.namespace} has no {workload}",
            inspect=workload.see_pods,
        )
        return
    wanted = 0 if workload.is_over or live.suspended else live.replicas
    judge(
        workload,
        ok=live.available >= wanted,
        expected=f"{wanted} replicas available",
        actual=f"{live.available} available, {pods} pods there",
        cause=f"{wanted - pods} pods were never created: a quota or an admission policy refuses them"
        if pods < wanted
        else f"{wanted - live.available} pods are there and not ready",
        hidden_because="the workload exists and its owner was told that it was created",
        inspect=workload.see_pods,
    )


def _opens_every_door(toleration: Toleration) -> bool:
    # With effect NoExecute alone it may stay when others must leave, but it cannot come in.
    return not toleration.key and toleration.operator == "Exists" and toleration.effect in ("", "NoSchedule")

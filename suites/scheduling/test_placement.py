"""Placement: whether the declared workloads can run on the nodes of their pools, on no others, and do.

The module on scheduling shows that taints and affinity work; this one shows that the workloads use them. A template
without one of two tolerations runs for months, until its pod has to be scheduled again. A template without affinity is
on the right nodes by chance where others have the same devices. Preferred affinity for nodes that the same template
excludes has no effect, and a request that no node can ever meet is reported as Insufficient, as if waiting helped.

The workload is judged as it is deployed, or by its declared manifest where it is not.
"""

from collections.abc import Mapping, Sequence

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Node, Pod, Workload
from conformance.gpu.affinity import preferred_terms, unmet
from conformance.gpu.taints import Taint, Toleration, repelling, seconds_tolerated, why_repelled
from conformance.reference.model import Pool, Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Judge, NotApplicable, Unsupported, Waits, format_value
from suites._shared.declared_workloads import (
    DeclaredWorkload,
    PlacedWorkload,
    is_queued,
    lacking,
    why_pending,
    without_pods,
)
from suites._shared.formatting import join_limited
from suites._shared.gpu_requests import requests_gpus
from suites._shared.kueue import OPEN_THE_QUEUE, why_nothing_is_admitted
from suites._shared.pool_nodes import Members, set_aside, without_nodes
from suites.scheduling.open_nodes import could_take

_NO_NODE = "no node matches its required terms"
_IN_ITS_POOLS = "pods on nodes of its pools, or queued"
_OF_NO_POOL = (
    "Give the node the labels of its pool again, or declare its pool (POOL-05); restart the pod only if it is to leave."
)
_HOW_TO_BRING_A_JOB_BACK = (
    "Make it again, or take it out of the set-up if it was to end: ttlSecondsAfterFinished removes a Job with its pods."
)


@requirement(
    "SCHED-13",
    "Every declared GPU workload tolerates every taint of its pools and can run on their nodes alone",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["guide-4", "k8s-taints", "k8s-affinity"],
    remedy="Give the pod template one toleration for each taint of its pools, and a required affinity or nodeSelector "
    "on labels that only their nodes carry; both are needed.",
)
def test_declared_workloads_can_run_in_their_pools_only(
    gpu_workloads: tuple[DeclaredWorkload, ...], facts: Facts, reference: Reference, members: Members, judge: Judge
) -> None:
    for workload in gpu_workloads:
        tolerations = workload.template.tolerations
        taints = workload.taints_of_its_nodes(members)
        refused = repelling(tolerations, taints)
        pool_nodes = {node.name for pool in workload.pools for node in members(pool)}
        # Where there is no node yet, what is declared to be there may fail and cannot pass.
        if refused or pool_nodes:
            judge(
                workload,
                ok=not refused,
                expected=f"tolerations of {format_value(taints)}",
                actual=tolerations,
                cause="; ".join(
                    f"{taint} of {format_value(workload.pools)} {why_repelled(tolerations, taint)}" for taint in refused
                ),
                hidden_because=_hidden_because(tolerations, refused),
                remedy=_how_to_tolerate(tolerations, refused),
                inspect=workload.inspect,
            )
        if not pool_nodes:
            set_aside(judge, workload, without_nodes(workload.pools, reference, members))
            continue
        selected = workload.template.selected(facts.nodes)
        namespace = workload.declared.namespace
        allowed = [
            node.name
            for node in selected
            if node.name in pool_nodes or could_take(node, workload.template, namespace, reference, facts)
        ]
        others = [name for name in allowed if name not in pool_nodes]
        none = "no node that matches its required terms has what it asks for" if selected else _NO_NODE
        judge(
            workload,
            ok=bool(allowed) and not others,
            expected=f"required affinity or nodeSelector that matches nodes of {format_value(workload.pools)} alone",
            actual=f"it matches {join_limited(allowed) or 'no node'}",
            cause=f"{join_limited(others)} may take its pods" if others else none,
            hidden_because="the pods are on the right nodes as long as these happen to score best",
            inspect=workload.inspect,
        )


def _hidden_because(tolerations: Sequence[Toleration], refused: Sequence[Taint]) -> str:
    if any(seconds_tolerated(tolerations, taint) for taint in refused):
        return "its pods run until the time is over, and are evicted then, again and again"
    return "running pods keep running; the first one that has to be scheduled again stays Pending"


def _how_to_tolerate(tolerations: Sequence[Toleration], refused: Sequence[Taint]) -> str:
    """What to change where every toleration is there, and some end with time; else the requirement's remedy says it."""
    ending = [taint for taint in refused if seconds_tolerated(tolerations, taint)]
    if not ending or len(ending) < len(refused):
        return ""
    return f"Take tolerationSeconds out of the tolerations of {format_value(ending)} in the pod template."


@requirement(
    "SCHED-14",
    "Every preferred node affinity term can be met by a node that the required terms allow",
    level=SHOULD,
    owner=Owner.WORKLOAD,
    sources=["guide-4", "k8s-affinity"],
    remedy="Drop the preference, or widen the required terms so that a preferred node is among those allowed.",
)
def test_every_preference_can_be_met(
    gpu_workloads: tuple[DeclaredWorkload, ...], facts: Facts, reference: Reference, members: Members, judge: Judge
) -> None:
    preferences = [
        (workload, preference.term)
        for workload in gpu_workloads
        for preference in preferred_terms(workload.template.node_affinity)
    ]
    if not preferences:
        raise NotApplicable("no declared GPU workload prefers any node")
    for workload, term in preferences:
        if not any(members(pool) for pool in workload.pools):
            set_aside(judge, workload, without_nodes(workload.pools, reference, members))
            continue
        allowed = workload.template.selected(facts.nodes)
        unmet_by = {node.name: unmet(term, node.labels, node.name) for node in allowed}
        matching = [name for name, lacks in unmet_by.items() if not lacks]
        judge(
            workload,
            ok=bool(matching),
            expected="an allowed node that meets the preferred term",
            actual=join_limited(matching) or f"none among {join_limited(list(unmet_by)) or 'no allowed node'}",
            cause=f"no allowed node has {format_value(min(unmet_by.values(), key=len, default=()))}",
            hidden_because="a preference that no node meets has no effect: pods run on other nodes",
            inspect=workload.inspect,
        )


@requirement(
    "SCHED-15",
    "Every declared workload fits on an empty node of its pools",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["guide-4", "k8s-gpus"],
    remedy="Ask for no more GPUs, CPU and memory than one node has, or declare the pool whose nodes are big enough.",
)
def test_every_declared_workload_fits_a_node(
    declared_workloads: tuple[DeclaredWorkload, ...], reference: Reference, members: Members, judge: Judge
) -> None:
    for workload in declared_workloads:
        if not any(members(pool) for pool in workload.pools):
            set_aside(judge, workload, without_nodes(workload.pools, reference, members))
            continue
        nodes = [(pool, node, lacking(workload.template, node)) for pool in workload.pools for node in members(pool)]
        if all(_lacks_its_devices_only(pool, node, lack) for pool, node, lack in nodes):
            set_aside(judge, workload, Waits("no node of its pools offers the devices that it requests", on="POOL-04"))
            continue
        lacks = {node.name: lack for _, node, lack in nodes}
        fitting = [name for name, lack in lacks.items() if not lack]
        nearest = min(lacks, key=lambda name: len(lacks[name]))
        judge(
            workload,
            ok=bool(fitting),
            expected=f"an empty node of {format_value(workload.pools)} has room for one of its pods",
            actual=join_limited(fitting) or f"none of {len(lacks)} nodes has",
            cause=f"{nearest}: {'; '.join(lacks[nearest].values())}",
            hidden_because="'Insufficient' reads as if waiting helped; no node is ever big enough",
            inspect=workload.inspect,
        )


def _lacks_its_devices_only(pool: Pool, node: Node, lack: Mapping[str, str]) -> bool:
    """Whether a node has room but for the devices that its pool declares, of which it offers none: POOL-04 says why."""
    gpu = pool.gpu
    if gpu is None or gpu.allocated_by != "device-plugin":
        return False
    return set(lack) == {gpu.resource} and not node.gpus(gpu.resource)


@requirement(
    "SCHED-16",
    "Declared workloads have all replicas available, and their pods run in the declared pools",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["guide-4"],
    remedy="Fix the cause that the finding names; then restart the pods that run in another pool.",
)
def test_declared_workloads_run_where_they_were_declared_to(
    placed_workloads: tuple[PlacedWorkload, ...], reference: Reference, facts: Facts, members: Members, judge: Judge
) -> None:
    absent, elsewhere = [], []
    for workload in placed_workloads:
        if _runs_elsewhere(workload):
            elsewhere.append(workload)
        elif workload.declared.built_in:
            _judge_replicas(workload, facts, judge)
        elif not workload.pods and workload.suspended:
            closed = next(filter(None, (_why_never_admitted(each, facts) for each in workload.suspended)), "")
            judge(
                workload,
                ok=not closed,
                expected=_IN_ITS_POOLS,
                actual=f"{format_value(workload.suspended)} is suspended",
                cause=closed,
                remedy=OPEN_THE_QUEUE,
            )
        elif not workload.pods:
            absent.append(workload)
        pool_nodes = tuple(node for pool in workload.pools for node in members(pool))
        for pod in workload.pods:
            _judge_place(pod, workload, pool_nodes, reference, facts, judge)
    if not judge.judged and elsewhere:
        raise Unsupported("; ".join(f"{each}: {_left_to_another(each)}" for each in elsewhere))
    for workload in elsewhere:
        judge.pass_over(workload, _left_to_another(workload))
    for workload in absent:
        if not judge.judged:
            raise without_pods([each.declared for each in absent])
        judge.pass_over(workload, str(without_pods([workload.declared])))


@requirement(
    "SCHED-17",
    "No ordinary pod tolerates every NoSchedule taint by operator Exists without a key",
    level=SHOULD,
    owner=Owner.WORKLOAD,
    sources=["guide-1", "k8s-taints"],
    remedy="Replace the toleration without key by one for each taint that the pod has to pass.",
)
def test_no_ordinary_pod_tolerates_everything(ordinary_pods: tuple[Pod, ...], judge: Judge) -> None:
    everywhere = [pod for pod in ordinary_pods if any(_tolerates_every_taint(each) for each in pod.tolerations)]
    for pod in everywhere:
        judge(
            pod,
            ok=False,
            expected="tolerations with the keys of their taints",
            actual=pod.tolerations,
            cause="operator Exists without key tolerates every taint, those of GPU nodes included",
            hidden_because="it runs on any node, so it never fails; taints have no effect on it",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.tolerations}}'",
        )
    others = len(ordinary_pods) - len(everywhere)
    if others:
        which = ObjectReference.many("Pod", f"{others} ordinary pods")
        judge(which, ok=True, expected="tolerations with the keys of their taints", actual="only such")


def _judge_place(
    pod: Pod, workload: PlacedWorkload, pool_nodes: tuple[Node, ...], reference: Reference, facts: Facts, judge: Judge
) -> None:
    """Judge that a pod runs in the pools of its workload; a launcher or a head without GPUs may run anywhere."""
    anywhere = (
        not workload.declared.built_in
        and not requests_gpus(pod, pod.namespace, reference, facts)
        and any(pool.gpu for pool in workload.pools)
    )
    queued = is_queued(pod)
    closed = why_nothing_is_admitted(pod.labels, pod.namespace, facts) if queued else ""
    right = pod.phase == "Running" and (anywhere or pod.node in {node.name for node in pool_nodes})
    judge(
        pod,
        ok=(queued and not closed) or right,
        expected=f"Running on a node of {format_value(workload.pools)}" if not anywhere else "Running",
        actual="queued by Kueue" if queued else f"{pod.phase} on {pod.node or 'no node'}",
        cause=closed or (_where_it_is(pod, reference, facts) if pod.node else why_pending(pod, pool_nodes, facts)),
        remedy=OPEN_THE_QUEUE if closed else _OF_NO_POOL if _is_in_no_pool(pod, reference, facts) else "",
        inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o wide",
    )


def _runs_elsewhere(workload: PlacedWorkload) -> bool:
    """Whether Kubernetes' own controller makes no pods of a Job: with MultiKueue they are in another cluster."""
    live = workload.live
    return live is not None and bool(live.managed_by) and not workload.pods and not live.suspended


def _left_to_another(workload: PlacedWorkload) -> str:
    manager = workload.live.managed_by if workload.live else ""
    return (
        f"spec.managedBy leaves it to {manager}, and no pod of it is here: with MultiKueue they are in another cluster"
    )


def _is_in_no_pool(pod: Pod, reference: Reference, facts: Facts) -> bool:
    """Whether a pod runs on a node that no declared pool selects: perhaps one that lost the label of its pool."""
    node = facts.node(pod.node) if pod.node else None
    return node is not None and reference.pool_of(node.labels) is None


def _where_it_is(pod: Pod, reference: Reference, facts: Facts) -> str:
    return f"{pod.node} is in {'no declared' if _is_in_no_pool(pod, reference, facts) else 'another'} pool"


def _judge_replicas(workload: PlacedWorkload, facts: Facts, judge: Judge) -> None:
    """Judge that the workload exists and has its desired replicas, those left out that Kueue has not admitted yet."""
    live, pods = workload.live, len(workload.pods)
    if live is None:
        judge(
            workload,
            ok=False,
            expected="deployed, as the reference set-up declares",
            actual="nothing of that name",
            cause=f"namespace {workload.declared.namespace} has no {workload}",
            remedy=_HOW_TO_BRING_A_JOB_BACK if workload.declared.kind == "Job" else "Deploy it, or declare it no more.",
            inspect=workload.inspect_pods,
        )
        return
    queued = sum(map(is_queued, workload.pods))
    # A StatefulSet makes its next pod when the one before is ready.
    closed = _why_never_admitted(live, facts) if live.suspended else ""
    waits = (live.suspended and not closed) or workload.is_over or (queued and live.kind == "StatefulSet")
    wanted = 0 if waits else max(0, live.replicas - queued)
    judge(
        workload,
        ok=live.available >= wanted,
        expected=f"{wanted} replicas available",
        actual=f"{live.available} available, {pods} pods exist{f', {queued} queued by Kueue' if queued else ''}",
        cause=closed or _why_fewer(live, wanted, pods),
        hidden_because="the workload exists and was created without an error",
        remedy=OPEN_THE_QUEUE if closed else _how_to_see_failures(live) if live.failed else "",
        inspect=workload.inspect_pods,
    )


def _why_never_admitted(suspended: Workload, facts: Facts) -> str:
    """Why a suspended workload is not admitted, where its queue admits nothing at all."""
    return why_nothing_is_admitted(suspended.labels, suspended.namespace, facts)


def _why_fewer(live: Workload, wanted: int, pods: int) -> str:
    """Why fewer pods of a workload are available than it wants; the pods of a Job that failed are no refused ones."""
    if live.conditions.get("Failed") == "True":
        return f"the Job has failed with {live.failed} failed pods, and makes no more"
    if live.failed and pods < wanted:
        return f"{live.failed} pods of the Job have failed, and it waits before it makes the next"
    if pods < wanted:
        refusal = live.refusal or "a quota or an admission policy refuses them"
        return f"{wanted - pods} pods were never created: {refusal}"
    return f"{wanted - live.available} pods exist and are not ready"


def _how_to_see_failures(live: Workload) -> str:
    why = f"kubectl logs -n {live.namespace} job/{live.name} says why its pods failed"
    return f"{why}; a Job that has failed has to be made anew."


def _tolerates_every_taint(toleration: Toleration) -> bool:
    # With effect NoExecute alone it prevents eviction, but does not permit scheduling.
    return not toleration.key and toleration.operator == "Exists" and toleration.effect in ("", "NoSchedule")

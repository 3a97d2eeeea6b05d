"""Capacity: services stay up while the nodes that are upgraded at the same time are away.

A node that is being upgraded offers nothing for minutes, and as many nodes are away at once as the policy says. A
service of which all pods are on these nodes is down unless one of its pods finds room elsewhere; that it has several
replicas does not help it then.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from conformance.catalog import SHOULD, Owner, requirement
from conformance.facts import Facts, Node, Pod
from conformance.reference.model import Reference
from conformance.verdict import Judge, NotApplicable
from suites._shared.declared_workloads import PlacedWorkload, living, placed_in
from suites._shared.formatting import join_limited
from suites._shared.free_room import FreeRoom, preempts_below
from suites._shared.gpu_requests import requests_gpus
from suites.upgrade.upgrade_groups import UpgradeGroup

_SERVICES = ("Deployment", "StatefulSet")


@requirement(
    "UPG-15",
    "Every declared GPU service with several replicas keeps a pod while the policy's number of nodes is away",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["operator-upgrades", "k8s-disruptions"],
    remedy="Spread the replicas over more nodes, free a node that takes one of them, or lower maxParallelUpgrades.",
)
def test_services_stay_up_while_nodes_are_away(
    facts: Facts, reference: Reference, groups: tuple[UpgradeGroup, ...], judge: Judge
) -> None:
    judge.without_subjects(NotApplicable("no declared service with several replicas has pods with GPUs"))
    for workload in placed_in(reference, facts):
        bound = [pod for pod in living(workload.pods) if pod.node]
        pods = [pod for pod in bound if requests_gpus(pod, pod.namespace, reference, facts)]
        if workload.declared.kind not in _SERVICES or len(pods) < 2:
            continue
        down, up = _worst(pods, groups), ""
        if down:
            up = _where_one_goes(pods[0], down, facts)
        judge(
            workload,
            ok=not down or bool(up),
            expected="a pod on a node that stays, or room for one there",
            actual=up or ("pods on more nodes than may be away at once" if not down else "neither"),
            cause=_cause(workload, pods, down) if down and not up else "",
            hidden_because="each of its pods is replaced; the new ones stay Pending until a node is back",
            inspect=workload.inspect_pods,
        )


def _worst(pods: Sequence[Pod], groups: Sequence[UpgradeGroup]) -> frozenset[str]:
    """The nodes that may be away at once and have every pod; empty where some pod stays whichever they are."""
    held = Counter(pod.node for pod in pods)
    away: set[str] = set()
    for group in groups:
        own = [node.name for node in group.nodes if node.name in held]
        away.update(sorted(own, key=lambda name: -held[name])[: group.at_once])
    return frozenset(away) if held.keys() <= away else frozenset()


def _where_one_goes(pod: Pod, away: Collection[str], facts: Facts) -> str:
    """Where a pod like this one runs meanwhile, and by what; empty where it finds no room."""
    staying: list[Node] = [node for node in facts.nodes if node.name not in away]
    node = FreeRoom(staying, facts).place(pod)
    if node is not None:
        return f"{node} has room for one"
    node = FreeRoom(staying, facts, above=preempts_below(pod)).place(pod)
    return f"one preempts pods of lower priority on {node}" if node is not None else ""


def _cause(workload: PlacedWorkload, pods: Sequence[Pod], away: Collection[str]) -> str:
    nodes = join_limited(sorted(away))
    return f"all {len(pods)} pods of {workload} are on {nodes}, and no other node has room for one"

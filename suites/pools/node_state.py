"""Whether a GPU node takes new pods: what is wrong with it by what it says itself, and what to do about that.

A node can be Ready and not cordoned and all the same take no pod: the kubelet taints it while disk, memory or process
ids run out, and network and storage agents keep their taint on it until they are ready there. Whoever put such a taint
takes it off; taken off by hand it comes back, or pods come to a node that cannot run them.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from conformance.facts import Facts, Node
from conformance.gpu.labels import SPOT
from conformance.gpu.node_health import broken_node_conditions
from conformance.gpu.node_labels import state_by_label
from conformance.gpu.taints import (
    CORDON,
    HYPERPOD_HEALTH,
    QUARANTINE,
    REPAIRED_BY_AKS,
    SCHEDULING_EFFECTS,
    SHUTDOWN,
    SKYHOOK,
    UNDER_MAINTENANCE,
    Taint,
)
from suites._shared.grace import is_recent, joined_just_now

_OF_KUBERNETES = "node.kubernetes.io/"
_TOLD_OTHERWISE = (CORDON.key, QUARANTINE, f"{_OF_KUBERNETES}not-ready", f"{_OF_KUBERNETES}unreachable")
_OUT_OF_SERVICE = f"{_OF_KUBERNETES}out-of-service"

# Who takes a taint off, and what to look at. Sources: kubernetes.io, Node-pressure Eviction; Cloud Controller Manager;
# kubernetes-sigs/karpenter, pkg/apis/v1/taints.go; kubernetes-sigs/cluster-api, api/core/v1beta2/common_types.go;
# medik8s/node-maintenance-operator, README; of the others as in conformance/gpu/taints.py.
_WHO_LIFTS_IT = {
    f"{_OF_KUBERNETES}disk-pressure": "Free space on the node's disk; the kubelet",
    f"{_OF_KUBERNETES}memory-pressure": "Find what uses the node's memory; the kubelet",
    f"{_OF_KUBERNETES}pid-pressure": "Find what uses the node's process ids; the kubelet",
    f"{_OF_KUBERNETES}network-unavailable": "Look at the network plugin's pod on the node; it",
    "node.cloudprovider.kubernetes.io/uninitialized": "Look at the cloud controller manager; it",
    SHUTDOWN: "Start the machine again; the cloud controller",
    "karpenter.sh/unregistered": "Look at the conditions of the node's NodeClaim; Karpenter",
    "karpenter.sh/rebooting": "Look at the conditions of the node's NodeClaim; Karpenter",
    "node.cluster.x-k8s.io/uninitialized": "Look at the conditions of the node's Machine; Cluster API",
    **dict.fromkeys(
        UNDER_MAINTENANCE,
        "Delete the NodeMaintenance of the node once the work on it is done; the node maintenance operator",
    ),
    **dict.fromkeys(
        REPAIRED_BY_AKS,
        "Look at the events of the node (AKS node auto-repair and auto-drain); AKS",
    ),
    HYPERPOD_HEALTH: "Look at the instance in SageMaker HyperPod; it",
    SKYHOOK: "Look at the Skyhook resources that select the node; the Skyhook operator",
}
# kubernetes-sigs/karpenter: pkg/apis/v1/labels.go.
_REGISTERED, _INITIALIZED = "karpenter.sh/registered", "karpenter.sh/initialized"
_OF_READINESS_RULES = "readiness.k8s.io/"
_OF_AUTOSCALER = "ToBeDeletedByClusterAutoscaler"
# It evicts for at most 10 minutes (--max-graceful-termination-sec) and takes the taint off where it gives up.
# kubernetes/autoscaler: cluster-autoscaler/utils/taints/taints.go (the value), FAQ (the flag).
_AUTOSCALER_TAKES = timedelta(minutes=30)
# Deep health checks of HyperPod take about two hours.
_TESTS_TAKE = timedelta(days=1)
# Spot and maintenance notices end within the hour; Karpenter drains for as long as terminationGracePeriod allows.
_REMOVAL_TAKES = timedelta(days=1)


class NodeProblem(NamedTuple):
    """Why a node takes no new pods although it is Ready and not cordoned, and what to do; empty where it takes them."""

    seen: str = ""
    cause: str = ""
    remedy: str = ""

    def __bool__(self) -> bool:
        return bool(self.seen)


def problem_of(node: Node, facts: Facts) -> NodeProblem:
    """What keeps new pods off a node beside a cordon and what its GPUs are; of taints, those that are not new."""
    if node.deletion is not None and not _may_still_drain(node, node.deletion, facts):
        return NodeProblem(
            f"deleted at {node.deletion:%Y-%m-%d %H:%M} and still there",
            "it is being deleted, and a finalizer keeps it; its pods are gone or will be",
            "Look at what keeps its pods (disruption budgets, karpenter.sh/do-not-disrupt) and at whoever has put the "
            f"finalizer: kubectl get node {node.name} -o jsonpath='{{.metadata.finalizers}}'. One that is taken off "
            "by hand leaves the machine behind.",
        )
    if broken := broken_node_conditions(node.conditions):
        return NodeProblem(
            " and ".join(broken),
            f"a health agent has set {', '.join(broken)}",
            f"Repair, reboot or replace the node; the health agent that set {broken[0]} takes it back then.",
        )
    if (labelled := state_by_label(node.labels)) and labelled.remedy:
        return NodeProblem(labelled.label, labelled.means, labelled.remedy)
    if not node.ready:  # Which says enough; what it is tainted with mostly follows from that.
        return _shut_down(node) if _is_shut_down(node) else NodeProblem()
    holding = [taint for taint in node.taints if _holds(taint, node, facts)]
    return _held_by(holding[0], node) if holding else NodeProblem()


def why_not_initialized(node: Node, declared: Collection[Taint], facts: Facts) -> NodeProblem:
    """What keeps Karpenter from initializing a node that has joined long ago, where a taint that is not declared does.

    A node that offers less than its NodeClaim asks for is not initialized either, and POOL-04 says so. Karpenter
    neither replaces nor consolidates such a node, and makes no other one for the pods that wait for it.
    kubernetes-sigs/karpenter: pkg/controllers/nodeclaim/lifecycle/initialization.go, issue 2187; karpenter.sh:
    NodePools, startupTaints.
    """
    labels = node.labels
    if labels.get(_REGISTERED) != "true" or labels.get(_INITIALIZED) == "true" or joined_just_now(node, facts):
        return NodeProblem()
    left = [each for each in node.lasting_taints if each.effect in SCHEDULING_EFFECTS and each not in declared]
    if not left:
        return NodeProblem()
    named = " and ".join(map(str, left))
    return NodeProblem(
        f"{named}, not initialized by Karpenter",
        f"{named} keeps new pods away: Karpenter has not initialized the node, for which its startup taints have to go",
        f"Look at whoever is to take {left[0].key} off when the node has started, and at condition Initialized of its "
        "NodeClaim; where the taint is to stay, it belongs under taints of the NodePool, not startupTaints.",
    )


def removal_of(node: Node, facts: Facts) -> str:
    """What says that a node is on its way out, as text; empty where nothing does, or where that was long ago."""
    if node.deletion is not None:
        return "it is being deleted" if _may_still_drain(node, node.deletion, facts) else ""
    announced = next((taint for taint in node.taints if taint.announces_removal), None)
    if announced is None or _is_overdue(announced, node, facts):
        return ""
    return f"it is about to be removed ({announced})"


def why_taken_back(node: Node) -> str:
    """That the cloud took back the machine of a spot node, as text; empty for any other.

    AKS keeps the Node of a deallocated spot instance (learn.microsoft.com: AKS, Add a spot node pool, eviction policy).
    """
    is_spot = _is_shut_down(node) and any(node.labels.get(key) == value for key, value in SPOT)
    return "the cloud took its machine back: a spot node that is shut down" if is_spot else ""


def _is_shut_down(node: Node) -> bool:
    return not node.ready and any(taint.key == SHUTDOWN for taint in node.taints)


def _shut_down(node: Node) -> NodeProblem:
    return NodeProblem(
        "its machine is shut down",
        f"the cloud says that the machine of {node.name} is shut down ({SHUTDOWN})",
        "Start the machine again, or have its group replace it; where it is not to come back, delete the Node object.",
    )


def why_under_test(node: Node, facts: Facts) -> str:
    """The test that its platform runs on a node, which takes no pods meanwhile, as text; empty without one."""
    labelled = state_by_label(node.labels)
    if labelled is None or labelled.remedy:
        return ""
    began = node.tainted.get(labelled.label.partition("=")[0])
    is_overdue = began is not None and facts.taken_at - began > _TESTS_TAKE
    return "" if is_overdue else f"{labelled.means} ({labelled.label})"


def _may_still_drain(node: Node, deleted: datetime, facts: Facts) -> bool:
    """Whether the pods of a node that was deleted may still be ending, each within its own grace period."""
    longest = max((pod.grace_seconds or 0 for pod in facts.pods_on(node.name) if not pod.finished), default=0)
    return is_recent(deleted + timedelta(seconds=longest), facts.taken_at)


def _is_overdue(taint: Taint, node: Node, facts: Facts) -> bool:
    """Whether a node that was announced to go is still there when it ought to be gone; unknown without a time."""
    since = announced_at(taint, node)
    longest = _AUTOSCALER_TAKES if taint.key == _OF_AUTOSCALER else _REMOVAL_TAKES
    return since is not None and facts.taken_at - since > longest


def announced_at(taint: Taint, node: Node) -> datetime | None:
    """When a taint was put: ``timeAdded``, or the seconds since 1970 that are the value of the cluster autoscaler's."""
    if taint.key == _OF_AUTOSCALER and taint.value.isdigit():
        return datetime.fromtimestamp(int(taint.value), tz=UTC)
    return node.tainted.get(taint.key)


def _holds(taint: Taint, node: Node, facts: Facts) -> bool:
    """Whether a taint that is there for a while has been there for long."""
    if not taint.is_lifecycle or taint.effect not in SCHEDULING_EFFECTS:
        return False
    if taint.announces_removal:
        return _is_overdue(taint, node, facts)
    if taint.key in _TOLD_OTHERWISE or joined_just_now(node, facts):
        return False
    return not is_recent(node.tainted.get(taint.key), facts.taken_at)


def _why_it_stays(taint: Taint) -> str:
    if taint.key == _OF_AUTOSCALER:
        return "the log of the cluster autoscaler, or whether it still runs"
    return "disruption budgets, karpenter.sh/do-not-disrupt, pods that do not end"


def _held_by(taint: Taint, node: Node) -> NodeProblem:
    put = announced_at(taint, node)
    since = f" since {put:%Y-%m-%d %H:%M}" if put is not None else ""
    cause = f"{taint} keeps new pods away{since}"
    if taint.announces_removal:
        return NodeProblem(
            str(taint),
            cause,
            f"Look at what keeps the node, which was to be removed: {_why_it_stays(taint)}. Only where nobody removes "
            f"it any more: kubectl taint node {node.name} {taint.key}-",
        )
    if taint.key == _OUT_OF_SERVICE:
        back = f"The node is Ready again: kubectl taint node {node.name} {taint.key}- once nobody works on it"
        return NodeProblem(str(taint), cause, back)
    who = _WHO_LIFTS_IT.get(taint.key, f"Look at the pods on {node.name} of whoever put {taint.key}; it")
    if taint.key.startswith(_OF_READINESS_RULES):
        who = "Look at the conditions that its NodeReadinessRule asks of the node; the node readiness controller"
    return NodeProblem(str(taint), cause, f"{who} takes the taint off when that is well. Do not take it off by hand.")

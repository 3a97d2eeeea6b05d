"""Whether a GPU node takes new pods: what is wrong with it by what it says itself, and what to do about that.

A node can be Ready and not cordoned and all the same take no pod: the kubelet taints it while disk, memory or process
ids run out, and network and storage agents keep their taint on it until they are ready there. Whoever put such a taint
takes it off; taken off by hand it comes back, or pods come to a node that cannot run them.
"""

from typing import NamedTuple

from conformance.facts import Facts, Node
from conformance.gpu.node_health import broken_node_conditions
from conformance.gpu.taints import CORDON, QUARANTINE, SCHEDULING_EFFECTS, Taint
from suites._shared.grace import is_recent, joined_just_now

_OF_KUBERNETES = "node.kubernetes.io/"
_TOLD_OTHERWISE = (CORDON.key, QUARANTINE, f"{_OF_KUBERNETES}not-ready", f"{_OF_KUBERNETES}unreachable")
_OUT_OF_SERVICE = f"{_OF_KUBERNETES}out-of-service"

# Who takes a taint off, and what to look at. Sources: kubernetes.io, Node-pressure Eviction; Cloud Controller Manager;
# kubernetes-sigs/karpenter, pkg/apis/v1/taints.go; kubernetes-sigs/cluster-api, api/core/v1beta2/common_types.go.
_WHO_LIFTS_IT = {
    f"{_OF_KUBERNETES}disk-pressure": "Free space on the node's disk; the kubelet",
    f"{_OF_KUBERNETES}memory-pressure": "Find what uses the node's memory; the kubelet",
    f"{_OF_KUBERNETES}pid-pressure": "Find what uses the node's process ids; the kubelet",
    f"{_OF_KUBERNETES}network-unavailable": "Look at the network plugin's pod on the node; it",
    "node.cloudprovider.kubernetes.io/uninitialized": "Look at the cloud controller manager; it",
    "node.cloudprovider.kubernetes.io/shutdown": "Start the machine again; the cloud controller",
    "karpenter.sh/unregistered": "Look at the conditions of the node's NodeClaim; Karpenter",
    "karpenter.sh/rebooting": "Look at the conditions of the node's NodeClaim; Karpenter",
    "node.cluster.x-k8s.io/uninitialized": "Look at the conditions of the node's Machine; Cluster API",
}


class NodeProblem(NamedTuple):
    """Why a node takes no new pods although it is Ready and not cordoned, and what to do; empty where it takes them."""

    seen: str = ""
    cause: str = ""
    remedy: str = ""

    def __bool__(self) -> bool:
        return bool(self.seen)


def problem_of(node: Node, facts: Facts) -> NodeProblem:
    """What keeps new pods off a node beside a cordon and what its GPUs are; of taints, those that are not new."""
    if node.deletion is not None and not is_recent(node.deletion, facts.taken_at):
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
    if not node.ready:
        return NodeProblem()  # Which says enough; what it is tainted with follows from that.
    holding = [taint for taint in node.taints if _holds(taint, node, facts)]
    return _held_by(holding[0], node) if holding else NodeProblem()


def removal_of(node: Node, facts: Facts) -> str:
    """What says that a node is on its way out, as text; empty where nothing does, or where that was long ago."""
    if node.deletion is not None:
        return "it is being deleted" if is_recent(node.deletion, facts.taken_at) else ""
    announced = next((taint for taint in node.taints if taint.announces_removal), None)
    return f"it is about to be removed ({announced})" if announced else ""


def _holds(taint: Taint, node: Node, facts: Facts) -> bool:
    """Whether a taint that is there for a while has been there for long."""
    if not taint.is_lifecycle or taint.effect not in SCHEDULING_EFFECTS or taint.announces_removal:
        return False
    if taint.key in _TOLD_OTHERWISE or joined_just_now(node, facts):
        return False
    return not is_recent(node.tainted.get(taint.key), facts.taken_at)


def _held_by(taint: Taint, node: Node) -> NodeProblem:
    since = f" since {node.tainted[taint.key]:%Y-%m-%d %H:%M}" if taint.key in node.tainted else ""
    cause = f"{taint} keeps new pods away{since}"
    if taint.key == _OUT_OF_SERVICE:
        back = f"The node is Ready again: kubectl taint node {node.name} {taint.key}- once nobody works on it"
        return NodeProblem(str(taint), cause, back)
    who = _WHO_LIFTS_IT.get(taint.key, f"Look at the pods on {node.name} of whoever put {taint.key}; it")
    return NodeProblem(str(taint), cause, f"{who} takes the taint off when that is well. Do not take it off by hand.")

"""What taints say that come and go with the state of a node, and when they go: for these no pod needs a toleration.

Sources: kubernetes.io, Taints and Tolerations (taint based evictions) and Cloud Controller Manager Administration;
docs.cilium.io, Taint Effects; the READMEs of the CSI drivers of EBS, EFS, FSx and S3; karpenter.sh, Disruption and
NodePools; kubernetes/autoscaler, cluster-autoscaler FAQ; aws-node-termination-handler and k8s-node-termination-handler;
medik8s/node-maintenance-operator; Azure/AKS, CHANGELOG.md; docs.aws.amazon.com, SageMaker HyperPod; NVIDIA/skyhook.
"""

from typing import NamedTuple

from conformance.gpu.taints import HYPERPOD_HEALTH, REPAIRED_BY_AKS, SHUTDOWN, SKYHOOK, UNDER_MAINTENANCE, Taint


class State(NamedTuple):
    """What a taint says of its node, and what to do; ``{node}`` stands for its name."""

    means: str
    remedy: str


_STARTING = "The taint goes when that has started on node {node}: see why its pod there does not, if it stays."
_PRESSURE = "The kubelet of node {node} takes the taint away when there is room again: see what uses it up there."
_LEAVING = State(
    "the node is about to be removed",
    "Wait for another node, or add one: node {node} is being removed, and pods that tolerate the taint end with it.",
)
_STATES = {
    "node.kubernetes.io/disk-pressure": State("its disk is nearly full", _PRESSURE),
    "node.kubernetes.io/memory-pressure": State("its memory is nearly used up", _PRESSURE),
    "node.kubernetes.io/pid-pressure": State("it can hardly start another process", _PRESSURE),
    "node.kubernetes.io/network-unavailable": State("its network is not set up", _STARTING),
    "node.cloudprovider.kubernetes.io/uninitialized": State(
        "the cloud's controller has not taken it up",
        "The taint goes when the cloud controller manager has started to look after node {node}: see whether it runs.",
    ),
    SHUTDOWN: State("its machine is shut down", "Start the machine of node {node}, or remove its Node object."),
    **dict.fromkeys(
        UNDER_MAINTENANCE,
        State(
            "it is under maintenance",
            "The taint goes when the NodeMaintenance of node {node} is deleted, once the work on it is done.",
        ),
    ),
    **dict.fromkeys(
        REPAIRED_BY_AKS,
        State("AKS is repairing it, or drains it before an event of the platform", "Wait until AKS has ended that."),
    ),
    HYPERPOD_HEALTH: State(
        "HyperPod tests it, or holds it to be broken",
        "HyperPod takes the taint away from node {node} when that has passed its health checks: see its label "
        f"{HYPERPOD_HEALTH}.",
    ),
    SKYHOOK: State("the packages of Skyhook are not installed yet", _STARTING),
    "karpenter.sh/unregistered": State(
        "Karpenter has not registered it yet",
        "The taint goes when node {node} has started and joined; see its NodeClaim.",
    ),
}
_AGENT = "/agent-not-ready"


def state_of(taint: Taint) -> State | None:
    """What is known of a taint of this sort, None of others."""
    if taint.announces_removal:
        return _LEAVING
    if taint.key.endswith(_AGENT):
        return State(f"its agent of {taint.key.removesuffix(_AGENT)} is not ready", _STARTING)
    return _STATES.get(taint.key)

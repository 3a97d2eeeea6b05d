"""Pods that nobody may schedule yet: gates, and the queues that set them."""

from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.seen import Seen
from conformance.gpu.placement import Manifest

# By the beginning of a gate's name: who opens it, and where it says for what it waits.
# kueue: pkg/controller/constants (kueue.x-k8s.io/admission, kueue.x-k8s.io/topology).
_OPENERS = {
    "kueue.x-k8s.io/": ("Kueue", "kubectl get workloads.kueue.x-k8s.io -n {namespace} says for which quota it waits."),
}


def held_back(_: Seen, pod: Manifest) -> Explanation | None:
    """The explanation of a pod with scheduling gates, None for others."""
    gates = [str(gate["name"]) for gate in pod["spec"].get("schedulingGates") or ()]
    if not gates or pod["spec"].get("nodeName"):
        return None
    named = f"scheduling gate{'s' if len(gates) > 1 else ''} {', '.join(gates)}"
    for start, (who, how) in _OPENERS.items():
        if any(gate.startswith(start) for gate in gates):
            cause = f"it is queued: {who} has not opened the {named}, and no scheduler looks at it before"
            remedy = f"Nothing is broken. {how.format(namespace=pod['metadata'].get('namespace'))}"
            return Explanation(subject="", stage=Stage.QUEUED, cause=cause, remedy=remedy)
    return Explanation(
        subject="",
        stage=Stage.QUEUED,
        cause=f"the {named} is still there, and no scheduler looks at it before it has gone",
        remedy="Look for the controller that set the gate: it takes it away when the pod may be scheduled.",
    )

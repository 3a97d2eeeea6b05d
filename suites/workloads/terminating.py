"""Why a pod that was deleted is still there, and what helps: a process, a finalizer, or a node that does not answer.

Only the first of them is about a GPU. Restarting a node helps a process that hangs on a device that does not answer; it
takes the GPUs of all other pods there for nothing where a controller has not removed its finalizer.
Sources: kubernetes.io: Pod Lifecycle (termination), Finalizers, and Node Shutdowns (non-graceful node shutdown);
NVIDIA/nvidia-docker issue 1553.
"""

from typing import NamedTuple

from conformance.facts import Facts, Pod
from suites._shared.formatting import join_limited


class WhyTerminating(NamedTuple):
    """Why a deleted pod stays, and what helps; ``remedy`` is empty where the requirement's own says it."""

    cause: str
    remedy: str = ""
    hidden_because: str = "its devices stay allocated and nothing reports it"


def why_terminating(pod: Pod, facts: Facts) -> WhyTerminating:
    """Why a pod is still Terminating that should have been deleted."""
    if pod.finalizers and (pod.finished or not pod.node):
        return _held_by_a_finalizer(pod)
    node = facts.node(pod.node) if pod.node else None
    if pod.node and node is None:
        return WhyTerminating(
            f"its node {pod.node} is not in the cluster any more, and only its kubelet could confirm that its "
            "containers ended",
            "Kubernetes deletes pods of nodes that are gone (pod garbage collection of kube-controller-manager): see "
            "whether that runs. Once the machine is off for sure, the pod may be deleted by force.",
        )
    if node is not None and not node.ready:
        return WhyTerminating(
            f"{node} is not Ready, and only its kubelet confirms that the containers of a pod ended",
            "Bring the node back (POOL-10), or remove its Node object once the machine is off for sure: only then is "
            "it safe that nothing of the pod runs.",
        )
    return WhyTerminating(f"its kubelet on {pod.node or 'no node'} has not confirmed that its containers ended")


def _held_by_a_finalizer(pod: Pod) -> WhyTerminating:
    names = join_limited(pod.finalizers)
    ended = f"all its containers have ended ({pod.phase})" if pod.finished else "it never came to a node"
    return WhyTerminating(
        f"{ended}, and it waits for the finalizer {names}",
        f"See whether the controller that sets {names} runs, and why it does not remove it; removing it by hand skips "
        "what that controller has to do. This is neither of the node nor of its GPUs.",
        "no GPU is held any more; the pod's owner, and the deletion of its namespace, wait for it",
    )

"""Whose a pod is: the owners', the platform's, or the GPU stack's.

What the platform and the stack run tolerates every taint and may be privileged, because it must; it is not the owners'
to change. A DaemonSet is an agent of its nodes, but one in the namespace of a declared team is the team's.
"""

from functools import lru_cache

from conformance.facts import Facts, Pod
from conformance.reference.model import Reference
from conformance.reference.platform import platform_of_namespace

# Controllers that place a new pod elsewhere when one goes. Whatever else makes pods binds them to their node.
_REPLACED_ELSEWHERE = ("ReplicaSet", "StatefulSet", "Job", "ReplicationController")


def platform_of(pod: Pod, reference: Reference, facts: Facts) -> str:
    """The platform, or the GPU stack, that a pod belongs to; empty for the owners' pods."""
    return _platform_in(pod.namespace, reference, facts)


def is_node_agent(pod: Pod) -> bool:
    """Whether a pod belongs to its node: of a DaemonSet, of the kubelet, or of a controller that binds it there."""
    return pod.static or pod.owner_kind == "DaemonSet" or pod.owner_kind not in ("", *_REPLACED_ELSEWHERE)


def is_of_owners(pod: Pod, reference: Reference, facts: Facts) -> bool:
    """Whether a pod is the owners'; a DaemonSet's only in the namespace of a declared team."""
    if pod.static or platform_of(pod, reference, facts):
        return False
    return pod.owner_kind != "DaemonSet" or reference.team(pod.namespace) is not None


@lru_cache(maxsize=1)
def pods_of_owners(facts: Facts, reference: Reference) -> tuple[Pod, ...]:
    """The unfinished pods of the owners. Several requirements ask; a run has one set of facts and one reference."""
    return tuple(pod for pod in facts.pods if not pod.finished and is_of_owners(pod, reference, facts))


# Asked for each of thousands of pods, which are in few namespaces.
@lru_cache(maxsize=4096)
def _platform_in(namespace: str, reference: Reference, facts: Facts) -> str:
    if namespace in facts.stack_namespaces and reference.team(namespace) is None:
        return "the GPU stack"
    return platform_of_namespace(namespace, reference)

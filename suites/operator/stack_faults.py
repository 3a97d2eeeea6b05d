"""What is wrong with the stack as a whole: more than one, half of one, or another one than declared."""

from collections.abc import Iterator

from conformance.facts import Facts
from conformance.gpu.operator_stack import Fault, Finding, Stack
from conformance.reference.model import Reference
from conformance.reference.stack import Stack as DeclaredStack
from conformance.subjects import ObjectReference

WHY_IT_HIDES = {
    Fault.BOTH_ROOTS: "each object looks right by itself, and operands that were deployed before go on running",
    Fault.IGNORED: "the object is accepted and can be edited; nobody ever reads it",
    Fault.WRONG_NAME: "the object exists, and an object without status looks like one that is not finished yet",
    Fault.NO_ROOT_OBJECT: "the operator's pod is Running; it has nothing to do",
    Fault.NO_OPERATOR: "the object still says what it said when an operator last wrote it",
    Fault.NO_CRD: "the operator's pod is Running; it has nothing to look at",
    Fault.OPERATOR_DOWN: "operands go on running, and the object still says ready: only the next change is not made",
    Fault.DRIVER_NOT_USED: "the object is accepted, and a driver is there: that of the ClusterPolicy",
    Fault.DRIVER_MISSING: "the operator waits; nothing is in an error state",
    Fault.TWO_PLUGINS: "both register the same resource, and the kubelet keeps whichever came last",
    Fault.TWO_ALLOCATORS: "each of the two works; both give away the same device",
}
"""Why nobody notices a fault by itself."""

_DETECTED = {
    "device-plugin": (Stack.DEVICE_PLUGIN,),
    "dra-driver": (Stack.DRA_DRIVER,),
}
_ON_ONE_NODE = (Fault.TWO_PLUGINS, Fault.TWO_ALLOCATORS)


def expected_stacks(stack: DeclaredStack, reference: Reference) -> tuple[Stack, ...]:
    """The stacks that the declaration stands for. GPUs that only DRA allocates need no ClusterPolicy."""
    if stack.kind != "gpu-operator":
        return _DETECTED[stack.kind]
    said = (stack.values.get("gpuCluster") or {}).get("deployCR")
    only_dra = all(pool.gpu is not None and pool.gpu.allocated_by == "dra" for pool in reference.gpu_pools)
    if said is True or (only_dra and reference.gpu_pools and stack.dra is None and said is None):
        return (Stack.GPU_CLUSTER,)
    return (Stack.CLUSTER_POLICY,)


def is_outside_kubernetes(stack: DeclaredStack, facts: Facts) -> bool:
    """Whether a device plugin is declared that no object shows, and nodes offer GPUs: the node image runs it."""
    offering = any(node.gpus(name) for node in facts.nodes for name in node.gpu_resources)
    return stack.kind == "device-plugin" and facts.stack.stack is Stack.NONE and offering


def faults_of(stack: DeclaredStack, facts: Facts) -> Iterator[Finding]:
    """What is wrong with the stack of the cluster.

    CRDs that an operator left behind hurt nobody where none is declared (Helm never deletes CRDs), and two that
    offer GPUs only meet on nodes where both run.
    """
    for found in facts.stack.findings:
        if found.fault is Fault.NO_ROOT_OBJECT and stack.kind != "gpu-operator" and not facts.stack.operators:
            continue
        if found.fault in _ON_ONE_NODE and not _meets_another(found.subject.place, facts):
            continue
        yield found


def subject_of_fault(fault: Finding) -> ObjectReference:
    """The object that a fault is about, as a subject."""
    about = fault.subject
    return ObjectReference.of(about.kind, about.name, namespace=about.namespace, text=str(about))


def _meets_another(place: str, facts: Facts) -> bool:
    """Whether a DaemonSet has pods on a node on which another one offers GPUs as well."""
    others = {*facts.stack.device_plugins, *facts.stack.dra_drivers} - {place}
    elsewhere = {node for other in others for node in _nodes_of(other, facts)}
    return bool(_nodes_of(place, facts) & elsewhere)


def _nodes_of(place: str, facts: Facts) -> set[str]:
    namespace, _, name = place.partition("/")
    owned = (pod for pod in facts.pods_in(namespace) if (pod.owner_kind, pod.owner_name) == ("DaemonSet", name))
    return {pod.node for pod in owned if pod.node}

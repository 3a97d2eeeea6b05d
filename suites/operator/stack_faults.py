"""Faults of the stack as a whole: more than one, an incomplete one, or another one than declared."""

from collections.abc import Iterator

from conformance.facts import Facts
from conformance.gpu.operator_stack import Fault, Finding, StackKind
from conformance.reference.model import Reference
from conformance.reference.stack import Stack as DeclaredStack
from conformance.subjects import ObjectReference

HIDDEN_BECAUSE = {
    Fault.TWO_OPERATOR_RESOURCES: "each object looks right by itself, and operands deployed before keep running",
    Fault.IGNORED: "the object is accepted and can be edited; no operator reconciles it",
    Fault.WRONG_NAME: "the object exists, and an object without status looks like one that is still being reconciled",
    Fault.NO_OPERATOR_RESOURCE: "the operator's pod is Running; it has nothing to reconcile",
    Fault.NO_OPERATOR: "the object still has the status that an operator last wrote",
    Fault.NO_CRD: "the operator's pod is Running; it has nothing to watch",
    Fault.OPERATOR_DOWN: "operands keep running, and the status is still ready: only the next change is not made",
    Fault.DRIVER_NOT_USED: "the object is accepted, and a driver is installed: that of the ClusterPolicy",
    Fault.DRIVER_MISSING: "the operator waits; no object is in an error state",
    Fault.TWO_PLUGINS: "both register the same resource, and the kubelet uses the last one registered",
    Fault.TWO_DRA_DRIVERS: "the pods of both run, and the kubelet uses the one that registered last",
    Fault.TWO_ALLOCATORS: "each of the two works; both allocate the same device",
}
"""Why each fault is easily overlooked."""

_DETECTED = {
    "device-plugin": (StackKind.DEVICE_PLUGIN,),
    "dra-driver": (StackKind.DRA_DRIVER,),
}
_ON_ONE_NODE = (Fault.TWO_PLUGINS, Fault.TWO_DRA_DRIVERS, Fault.TWO_ALLOCATORS)


def expected_stacks(stack: DeclaredStack, reference: Reference) -> tuple[StackKind, ...]:
    """The stacks that the declaration allows. GPUs that only DRA allocates need no ClusterPolicy."""
    only_dra = all(pool.gpu is not None and pool.gpu.allocated_by == "dra" for pool in reference.gpu_pools)
    if stack.kind == "simulated-plugin":
        return _DETECTED["dra-driver" if only_dra and reference.gpu_pools else "device-plugin"]
    if stack.kind != "gpu-operator":
        return _DETECTED[stack.kind]
    deploy_cr = (stack.values.get("gpuCluster") or {}).get("deployCR")
    if deploy_cr is True or (only_dra and reference.gpu_pools and stack.dra is None and deploy_cr is None):
        return (StackKind.GPU_CLUSTER,)
    return (StackKind.CLUSTER_POLICY,)


def faults_of(stack: DeclaredStack, facts: Facts) -> Iterator[Finding]:
    """The faults of the cluster's stack.

    CRDs that an operator left behind do no harm where none is declared (Helm never deletes CRDs), and two that
    offer GPUs only conflict on nodes where both run.
    """
    for found in facts.stack.findings:
        if found.fault is Fault.NO_OPERATOR_RESOURCE and stack.kind != "gpu-operator" and not facts.stack.operators:
            continue
        if found.fault in _ON_ONE_NODE and not _conflicts_with_another(found.subject.place, facts):
            continue
        yield found


def subject_of_fault(fault: Finding) -> ObjectReference:
    """The object that a fault is about, as a subject."""
    about = fault.subject
    return ObjectReference.of(about.kind, about.name, namespace=about.namespace, text=str(about))


def _conflicts_with_another(place: str, facts: Facts) -> bool:
    """Whether a DaemonSet has pods on a node where another one offers GPUs as well."""
    others = {*facts.stack.device_plugins, *facts.stack.dra_drivers} - {place}
    elsewhere = {node for other in others for node in _nodes_of(other, facts)}
    return bool(_nodes_of(place, facts) & elsewhere)


def _nodes_of(place: str, facts: Facts) -> set[str]:
    namespace, _, name = place.partition("/")
    owned = (pod for pod in facts.pods_in(namespace) if (pod.owner_kind, pod.owner_name) == ("DaemonSet", name))
    return {pod.node for pod in owned if pod.node}

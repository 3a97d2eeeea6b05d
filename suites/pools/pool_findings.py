"""Why a node of a pool is as it is, and what to do about it: taints, cordons, pods that do not belong there."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from conformance.facts import Facts, Node, Pod
from conformance.gpu.labels import (
    DEPLOY,
    DEPLOY_OPERANDS,
    DRIVER_VERSION,
    GPU_COUNT,
    GPU_PRODUCT,
    NVIDIA,
    WORKLOAD_CONFIG,
)
from conformance.gpu.taints import ORDINARY_POD, QUARANTINE, SCHEDULING_EFFECTS, untolerated
from conformance.owners import Owner
from conformance.reference.expected import offer_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive, Judge, Waits, format_value
from suites._shared.gpu_holders import only_pauses
from suites._shared.gpu_requests import requests_gpus
from suites._shared.grace import driver_being_replaced, has_managed_driver
from suites._shared.node_gpus import offered
from suites._shared.operand_status import GPU_DISCOVERY, is_gpu_discovery, worker_failure
from suites._shared.operands import CONTAINER, ON, purpose_of
from suites._shared.operator_resource import find_operator_resource
from suites._shared.pod_owners import is_node_agent, is_of_owners, platform_of
from suites._shared.pod_status import what_to_do, why_not_ready
from suites._shared.pool_nodes import is_for_containers
from suites._shared.upgrade_states import DONE, state_of

IN_A_POOL = "belongs to a GPU pool"
_WRITE_AGAIN = (
    "Look at the NodeFeature object of the node and at Node Feature Discovery's master, which sets the labels from it; "
    "then delete the node's pod of GPU Feature Discovery, so that it writes them again."
)


def how_to_bring_back(node: Node, broken: Sequence[str], facts: Facts) -> str:
    """What brings a node back; empty where the requirement's own remedy says it.

    Neither a quarantine nor the cordon of a driver upgrade is to be lifted by hand.
    """
    if any(taint.key == QUARANTINE for taint in node.taints):
        return "Repair or replace the hardware; the health agent that quarantined the node lifts that when it is well."
    if broken:
        return f"Repair or replace the hardware; the health agent that set {format_value(broken)} takes it back then."
    if state_of(node) not in ("", DONE) and has_managed_driver(node, facts):
        return "Follow OPER-18: the operator uncordons the node when its driver upgrade has ended well."
    if driver_being_replaced(node, facts):
        return "Follow OPER-13: the driver manager that is at work there uncordons the node when it ends."
    return f"kubectl uncordon {node.name} once its maintenance is over" if node.ready else ""


def how_to_taint(node: Node, missing: Sequence[str]) -> str:
    """The command that puts the taints, with a warning where it evicts pods."""
    command = f"kubectl taint node {node.name} {' '.join(missing)} --overwrite; then set it in the node group"
    evicting = [taint for taint in missing if taint.endswith(":NoExecute")]
    if not evicting:
        return command
    return f"{' and '.join(evicting)} evicts every pod there that does not tolerate it: look first, then {command}"


def other_nodes_first(refusals: Mapping[str, str]) -> list[str]:
    """Why each node takes no ordinary pods: first the nodes outside GPU pools, whose reason can be fixed."""
    return [f"{name} {refusals[name]}" for name in sorted(refusals, key=lambda name: refusals[name] == IN_A_POOL)]


def why_closed_to_ordinary_pods(node: Node, guarded: Iterable[Pool]) -> str:
    """Why a node takes no ordinary pods; empty when it does.

    A GPU pool without declared taints takes ordinary pods, as on a cluster of one node.
    """
    if any(pool.holds(node.labels) for pool in guarded):
        return IN_A_POOL
    if not node.ready or node.unschedulable:
        return f"is {state(node)}"
    repelling = node.untolerated(ORDINARY_POD)
    return f"repels with {format_value(repelling)}" if repelling else ""


def occupies_without_gpus(pod: Pod, reference: Reference, facts: Facts) -> bool:
    """Whether a pod is on a GPU node without a use for it, although it could be elsewhere.

    A node agent of the platform belongs there; a Deployment of the platform that has come there does not. Nor does a
    DaemonSet take anything away that pulls images to the nodes of its team and then pauses (jupyterhub/
    zero-to-jupyterhub-k8s: continuous-image-puller).
    """
    if pod.finished or (is_node_agent(pod) and not is_of_owners(pod, reference, facts)):
        return False
    if requests_gpus(pod, pod.namespace, reference, facts):
        return False
    return not (pod.owner_kind == "DaemonSet" and only_pauses(pod))


def how_to_move(pod: Pod, node: Node, reference: Reference, facts: Facts) -> str:
    """What keeps a pod off GPU nodes; empty where the requirement's own remedy says it.

    Where the pod tolerates the taints of its node, its next one comes back as long as its maker stays as it is.
    """
    if platform := platform_of(pod, reference, facts):
        return f"Narrow its tolerations in the settings of {platform}, not in the object: they are reconciled."
    if not _is_let_in(pod, node):
        return ""
    maker = f"{pod.owner_kind.lower()} {pod.namespace}/{pod.owner_name}"
    if pod.owner_kind == "DaemonSet":
        return f"Narrow the tolerations or the nodeSelector of {maker}: of its pods a deleted one is made again there."
    if pod.owner_kind:
        return f"Take the toleration out of the template behind {maker}: else its next pod may come here as well."
    return "Delete the pod and make it again without the toleration."


def who_moves(pod: Pod, node: Node, reference: Reference, facts: Facts) -> Owner:
    """Whose it is to keep a pod off GPU nodes: who wrote its tolerations, or who is to taint the node."""
    of_owners = _is_let_in(pod, node) and not platform_of(pod, reference, facts)
    return Owner.WORKLOAD if of_owners else Owner.PLATFORM


def _is_let_in(pod: Pod, node: Node) -> bool:
    """Whether the node has taints, and the pod tolerates them all."""
    repelling = [taint for taint in node.lasting_taints if taint.effect in SCHEDULING_EFFECTS]
    return bool(repelling) and not untolerated(pod.tolerations, repelling)


def why_it_was_admitted(pod: Pod, node: Node) -> str:
    repelling = [taint for taint in node.lasting_taints if taint.effect in SCHEDULING_EFFECTS]
    if not repelling:
        return f"{node.name} has no taint that would repel it"
    refused = untolerated(pod.tolerations, repelling)
    if refused:
        return f"{format_value(refused)} came after the pod, or the pod was bound without the scheduler"
    return f"the pod tolerates every taint of the node: {format_value(repelling)}"


def wants_gpu_discovery(pool: Pool, reference: Reference, facts: Facts) -> bool:
    """Whether GPU Feature Discovery has to label the nodes of a pool: declared, of NVIDIA's GPUs, for containers."""
    stack, gpu = reference.stack, pool.gpu
    if stack is None or not stack.gpu_feature_discovery or gpu is None:
        return False
    kept_off = any(pool.labels.get(key, ON) != ON for key in (DEPLOY_OPERANDS, f"{DEPLOY}{GPU_DISCOVERY}"))
    of_nvidia = gpu.allocated_by == "device-plugin" and gpu.resource.startswith(NVIDIA) and is_for_containers(pool)
    with suppress(Inconclusive):
        return not kept_off and of_nvidia and purpose_of(pool, find_operator_resource(facts)) == CONTAINER
    return False


def why_of_two_models(pool: Pool, node: Node, reference: Reference) -> str:
    """That a node offers the declared GPUs and GPU Feature Discovery counts fewer of its product; else empty.

    It labels one model of a node (NVIDIA/k8s-device-plugin: internal/lm/resource.go, "Multiple device types detected").
    With MIG the label counts MIG devices, and a node that offers less than declared is POOL-04's.
    """
    found, gpu = node.labels.get(GPU_COUNT, ""), pool.gpu
    if gpu is None or not found.isdigit() or not 0 < int(found) < gpu.count or "-MIG-" in node.labels[GPU_PRODUCT]:
        return ""
    expected = offer_of(reference, pool).resources
    if not expected or offered(node, expected) != expected:
        return ""
    product = node.labels[GPU_PRODUCT]
    return f"the node offers all {gpu.count} GPUs, and only {found} of them are {product}: it has two models"


def kept_off_discovery(node: Node) -> Waits | None:
    """That a label keeps GPU Feature Discovery off a node, which OPER-12 judges; None where none does."""
    for key, usual in ((f"{DEPLOY}{GPU_DISCOVERY}", ON), (WORKLOAD_CONFIG, CONTAINER)):
        if (value := node.labels.get(key, usual)) != usual:
            return Waits(f"label {key}={value} keeps GPU Feature Discovery off it", on="OPER-12")
    return None


def why_unlabelled(node: Node, facts: Facts) -> tuple[str, str]:
    """Why a node lacks the labels of GPU Feature Discovery, and what to do about it."""
    pods = [pod for pod in facts.pods_on(node.name) if is_gpu_discovery(pod)]
    if not pods:
        return f"no pod of GPU Feature Discovery runs on {node.name}", _WRITE_AGAIN
    if not any(pod.ready for pod in pods):
        return f"{pods[0]} of GPU Feature Discovery is not Ready ({why_not_ready(pods[0])})", what_to_do(pods[0], facts)
    worker = worker_failure(node, facts)
    if worker is not None:
        return (
            f"{pods[0]} is Ready, and Node Feature Discovery does not run on the node: {worker.cause}",
            "Let the worker of Node Feature Discovery run there, as its tolerations, node selector and affinity have "
            "to allow: it reads what GPU Feature Discovery writes on the node.",
        )
    return f"{pods[0]} is Ready, and the labels that it set are gone", _WRITE_AGAIN


def state(node: Node) -> str:
    return " and ".join(("Ready" if node.ready else "not Ready", "cordoned" if node.unschedulable else "schedulable"))


def judge_alike(pool: Pool, nodes: Iterable[Node], trait: str, of: Callable[[Node], str], judge: Judge) -> None:
    """One finding for a pool whose nodes agree, one for each node that differs from most of its pool otherwise."""
    known = [(node, value) for node in nodes if (value := of(node))]
    if not known:
        return
    counted = Counter(value for _, value in known).most_common()
    usual, alike = counted[0]
    if len(counted) == 1:
        judge(pool, ok=True, expected=f"one {trait}", actual=usual)
    for node, value in known:
        if value != usual:
            judge(
                node,
                ok=False,
                expected=f"{trait} {usual}, as {alike} nodes of {pool} have",
                actual=value,
                cause=f"the {trait} of {node.name} differs from the rest of {pool}",
                hidden_because="each node passes its own checks; jobs fail only on the node that differs",
                inspect=f"kubectl get nodes -l {pool.selector_text} -o wide -L {DRIVER_VERSION},{GPU_PRODUCT}",
            )

"""What became of a component on a node: whether its pod works there, and if not, why, told by the objects.

What time may cure is told apart from what it cannot: pods of a node that joined a minute ago are starting, not broken.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from conformance.facts import ContainerStatus, Facts, Node, Pod, Workload
from conformance.gpu.taints import Taint, untolerated
from conformance.reference.model import Pool
from conformance.verdict import format_value
from suites._shared.declared_workloads import why_pending
from suites._shared.operands import DEPLOY, MIG_MANAGER, ON, Component, Part
from suites._shared.upgrade_states import is_changing

STARTING = timedelta(minutes=15)
"""How long a pod or a new node may take: NVIDIA's own end-to-end tests give the operands this long to be Ready."""

STUCK = (
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
"""Reasons for which a container waits and that do not go away by themselves."""

PRESENT = "nvidia.com/gpu.present"
PCI_LABELS = (
    "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present",
    "feature.node.kubernetes.io/pci-0300_10de.present",
)
"""By any of these the operator knows a node with GPUs."""


class Trouble(NamedTuple):
    """Why a component does not work on a node. ``passing`` is trouble that time may cure."""

    component: str
    link: str
    remedy: str = ""
    passing: bool = False


class Standing(NamedTuple):
    """How a node stands: its first broken component, or why it cannot be judged now; neither where all is well."""

    trouble: Trouble | None = None
    excuse: str = ""
    working: tuple[str, ...] = ()


def young(when: datetime | None, now: datetime) -> bool:
    """Whether something is so new that it may still be starting; what has no date is not."""
    return when is not None and now - when < STARTING


def not_now(node: Node) -> str:
    """Why components may be missing on a node for a while: it is not Ready, or is being changed; else empty."""
    return "the node is not Ready" if not node.ready else is_changing(node)


def excuse_of(node: Node, facts: Facts, *, pods: Sequence[Pod] = (), until: str = PRESENT) -> str:
    """Why something that a node lacks is not missed now, of whose ``pods`` there none is Ready; empty where it is.

    A node that joined just now is excused as long as it has no label ``until``, which is set before the thing can be
    there: where it is, what the node lacks was lost, and is not on its way.
    """
    starting = next((f"{pod} is starting ({what_ails(pod)})" for pod in pods if is_starting(pod, facts.taken_at)), "")
    joined = not pods and until not in node.labels and young(node.created, facts.taken_at)
    return not_now(node) or starting or (f"it joined just now: it has no label {until} yet" if joined else "")


def excuse_for(trouble: Trouble, node: Node) -> str:
    """Why a component's trouble on a node is not judged now; empty where it is."""
    return not_now(node) or (f"it is starting: {trouble.link}" if trouble.passing else "")


def is_starting(pod: Pod, now: datetime) -> bool:
    """Whether a pod that is not Ready is new, or a container of it, and none is stuck."""
    starts = (pod.created, *(each.running_since for each in pod.statuses))
    return not any(each.waiting in STUCK for each in pod.statuses) and any(young(start, now) for start in starts)


def standing(parts: Sequence[Part], pool: Pool, node: Node, facts: Facts, *, found: bool = True) -> Standing:
    """How a node stands in the components that it needs, asked in the order of their needs.

    ``found`` says whether discovery comes first: without it no operand comes to a node.
    """
    excuse = not_now(node)
    if excuse:
        return Standing(excuse=excuse)
    working = []
    for part in parts:
        if not part.is_needed_on(pool, node):
            continue
        trouble = undiscovered(node, facts.taken_at) if found else None
        trouble = trouble or trouble_on(part, node, facts)
        if trouble is not None:
            return Standing(excuse=f"it is starting: {trouble.link}") if trouble.passing else Standing(trouble)
        working.append(str(part))
    return Standing(working=tuple(working))


def undiscovered(node: Node, now: datetime) -> Trouble | None:
    """That feature discovery has not found the node's GPUs, or that the operator has not taken notice."""
    # Where the operator's own label is, the node was known once: what it lacks was lost, and is not on its way.
    passing = young(node.created, now) and PRESENT not in node.labels
    if not any(node.labels.get(label) == ON for label in PCI_LABELS):
        link = f"no label {PCI_LABELS[0]}=true: feature discovery has not found its GPUs, so no component comes here"
        return Trouble("node feature discovery", link, "See why under the requirement on discovered nodes.", passing)
    if node.labels.get(PRESENT) != ON:
        link = f"no label {PRESENT}=true, although its PCI label is there: the operator has not taken notice"
        return Trouble("operator", link, "Look into the log of the operator's pod.", passing)
    return None


def trouble_on(part: Part, node: Node, facts: Facts) -> Trouble | None:
    """Why a component does not work on a node; None where its pod is Ready."""
    pods = pods_of(part.workloads, node, facts)
    if any(pod.ready and not pod.finished for pod in pods):
        return None
    if pods:
        return _not_ready(part.component, max(pods, key=lambda pod: (not pod.deleting, pod.name)), facts.taken_at)
    if not part.workloads:
        return Trouble(str(part), f"no workload of the {part} exists in the cluster", "See why the operator made none.")
    return _absent(part.component, _nearest(part.workloads, node), node, facts)


def pods_of(workloads: Iterable[Workload], node: Node, facts: Facts) -> list[Pod]:
    """The pods of some DaemonSets on a node."""
    owners = {(each.namespace, each.name) for each in workloads}
    return [
        pod
        for pod in facts.pods_on(node.name)
        if pod.owner_kind == "DaemonSet" and (pod.namespace, pod.owner_name) in owners
    ]


def not_tolerated(workload: Workload, taints: Iterable[Taint]) -> tuple[Taint, ...]:
    """The taints of a node that keep a workload's pods off it for good."""
    return untolerated(workload.template.tolerations, [taint for taint in taints if not taint.is_lifecycle])


def where_to_tolerate(workload: Workload) -> str:
    """The setting that gives a workload its tolerations."""
    if workload.owner_kind == "NVIDIADriver":
        return f"spec.tolerations of NVIDIADriver {workload.owner_name}"
    if workload.owner_kind in ("ClusterPolicy", "GPUCluster"):
        return "daemonsets.tolerations"
    if "node-feature-discovery" in workload.name or workload.name.endswith("nfd-worker"):
        return "node-feature-discovery.worker.tolerations"
    return "kubeletPlugin.tolerations" if "kubelet-plugin" in workload.name else "tolerations"


def what_ails(pod: Pod) -> str:
    """The container that keeps a pod from being Ready and what it does, in words."""
    broken = next((each for each in pod.statuses if each.waiting in STUCK), None) or next(
        (each for each in pod.statuses if not each.ready and not _is_done(each)), None
    )
    if broken is None:
        return f"phase {pod.phase or 'unknown'}" + (f", {pod.reason}" if pod.reason else "")
    kind = "init container" if broken.init else "container"
    state = broken.waiting or broken.terminated or ("running, not ready" if broken.running_since else "not started")
    ended = f", last ended with {broken.last_terminated}" if broken.last_terminated else ""
    code = f" (exit code {broken.last_exit_code})" if broken.last_terminated and broken.last_exit_code else ""
    return f"{kind} {broken.name}: {state}{ended}{code}"


def _is_done(status: ContainerStatus) -> bool:
    return status.init and status.exit_code == 0


def _not_ready(component: Component, pod: Pod, now: datetime) -> Trouble:
    remedy = f"kubectl logs -n {pod.namespace} {pod.name} --all-containers --prefix"
    return Trouble(str(component), f"{pod} is there and not Ready ({what_ails(pod)})", remedy, is_starting(pod, now))


def _nearest(workloads: Sequence[Workload], node: Node) -> Workload:
    """Of several DaemonSets of a component the one that is meant for the node, or the first."""
    return next((each for each in workloads if each.template.selects(node)), workloads[0])


def _absent(component: Component, workload: Workload, node: Node, facts: Facts) -> Trouble:
    """Why a DaemonSet has no pod on a node."""
    title = str(component)
    refused = not_tolerated(workload, node.taints)
    if refused:
        what = "taint" if len(refused) == 1 else "taints"
        link = f"{what} {format_value(refused)} not tolerated by {workload}"
        return Trouble(title, link, f"Add the toleration to {where_to_tolerate(workload)}, and keep what is there.")
    starting = young(node.created, facts.taken_at) or young(workload.created, facts.taken_at)
    for key, value in workload.template.node_selector.items():
        if node.labels.get(key) != value:
            return _label_missing(title, workload, key, node, starting)
    if not workload.template.selects(node):
        link = f"the required node affinity of {workload} does not match the labels of {node.name}"
        return Trouble(title, link, "Compare the affinity with the node's labels.", starting)
    waiting = [pod for pod in _unbound(facts).get((workload.namespace, workload.name), ()) if pod.selects(node)]
    if waiting:
        link = f"{waiting[0]} waits: {why_pending(waiting[0], [node], facts)}"
        return Trouble(title, link, passing=young(waiting[0].created, facts.taken_at))
    if workload.scheduled < workload.replicas:
        link = f"{workload} wants {workload.replicas} pods and has {workload.scheduled}: they are not being created"
        inspect = f"kubectl describe daemonset -n {workload.namespace} {workload.name}"
        return Trouble(title, link, f"Read the events: {inspect}", starting)
    return Trouble(title, f"{workload} has no pod here, and nothing in the objects keeps it off", passing=starting)


# Asked for each node of thousands; a run has one set of facts.
@lru_cache(maxsize=1)
def _unbound(facts: Facts) -> dict[tuple[str, str], list[Pod]]:
    """The pods that no node has yet, by the namespace and name of their DaemonSet."""
    found: dict[tuple[str, str], list[Pod]] = {}
    for pod in facts.pods:
        if not pod.node and pod.owner_kind == "DaemonSet":
            found.setdefault((pod.namespace, pod.owner_name), []).append(pod)
    return found


def _label_missing(title: str, workload: Workload, key: str, node: Node, starting: bool) -> Trouble:
    wanted, value = workload.template.node_selector[key], node.labels.get(key)
    link = f"label {key}={value}" if value is not None else f"no label {key}={wanted}"
    by_operator = key.startswith(DEPLOY)
    remedy = (
        f"Restore the label to {wanted}, or declare it in the labels of the pool."
        if by_operator
        else "Find out who sets the label: the owners, or feature discovery."
    )
    # The operator sets its labels all at once, but for the one that waits for GPU feature discovery.
    set_already = by_operator and not key.endswith(MIG_MANAGER) and any(each.startswith(DEPLOY) for each in node.labels)
    on_its_way = starting and value is None and not set_already
    return Trouble(title, f"{link}, by which {workload} chooses its nodes", remedy, on_its_way)

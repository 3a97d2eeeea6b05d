"""The status of a component on a node: whether its pod is Ready there, and if not, why, derived from the objects.

Transient failures are distinguished from lasting ones: pods of a node that joined a minute ago are starting.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, Workload
from conformance.facts.indexes import grouped
from conformance.facts.programs import discovers_gpus
from conformance.gpu.affinity import labels_asked_for, required_terms, unmet
from conformance.gpu.labels import (
    DEPLOY,
    GPU_PRESENT,
    GPU_PRODUCT,
    MIG_CAPABLE,
    MPS_CAPABLE,
    OSTREE_VERSION,
    PCI_PRESENT,
    WORKLOAD_CONFIG,
)
from conformance.gpu.taints import Taint, repelling, why_repelled
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive, NotApplicable, Waits
from suites._shared.container_runtimes import why_not_configured
from suites._shared.declared_workloads import why_pending
from suites._shared.driver_objects import why_no_driver, why_unselected
from suites._shared.grace import has_managed_driver, is_recent, joined_just_now, why_unavailable
from suites._shared.installed_by import where_discovery_tolerates
from suites._shared.operands import (
    CONTAINER,
    DRIVER,
    GPU_FEATURE_DISCOVERY,
    LABELLING,
    MIG_MANAGER,
    ON,
    VALIDATOR,
    WORKERS_END,
    Component,
    ExpectedComponent,
    discovery_workers,
    expected_components,
    is_discovery_worker,
)
from suites._shared.pod_status import STUCK, holding_up, what_to_do, why_not_ready
from suites._shared.unseen_gpus import installer_failure

GPU_DISCOVERY = "gpu-feature-discovery"
"""What the names of GPU Feature Discovery's pods and DaemonSets hold, whatever chart of NVIDIA's they are of."""
_WORKER = Component("worker of Node Feature Discovery", "node-feature-discovery-worker")
_OF_GPU_DISCOVERY = (GPU_PRODUCT, MIG_CAPABLE, MPS_CAPABLE)


_DRIVER_VALIDATION = "driver-validation"
_WAIT_FOR_VALIDATOR = (_DRIVER_VALIDATION, "toolkit-validation")
"""Init containers of operands that wait for the validator, and steps of the validator itself."""


class ComponentFailure(NamedTuple):
    """Why a component does not work on a node. ``transient`` is a failure that may end by itself."""

    component: str
    cause: str
    remedy: str = ""
    transient: bool = False


class Coverage(NamedTuple):
    """The first failed component of a node, or why the node cannot be judged now; neither where all components run."""

    failure: ComponentFailure | None = None
    not_judged: str = ""
    working: tuple[str, ...] = ()


def why_still_starting(node: Node, facts: Facts, *, pods: Sequence[Pod] = (), until: str = GPU_PRESENT) -> str:
    """Why a component, none of whose ``pods`` on a node is Ready, may still be starting; empty where it is missing.

    A node that joined just now is not judged as long as it has no label ``until``, which is set before the component
    can run: with the label the component was there before, and is not about to start. A label of GPU Feature Discovery
    may also be missing because that has just been restarted.
    """
    starting = next(
        (f"{pod} is starting ({why_not_ready(pod)})" for pod in pods if is_starting(pod, facts.taken_at)), ""
    )
    joined = not pods and until not in node.labels and joined_just_now(node, facts)
    changing = why_unavailable(node, facts)
    restarted = until in _OF_GPU_DISCOVERY and until not in node.labels and _restarted_discovery(node, facts)
    return (
        changing
        or starting
        or (f"it joined just now: it has no label {until} yet" if joined else "")
        or (f"it has no label {until} yet: {restarted} has just been started" if restarted else "")
    )


def _restarted_discovery(node: Node, facts: Facts) -> Pod | None:
    """The Ready pod of GPU Feature Discovery, or of NFD's worker, that started on a node just now; None without one.

    GPU Feature Discovery takes its labels back when it ends, and with the worker's pod goes the NodeFeature object: for
    about a minute after a restart of either the node has none of them. Sources: NVIDIA/k8s-device-plugin issue 796
    (removeOutputFile); kubernetes-sigs/node-feature-discovery issue 1752 (the owner of the object is the pod).
    """
    discovering = (
        pod
        for pod in facts.pods_on(node.name)
        if pod.ready and (is_gpu_discovery(pod) or pod.owner_name.endswith(WORKERS_END))
    )
    started = (pod for pod in discovering if is_recent(pod.created, facts.taken_at))
    return next(started, None)


def why_not_judged(failure: ComponentFailure, node: Node, facts: Facts) -> str:
    """Why a component's failure on a node is not judged now; empty where it is."""
    return why_unavailable(node, facts) or (f"it is starting: {failure.cause}" if failure.transient else "")


def is_starting(pod: Pod, now: datetime) -> bool:
    """Whether a pod that is not Ready is new, or a container of it, and none is stuck."""
    starts = (pod.created, *(each.running_since for each in pod.statuses))
    return not any(each.waiting in STUCK for each in pod.statuses) and any(is_recent(start, now) for start in starts)


def coverage_of(needed: Sequence[ExpectedComponent], node: Node, facts: Facts, *, found: bool = True) -> Coverage:
    """The coverage of a node by the components that it needs, which are given in the order of their dependencies.

    ``found`` says whether Node Feature Discovery comes first: without its labels no operand is deployed to a node.
    """
    not_judged = why_unavailable(node, facts)
    if not_judged:
        return Coverage(not_judged=not_judged)
    working = []
    undetected = discovery_failure(node, facts.taken_at) if found else None
    for expected in needed:
        failure = undetected or failure_on(expected, node, facts)
        if failure is not None:
            return Coverage(not_judged=f"it is starting: {failure.cause}") if failure.transient else Coverage(failure)
        working.append(str(expected))
    return Coverage(working=tuple(working))


def discovery_failure(node: Node, now: datetime) -> ComponentFailure | None:
    """That Node Feature Discovery has not labelled the node's GPUs, or the operator has not labelled the node."""
    # With the operator's own label the node was discovered before: a label that it lacks now was removed.
    transient = is_recent(node.created, now) and GPU_PRESENT not in node.labels
    if not any(node.labels.get(label) == ON for label in PCI_PRESENT):
        cause = (
            f"no label {PCI_PRESENT[0]}=true: Node Feature Discovery has not found its GPUs, so no operand comes here"
        )
        return ComponentFailure(
            "Node Feature Discovery", cause, "See the findings of OPER-11 for this node.", transient
        )
    if node.labels.get(GPU_PRESENT) != ON:
        cause = f"no label {GPU_PRESENT}=true, although its PCI label is there: the operator has not labelled the node"
        return ComponentFailure("operator", cause, "Look into the log of the operator's pod.", transient)
    return None


def is_gpu_discovery(pod: Pod) -> bool:
    """Whether a pod is GPU Feature Discovery, by its owner's name or its own, or by what its containers run."""
    return GPU_DISCOVERY in f"{pod.owner_name} {pod.name}" or discovers_gpus(pod)


def worker_failure(node: Node, facts: Facts) -> ComponentFailure | None:
    """Why the worker of Node Feature Discovery does not work on a node; None where it does, or the cluster has none."""
    workers = discovery_workers(facts)
    return failure_on(ExpectedComponent(_WORKER, workers), node, facts) if workers else None


def failure_on(expected: ExpectedComponent, node: Node, facts: Facts) -> ComponentFailure | None:
    """Why a component does not work on a node; None where its pod is Ready."""
    pods = pods_of(expected.workloads, node, facts)
    if any(pod.ready and not pod.finished for pod in pods):
        return None
    if pods:
        return _not_ready(expected, max(pods, key=lambda pod: (not pod.deleting, pod.name)), node, facts)
    resource = expected.operator_resource
    by_object = expected.component is DRIVER and resource is not None and resource.uses_nvidia_driver_objects
    if by_object and (unselected := why_unselected(node, facts)) and not why_no_driver(facts):
        return ComponentFailure(
            str(expected),
            unselected,
            "Give the node the labels that one of them selects, or widen its nodeSelector: the operator then installs "
            "that driver on every node that it selects.",
            joined_just_now(node, facts),
        )
    if not expected.workloads:
        told = why_no_driver(facts) if expected.component is DRIVER else ""
        return ComponentFailure(
            str(expected),
            f"no workload of the {expected} exists in the cluster" + (f": {told}" if told else ""),
            "Follow OPER-02." if told else _how_to_have_it(expected),
        )
    return _absent(expected.component, _nearest(expected.workloads, node), node, facts)


def _how_to_have_it(expected: ExpectedComponent) -> str:
    """What to do about a component of which the cluster has no workload."""
    if expected.operator_resource is not None:
        return "Read the operator's log for the component."
    return f"Install the {expected.component} by its chart or manifest, or declare what offers the GPUs of the cluster."


def pods_of(workloads: Iterable[Workload], node: Node, facts: Facts) -> list[Pod]:
    """The pods of some DaemonSets on a node."""
    of_daemon_set = _pods_of_daemon_sets(facts)
    return [pod for each in workloads for pod in of_daemon_set.get((node.name, each.namespace, each.name), ())]


def awaits_labelling(pool: Pool, node: Node, facts: Facts, reference: Reference) -> Waits | None:
    """That GPU Feature Discovery waits on a node for an operand that OPER-13 judges; else None.

    So, too, where GPU Feature Discovery works, fails by itself, has no pod on the node, or is no operator's.
    """
    with suppress(Inconclusive, NotApplicable):
        needed = [
            each
            for each in expected_components(facts, reference)
            if each.component in LABELLING and each.is_needed_on(pool, node)
        ]
        discovery = [each for each in needed if each.component is GPU_FEATURE_DISCOVERY]
        pods = [pod for each in discovery for pod in pods_of(each.workloads, node, facts)]
        waiting = [broken for pod in pods if (broken := holding_up(pod)) is not None and broken.init]
        failure = coverage_of(needed, node, facts, found=False).failure if waiting else None
        if failure is not None:
            return Waits(f"the {failure.component} does not work", on="OPER-13")
    return None


def not_tolerated(workload: Workload, taints: Iterable[Taint]) -> tuple[Taint, ...]:
    """The taints of a node that a workload's pods do not tolerate for good; those of its lifecycle left out."""
    return repelling(workload.template.tolerations, [taint for taint in taints if not taint.is_lifecycle])


def where_to_tolerate(workload: Workload, facts: Facts) -> str:
    """The setting that gives a workload its tolerations."""
    if workload.owner_kind == "NVIDIADriver":
        return f"spec.tolerations of NVIDIADriver {workload.owner_name}"
    if workload.owner_kind in ("ClusterPolicy", "GPUCluster"):
        return "daemonsets.tolerations"
    if is_discovery_worker(workload):
        return where_discovery_tolerates(workload, facts)
    return "kubeletPlugin.tolerations" if "kubelet-plugin" in workload.name else "tolerations"


def _not_ready(expected: ExpectedComponent, pod: Pod, node: Node, facts: Facts) -> ComponentFailure:
    cause = f"{pod} exists and is not Ready ({why_not_ready(pod)})"
    transient = is_starting(pod, facts.taken_at)
    why, setting = why_not_configured(pod, node, expected.operator_resource)
    if not why:
        why, setting = _of_another_release(expected, node)
    if not why:
        why, setting = _why_not_validated(pod, node, facts)
    told = f"{cause}: {why}" if why else cause
    return ComponentFailure(str(expected), told, setting or what_to_do(pod, facts), transient)


def _of_another_release(expected: ExpectedComponent, node: Node) -> tuple[str, str]:
    """That a driver is built for another release of RHEL CoreOS than the node runs, and what to do; else empty.

    On OpenShift the operator makes a DaemonSet for each release that Node Feature Discovery finds, with the driver
    toolkit of that release; a label that stays behind has the driver built for the kernel before. Source:
    NVIDIA/gpu-operator issue 990, internal/state/nodepool.go.
    """
    release = node.labels.get(OSTREE_VERSION, "")
    if expected.component is not DRIVER or not release or "CoreOS" not in node.os_image or release in node.os_image:
        return "", ""
    return (
        f"label {OSTREE_VERSION}={release} is of another release than the node runs ({node.os_image}), so that the "
        "operator builds the driver for that one's kernel",
        "Restart the worker of Node Feature Discovery on the node, and see in its log and its master's why they have "
        "not labelled it anew: the operator then makes the driver's DaemonSet for the release that runs.",
    )


def _why_not_validated(pod: Pod, node: Node, facts: Facts) -> tuple[str, str]:
    """At which step the validator of a node is for which an operand waits, and what to do; else empty.

    The init containers of operands wait for files that the validator writes on the node once it has found the driver,
    and then that containers get it. Source: NVIDIA/gpu-operator v26.7.0, cmd/nvidia-validator/main.go, assets.
    """
    waiting = holding_up(pod)
    if waiting is None or waiting.name not in _WAIT_FOR_VALIDATOR or waiting.waiting in STUCK:
        return "", ""
    validator = next((each for each in facts.pods_on(node.name) if each.owner_name == VALIDATOR.name), None)
    step = holding_up(validator) if validator is not None and not validator.finished else None
    if validator is None or step is None or step.name not in _WAIT_FOR_VALIDATOR:
        return "", ""
    log = f"kubectl logs -n {validator.namespace} {validator.name} -c {step.name}"
    if step.name == _DRIVER_VALIDATION and (failing := installer_failure(node, facts)):
        return f"{validator} waits for the driver, and {failing[0]}", failing[1]
    if step.name == _DRIVER_VALIDATION and not has_managed_driver(node, facts):
        return (
            f"{validator} finds no driver that works on the node, where the operator installs none",
            f"Run nvidia-smi on {node.name}. If its own driver works there, the validator looks for it elsewhere: tell "
            f"it where (hostPaths.driverInstallDir, validator.driver.env) by what its log says: {log}. If there is "
            "none, take a node image or a setting of the node pool that brings one, or let the operator install it "
            "(driver.enabled).",
        )
    return f"{validator} has not got past {step.name}", f"Read why: {log}"


def _nearest(workloads: Sequence[Workload], node: Node) -> Workload:
    """Of several DaemonSets of a component the one that selects the node, or the first."""
    return next((each for each in workloads if each.template.selects(node)), workloads[0])


def _absent(component: Component, workload: Workload, node: Node, facts: Facts) -> ComponentFailure:
    """Why a DaemonSet has no pod on a node."""
    title = str(component)
    refused = not_tolerated(workload, node.taints)
    if refused:
        tolerations = workload.template.tolerations
        cause = "; ".join(f"taint {taint} {why_repelled(tolerations, taint)} by {workload}" for taint in refused)
        return ComponentFailure(
            title,
            cause,
            f"Follow OPER-10: tolerate it in {where_to_tolerate(workload, facts)} if it is declared to stay, or take "
            "it off.",
        )
    starting = joined_just_now(node, facts) or is_recent(workload.created, facts.taken_at)
    for key, value in workload.template.node_selector.items():
        if node.labels.get(key) != value:
            return _label_missing(title, workload, key, node, starting)
    if not workload.template.selects(node):
        cause = f"the required node affinity of {workload} does not match the labels of {node.name}"
        return ComponentFailure(title, cause, _how_to_match(workload, node), starting)
    waiting = [pod for pod in _unbound(facts).get((workload.namespace, workload.name), ()) if pod.selects(node)]
    if waiting:
        cause = f"{waiting[0]} is Pending: {why_pending(waiting[0], [node], facts)}"
        return ComponentFailure(title, cause, transient=is_recent(waiting[0].created, facts.taken_at))
    if workload.scheduled < workload.replicas:
        cause = f"{workload} desires {workload.replicas} pods and has {workload.scheduled}: pods are not being created"
        inspect = f"kubectl describe daemonset -n {workload.namespace} {workload.name}"
        return ComponentFailure(title, cause, f"Read the events: {inspect}", starting)
    return ComponentFailure(
        title, f"{workload} has no pod here, and no taint, label or affinity prevents it", transient=starting
    )


def _how_to_match(workload: Workload, node: Node) -> str:
    """What to do about a required node affinity, with the labels that it asks for.

    Only the chart of the device plugin asks for one that is meant to be set by hand where Node Feature Discovery, which
    the chart brings with gfd.enabled or nfd.enabled, is not wanted. Source: NVIDIA/k8s-device-plugin issue 607.
    """
    asked = tuple(dict.fromkeys(labels_asked_for(workload.template.node_affinity)))
    if not asked:
        return _what_is_unmet(workload, node)
    told = f"The affinity asks for one of {', '.join(asked)}."
    if f"{GPU_PRESENT}={ON}" not in asked:
        return f"{told} Find out who sets that label, and why not on this node."
    return (
        f"{told} Have Node Feature Discovery find the GPUs (gfd.enabled or nfd.enabled of the chart), or label the "
        f"node by hand: kubectl label node {node.name} {GPU_PRESENT}={ON}"
    )


def _what_is_unmet(workload: Workload, node: Node) -> str:
    """The expressions of a required node affinity that a node does not meet, of the term that it is nearest to."""
    terms = [unmet(term, node.labels, node.name) for term in required_terms(workload.template.node_affinity)]
    nearest = min((each for each in terms if each), key=len, default=())
    if not nearest:
        return "Compare the affinity with the node's labels."
    keys = dict.fromkeys(each.partition(" ")[0] for each in nearest)
    found = ", ".join(f"{key}={node.labels[key]}" if key in node.labels else f"no label {key}" for key in keys)
    return (
        f"The node does not meet {' and '.join(nearest)} of it: it has {found}. Find out who set or removed that, and "
        "correct the label if the GPUs are to be offered there."
    )


# Called for each node of thousands; a run has one set of facts.
@lru_cache(maxsize=1)
def _pods_of_daemon_sets(facts: Facts) -> Mapping[tuple[str, str, str], tuple[Pod, ...]]:
    """The pods of DaemonSets by their node and by the namespace and name of their DaemonSet."""
    return grouped(
        ((pod.node, pod.namespace, pod.owner_name), pod) for pod in facts.pods if pod.owner_kind == "DaemonSet"
    )


@lru_cache(maxsize=1)
def _unbound(facts: Facts) -> dict[tuple[str, str], list[Pod]]:
    """The pods without a node, by the namespace and name of their DaemonSet."""
    found: dict[tuple[str, str], list[Pod]] = {}
    for pod in facts.pods:
        if not pod.node and pod.owner_kind == "DaemonSet":
            found.setdefault((pod.namespace, pod.owner_name), []).append(pod)
    return found


def _label_missing(title: str, workload: Workload, key: str, node: Node, starting: bool) -> ComponentFailure:
    wanted, value = workload.template.node_selector[key], node.labels.get(key)
    purpose = node.labels.get(WORKLOAD_CONFIG, CONTAINER)
    if key.startswith(DEPLOY) and value is None and purpose != CONTAINER:
        given = f"label {WORKLOAD_CONFIG}={purpose} gives the GPUs of the node to virtual machines"
        return ComponentFailure(title, f"{given}, so the operator sets no {key}", "Follow OPER-12.")
    cause = f"label {key}={value}" if value is not None else f"no label {key}={wanted}"
    by_operator = key.startswith(DEPLOY)
    remedy = (
        "Follow OPER-12. " * (value is not None)
        + f"Restore the label to {wanted}, or declare it in the labels of the pool."
        if by_operator
        else "Find out who sets the label: the owners, GPU Feature Discovery or Node Feature Discovery."
    )
    # The operator sets its labels all at once, but for the one that waits for GPU Feature Discovery.
    set_already = by_operator and not key.endswith(MIG_MANAGER) and any(each.startswith(DEPLOY) for each in node.labels)
    transient = starting and value is None and not set_already
    return ComponentFailure(title, f"{cause}, which the nodeSelector of {workload} requires", remedy, transient)

"""Problems of the stack's pods: they crash, restart repeatedly, or stay Pending."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from conformance.facts import ContainerStatus, Facts, Pod, Workload
from conformance.gpu.operator_stack import StackKind
from conformance.reference.model import Reference
from conformance.verdict import NotApplicable, Waits
from suites._shared.declared_workloads import why_pending
from suites._shared.device_plugin_configs import outside_kubernetes
from suites._shared.grace import is_recent
from suites._shared.installed_by import how_to_give_the_operator_memory, operator_deployments
from suites._shared.operands import (
    discovery_masters,
    discovery_workers,
    dra_driver_parts,
    expected_components,
    workloads_there,
)
from suites._shared.operator_resource import declared_stack, without_stack
from suites._shared.pod_status import OUT_OF_MEMORY, STUCK, what_to_do, why_not_ready

MOST_RESTARTS = 3
"""More restarts than this within an hour are a problem."""

_HOUR = timedelta(hours=1)


class PodProblem(NamedTuple):
    """A pod that crashes, restarts or stays Pending, its state, and what to do about it."""

    pod: Pod
    what: str
    remedy: str


def stack_workloads(facts: Facts, reference: Reference) -> tuple[Workload, ...]:
    """The workloads of the stack, each before those that need it: operator, Node Feature Discovery, components.

    The DRA driver's are there even where it offers no GPUs: without them no ComputeDomain is ever ready.
    """
    if reference.is_foreign and facts.stack.stack is not StackKind.NONE:
        components = list(workloads_there(facts))
    else:
        components = [workload for expected in expected_components(facts, reference) for workload in expected.workloads]
    discovery = [*discovery_masters(facts), *discovery_workers(facts)]
    every = [*operator_deployments(facts), *discovery, *components, *dra_driver_parts(facts)]
    return tuple({(each.kind, each.namespace, each.name): each for each in every}.values())


def without_workloads(facts: Facts, reference: Reference) -> NotApplicable | Waits:
    """The exception for a declared stack without workloads: a node image may run what offers its GPUs by itself."""
    if outside := outside_kubernetes(declared_stack(reference), facts):
        return NotApplicable(f"the {outside} runs outside Kubernetes, so that it has neither pods nor a workload")
    return without_stack(facts, "the cluster has no workload of a GPU stack")


def pod_problems(workloads: tuple[Workload, ...], facts: Facts) -> Iterator[tuple[Workload, list[PodProblem]]]:
    """Each workload with its pod problems. A pod that waits for a failed one on its node is left out."""
    broken: set[str] = set()
    for workload in workloads:
        pods = facts.pods_of(workload)
        found = (_problem_of(pod, workload, facts) for pod in pods if pod.node not in broken)
        yield workload, [problem for problem in found if problem is not None]
        if workload.kind == "DaemonSet":
            broken |= {pod.node for pod in pods if pod.node and not pod.ready}


def _problem_of(pod: Pod, workload: Workload, facts: Facts) -> PodProblem | None:
    if pod.finished or pod.deleting:
        return None
    if not pod.node:
        return _unscheduled(pod, workload, facts)
    for status in pod.statuses:
        what = _container_problem(status, pod, facts.taken_at)
        if what:
            return PodProblem(pod, what, _remedy(pod, status, facts))
    return None


def _unscheduled(pod: Pod, workload: Workload, facts: Facts) -> PodProblem | None:
    """A pod that has been Pending. Those of DaemonSets are judged node by node elsewhere."""
    if workload.kind == "DaemonSet" or is_recent(pod.created, facts.taken_at):
        return None
    return PodProblem(
        pod,
        f"not scheduled: {why_pending(pod, facts.nodes, facts)}",
        "Free the resources that it requests, or remove what prevents its scheduling.",
    )


def _container_problem(status: ContainerStatus, pod: Pod, now: datetime) -> str:
    """The problem of a container, as text; empty when it has none."""
    if not status.waiting and not status.restarts:
        return ""
    if status.waiting in STUCK:
        return f"{why_not_ready(pod)}, {status.restarts} restarts"
    recent = status.running_since is not None and now - status.running_since < _HOUR
    if status.last_terminated == OUT_OF_MEMORY and status.restarts > 1 and recent:
        return f"container {status.name} was OOMKilled, {status.restarts} restarts"
    since = pod.started or pod.created
    hours = max((now - since) / _HOUR, 1.0) if since is not None else 1.0
    if status.restarts / hours > MOST_RESTARTS and not _is_stable(status, now):
        return f"container {status.name}: {status.restarts} restarts in {hours:.3g} h, last ended with " + (
            status.last_terminated or "no reason"
        )
    return ""


def _is_stable(status: ContainerStatus, now: datetime) -> bool:
    """Whether a container has completed, or has run for a while since it last started."""
    return status.exit_code == 0 or (status.running_since is not None and not is_recent(status.running_since, now))


def _remedy(pod: Pod, status: ContainerStatus, facts: Facts) -> str:
    if status.last_terminated == OUT_OF_MEMORY:
        places = {place.partition("/")[0] for place in facts.stack.operators}
        by_operator = pod.namespace in places and pod.owner_kind == "ReplicaSet" and status.name == "gpu-operator"
        return (
            how_to_give_the_operator_memory(facts)
            if by_operator
            else f"Raise the memory limit of container {status.name}."
        )
    return what_to_do(pod, facts, ending=status)

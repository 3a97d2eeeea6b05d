"""Declared workloads: as deployed in the cluster, else as in their manifests.

Of Kubernetes' own kinds the object is read, with its pod template and its replicas. A workload of another kind
(PyTorchJob, RayCluster, LeaderWorkerSet) is judged by the pods that it makes, each sort of them by one. Where it has
no pods, nothing is known: it may have ended, be scaled to zero, or wait in a queue.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, PodTemplate
from conformance.facts import Workload as LiveWorkload
from conformance.facts.podspec import PodSpec
from conformance.gpu.labels import HAMI_RESOURCES, KUEUE
from conformance.gpu.quantities import quantity
from conformance.gpu.taints import Taint
from conformance.reference.model import Pool, Reference, Workload
from conformance.subjects import ObjectReference
from conformance.verdict import Unsupported, Waits, join_limited
from suites._shared.gpu_requests import requests_gpus
from suites._shared.pod_terms import taints_of
from suites._shared.pool_nodes import Members

# kubernetes-sigs/kueue: pkg/controller/constants (admission) and TopologySchedulingGate.
_KUBERNETES_OWN = ("", "default-scheduler")
_BYTES = ("memory", "ephemeral-storage", "hugepages-")


class DeclaredWorkload(NamedTuple):
    """A workload of the reference set-up, its pools, and the workload of that name in the cluster.

    One of another kind than Kubernetes' own stands here once for each sort of its pods, of which ``example`` is one.
    ``template`` has what admission adds to its pods, too.
    """

    declared: Workload
    pools: tuple[Pool, ...]
    template: PodSpec
    live: LiveWorkload | None
    example: Pod | None = None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        whole = self.declared.subject
        return whole if self.example is None else whole.only(f"pods like {self.example.name}")

    def __str__(self) -> str:
        return str(self.subject)

    def taints_of_its_nodes(self, members: Members) -> tuple[Taint, ...]:
        """The declared taints of its pools that keep pods away.

        Of a workload of another kind each sort of pods may have pools of its own: those whose nodes it selects.
        """
        own = self.pools
        if self.example is not None:
            chosen = [pool for pool in own if any(self.template.selects(node) for node in members(pool))]
            own = tuple(chosen) or own
        return taints_of(own)

    @property
    def inspect(self) -> str:
        """The command that shows the pod template, or a pod where the template is not known."""
        if self.example is not None:
            return f"kubectl get pod -n {self.example.namespace} {self.example.name} -o yaml"
        return f"{_get(self.declared)} -o jsonpath='{{.spec.template.spec}}'"

    def is_for_gpus(self, reference: Reference, facts: Facts) -> bool:
        """Whether its pods are meant for GPUs: a launcher or a head of another kind may ask for none."""
        return self.example is None or requests_gpus(self.example, self.example.namespace, reference, facts)


class PlacedWorkload(NamedTuple):
    """A declared workload with its unfinished pods, and of Kubernetes' own kinds the workload as it was read.

    ``suspended`` are the workloads below it that are suspended, as Kueue suspends the Jobs of what it has not admitted.
    """

    declared: Workload
    pools: tuple[Pool, ...]
    live: LiveWorkload | None
    pods: tuple[Pod, ...]
    suspended: tuple[LiveWorkload, ...] = ()

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.declared.subject

    def __str__(self) -> str:
        return str(self.declared)

    @property
    def is_over(self) -> bool:
        """Whether it is a Job that is complete and needs no more pods."""
        return self.live is not None and self.live.conditions.get("Complete") == "True"

    @property
    def inspect_pods(self) -> str:
        """The command that shows the workload and the pods of its namespace."""
        return f"{_get(self.declared)}; kubectl get pods -n {self.declared.namespace} -o wide"


def placed_in(reference: Reference, facts: Facts) -> tuple[PlacedWorkload, ...]:
    """The declared workloads that name their pools, each once, with their pods."""
    return tuple(_placed(workload, reference, facts) for workload in reference.workloads if workload.pools)


def declared_in(reference: Reference, facts: Facts) -> tuple[DeclaredWorkload, ...]:
    """The declared workloads that name their pools; for one that is not deployed, the template of its manifest.

    One of another kind than Kubernetes' own is here as often as it has sorts of pods, and not at all without pods; nor
    is one that is neither deployed nor declared with a manifest, of which nothing but its absence is known.
    """
    named = (workload for workload in reference.workloads if workload.pools)
    return tuple(found for workload in named for found in _with_live_state(workload, reference, facts))


def pods_of(workload: Workload, facts: Facts) -> tuple[Pod, ...]:
    """The pods of a declared workload, finished ones included: by owner, or by its selector where it declares one."""
    if workload.built_in:
        live = facts.workload(workload.kind, workload.namespace, workload.name)
        return facts.pods_of(live) if live is not None else ()
    if workload.selector:
        members = facts.pods_in(workload.namespace)
        return tuple(pod for pod in members if workload.selector.items() <= pod.labels.items())
    return facts.pods_below(workload.kind, workload.namespace, workload.name)


def not_deployed(workload: Workload, facts: Facts) -> Waits | None:
    """That a workload of Kubernetes' own kinds is not there, where SCHED-16 judges that; else None."""
    if not workload.built_in or not workload.pools or facts.workload(workload.kind, workload.namespace, workload.name):
        return None
    return Waits("it is not deployed", on="SCHED-16")


def without_any(workloads: Sequence[Workload], facts: Facts) -> Unsupported | Waits:
    """Why nothing can be said of declared workloads of which none is deployed, to be raised."""
    absent = [str(workload) for workload in workloads if not_deployed(workload, facts)]
    if not absent:
        return without_pods(workloads)
    return Waits(f"{join_limited(absent)} {'is' if len(absent) == 1 else 'are'} not deployed", on="SCHED-16")


def without_pods(workloads: Iterable[Workload]) -> Unsupported:
    """Why nothing can be said of workloads of other kinds than Kubernetes' own, none of which has a pod."""
    named = join_limited([str(workload) for workload in workloads])
    return Unsupported(f"no unfinished pod belongs to {named}: not there, ended, scaled to zero or waiting in a queue")


def living(pods: Iterable[Pod]) -> tuple[Pod, ...]:
    """The pods that run or are to run."""
    return tuple(pod for pod in pods if not pod.finished and not pod.deleting)


def is_queued(pod: Pod) -> bool:
    """Whether Kueue holds the pod back until it is admitted, by a scheduling gate of its own."""
    return not pod.node and any(gate.startswith(KUEUE) for gate in pod.gates)


def _with_live_state(workload: Workload, reference: Reference, facts: Facts) -> Iterator[DeclaredWorkload]:
    pools = _pools_of(workload, reference)
    if workload.built_in:
        live = facts.workload(workload.kind, workload.namespace, workload.name)
        declared = _template_of(workload) if live is None else None
        template = facts.template_of(live) if live else declared and facts.as_admitted(declared)
        if template is not None:
            yield DeclaredWorkload(workload, pools, template, live)
        return
    sorts: dict[object, Pod] = {}
    for pod in living(pods_of(workload, facts)):
        sorts.setdefault(_sort_of(pod), pod)
    for example in sorts.values():
        yield DeclaredWorkload(workload, pools, example, None, example)


def _placed(workload: Workload, reference: Reference, facts: Facts) -> PlacedWorkload:
    place = workload.kind, workload.namespace, workload.name
    pods = tuple(pod for pod in pods_of(workload, facts) if not pod.finished)
    if workload.built_in:
        return PlacedWorkload(workload, _pools_of(workload, reference), facts.workload(*place), pods)
    suspended = tuple(each for each in facts.ownership.workloads_below(*place) if each.suspended)
    return PlacedWorkload(workload, _pools_of(workload, reference), None, pods, suspended)


def _pools_of(workload: Workload, reference: Reference) -> tuple[Pool, ...]:
    return tuple(pool for pool in reference.pools if pool.name in workload.pools)


def _get(workload: Workload) -> str:
    return f"kubectl get {workload.resource} -n {workload.namespace} {workload.name}"


def _sort_of(pod: Pod) -> object:
    """The key of pods that are alike in what is judged of a template: a launcher, a head, a worker."""
    requests = tuple(sorted(pod.requests().items()))
    selector = tuple(sorted(pod.node_selector.items()))
    return (requests, selector, repr(pod.node_affinity), frozenset(pod.tolerations))


def _template_of(workload: Workload) -> PodTemplate | None:
    found = Facts.from_objects([workload.manifest] if workload.manifest else []).workloads
    return found[0].template if found else None


def lacking(template: PodSpec, node: Node) -> dict[str, str]:
    """What an empty ``node`` lacks for one pod, as text by resource; empty when the pod fits."""
    wanted = {name: amount for name, amount in template.requests().items() if amount}
    offered = {name: quantity(node.allocatable.get(name, "0")) for name in wanted}
    return _short(wanted, offered)


def why_pending(pod: Pod, nodes: Iterable[Node], facts: Facts) -> str:
    """What keeps a pod off those of ``nodes`` that come nearest to taking it, computed from the facts.

    Where one lacks as little as another and something else, as a full node and one with a taint too many, one of each
    is named, two at most.
    """
    obstacles = [(node, _obstacles(pod, node, facts)) for node in nodes]
    if not obstacles:
        return "no node belongs to its pools"
    least = min(map(len, (each for _, each in obstacles)))
    nearest: dict[tuple[str, ...], str] = {}
    for node, found in obstacles:
        if len(found) == least:
            told = "; ".join(found.values()) or f"nothing prevents it, {_its_scheduler(pod)} has not placed it yet"
            nearest.setdefault(tuple(found), f"{node}: {told}")
    return "; ".join(tuple(nearest.values())[:2])


def _its_scheduler(pod: Pod) -> str:
    if pod.scheduler in _KUBERNETES_OWN:
        return "the scheduler"
    return f"{pod.scheduler}, which goes by queues, quotas and pod groups of its own,"


def _obstacles(pod: Pod, node: Node, facts: Facts) -> dict[str, str]:
    """Scheduling gates, affinity, taints and free resources, in the order in which one would look, by their kind."""
    reasons = [f"scheduling gate {gate}" for gate in pod.gates]
    if not pod.selects(node):
        reasons.append("its required affinity or nodeSelector is not met")
    reasons += [f"taint {taint} is not tolerated" for taint in node.untolerated(pod.tolerations)]
    wanted = {name: amount for name, amount in pod.requests().items() if amount}
    free = {name: quantity(node.allocatable.get(name, "0")) for name in wanted}
    for other in facts.pods_on(node.name):
        asked = {} if other.finished else other.requests()
        free = {name: amount - asked.get(name, Fraction(0)) for name, amount in free.items()}
    return {**{each: each for each in reasons}, **_short(wanted, free)}


def _short(wanted: dict[str, Fraction], there: dict[str, Fraction]) -> dict[str, str]:
    """What is wanted and not there; of HAMi's own resources no node offers any, its scheduler alone counts them."""
    return {
        name: f"{_format_amount(name, amount)} {name} requested, {_format_amount(name, there[name])} free"
        for name, amount in wanted.items()
        if amount > there[name] and name not in HAMI_RESOURCES
    }


def _format_amount(resource: str, amount: Fraction) -> str:
    if resource.startswith(_BYTES):
        return f"{float(amount) / 2**30:.4g}Gi"
    return f"{float(amount):.4g}"

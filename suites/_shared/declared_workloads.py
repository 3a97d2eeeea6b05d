"""Declared workloads: as deployed in the cluster, else as in their manifests."""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from conformance.facts import Facts, Node, Pod, PodTemplate
from conformance.facts import Workload as LiveWorkload
from conformance.facts.podspec import PodSpec
from conformance.gpu.quantities import quantity
from conformance.gpu.taints import Taint
from conformance.reference.model import Pool, Reference, Workload
from conformance.subjects import ObjectReference
from suites._shared.pod_terms import taints_of

_BYTES = ("memory", "ephemeral-storage", "hugepages-")


class DeclaredWorkload(NamedTuple):
    """A workload of the reference set-up, its pools, and the workload of that name in the cluster."""

    declared: Workload
    pools: tuple[Pool, ...]
    template: PodTemplate
    live: LiveWorkload | None

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.declared.subject

    def __str__(self) -> str:
        return str(self.declared)

    @property
    def taints(self) -> tuple[Taint, ...]:
        """The declared taints of its pools that keep pods away."""
        return taints_of(self.pools)

    @property
    def inspect(self) -> str:
        """The command that shows the pod template."""
        return f"{self._get} -o jsonpath='{{.spec.template.spec}}'"

    @property
    def inspect_pods(self) -> str:
        """The command that shows the workload and the pods of its namespace."""
        return f"{self._get}; kubectl get pods -n {self.declared.namespace} -o wide"

    @property
    def is_over(self) -> bool:
        """Whether it is a Job that is complete and needs no more pods."""
        return self.live is not None and self.live.conditions.get("Complete") == "True"

    @property
    def _get(self) -> str:
        return f"kubectl get {self.declared.kind.lower()} -n {self.declared.namespace} {self.declared.name}"


def declared_in(reference: Reference, facts: Facts) -> tuple[DeclaredWorkload, ...]:
    """The declared workloads that name their pools; for one that is not deployed, the template of its manifest."""
    return tuple(_with_live_state(workload, reference, facts) for workload in reference.workloads if workload.pools)


def _with_live_state(workload: Workload, reference: Reference, facts: Facts) -> DeclaredWorkload:
    live = facts.workload(workload.kind, workload.namespace, workload.name)
    pools = tuple(pool for pool in reference.pools if pool.name in workload.pools)
    return DeclaredWorkload(workload, pools, live.template if live else _template_of(workload), live)


def _template_of(workload: Workload) -> PodTemplate:
    found = Facts.from_objects([workload.manifest] if workload.manifest else []).workloads
    return found[0].template if found else PodTemplate()


def lacking(template: PodSpec, node: Node) -> dict[str, str]:
    """What an empty ``node`` lacks for one pod, as text by resource; empty when the pod fits."""
    wanted = {name: amount for name, amount in template.requests().items() if amount}
    offered = {name: quantity(node.allocatable.get(name, "0")) for name in wanted}
    return _short(wanted, offered)


def why_pending(pod: Pod, nodes: Iterable[Node], facts: Facts) -> str:
    """What keeps a pod off the one of ``nodes`` that comes nearest to taking it, computed from the facts."""
    obstacles = [(node, _obstacles(pod, node, facts)) for node in nodes]
    if not obstacles:
        return "no node belongs to its pools"
    node, reasons = min(obstacles, key=lambda each: len(each[1]))
    return f"{node}: {'; '.join(reasons) or 'nothing prevents it, the scheduler has not placed it yet'}"


def _obstacles(pod: Pod, node: Node, facts: Facts) -> list[str]:
    """Scheduling gates, affinity, taints and free resources, in the order in which one would look."""
    reasons = [f"scheduling gate {gate}" for gate in pod.gates]
    if not pod.selects(node):
        reasons.append("its required affinity or nodeSelector is not met")
    reasons += [f"taint {taint} is not tolerated" for taint in node.untolerated(pod.tolerations)]
    wanted = {name: amount for name, amount in pod.requests().items() if amount}
    free = {name: quantity(node.allocatable.get(name, "0")) for name in wanted}
    for other in facts.pods_on(node.name):
        asked = {} if other.finished else other.requests()
        free = {name: amount - asked.get(name, Fraction(0)) for name, amount in free.items()}
    return [*reasons, *_short(wanted, free).values()]


def _short(wanted: dict[str, Fraction], there: dict[str, Fraction]) -> dict[str, str]:
    return {
        name: f"{_format_amount(name, amount)} {name} requested, {_format_amount(name, there[name])} free"
        for name, amount in wanted.items()
        if amount > there[name]
    }


def _format_amount(resource: str, amount: Fraction) -> str:
    if resource.startswith(_BYTES):
        return f"{float(amount) / 2**30:.4g}Gi"
    return f"{float(amount):.4g}"

"""Whether the namespaces of the stack admit its pods: Pod Security, and quotas on priority classes.

Sources: kubernetes.io: Pod Security Standards (what the level baseline forbids); NVIDIA GPU Operator: security.rst and
google-gke.rst; NVIDIA/gpu-operator issue 660.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from conformance.facts import Facts, PodTemplate, ResourceQuota, Workload
from conformance.facts.limits import PodTraits
from conformance.gpu.quantities import quantity
from conformance.verdict import Judge
from suites._shared.grace import is_changing, joined_just_now

ENFORCE = "pod-security.kubernetes.io/enforce"
_ADMITTING = ("", "privileged")
_CRITICAL = ("system-node-critical", "system-cluster-critical")
_COUNTED = ("pods", "count/pods")

# The DaemonSet controller creates pods in seconds; in large clusters it takes longer.
_CREATION = timedelta(minutes=2)


def by_namespace(workloads: Iterable[Workload]) -> dict[str, list[Workload]]:
    """Workloads by their namespace."""
    found: dict[str, list[Workload]] = {}
    for workload in workloads:
        found.setdefault(workload.namespace, []).append(workload)
    return found


def enforced_on(namespace: str, facts: Facts) -> str:
    """The level of Pod Security that the label of a namespace enforces; empty without the label."""
    found = facts.namespace(namespace)
    return found.labels.get(ENFORCE, "") if found is not None else ""


def admits_privileged(level: str) -> bool:
    """Whether a level admits privileged pods; without a label the cluster default applies, which mostly does."""
    return level in _ADMITTING


def why_privileged(template: PodTemplate) -> str:
    """The field of a pod template that only the level privileged admits; empty when there is none."""
    if any(container.privileged for container in template.every_container):
        return "a privileged container"
    if template.host_pid or template.host_network:
        return "a namespace of the host"
    mounted = [volume.host_path for volume in template.volumes if volume.kind == "hostPath"]
    return f"the host path {mounted[0]}" if mounted else ""


class SpentQuota(NamedTuple):
    """A key of a quota that has no room for another pod, and a workload whose next pod it therefore refuses."""

    quota: ResourceQuota
    key: str
    workload: Workload

    @property
    def text(self) -> str:
        """How much of the key is used."""
        return f"{self.key}: {self.quota.used.get(self.key, '0')} used, {self.quota.hard[self.key]} allowed"


def spent_quota(quota: ResourceQuota, workloads: Iterable[Workload]) -> SpentQuota | None:
    """The key by which a quota would refuse the next pod of one of the workloads; None while it has room for it."""
    spent = [key for key in _COUNTED if key in quota.hard and _is_spent(quota, key)]
    # Pods of a DaemonSet or Deployment end with their nodes, never by a deadline.
    counted = (each for each in workloads if quota.counts(_traits(each)))
    workload = next(counted, None) if spent else None
    return SpentQuota(quota, spent[0], workload) if workload is not None else None


def _traits(workload: Workload) -> PodTraits:
    named = (
        key.removeprefix("requests.")
        for container in workload.template.every_container
        for key in (*container.requests, *container.limits)
    )
    return PodTraits(priority_class=workload.template.priority_class, best_effort=not {"cpu", "memory"} & set(named))


def not_created(workload: Workload, facts: Facts) -> int:
    """How many pods of a DaemonSet are not created; 0 while pods are replaced, as in a rollout."""
    missing = workload.replicas - workload.scheduled
    if workload.kind != "DaemonSet" or missing <= 0 or _is_new(workload.created, facts):
        return 0
    all_refused = not workload.scheduled and workload.replicas > 1
    return missing if all_refused or not _is_changing(workload, facts) else 0


def why_not_created(workload: Workload, facts: Facts) -> tuple[str, str]:
    """Why the pods of a DaemonSet are not created in its namespace, and what to do about it."""
    level, needed = enforced_on(workload.namespace, facts), why_privileged(workload.template)
    if needed and not admits_privileged(level):
        return f"Pod Security enforces {level}, and the pods have {needed}", ""
    quotas = [
        each for each in facts.quotas_in(workload.namespace) if each.counts_class(workload.template.priority_class)
    ]
    spent = next((found for quota in quotas if (found := spent_quota(quota, [workload])) is not None), None)
    if spent is not None:
        return f"{spent.quota} has {spent.text}", f"Raise {spent.key} of {spent.quota} to the number of operands."
    name = workload.template.priority_class
    # Where such pods were admitted before, or belong by Kubernetes' own rule, their class is not what keeps them away.
    is_admitted = workload.scheduled > 0 or workload.namespace == "kube-system"
    if name in _CRITICAL and not is_admitted and not any(_names(quota, name) for quota in quotas):
        return (
            f"the pods have priority class {name}, and no quota of the namespace admits it: where a cluster limits "
            "that class to namespaces with such a quota (GKE does), none is created",
            f"Create a ResourceQuota in {workload.namespace} with a scopeSelector for PriorityClass In [{name}].",
        )
    return (
        "the API server refuses them (an admission policy or webhook): the reason is in the DaemonSet's events only",
        f"Read the events: kubectl describe daemonset -n {workload.namespace} {workload.name}. Where a policy for pods "
        f"of teams refuses them, have it except the namespace {workload.namespace}.",
    )


def judge_room(quota: ResourceQuota, members: Iterable[Workload], judge: Judge) -> None:
    """Whether a quota has room for another pod of the stack."""
    spent = spent_quota(quota, members)
    judge(
        quota,
        ok=spent is None,
        expected="room for another pod of the GPU stack",
        actual=spent.text if spent else "room for it, or other pods are counted",
        cause=f"the next pod of {spent.workload} is refused: {spent.text}" if spent else "",
        hidden_because="pods that were admitted before keep running; a new node, or the next update, gets none",
        remedy=f"Raise {spent.key} of {quota} above the number of pods that the stack has, or delete the quota."
        if spent
        else "",
        inspect=f"kubectl describe quota -n {quota.namespace} {quota.name}",
    )


def judge_missing_pods(workload: Workload, facts: Facts, judge: Judge) -> None:
    """A finding for a DaemonSet whose pods are not created; none for one whose pods are."""
    missing = not_created(workload, facts)
    if missing:
        cause, remedy = why_not_created(workload, facts)
        judge(
            workload,
            ok=False,
            expected=f"{workload.replicas} pods",
            actual=f"{workload.scheduled}",
            cause=f"{missing} pods are not created: {cause}",
            hidden_because="a pod that was never created is in no list of pods; only an event shows it",
            remedy=remedy,
            inspect=f"kubectl describe daemonset -n {workload.namespace} {workload.name}",
        )


def _is_new(created: datetime | None, facts: Facts) -> bool:
    return created is not None and facts.taken_at - created < _CREATION


def _is_changing(workload: Workload, facts: Facts) -> bool:
    """Whether pods of a DaemonSet, or nodes for them, are being created or deleted."""
    pods, nodes = facts.pods_of(workload), facts.nodes
    return any(pod.deleting or _is_new(pod.created, facts) for pod in pods) or any(
        is_changing(node, facts) or joined_just_now(node, facts) for node in nodes
    )


def _is_spent(quota: ResourceQuota, key: str) -> bool:
    return quantity(quota.used.get(key, "0")) >= quantity(quota.hard[key])


def _names(quota: ResourceQuota, priority_class: str) -> bool:
    return any(priority_class in term.values for term in quota.scope_selector)

"""Whether the namespaces of the stack admit its pods: Pod Security, and quotas on priority classes.

Sources: kubernetes.io: Pod Security Standards (what the level baseline forbids); NVIDIA GPU Operator: security.rst and
google-gke.rst; NVIDIA/gpu-operator issue 660.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from conformance.facts import Facts, PodTemplate, ResourceQuota, Workload
from conformance.gpu.quantities import quantity
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
    spent = [(quota, key) for quota in quotas for key in _COUNTED if key in quota.hard and _is_spent(quota, key)]
    if spent:
        quota, key = spent[0]
        used = quota.used.get(key, "0")
        return (
            f"{quota} has {key} {used} of {quota.hard[key]} used",
            f"Raise {key} of {quota} to the number of operands.",
        )
    name = workload.template.priority_class
    if name in _CRITICAL and not any(_names(quota, name) for quota in quotas):
        return (
            f"the pods have priority class {name}, and no quota of the namespace admits it: where a cluster limits "
            "that class to namespaces with such a quota (GKE does), none is created",
            f"Create a ResourceQuota in {workload.namespace} with a scopeSelector for PriorityClass In [{name}].",
        )
    return "the API server refuses them; the reason is in the events of the DaemonSet only", ""


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

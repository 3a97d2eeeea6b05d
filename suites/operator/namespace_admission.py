"""Whether the namespaces of the stack let its pods in: Pod Security, and quotas on priority classes.

Sources: kubernetes.io: Pod Security Standards (what the level baseline forbids); NVIDIA GPU Operator: security.rst and
google-gke.rst; NVIDIA/gpu-operator issue 660.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from conformance.facts import Facts, PodTemplate, ResourceQuota, Workload
from conformance.gpu.quantities import quantity
from suites._shared.upgrade_states import is_changing

ENFORCE = "pod-security.kubernetes.io/enforce"
_ADMITTING = ("", "privileged")
_CRITICAL = ("system-node-critical", "system-cluster-critical")
_COUNTED = ("pods", "count/pods")

# The DaemonSet controller makes pods in seconds; in large clusters it takes a while.
_MAKING = timedelta(minutes=2)


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
    """Whether a level lets privileged pods in; without a label the default of the cluster holds, which mostly does."""
    return level in _ADMITTING


def why_privileged(template: PodTemplate) -> str:
    """What of a pod template no other level than privileged lets in; empty when nothing."""
    if any(container.privileged for container in template.every_container):
        return "a privileged container"
    if template.host_pid or template.host_network:
        return "a namespace of the host"
    mounted = [volume.host_path for volume in template.volumes if volume.kind == "hostPath"]
    return f"the host path {mounted[0]}" if mounted else ""


def not_created(workload: Workload, facts: Facts) -> int:
    """How many pods a DaemonSet wants and has not got; none where pods come and go as they do in a rollout."""
    missing = workload.replicas - workload.scheduled
    if workload.kind != "DaemonSet" or missing <= 0 or _is_new(workload.created, facts):
        return 0
    refused_altogether = not workload.scheduled and workload.replicas > 1
    return missing if refused_altogether or not _is_in_motion(workload, facts) else 0


def why_not_created(workload: Workload, facts: Facts) -> tuple[str, str]:
    """What in the namespace keeps a DaemonSet from making its pods, and what to do about it."""
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
    return "the API server refuses them for a reason that only the events tell", ""


def _is_new(created: datetime | None, facts: Facts) -> bool:
    return created is not None and facts.taken_at - created < _MAKING


def _is_in_motion(workload: Workload, facts: Facts) -> bool:
    """Whether pods of a DaemonSet, or nodes for them, have come or are going just now."""
    pods, nodes = facts.pods_of(workload), facts.nodes
    return any(pod.deleting or _is_new(pod.created, facts) for pod in pods) or any(
        is_changing(node) or _is_new(node.created, facts) for node in nodes
    )


def _is_spent(quota: ResourceQuota, key: str) -> bool:
    return quantity(quota.used.get(key, "0")) >= quantity(quota.hard[key])


def _names(quota: ResourceQuota, priority_class: str) -> bool:
    return any(priority_class in term.values for term in quota.scope_selector)

"""Queues of Kueue that admit nothing: what waits in them waits until somebody mends them, and says no word of it.

A queue that its owners have stopped (stopPolicy) is no failure.
Sources: kubernetes-sigs/kueue, apis/kueue (LocalQueue, ClusterQueue: conditions and reasons of Active) and
pkg/controller/constants (the label); kueue.sigs.k8s.io: Troubleshooting Queues.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from conformance.facts import WORKLOAD_KINDS, Facts, Pod, Resource
from conformance.gpu.affinity import selector_matches
from conformance.gpu.labels import KUEUE, KUEUE_QUEUE, NAMESPACE_NAME
from conformance.verdict import Inconclusive
from suites._shared.grace import is_recent

OPEN_THE_QUEUE = (
    f"Mend the queue, or let the workload name another one (label {KUEUE_QUEUE}): Kueue admits it then, and "
    "nothing has to be made again."
)
"""What to do about a queue that admits nothing."""

QUEUE_THEM = (
    f"Give what makes these pods the label {KUEUE_QUEUE}, or its namespace a LocalQueue called default; or have Kueue "
    "manage all of it (manageJobsWithoutQueueName), or give the namespace a ResourceQuota with requests.<resource>."
)
"""What to do about pods that run beside the queues of their namespace."""

_DEFAULT_QUEUE = "default"

# A queue that was stopped, and one whose ClusterQueue was: somebody wanted that.
_WANTED = ("Stopped", "ClusterQueueIsInactive")


def why_nothing_is_admitted(labels: Mapping[str, str], namespace: str, facts: Facts) -> str:
    """Why the queue that an object names by its label admits nothing; empty where it does, or where that is unknown."""
    name = labels.get(KUEUE_QUEUE, "")
    with suppress(Inconclusive):
        local_queues, cluster_queues = facts.local_queues, facts.cluster_queues
        if not name or not (local_queues or cluster_queues):
            return ""
        local = next((each for each in local_queues if (each.namespace, each.name) == (namespace, name)), None)
        if local is None:
            return f"there is no LocalQueue {name} of Kueue in namespace {namespace}"
        above = str(local.spec.get("clusterQueue"))
        cluster = next((each for each in cluster_queues if each.name == above), None)
        if cluster is None:
            return f"{local} of Kueue names ClusterQueue {above}, which does not exist"
        return _why_inactive((cluster, local), facts.taken_at) or _why_not_from(namespace, cluster, facts)
    return ""


def _why_not_from(namespace: str, cluster: Resource, facts: Facts) -> str:
    """That a ClusterQueue takes nothing of a namespace; empty where it does, or where it does not say."""
    selector, found = cluster.spec.get("namespaceSelector"), facts.namespace(namespace)
    if not isinstance(selector, dict) or found is None:
        return ""
    if selector_matches(selector, {**found.labels, NAMESPACE_NAME: namespace}):
        return ""
    return f"{cluster} of Kueue takes nothing of namespace {namespace}: its namespaceSelector does not select it"


def runs_past_the_queues(pod: Pod, facts: Facts) -> bool:
    """Whether a pod runs that Kueue has not admitted: nothing of it and of what makes it names Kueue.

    Kueue leaves alone what names no queue (kubernetes-sigs/kueue, KEP-3589: manageJobsWithoutQueueName, off by
    default), unless the namespace has a LocalQueue called default, which what is created later gets. Where the object
    that makes it is of a kind that is not read, its labels are not known.
    """
    if not pod.node or pod.finished or _names_kueue(pod.labels, pod.annotations):
        return False
    if any((each.namespace, each.name) == (pod.namespace, _DEFAULT_QUEUE) for each in facts.local_queues):
        return False
    top = facts.ownership.top_of(pod)
    if top.kind == "Pod":
        return top.name == pod.name
    if top.kind not in WORKLOAD_KINDS:
        return False
    workload = facts.workload(top.kind, pod.namespace, top.name)
    return workload is not None and not (
        _names_kueue(workload.labels, workload.annotations)
        or _names_kueue(workload.template.labels, workload.template.annotations)
    )


def _names_kueue(*members: Mapping[str, str]) -> bool:
    return any(key.startswith(KUEUE) for each in members for key in each)


def _why_inactive(queues: Iterable[Resource], now: datetime) -> str:
    for queue in queues:
        conditions: Iterable[Mapping[str, Any]] = queue.status.get("conditions") or ()
        active = next((each for each in conditions if each.get("type") == "Active"), {})
        if active.get("status") == "False" and active.get("reason") not in _WANTED and not _is_new(active, now):
            return f"{queue} of Kueue is not active: {active.get('message') or active.get('reason')}"
    return ""


def _is_new(condition: Mapping[str, Any], now: datetime) -> bool:
    changed = condition.get("lastTransitionTime")
    return bool(changed) and is_recent(datetime.fromisoformat(str(changed)), now)

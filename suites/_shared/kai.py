"""The KAI scheduler by its objects: queues, their workloads, and the pods that it may evict.

Sources: kai-scheduler/KAI-Scheduler v0.17, docs/queues, docs/priority and pkg/podgrouper (queue and class of a
workload), pkg/common/podgroup (preemptibility), pkg/apis/scheduling (fields of Queue and PodGroup).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from conformance.facts import Facts, Pod, Resource
from conformance.facts.owners import POD_GROUP_ANNOTATION
from conformance.gpu.labels import KAI_FRACTION, KAI_FRACTION_DEVICES
from conformance.gpu.mig import ProfileName
from conformance.reference.model import Reference
from conformance.reference.stack import Kai
from conformance.subjects import ObjectReference
from conformance.verdict import NotApplicable, Unsupported
from suites._shared.queue_trees import with_those_above

PREEMPTIBILITY = "kai.scheduler/preemptibility"
PREEMPTIBLE = ("preemptible", "semi-preemptible")
CLASS_LABEL = "priorityClassName"
DEFAULT_QUEUE = "default-queue"
"""The queue of workloads that name none."""

NON_PREEMPTIBLE_FROM = 100
"""From this value of their priority class on workloads are never evicted by KAI, unless their label says otherwise."""

TRAIN, INFERENCE = "train", "inference"
"""The classes of workloads that name none: inference for the pods of a Deployment, train for most others."""

VALUE_WITHOUT_CLASS = 50
"""Where the class does not exist and none is the global default (pkg/common/constants, DefaultPodGroupPriority)."""

UNBOUNDED = -1.0

_NEVER_END = ("ReplicaSet", "StatefulSet")


class Queue(NamedTuple):
    """One queue. ``quota`` and ``limit`` are in GPUs, -1 without bound; an absent one is 0."""

    resource: Resource
    parent: str
    quota: float
    limit: float

    @property
    def subject(self) -> ObjectReference:
        """What it is in a report."""
        return self.resource.subject

    def __str__(self) -> str:
        return str(self.resource)

    @property
    def name(self) -> str:
        """Its name, which is unique in the cluster."""
        return self.resource.name

    @property
    def inspect(self) -> str:
        """The command that shows it."""
        return f"kubectl get queues.scheduling.run.ai {self.name} -o yaml"


def kai_of(reference: Reference, facts: Facts) -> Kai:
    """KAI as declared, or with its defaults where it is only installed.

    Raises NotApplicable where it is neither, Unsupported where it is declared and its kinds are not served.
    """
    served = facts.serves("Queue")
    if reference.kai is None and not served:
        raise NotApplicable(f"{reference} declares no KAI scheduler, and the cluster has none")
    if not served:
        raise Unsupported(f"{reference.kai} is declared, and the API server serves no queues of scheduling.run.ai")
    return reference.kai or Kai()


def queues_of(facts: Facts) -> dict[str, Queue]:
    """Every queue by name."""
    return {each.name: _queue(each) for each in facts.queues}


def leaves(queues: Mapping[str, Queue]) -> set[str]:
    """The queues without child queues: only these accept workloads."""
    return set(queues) - {each.parent for each in queues.values()}


def pods_of_kai(facts: Facts, kai: Kai) -> tuple[Pod, ...]:
    """The pods that KAI schedules and that have not ended."""
    return tuple(pod for pod in facts.pods if pod.scheduler == kai.scheduler and not pod.finished)


def queue_of(pod: Pod, kai: Kai, facts: Facts) -> str:
    """The queue of a pod: its group's, or the one of its label; empty when there is none."""
    group = group_of(pod, facts)
    named = str(group.spec.get("queue") or "") if group is not None else ""
    return named or pod.labels.get(kai.queue_label, "")


def group_of(pod: Pod, facts: Facts) -> Resource | None:
    """The pod group of a pod, None before KAI has made one."""
    name = pod.annotations.get(POD_GROUP_ANNOTATION, "")
    groups = (each for each in facts.pod_groups if each.namespace == pod.namespace and each.name == name)
    return next(groups, None) if name else None


def is_preemptible(pod: Pod, facts: Facts) -> bool:
    """Whether KAI may evict a pod for another one: by its group or label, else by the value of its class."""
    group = group_of(pod, facts)
    preemptibility = str(group.spec.get("preemptibility") or "") if group is not None else ""
    preemptibility = preemptibility or pod.labels.get(PREEMPTIBILITY, "")
    if preemptibility:
        return preemptibility.lower() in PREEMPTIBLE
    return value_of(pod, facts) < NON_PREEMPTIBLE_FROM


def class_of(pod: Pod) -> str:
    """The priority class of a pod in Kubernetes, or the one of its label where it has none."""
    return pod.priority_class or pod.labels.get(CLASS_LABEL, "")


def priority_class_for_kai(pod: Pod, facts: Facts) -> str:
    """The priority class that KAI uses for a pod: that of its group, or the one that its group will get.

    KAI prefers the label to the spec, and ignores a class that does not exist. The label of an owner, which has
    precedence over both, is not read; a ReplicaSet is assumed to be one of a Deployment.
    """
    group = group_of(pod, facts)
    if group is not None:
        return str(group.spec.get("priorityClassName") or "")
    named = pod.labels.get(CLASS_LABEL, pod.priority_class)
    if facts.priority_class(named) is not None:
        return named
    return INFERENCE if pod.owner_kind == "ReplicaSet" else TRAIN


def value_of(pod: Pod, facts: Facts) -> int:
    """The value of that class; where it does not exist, that of the global default."""
    found = facts.priority_class(priority_class_for_kai(pod, facts))
    if found is not None:
        return found.value
    return next((each.value for each in facts.priority_classes if each.global_default), VALUE_WITHOUT_CLASS)


def gpu_units(pod: Pod) -> float:
    """The GPUs that a queue counts for a pod: 1 for a GPU, for a MIG device its slices, for a gpu-fraction that.

    A request for ``gpu-memory`` is not counted: which fraction of a GPU that is, depends on the node of the pod.
    """
    units = _number(pod.annotations.get(KAI_FRACTION)) * (_number(pod.annotations.get(KAI_FRACTION_DEVICES)) or 1)
    for resource, count in pod.gpu_requests().items():
        profile = ProfileName.from_resource(resource)
        units += count * (profile.slices if profile is not None else 1)
    return units


def units_at_once(pods: Iterable[Pod], facts: Facts) -> float:
    """The least number of GPUs that pods of one queue need at once.

    Jobs may wait for each other, so that only the largest group of them counts. Services never end: all of them count.
    """
    services, groups = 0.0, defaultdict[str, list[Pod]](list)
    for pod in pods:
        if pod.owner_kind in _NEVER_END:
            services += gpu_units(pod)
        else:
            groups[str(group_of(pod, facts) or pod)].append(pod)
    return services + max((_units_to_start(group, facts) for group in groups.values()), default=0.0)


def with_ancestors(name: str, queues: Mapping[str, Queue]) -> Iterator[str]:
    """A queue and its ancestors; a cycle of queues is walked once."""
    return with_those_above(name, queues, lambda queue: queue.parent)


def divided(chain: list[Queue], queues: Mapping[str, Queue]) -> Queue | None:
    """The queue of a chain (a queue, then those above it) by whose quota KAI divides GPUs; None where none bounds it.

    KAI takes back what a queue uses beyond its quota when another queue of the same parent asks for what is its own,
    and starts nothing there that it could not evict (docs/fairness, plugins/proportion: reclaimable, quota_check). From
    a queue without bound it takes nothing back, however small the quotas below it are. Where no other queue is there to
    ask, only a quota above 0 says that GPUs were divided.
    """
    for queue in reversed(chain):
        others = [each for each in queues.values() if each.parent == queue.parent and each.name != queue.name]
        if queue.quota != UNBOUNDED and (others or queue.quota):
            return queue
        if queue.quota == UNBOUNDED and any(_promises(each, queues) for each in others):
            return None
    return None


def _promises(queue: Queue, queues: Mapping[str, Queue]) -> bool:
    """Whether a queue, or one below it, has GPUs of its own."""
    return any(each.quota and queue.name in with_ancestors(each.name, queues) for each in queues.values())


def _units_to_start(pods: list[Pod], facts: Facts) -> float:
    """The GPUs of a group when only minMember of its pods are scheduled; the others may follow later."""
    group = group_of(pods[0], facts)
    least = int(group.spec.get("minMember") or 1) if group is not None else 1
    return sum(sorted(map(gpu_units, pods))[:least])


def _queue(resource: Resource) -> Queue:
    gpu = (resource.spec.get("resources") or {}).get("gpu") or {}
    return Queue(
        resource, str(resource.spec.get("parentQueue") or ""), _number(gpu.get("quota")), _number(gpu.get("limit"))
    )


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0

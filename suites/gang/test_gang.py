"""Gangs: pods that work only together, the queues in which they wait, and the pods that are preempted for them.

A training job of eight workers that got seven GPUs computes nothing and holds seven. kube-scheduler schedules pod by
pod; with two such jobs, each may hold GPUs that the other needs. A gang scheduler such as KAI schedules all pods of a
group or none, and has rules of its own: workloads are in queues with quotas, and a priority class means something else
than in Kubernetes. KAI never evicts a class of value 100 or more, so that "training preempts experiments" can be
declared, pass every requirement about PriorityClasses, and never happen.
"""

from collections import defaultdict
from datetime import timedelta

import pytest

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Pod, Resource
from conformance.reference.model import Reference
from conformance.reference.stack import Kai
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, format_value
from suites._shared.formatting import join_limited
from suites._shared.gpu_requests import gpu_pods
from suites._shared.kai import (
    DEFAULT_QUEUE,
    NON_PREEMPTIBLE_FROM,
    PREEMPTIBILITY,
    UNBOUNDED,
    Queue,
    class_of,
    gpu_units,
    group_of,
    is_preemptible,
    kai_of,
    leaves,
    pods_of_kai,
    priority_class_for_kai,
    queue_of,
    queues_of,
    units_at_once,
    value_of,
    with_ancestors,
)
from suites._shared.priority_order import declared_preemptions

# How long the pods of one group may start one after the other; a node that is being added takes minutes.
GROUP_START = timedelta(minutes=10)


@pytest.fixture
def kai(reference: Reference, facts: Facts) -> Kai:
    """The KAI scheduler, declared or installed."""
    return kai_of(reference, facts)


@pytest.fixture
def queues(kai: Kai, facts: Facts) -> dict[str, Queue]:
    """Its queues by name."""
    return queues_of(facts)


@pytest.fixture
def kai_pods(kai: Kai, facts: Facts) -> tuple[Pod, ...]:
    """The pods that it schedules."""
    pods = pods_of_kai(facts, kai)
    if not pods:
        raise NotApplicable(f"no pod names {kai} as its scheduler")
    return pods


@requirement(
    "GANG-01",
    "KAI queues exist as declared, and every parentQueue names an existing queue",
    level=MUST,
    sources=["kai-queues"],
    remedy="Apply the declared queues, parents first.",
)
def test_queues_exist_as_declared(kai: Kai, queues: dict[str, Queue], judge: Judge) -> None:
    for declared in kai.queues:
        live = queues.get(declared.name)
        wanted = {"parent": declared.parent, "gpu quota": declared.gpu_quota, "gpu limit": declared.gpu_limit}
        wanted = {key: value for key, value in wanted.items() if value is not None}
        found = {"parent": live.parent, "gpu quota": live.quota, "gpu limit": live.limit} if live else {}
        differing = [key for key, value in wanted.items() if found.get(key) != value]
        judge(
            declared,
            ok=live is not None and not differing,
            expected=wanted or "exists",
            actual={key: found[key] for key in wanted} or "exists" if live else "no such queue",
            cause=f"{', '.join(differing)} differ from what is declared" if live else "",
            hidden_because="pods of a queue that is missing or smaller stay Pending, without an error of the queue",
            inspect=f"kubectl get queues.scheduling.run.ai {declared.name} -o yaml",
        )
    for queue in queues.values():
        if queue.parent:
            judge(
                queue.subject.only("spec.parentQueue"),
                ok=queue.parent in queues,
                expected=f"queue {queue.parent} exists",
                actual="it exists" if queue.parent in queues else f"there is no queue {queue.parent}",
                cause="KAI ignores a queue whose parent does not exist, with all of its workloads",
                hidden_because="the API server accepts any name as parentQueue",
                inspect=queue.inspect,
            )
    judge.without_subjects(NotApplicable(f"{kai} has no queue, and none is declared"))


@requirement(
    "GANG-02",
    "Every pod scheduled by KAI is in an existing leaf queue",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["kai-queues", "kai-612"],
    remedy="Label the workload with an existing leaf queue.",
)
def test_workloads_are_in_queues(
    kai: Kai, kai_pods: tuple[Pod, ...], queues: dict[str, Queue], facts: Facts, judge: Judge
) -> None:
    accepting = leaves(queues)
    for subject, pods in _by_owner(kai_pods).items():
        named = queue_of(pods[0], kai, facts)
        queue = named or DEFAULT_QUEUE
        judge(
            subject,
            ok=queue in accepting,
            expected=f"label {kai.queue_label} with a queue that accepts workloads",
            actual=f"{kai.queue_label}={named}" if named else f"no label {kai.queue_label}",
            cause=_why_not_in(queue, named, queues),
            hidden_because="the pod stays Pending as if no GPU were free; kube-scheduler does not process it at all",
            inspect=f"kubectl get pods -n {pods[0].namespace} -L {kai.queue_label}",
        )


@requirement(
    "GANG-03",
    "No KAI queue is asked for more GPUs than its limit, or than its quota by non-preemptible pods",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["kai-queues", "kai-priority"],
    remedy="Raise the limit, or for workloads that are never evicted the quota, of the queue or of the one above it; "
    "or let those workloads be preemptible.",
)
def test_no_queue_is_asked_for_more_than_it_may_have(
    kai: Kai, kai_pods: tuple[Pod, ...], queues: dict[str, Queue], facts: Facts, judge: Judge
) -> None:
    members: dict[str, list[Pod]] = defaultdict(list)
    for pod in kai_pods:
        for name in with_ancestors(queue_of(pod, kai, facts) or DEFAULT_QUEUE, queues):
            members[name].append(pod)
    for name, pods in members.items():
        queue = queues[name]
        asked = units_at_once(pods, facts)
        non_preemptible = units_at_once((pod for pod in pods if not is_preemptible(pod, facts)), facts)
        over_limit = queue.limit != UNBOUNDED and asked > queue.limit
        over_quota = queue.quota != UNBOUNDED and non_preemptible > queue.quota
        judge(
            queue,
            ok=not over_limit and not over_quota,
            expected=f"at most {queue.limit:g} GPUs at once, {queue.quota:g} by pods that are never evicted"
            if queue.limit != UNBOUNDED
            else f"at most {queue.quota:g} GPUs by pods that are never evicted",
            actual=f"{asked:g} GPUs at once, {non_preemptible:g} by pods that are never evicted",
            cause="what is beyond its limit waits, however many GPUs are free"
            if over_limit
            else "pods that are never evicted have to fit into the quota, however many GPUs are free",
            hidden_because="only a condition of the PodGroup shows it: nodes have free GPUs, and pods stay Pending",
            inspect=queue.inspect,
        )
    if not members:
        raise NotApplicable("no pod of KAI is in a queue that exists (GANG-02)")


@requirement(
    "GANG-04",
    "Pods and PriorityClasses declared to be preempted are preemptible under KAI",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["guide-5", "kai-priority"],
    remedy=f"Give the pods the label {PREEMPTIBILITY}=preemptible, or a class below {NON_PREEMPTIBLE_FROM} such as "
    "KAI's own train.",
)
def test_what_is_to_be_preempted_can_be(kai: Kai, reference: Reference, facts: Facts, judge: Judge) -> None:
    winners: dict[str, list[str]] = defaultdict(list)
    for winner, loser in declared_preemptions(reference):
        winners[loser.name].append(winner.name)
    pods = pods_of_kai(facts, kai)
    for below, above in winners.items():
        its_own = [pod for pod in pods if class_of(pod) == below]
        for subject, members in _by_owner(tuple(its_own)).items():
            judge(
                subject,
                ok=is_preemptible(members[0], facts),
                expected=f"preemptible for {format_value(above)}, as declared for priority class {below}",
                actual="preemptible" if is_preemptible(members[0], facts) else "never evicted by KAI",
                cause=_why_not_preemptible(members[0], facts),
                hidden_because="Kubernetes would evict it: every requirement about PriorityClasses passes",
                inspect=f"kubectl get pods -n {members[0].namespace} -L {PREEMPTIBILITY}",
            )
        if not its_own and reference.kai is not None:
            _judge_class(below, above, facts, judge)
    judge.without_subjects(NotApplicable(f"no pod of {kai} has a class that is declared to be preempted"))


@requirement(
    "GANG-05",
    "No KAI PodGroup has some of its minMember pods placed while the others keep waiting",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["kai-batch"],
    remedy="See the conditions of the pod group; delete it when another scheduler placed its pods.",
)
def test_no_pod_group_is_placed_in_part(kai: Kai, kai_pods: tuple[Pod, ...], facts: Facts, judge: Judge) -> None:
    groups: dict[ObjectReference, Resource] = {}
    members: dict[ObjectReference, list[Pod]] = defaultdict(list)
    for pod in kai_pods:
        group = group_of(pod, facts)
        if group is not None:
            groups[group.subject] = group
            members[group.subject].append(pod)
    if not groups:
        raise NotApplicable("no pod of KAI belongs to a pod group yet")
    for subject, group in groups.items():
        wanted = int(group.spec.get("minMember") or 1)
        placed = [pod for pod in members[subject] if pod.node]
        waiting = [pod for pod in members[subject] if not pod.node and _has_waited(pod, facts)]
        judge(
            subject,
            ok=not (0 < len(placed) < wanted and waiting),
            expected=f"none or at least {wanted} of its pods scheduled",
            actual=f"{len(placed)} scheduled, {len(waiting)} Pending for long",
            cause=f"{len(placed)} pods hold {sum(map(gpu_units, placed)):g} GPUs and wait for the others",
            hidden_because="the running pods look healthy; they only wait for the others of their group",
            inspect=f"kubectl describe podgroups.scheduling.run.ai -n {group.namespace} {group.name}",
        )


@requirement(
    "GANG-06",
    "No two jobs hold GPUs while each of them waits for more",
    level=SHOULD,
    owner=Owner.UNKNOWN,
    sources=["kube-batch-158", "koordinator-872", "kai-batch"],
    remedy="Delete one of the jobs, so that the other one finishes; let a gang scheduler (KAI, Kueue, Volcano) place "
    "jobs whose pods need each other.",
)
def test_no_two_jobs_hold_what_the_other_needs(facts: Facts, reference: Reference, judge: Judge) -> None:
    jobs: dict[ObjectReference, list[Pod]] = defaultdict(list)
    for pod in gpu_pods(facts, reference):
        if pod.owner_kind and pod.owner_kind not in _NO_GANGS and not pod.finished:
            jobs[_job_of(pod)].append(pod)
    if not jobs:
        raise NotApplicable("no pod that requests GPUs belongs to a job")
    halves = {job: pods for job, pods in jobs.items() if _is_gang(pods[0]) and _is_half_placed(pods, facts)}
    undecided = [job for job, pods in jobs.items() if _may_be_gang(pods[0]) and _is_half_placed(pods, facts)]
    not_judged = undecided if len(halves) + len(undecided) > 1 else []
    if len(not_judged) == len(jobs):
        raise Inconclusive(f"{join_limited([str(job) for job in not_judged])} are scheduled in part, and {_DOUBT}")
    for job in not_judged:
        judge.pass_over(job, f"it is scheduled in part, and {_DOUBT}")
    judge(
        ObjectReference.many("Job", f"{len(jobs) - len(not_judged)} jobs with GPUs"),
        ok=len(halves) < 2,
        expected="at most one of them scheduled in part for long",
        actual=join_limited([str(job) for job in halves]) or "none",
    )
    for job, pods in halves.items() if len(halves) > 1 else ():
        placed = [pod for pod in pods if pod.node]
        others = [str(other) for other in halves if other != job]
        judge(
            job,
            ok=False,
            expected="all of its pods scheduled, or none",
            actual=f"{len(placed)} of {len(pods)} scheduled",
            cause=f"it holds {sum(map(gpu_units, placed)):g} GPUs that {join_limited(others)} may be waiting for, "
            "and waits for theirs",
            hidden_because="every pod is either Running or Pending for lack of GPUs, as on any busy cluster",
            inspect=f"kubectl get pods -n {pods[0].namespace} -o wide",
        )


# Replicas of a service and node agents work one by one.
_NO_GANGS = ("ReplicaSet", "StatefulSet", "DaemonSet", "Node")
# Their pods compute together (kubeflow.org: Job Scheduling). Steps of a workflow, executors of Spark and workers of Ray
# work one by one too.
_GANGS = ("JAXJob", "MPIJob", "PaddleJob", "PyTorchJob", "TFJob", "XGBoostJob")
# On the pods of a JobSet, whose owners are the Jobs that it made (jobset.sigs.k8s.io: Labels and annotations).
_JOB_SET = "jobset.sigs.k8s.io/jobset-name"
# On the pods of Indexed Jobs (kubernetes.io: Jobs). Those of other Jobs take work from a queue, each for itself.
_INDEX = "batch.kubernetes.io/job-completion-index"
_DOUBT = "an Indexed Job does not declare whether its pods need each other"


def _job_of(pod: Pod) -> ObjectReference:
    if _JOB_SET in pod.labels:
        name = pod.labels[_JOB_SET]
        return ObjectReference.of("JobSet", name, namespace=pod.namespace, text=f"jobset {pod.namespace}/{name}")
    text = f"{pod.owner_kind.lower()} {pod.namespace}/{pod.owner_name}"
    return ObjectReference.of(pod.owner_kind, pod.owner_name, namespace=pod.namespace, text=text)


def _is_gang(pod: Pod) -> bool:
    """Whether the pods of its job work only together."""
    return pod.owner_kind in _GANGS or _JOB_SET in pod.labels


def _may_be_gang(pod: Pod) -> bool:
    """Whether they may: the pods of an Indexed Job may also work independently of each other."""
    return pod.owner_kind == "Job" and _INDEX in pod.annotations and not _is_gang(pod)


def _by_owner(pods: tuple[Pod, ...]) -> dict[ObjectReference, list[Pod]]:
    """Pods by what owns them; one without owner by itself."""
    found: dict[ObjectReference, list[Pod]] = defaultdict(list)
    for pod in pods:
        found[pod.of_owner].append(pod)
    return found


def _why_not_in(queue: str, named: str, queues: dict[str, Queue]) -> str:
    if queue not in queues:
        return f"there is no queue {queue}" + ("" if named else ", the default for workloads without label")
    return f"queue {queue} has child queues: only queues without accept workloads"


def _why_not_preemptible(pod: Pod, facts: Facts) -> str:
    value = value_of(pod, facts)
    if value < NON_PREEMPTIBLE_FROM:
        return f"its PodGroup or its label {PREEMPTIBILITY} makes it non-preemptible"
    name = priority_class_for_kai(pod, facts)
    by_class = f"class {name}, which KAI uses for it, has" if name else "without a class KAI gives it"
    return f"{by_class} a value of {value}, and no label {PREEMPTIBILITY} makes it preemptible"


def _judge_class(loser: str, above: list[str], facts: Facts, judge: Judge) -> None:
    """Judge a class without pods by its value alone."""
    live = facts.priority_class(loser)
    value = live.value if live is not None else 0
    judge(
        ObjectReference.of("PriorityClass", loser),
        ok=value < NON_PREEMPTIBLE_FROM,
        expected=f"a value below {NON_PREEMPTIBLE_FROM}, as {format_value(above)} is declared to preempt its pods",
        actual=value,
        cause=f"KAI never evicts pods of a class with {NON_PREEMPTIBLE_FROM} or more without the label "
        f"{PREEMPTIBILITY}",
        hidden_because="Kubernetes would evict them: every requirement about PriorityClasses passes",
        inspect=f"kubectl get priorityclass {loser}",
    )


def _has_waited(pod: Pod, facts: Facts) -> bool:
    return not pod.gated and pod.created is not None and facts.taken_at - pod.created > GROUP_START


def _is_half_placed(pods: list[Pod], facts: Facts) -> bool:
    return any(pod.node for pod in pods) and any(not pod.node and _has_waited(pod, facts) for pod in pods)

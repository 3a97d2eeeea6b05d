"""Whether a queue of KAI, or one above it, has reached the bound that keeps a pod waiting, and who uses it.

A queue's limit bounds all of its pods and of those below it, its quota only those that are not preemptible. Bounds that
are not stated are not judged. Pods are counted by their GPUs: a MIG device by its slices, a fraction as that. What a
request for GPU memory is of a GPU depends on the node, so those are left out: more may be used than is told.
Sources: https://github.com/NVIDIA/KAI-Scheduler (docs/queues, docs/priority; pkg/scheduler/plugins/proportion,
capacity_policy: resultsOverLimit and resultsWithNonPreemptibleOverQuota walk the queue and its parents).
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from conformance.explaining.seen import Seen
from conformance.explaining.users import MOST_USERS, and_others
from conformance.gpu.labels import KAI_FRACTION, KAI_FRACTION_DEVICES
from conformance.gpu.mig import ProfileName
from conformance.gpu.placement import Manifest, requests_of
from conformance.gpu.quantities import quantity
from conformance.gpu.resources import GPU

SCHEDULER = "kai-scheduler"
QUEUE_LABEL = "kai.scheduler/queue"
# In the examples of KAI-Scheduler of April 2025 (its issues 44, 49 and 65), since then the one above.
OLD_QUEUE_LABEL = "runai/queue"
GROUP_ANNOTATION = "pod-group-name"
_PREEMPTIBILITY = "kai.scheduler/preemptibility"
_NON_PREEMPTIBLE_FROM = 100
_NOTHING = Fraction(0)


class _Use(NamedTuple):
    pod: str
    gpus: Fraction
    preemptible: bool | None


def group_of(seen: Seen, pod: Manifest) -> Manifest:
    """The PodGroup that KAI has made for a pod, empty before."""
    name = str((pod["metadata"].get("annotations") or {}).get(GROUP_ANNOTATION) or "")
    return (seen.find("PodGroup", str(pod["metadata"].get("namespace")), name) if name else None) or {}


def queue_of(seen: Seen, pod: Manifest) -> str:
    """The queue of a pod: its group's, or the one of its label; empty where it names none."""
    labels = pod["metadata"].get("labels") or {}
    return str((group_of(seen, pod).get("spec") or {}).get("queue") or labels.get(QUEUE_LABEL) or "")


def over_bound(seen: Seen, pod: Manifest) -> tuple[str, str]:
    """Which bound of its queue or of one above keeps a pod waiting, and what to do; empty where none does."""
    try:
        wanted = _wanted(seen, pod)
        for queue in seen.with_parents("Queue", queue_of(seen, pod), "parentQueue"):
            told = _over(seen, pod, queue, wanted)
            if told[0]:
                return told
    except ValueError:
        # An amount that is none: what KAI says of it is told.
        pass
    return "", ""


def _over(seen: Seen, pod: Manifest, queue: Manifest, wanted: Fraction) -> tuple[str, str]:
    gpu = ((queue.get("spec") or {}).get("resources") or {}).get("gpu") or {}
    uses = seen.once("uses of KAI queues", lambda: _uses(seen)).get(str(queue["metadata"]["name"]), [])
    told = _beyond("limit", gpu, wanted, uses)
    if told:
        where, remedy = (
            "",
            "Nothing is broken: wait until some of that has ended, ask for less, or have the limit raised.",
        )
    elif _is_preemptible(seen, pod) is False:
        told = _beyond("quota", gpu, wanted, [use for use in uses if use.preemptible is False])
        where = ", which bounds pods that are not preemptible"
        remedy = "Make the workload preemptible if it may be evicted, wait, ask for less, or have the quota raised."
    return (f"KAI queue {queue['metadata']['name']}{where}: {told}", remedy) if told else ("", "")


def _beyond(bound: str, gpu: Manifest, wanted: Fraction, uses: list[_Use]) -> str:
    """By how much a bound is passed, empty where it is not; a negative one is none."""
    allowed = quantity(gpu[bound]) if bound in gpu else Fraction(-1)
    used = sum((use.gpus for use in uses), _NOTHING)
    if allowed < 0 or not wanted or used + wanted <= allowed:
        return ""
    largest = sorted(uses, key=lambda use: (-use.gpus, use.pod))[:MOST_USERS]
    told = [f"{use.pod} ({_said(use.gpus)})" for use in largest]
    by = f" by {and_others(told, len(uses))}" if uses else ""
    missing = _said(used + wanted - allowed)
    return (
        f"{_said(wanted)} GPUs asked for, its {bound} is {_said(allowed)}, "
        f"{_said(used)} are used{by}: {missing} too many"
    )


def _said(gpus: Fraction) -> str:
    return f"{float(gpus):.10g}"


def _wanted(seen: Seen, pod: Manifest) -> Fraction:
    """The least that has to be had at once: of a group with too few pods so many as its minMember says."""
    group = group_of(seen, pod)
    if not group:
        return _gpus(pod)
    metadata = group["metadata"]
    others = seen.once("pods by KAI group", lambda: _by_group(seen))
    pods = others.get((str(metadata.get("namespace")), str(metadata["name"])), [])
    bound = sum(bool(each["spec"].get("nodeName")) for each in pods)
    least = int((group.get("spec") or {}).get("minMember") or 1) - bound
    waiting = sorted(_gpus(each) for each in pods if not each["spec"].get("nodeName"))
    return sum(waiting[:least], _NOTHING) if least > 1 else _gpus(pod)


def _by_group(seen: Seen) -> dict[tuple[str, str], list[Manifest]]:
    by_group: dict[tuple[str, str], list[Manifest]] = {}
    for pod in seen.of("Pod"):
        name = (pod["metadata"].get("annotations") or {}).get(GROUP_ANNOTATION)
        if name and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            by_group.setdefault((str(pod["metadata"].get("namespace")), str(name)), []).append(pod)
    return by_group


def _uses(seen: Seen) -> Mapping[str, list[_Use]]:
    """What the bound pods of each queue and of those below it use; pods that are going are not counted."""
    uses: dict[str, list[_Use]] = {}
    for pods in seen.bound.values():
        for pod in pods:
            gpus = _gpus(pod) if _counts(pod) else _NOTHING
            if gpus:
                use = _Use(
                    f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}", gpus, _is_preemptible(seen, pod)
                )
                for queue in seen.with_parents("Queue", queue_of(seen, pod), "parentQueue"):
                    uses.setdefault(str(queue["metadata"]["name"]), []).append(use)
    return uses


def _counts(pod: Manifest) -> bool:
    return pod["spec"].get("schedulerName") == SCHEDULER and not pod["metadata"].get("deletionTimestamp")


def _gpus(pod: Manifest) -> Fraction:
    annotations = pod["metadata"].get("annotations") or {}
    gpus = quantity(annotations.get(KAI_FRACTION) or 0) * (quantity(annotations.get(KAI_FRACTION_DEVICES) or 0) or 1)
    for resource, amount in requests_of(pod).items():
        profile = ProfileName.from_resource(resource)
        counted = profile.slices if profile is not None else int(resource == GPU)
        gpus += amount * counted
    return gpus


def _is_preemptible(seen: Seen, pod: Manifest) -> bool | None:
    """Whether KAI may evict a pod for another one; None where neither its group, its label nor its class says so."""
    spec = group_of(seen, pod).get("spec") or {}
    said = str(spec.get("preemptibility") or (pod["metadata"].get("labels") or {}).get(_PREEMPTIBILITY) or "").lower()
    if said:
        return said != "non-preemptible"
    found = seen.find("PriorityClass", "", str(spec.get("priorityClassName") or ""))
    return int(found.get("value") or 0) < _NON_PREEMPTIBLE_FROM if found is not None else None

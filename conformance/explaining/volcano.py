"""Whether the queue or the PodGroup of a pod is why Volcano lets it wait: computed from what the two say.

A PodGroup is let in (phase Inqueue) when what it needs at least (minResources) fits into the capability of its queue
and of those above it, beside what is allocated there; of what is let in and not placed a queue says nothing, so more
may be taken than is told. Sources: https://github.com/volcano-sh/apis (pkg/apis/scheduling/v1beta1);
https://github.com/volcano-sh/volcano (pkg/scheduler/plugins/capacity and proportion: "queue resource quota
insufficient"), https://github.com/volcano-sh/volcano/issues/3220 and 3198.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from conformance.explaining.seen import Seen
from conformance.gpu.labels import VOLCANO, VOLCANO_DEFAULT_QUEUE, VOLCANO_GROUP_KEYS, VOLCANO_QUEUE
from conformance.gpu.placement import Manifest, in_units
from conformance.gpu.quantities import quantity

_OPEN = "Open"
_WAITS_OUTSIDE = ("", "Pending")
"""The phases of a PodGroup that its queue has not let in."""
_QUEUE, _PARENT, _GROUP = "VolcanoQueue", "parent", "VolcanoPodGroup"


class _Lack(NamedTuple):
    queue: str
    resource: str
    wanted: Fraction
    allowed: Fraction
    allocated: Fraction


def held(seen: Seen, pod: Manifest) -> tuple[str, str]:
    """What its queue or its PodGroup lets a pod wait for, and what to do; empty where neither says anything."""
    if pod["spec"].get("schedulerName") != VOLCANO:
        return "", ""
    name, namespace = _group_name(pod), str(pod["metadata"].get("namespace"))
    group = seen.find(_GROUP, namespace, name) if name else None
    if name and group is None and seen.of(_GROUP):
        return (
            f"there is no PodGroup {name} of Volcano in its namespace",
            "Make the PodGroup, or correct the annotation of the pod's template that names it.",
        )
    return _held_by_queue(seen, group, _queue_name(pod, group or {})) or _too_few(seen, group) or ("", "")


def job_held(seen: Seen, job: Manifest) -> tuple[str, str]:
    """Why a Job of Volcano has no pods, and what to do; empty where nothing says so.

    Its controller makes the pods only when the queue has let in the Job's PodGroup (volcano-sh/volcano,
    pkg/controllers/job: syncJob); a Job that was aborted has none until it is resumed.
    """
    phase = str((((job.get("status") or {}).get("state")) or {}).get("phase") or "")
    if phase.startswith("Abort"):
        return f"it was suspended ({phase}), so that it has no pods", "Resume it (vcctl job resume) when it is to run."
    group = _group_of_job(seen, job)
    queue = str((job.get("spec") or {}).get("queue") or _queue_name(job, group or {}))
    held_back = _held_by_queue(seen, group, queue)
    if held_back or group is None or str((group.get("status") or {}).get("phase") or "") not in _WAITS_OUTSIDE:
        return held_back or ("", "")
    words, named = _said(group), group["metadata"]["name"]
    return (
        f"Volcano queue {queue} has not let in its PodGroup {named}, and its pods are made only then"
        f"{f': {words}' if words else ''}",
        "See whether Volcano's scheduler runs (with the action enqueue), and what the queue's other PodGroups hold.",
    )


def _group_of_job(seen: Seen, job: Manifest) -> Manifest | None:
    """The PodGroup that the controller made of a Job: named after it and its UID, in older versions after it alone."""
    namespace, name, uid = (str(job["metadata"].get(each) or "") for each in ("namespace", "name", "uid"))
    for group in seen.within(_GROUP, namespace):
        owners = group["metadata"].get("ownerReferences") or ()
        if uid and any(each.get("uid") == uid for each in owners):
            return group
    return seen.find(_GROUP, namespace, f"{name}-{uid}") or seen.find(_GROUP, namespace, name)


def _held_by_queue(seen: Seen, group: Manifest | None, queue: str) -> tuple[str, str] | None:
    if seen.of(_QUEUE) and seen.find(_QUEUE, "", queue) is None:
        return f"there is no Volcano queue {queue}", "Make the queue, or name one that there is."
    return _closed(seen, queue) or _without_room(seen, group, queue)


def said_of(seen: Seen, pod: Manifest) -> str:
    """What Volcano says of the PodGroup of a pod, as long as it says that it does not fit; empty where it does not."""
    return _said(seen.find(_GROUP, str(pod["metadata"].get("namespace")), _group_name(pod)) or {})


def _said(group: Manifest) -> str:
    stated = (group.get("status") or {}).get("conditions") or ()
    told = [each for each in stated if each.get("type") == "Unschedulable" and each.get("status") == "True"]
    return next((str(each["message"]) for each in reversed(told) if each.get("message")), "")


def _group_name(pod: Manifest) -> str:
    metadata = pod["metadata"]
    keys = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((str(keys[key]) for key in VOLCANO_GROUP_KEYS if keys.get(key)), "")


def _queue_name(pod: Manifest, group: Manifest) -> str:
    annotations = pod["metadata"].get("annotations") or {}
    return str((group.get("spec") or {}).get("queue") or annotations.get(VOLCANO_QUEUE) or VOLCANO_DEFAULT_QUEUE)


def _closed(seen: Seen, name: str) -> tuple[str, str] | None:
    for queue in seen.with_parents(_QUEUE, name, _PARENT):
        state = str((queue.get("status") or {}).get("state") or _OPEN)
        if state != _OPEN:
            closed = f"Volcano queue {queue['metadata']['name']} is {state}: it takes no PodGroup"
            return closed, "Open the queue (vcctl queue operate --action open), or name another one."
    return None


def _without_room(seen: Seen, group: Manifest | None, name: str) -> tuple[str, str] | None:
    status, spec = ((group or {}).get(part) or {} for part in ("status", "spec"))
    if group is None or str(status.get("phase") or "") not in _WAITS_OUTSIDE:
        return None
    lacking = next((lack for queue in seen.with_parents(_QUEUE, name, _PARENT) for lack in _lacks(queue, spec)), None)
    if lacking is None:
        return None
    wanted, allowed, used = (
        in_units(lacking.resource, each) for each in (lacking.wanted, lacking.allowed, lacking.allocated)
    )
    return (
        f"Volcano queue {lacking.queue} has not let in its PodGroup {group['metadata']['name']}: {wanted} "
        f"{lacking.resource} asked for (minResources), its capability is {allowed}, {used} are allocated",
        "Nothing is broken: wait until some of that has ended, ask for less, or have the capability raised.",
    )


def _lacks(queue: Manifest, spec: Manifest) -> Iterator[_Lack]:
    """The resources of which a queue has too little left, devices first."""
    capability = (queue.get("spec") or {}).get("capability") or {}
    allocated = (queue.get("status") or {}).get("allocated") or {}
    for resource, amount in sorted((spec.get("minResources") or {}).items(), key=lambda each: "/" not in each[0]):
        # A group may say requests.nvidia.com/gpu, as quotas do.
        bare = resource.removeprefix("requests.")
        if bare in capability:
            wanted, allowed = quantity(amount), quantity(capability[bare])
            used = quantity(allocated.get(bare, "0"))
            if used + wanted > allowed:
                yield _Lack(str(queue["metadata"]["name"]), bare, wanted, allowed, used)


def _too_few(seen: Seen, group: Manifest | None) -> tuple[str, str] | None:
    """A gang of which not all pods were made."""
    if group is None:
        return None
    least = int((group.get("spec") or {}).get("minMember") or 1)
    name, namespace = str(group["metadata"]["name"]), str(group["metadata"].get("namespace"))
    there = seen.once(("Volcano group", namespace, name), lambda: _members(seen, namespace, name))
    if there >= least:
        return None
    return (
        f"its PodGroup {name} places {least} pods at once (minMember), of which there {'is' if there == 1 else 'are'} "
        f"{there}",
        "See why the others are not made (quota, admission), or correct minMember.",
    )


def _members(seen: Seen, namespace: str, name: str) -> int:
    ended = ("Succeeded", "Failed")
    pods = (pod for pod in seen.within("Pod", namespace) if _group_name(pod) == name)
    return sum((pod.get("status") or {}).get("phase") not in ended for pod in pods)

"""Pods that nobody may schedule yet: gates, suspended Jobs, and what queues of Kueue, KAI and Volcano say of them.

Why Kueue or Volcano holds one and which bound of a KAI queue is reached is computed (kueue, volcano, kai_quota). What
the controllers say is told where nothing that was computed explains it. Sources: kubernetes-sigs/kueue (apis/kueue,
constants), kai-scheduler/KAI-Scheduler (docs/quickstart, pkg/apis/scheduling/v2alpha2).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from conformance.explaining import kai_quota, kueue, volcano
from conformance.explaining.explanation import Explanation, Stage
from conformance.explaining.seen import Seen, condition, has_condition, reporters_of
from conformance.gpu.labels import KUEUE, VOLCANO, VOLCANO_GROUP_KEYS
from conformance.gpu.placement import Manifest
from conformance.verdict import join_limited

_GROVE = "grove.io/podgang-pending-creation"
_ASK_GROVE = (
    "kubectl get podgangs,podcliques -n NAMESPACE -o yaml says what is missing; where nothing is, the log of "
    "grove-operator does. Deleting the pod makes another one with the same gate."
)
KAI = kai_quota.SCHEDULER
_GROUP_KEYS = (
    # kubernetes-sigs/scheduler-plugins, apis/scheduling/v1alpha1.
    *VOLCANO_GROUP_KEYS, "scheduling.x-k8s.io/pod-group",
)  # fmt: skip


def held_back(seen: Seen, pod: Manifest) -> Explanation | None:
    """The explanation of a pod that a gate or its queue holds back, None for others."""
    if pod["spec"].get("nodeName"):
        return None
    gates = [str(gate["name"]) for gate in pod["spec"].get("schedulingGates") or ()]
    if gates:
        return _gated(seen, pod, gates)
    if pod["spec"].get("schedulerName") == kai_quota.SCHEDULER:
        words, remedy = _by_kai(seen, pod)
        return _queued(words, remedy) if words else None
    words, remedy = volcano.held(seen, pod)
    return _queued(words, remedy) if words else None


def waits_for(seen: Seen, pod: Manifest) -> str:
    """What a scheduler that is not Kubernetes' own says of a pod or of its group; empty where it says nothing."""
    scheduler = pod["spec"].get("schedulerName")
    words = _of_group(seen, pod) if scheduler == kai_quota.SCHEDULER else ""
    words = volcano.said_of(seen, pod) if scheduler == VOLCANO else words
    found = condition(pod, "PodScheduled")
    words = words or str(found.get("message") or "" if found.get("status") == "False" else "")
    words = words or _warned(seen, pod, str(scheduler))
    return f"the scheduler {scheduler} says: {words}" if words else ""


def _warned(seen: Seen, pod: Manifest, scheduler: str) -> str:
    """The newest warning of a scheduler about a pod, or about the group of pods to which it says that it belongs."""
    metadata = pod["metadata"]
    keys = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    groups = [str(keys[key]) for key in _GROUP_KEYS if keys.get(key)]
    about = [
        {"kind": "PodGroup", "metadata": {"namespace": metadata.get("namespace"), "name": name}} for name in groups
    ]
    told = [each for each in seen.warnings_of(pod) if scheduler in reporters_of(each)]
    return next((str(each.get("message")) for each in (*told, *seen.warnings_of(*about)) if each.get("message")), "")


def is_seen(seen: Seen, scheduler: str) -> bool:
    """Whether anything of a scheduler is there: a pod that is called so, or one that it has placed."""
    return seen.once(("scheduler", scheduler), lambda: any(_is_of(scheduler, each) for each in seen.of("Pod")))


def _is_of(scheduler: str, pod: Manifest) -> bool:
    if pod["spec"].get("schedulerName") == scheduler:
        return bool(pod["spec"].get("nodeName"))
    return scheduler in str(pod["metadata"]["name"]) or any(
        scheduler in str(each.get("name")) or scheduler in str(each.get("image"))
        for each in pod["spec"].get("containers") or ()
    )


def suspended(seen: Seen, job: Manifest) -> tuple[str, str]:
    """Why a Job, or another workload that can be suspended, is, and what to do."""
    where = "spec.suspend" if (job.get("spec") or {}).get("suspend") else "spec.runPolicy.suspend"
    words, remedy = kueue.held(seen, job, (str(job["kind"]),))
    if words:
        return f"it is suspended ({where}), and Kueue has not started it: {words}", remedy
    return (
        f"it is suspended ({where}), so that no pod is made",
        "A queue such as Kueue resumes it when its quota allows; without one somebody suspended it by hand.",
    )


def _queued(cause: str, remedy: str) -> Explanation:
    return Explanation(subject="", stage=Stage.QUEUED, cause=cause, remedy=remedy)


def _gated(seen: Seen, pod: Manifest, gates: Sequence[str]) -> Explanation:
    named = f"scheduling gate{'s' if len(gates) > 1 else ''} {', '.join(gates)}"
    if any(gate.startswith(KUEUE) for gate in gates):
        words, remedy = kueue.held(seen, pod, ("Pod",))
        cause = f"it is queued: Kueue has not opened the {named}, and no scheduler looks at it before"
        namespace = pod["metadata"].get("namespace")
        where = f"kubectl get workloads.kueue.x-k8s.io -n {namespace} says for which quota it waits."
        return _queued(f"{cause}{f': {words}' if words else ''}", remedy or f"Nothing is broken. {where}")
    if _GROVE in gates:
        return _queued(
            f"it is queued: {_by_grove(seen, pod)}",
            _ASK_GROVE.replace("NAMESPACE", str(pod["metadata"].get("namespace"))),
        )
    return _queued(
        f"the {named} is still there, and no scheduler looks at it before it has gone",
        "Look for the controller that set the gate: it takes it away when the pod may be scheduled.",
    )


def _by_grove(seen: Seen, pod: Manifest) -> str:
    """Why Grove keeps its gate: for the gang below which it scales, or because its own gang is not complete.

    Source: ai-dynamo/grove, operator/internal/controller/podclique/components/pod (syncflow), docs/designs.
    """
    labels, namespace = pod["metadata"].get("labels") or {}, pod["metadata"].get("namespace")
    base, own = labels.get("grove.io/base-podgang"), labels.get("grove.io/podgang")
    if not base:
        whole = f"PodGang {own}" if own else "its PodGang"
        return f"Grove opens the scheduling gate {_GROVE} when {whole} is there and all of its pods have been made"
    others = (each for each in seen.within("Pod", namespace) if _gang_of(each) == base)
    waiting = [str(each["metadata"]["name"]) for each in others if not has_condition(each, "Ready")]
    told = f", of which {join_limited(waiting)} {'is' if len(waiting) == 1 else 'are'} not ready" if waiting else ""
    return f"Grove opens the scheduling gate {_GROVE} when PodGang {base} runs, on which its own one builds{told}"


def _gang_of(pod: Manifest) -> str:
    return str((pod["metadata"].get("labels") or {}).get("grove.io/podgang") or "")


def _by_kai(seen: Seen, pod: Manifest) -> tuple[str, str]:
    """What is wrong with the queue of a KAI pod, or which of its bounds is reached; empty where nothing is."""
    queue = kai_quota.queue_of(seen, pod)
    if not queue:
        of_before = (pod["metadata"].get("labels") or {}).get(kai_quota.OLD_QUEUE_LABEL)
        old = f"; its label {kai_quota.OLD_QUEUE_LABEL}={of_before} is one of older versions" if of_before else ""
        return (
            f"it names no queue: KAI places only pods with the label {kai_quota.QUEUE_LABEL}{old}",
            f"Give the pod (or its owner's template) the label {kai_quota.QUEUE_LABEL} with the name of a queue.",
        )
    if "Queue" in seen.objects and seen.find("Queue", "", queue) is None:
        return (
            f"there is no KAI queue {queue} (label {kai_quota.QUEUE_LABEL})",
            "Make the queue, or name one that there is.",
        )
    return kai_quota.over_bound(seen, pod)


def _of_group(seen: Seen, pod: Manifest) -> str:
    status: Mapping[str, Any] = kai_quota.group_of(seen, pod).get("status") or {}
    stated = [*(status.get("schedulingConditions") or ()), *(status.get("conditions") or ())]
    return next((str(each["message"]) for each in stated if each.get("message")), "")

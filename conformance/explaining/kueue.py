"""Why Kueue holds a pod or a Job: its queue, admission checks, the quota, the order of the queue, or Kueue's own words.

What is computed comes first; the words of its conditions are told where nothing that was computed explains it.
Sources: https://kueue.sigs.k8s.io/docs/concepts/workload/, https://kueue.sigs.k8s.io/docs/concepts/admission_check/,
kubernetes-sigs/kueue (apis/kueue: stopPolicy, namespaceSelector, queueingStrategy, admissionChecks).
"""

from collections.abc import Callable, Sequence

from conformance.explaining import kueue_quota
from conformance.explaining.kueue_books import priority_of
from conformance.explaining.seen import Seen, condition, has_condition
from conformance.gpu.affinity import selector_matches
from conformance.gpu.labels import KUEUE_QUEUE
from conformance.gpu.placement import Manifest

_GROUP = "kueue.x-k8s.io/pod-group-name"
_STOPS = ("Hold", "HoldAndDrain")
_NOTHING = ("", "")


def held(seen: Seen, obj: Manifest, kinds: Sequence[str]) -> tuple[str, str]:
    """Why Kueue holds an object of one of these kinds, and what to do; both empty where nothing is known."""
    workload = workload_of(seen, obj, kinds) or {}
    namespace, labels = str(obj["metadata"].get("namespace")), obj["metadata"].get("labels") or {}
    name = str((workload.get("spec") or {}).get("queueName") or labels.get(KUEUE_QUEUE) or "")
    local = seen.find("LocalQueue", namespace, name) if name else None
    queue = _cluster_queue(seen, local)
    told = _deactivated(workload)
    for each in (local, queue):
        told = told if told[0] else _closed(each)
    told = told if told[0] else _of_checks(workload)
    if not told[0] and queue is not None:
        steps: tuple[Callable[[], tuple[str, str]], ...] = (
            lambda: _other_namespace(seen, namespace, queue),
            lambda: kueue_quota.lacking(seen, workload, queue),
            lambda: _behind(seen, workload, queue),
        )
        told = next((found for step in steps if (found := step())[0]), _NOTHING)
    return told if told[0] else _in_words_of_kueue(workload) or _without_queue(seen, name, local)


def workload_of(seen: Seen, obj: Manifest, kinds: Sequence[str]) -> Manifest | None:
    """Kueue's Workload of an object: that of its group of pods, or the first that it owns."""
    metadata = obj["metadata"]
    namespace, group = str(metadata.get("namespace")), (metadata.get("labels") or {}).get(_GROUP)
    of_group = seen.find("Workload", namespace, str(group)) if group else None
    owned = seen.once("workloads by owner", lambda: _by_owner(seen))
    found = (owned.get((namespace, kind, str(metadata["name"]))) for kind in kinds)
    return of_group or next((each for each in found if each is not None), None)


def pods_asked_for(seen: Seen, obj: Manifest) -> int:
    """How many pods the Workload of an object asks for; 0 where it has none."""
    workload = workload_of(seen, obj, (str(obj["kind"]),)) or {}
    return sum(int(each.get("count") or 1) for each in (workload.get("spec") or {}).get("podSets") or ())


def _by_owner(seen: Seen) -> dict[tuple[str, str, str], Manifest]:
    by_owner: dict[tuple[str, str, str], Manifest] = {}
    for workload in seen.of("Workload"):
        for owner in workload["metadata"].get("ownerReferences") or ():
            key = str(workload["metadata"].get("namespace")), str(owner.get("kind")), str(owner.get("name"))
            by_owner.setdefault(key, workload)
    return by_owner


def _cluster_queue(seen: Seen, local: Manifest | None) -> Manifest | None:
    return seen.find("ClusterQueue", "", str(((local or {}).get("spec") or {}).get("clusterQueue") or ""))


def _deactivated(workload: Manifest) -> tuple[str, str]:
    """Whoever deactivates a Workload, its Job's back-off limit or a person, has it evicted and not tried again."""
    if (workload.get("spec") or {}).get("active") is not False:
        return _NOTHING
    why = condition(workload, "Evicted") or condition(workload, "DeactivationTarget")
    words = f": {why.get('reason')}: {why.get('message') or 'no message'}" if why else ""
    return (
        f"its Workload {workload['metadata']['name']} is deactivated (spec.active is false){words}",
        "Fix what made it so, then set spec.active of the Workload to true: Kueue does not try it again before.",
    )


def _closed(queue: Manifest | None) -> tuple[str, str]:
    """A queue that is stopped or not active admits nothing."""
    if queue is None:
        return _NOTHING
    named = f"{queue['kind']} {queue['metadata']['name']}"
    if (queue.get("spec") or {}).get("stopPolicy") in _STOPS:
        return f"{named} is stopped", "Whoever stopped the queue starts it again."
    inactive = condition(queue, "Active")
    if inactive.get("status") == "False":
        words = inactive.get("message") or inactive.get("reason") or "it does not say why"
        return (
            f"{named} is not active: {words}",
            "Have what it names made or repaired by whoever owns the queue: it admits nothing before.",
        )
    return _NOTHING


def _of_checks(workload: Manifest) -> tuple[str, str]:
    """The admission checks that are not done, once the quota is reserved."""
    if not has_condition(workload, "QuotaReserved") or has_condition(workload, "Admitted"):
        return _NOTHING
    checks = (workload.get("status") or {}).get("admissionChecks") or ()
    left = [each for each in checks if each.get("state") != "Ready"]
    if not left:
        return _NOTHING
    told = [
        f"{each.get('name')} ({each.get('state')}{f': {words}' if (words := each.get('message')) else ''})"
        for each in left
    ]
    named = f"admission check{'s' if len(left) > 1 else ''}"
    return (
        f"it has its quota, and waits for the {named} {', '.join(told)}",
        "Whoever answers the check says more: a ProvisioningRequest of an autoscaler, another cluster (MultiKueue).",
    )


def _other_namespace(seen: Seen, namespace: str, queue: Manifest) -> tuple[str, str]:
    selector, labels = (queue.get("spec") or {}).get("namespaceSelector"), (seen.namespaces or {}).get(namespace)
    if selector is None or labels is None or selector_matches(selector, labels):
        return _NOTHING
    return (
        f"ClusterQueue {queue['metadata']['name']} takes no Workloads of namespace {namespace} (namespaceSelector)",
        "Use a queue that is for this namespace, or have the selector or the labels of the namespace corrected.",
    )


def _behind(seen: Seen, workload: Manifest, queue: Manifest) -> tuple[str, str]:
    """In a queue of strict order nothing passes the first that waits."""
    strict = (queue.get("spec") or {}).get("queueingStrategy") == "StrictFIFO"
    if not workload or not strict or has_condition(workload, "QuotaReserved"):
        return _NOTHING
    waiting = [each for each in seen.of("Workload") if _waits_in(seen, each, queue)]
    first = min(waiting, key=_turn, default=workload)
    if _turn(first) >= _turn(workload):
        return _NOTHING
    why = kueue_quota.lacking(seen, first, queue)[0]
    return (
        f"ClusterQueue {queue['metadata']['name']} is StrictFIFO, and Workload "
        f"{first['metadata'].get('namespace')}/{first['metadata']['name']} before it waits{f': {why}' if why else ''}",
        "See why the first one waits; queueingStrategy BestEffortFIFO lets those pass for which there is quota.",
    )


def _waits_in(seen: Seen, workload: Manifest, queue: Manifest) -> bool:
    spec = workload.get("spec") or {}
    if spec.get("active") is False or has_condition(workload, "QuotaReserved", "Finished"):
        return False
    local = seen.find("LocalQueue", str(workload["metadata"].get("namespace")), str(spec.get("queueName") or ""))
    found = _cluster_queue(seen, local)
    return found is not None and found["metadata"]["name"] == queue["metadata"]["name"]


def _turn(workload: Manifest) -> tuple[int, str]:
    """Higher priorities first, then by age; one that was evicted, as its pods were not ready, queues up anew."""
    evicted = condition(workload, "Evicted")
    again = evicted.get("status") == "True" and evicted.get("reason") == "PodsReadyTimeout"
    since = evicted.get("lastTransitionTime") if again else workload["metadata"].get("creationTimestamp")
    return -priority_of(workload), str(since or "")


def _in_words_of_kueue(workload: Manifest) -> tuple[str, str] | None:
    for kind in ("QuotaReserved", "Admitted"):
        found = condition(workload, kind)
        if found.get("status") == "False" and found.get("message"):
            remedy = "Nothing is broken: wait, ask for less, or have the quota of its ClusterQueue raised."
            return str(found["message"]), remedy
    return None


def _without_queue(seen: Seen, name: str, local: Manifest | None) -> tuple[str, str]:
    if name and local is None and "LocalQueue" in seen.objects:
        return f"there is no LocalQueue {name} in its namespace", "Make the LocalQueue, or name one that there is."
    cluster_queue = str(((local or {}).get("spec") or {}).get("clusterQueue") or "")
    if local is not None and "ClusterQueue" in seen.objects and _cluster_queue(seen, local) is None:
        return (
            f"LocalQueue {name} names the ClusterQueue {cluster_queue}, there is none",
            "Make the ClusterQueue, or let the LocalQueue name one that there is.",
        )
    return _NOTHING

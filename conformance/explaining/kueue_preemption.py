"""Whom Kueue may preempt for a Workload, as far as quotas, priorities and the policy of its ClusterQueue tell.

Fair sharing, borrowWithinCohort and the order in which Kueue tries are part of its configuration or of what it did
before; they are not read, so it is said what may be taken, never that it will be. Source:
https://kueue.sigs.k8s.io/docs/concepts/preemption/.
"""

from collections.abc import Iterable
from fractions import Fraction

from conformance.explaining.kueue_books import NOTHING, Books, Place, Use, priority_of
from conformance.explaining.users import MOST_USERS, and_others
from conformance.gpu.placement import Manifest, in_units

_NEVER, _ANY = "Never", "Any"


def said(books: Books, queue: Manifest, workload: Manifest, place: Place, wanted: Fraction) -> str:
    """Who may be preempted for what a Workload wants of a place, or why nobody is."""
    stated = (queue.get("spec") or {}).get("preemption") or {}
    within = str(stated.get("withinClusterQueue") or _NEVER)
    reclaim = str(stated.get("reclaimWithinCohort") or _NEVER) if books.cohort else _NEVER
    policy = f"withinClusterQueue {within}" + (f", reclaimWithinCohort {reclaim}" if books.cohort else "")
    if within == reclaim == _NEVER:
        return f"nobody is preempted for it ({policy})"
    found = [*_within(books, workload, place, within), *_reclaimable(books, workload, place, reclaim, wanted)]
    taken = sum((each.amount for each in found), NOTHING)
    if taken < wanted - max(NOTHING, books.available(place)):
        return f"those who may be preempted for it hold too little ({policy})"
    largest = sorted(found, key=lambda each: (-each.amount, each.workload))
    names = [f"{each.workload} ({in_units(place[1], each.amount)})" for each in largest[:MOST_USERS]]
    return f"Kueue may preempt for it: {and_others(names, len(found))} ({policy})"


def _within(books: Books, workload: Manifest, place: Place, policy: str) -> Iterable[Use]:
    """Workloads of its own queue; of equal priority newer ones, where the policy names those too."""
    if policy == _NEVER:
        return
    mine, made = priority_of(workload), str(workload["metadata"].get("creationTimestamp") or "")
    for each in books.uses(place):
        newer = policy == "LowerOrNewerEqualPriority" and each.priority == mine and each.made > made
        if each.queue == books.queue and (each.priority < mine or newer):
            yield each


def _reclaimable(books: Books, workload: Manifest, place: Place, policy: str, wanted: Fraction) -> Iterable[Use]:
    """Workloads of queues that have borrowed, for what is within the nominal quota of its own."""
    if policy == _NEVER or books.used_by(books.queue, place) + wanted > books.own(place).nominal:
        return
    for each in books.uses(place):
        others = each.queue != books.queue and books.borrowed_by(each.queue, place) > 0
        if others and (policy == _ANY or each.priority < priority_of(workload)):
            yield each

"""The quotas of a ClusterQueue and of its tree of cohorts, and what admitted Workloads use of them.

Computed as Kueue computes it: each level (a ClusterQueue, a Cohort) has its own nominal quota and what those below
it lend; what it does not lend is kept for those below; what they use beyond what they keep counts at the level above,
up to the borrowing limit. A cohort that is named and has no Cohort object is one without quota, limits and parent.
Sources: https://kueue.sigs.k8s.io/docs/concepts/cluster_queue/ and https://kueue.sigs.k8s.io/docs/concepts/cohort/,
kubernetes-sigs/kueue (pkg/cache/scheduler/resource_node.go: localQuota, available, potentialAvailable).
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from conformance.explaining.seen import Seen, has_condition
from conformance.gpu.placement import Manifest
from conformance.gpu.quantities import quantity

NOTHING = Fraction(0)
Place: TypeAlias = tuple[str, str]
"""A flavor and a resource."""
_Level: TypeAlias = tuple[str, str]
"""Kind and name of a ClusterQueue or a Cohort."""


class Quota(NamedTuple):
    """What a level has of one resource in one flavor. None is a limit that is not set."""

    nominal: Fraction = NOTHING
    borrowing: Fraction | None = None
    lending: Fraction | None = None


class Use(NamedTuple):
    """What one admitted Workload uses of a resource in a flavor."""

    queue: str
    workload: str
    amount: Fraction
    priority: int
    made: str


class Books:
    """What one ClusterQueue may use; ``cohort`` is empty where it is in none, ``circular`` is a parent of itself."""

    def __init__(self, seen: Seen, queue: Manifest) -> None:
        self.queue, self.cohort = str(queue["metadata"]["name"]), cohort_of(queue)
        self._quotas: dict[_Level, Mapping[Place, Quota]] = {}
        self._below: dict[_Level, list[_Level]] = {}
        self._above, self.circular = _parents(seen, self.cohort)
        self._take_in(seen, queue)
        self._uses: dict[Place, list[Use]] = {}
        self._used: dict[tuple[str, Place], Fraction] = {}
        self._count(seen)

    def own(self, place: Place) -> Quota:
        """The quota of the queue itself; nothing where it has none."""
        return self._quota(("ClusterQueue", self.queue), place)

    def used_by(self, queue: str, place: Place) -> Fraction:
        """What admitted Workloads of a queue use."""
        return self._used.get((queue, place), NOTHING)

    def uses(self, place: Place) -> Sequence[Use]:
        """What is used of a place by queues of the tree, the largest first."""
        return sorted(self._uses.get(place, ()), key=lambda each: (-each.amount, each.workload))

    def borrowed_by(self, queue: str, place: Place) -> Fraction:
        """How much a queue uses beyond its nominal quota."""
        return max(NOTHING, self.used_by(queue, place) - self._quota(("ClusterQueue", queue), place).nominal)

    def available(self, place: Place) -> Fraction:
        """What a Workload of the queue may still use; less than nothing where quotas have shrunk."""
        return self._available(("ClusterQueue", self.queue), place)

    def at_most(self, place: Place) -> Fraction:
        """What a Workload of the queue might use if nobody else used anything."""
        return self._at_most(("ClusterQueue", self.queue), place)

    def _quota(self, level: _Level, place: Place) -> Quota:
        return self._quotas.get(level, {}).get(place, Quota())

    def _parent(self, level: _Level) -> _Level | None:
        return next((above for above, below in self._below.items() if level in below), None)

    def _whole(self, level: _Level, place: Place) -> Fraction:
        """The quota of a level with what those below it lend."""
        lent = (self._whole(each, place) - self._kept(each, place) for each in self._below.get(level, ()))
        return sum(lent, self._quota(level, place).nominal)

    def _kept(self, level: _Level, place: Place) -> Fraction:
        """What a level does not lend."""
        lending = self._quota(level, place).lending
        return NOTHING if lending is None else max(NOTHING, self._whole(level, place) - lending)

    def _use(self, level: _Level, place: Place) -> Fraction:
        if level[0] == "ClusterQueue":
            return self.used_by(level[1], place)
        beyond = (self._use(each, place) - self._kept(each, place) for each in self._below.get(level, ()))
        return sum((max(NOTHING, each) for each in beyond), NOTHING)

    def _available(self, level: _Level, place: Place) -> Fraction:
        above, use = self._parent(level), self._use(level, place)
        if above is None:
            return self._whole(level, place) - use
        kept, of_above = self._kept(level, place), self._available(above, place)
        borrowing = self._quota(level, place).borrowing
        if borrowing is not None:
            stored = self._whole(level, place) - kept
            of_above = min(of_above, stored - max(NOTHING, use - kept) + borrowing)
        return max(NOTHING, kept - use) + of_above

    def _at_most(self, level: _Level, place: Place) -> Fraction:
        above, whole = self._parent(level), self._whole(level, place)
        if above is None:
            return whole
        most = self._kept(level, place) + self._at_most(above, place)
        borrowing = self._quota(level, place).borrowing
        return most if borrowing is None else min(most, whole + borrowing)

    def _take_in(self, seen: Seen, queue: Manifest) -> None:
        """All queues and cohorts below the root of the queue's own cohort."""
        queues = [queue] if not self.cohort else [each for each in seen.of("ClusterQueue") if self._is_in_tree(each)]
        for each in queues:
            level = "ClusterQueue", str(each["metadata"]["name"])
            self._quotas[level] = dict(_quotas(each))
            if cohort_of(each):
                self._below.setdefault(("Cohort", cohort_of(each)), []).append(level)
        for name, parent in self._above.items():
            if parent:
                self._below.setdefault(("Cohort", parent), []).append(("Cohort", name))
        for each in seen.of("Cohort"):
            name = str(each["metadata"]["name"])
            if name in self._above:
                self._quotas["Cohort", name] = dict(_quotas(each))

    def _is_in_tree(self, queue: Manifest) -> bool:
        return cohort_of(queue) in self._above

    def _count(self, seen: Seen) -> None:
        for workload in seen.of("Workload"):
            admission = (workload.get("status") or {}).get("admission") or {}
            known = ("ClusterQueue", str(admission.get("clusterQueue"))) in self._quotas
            if known and not has_condition(workload, "Finished"):
                for place, use in _uses(workload, admission):
                    self._uses.setdefault(place, []).append(use)
                    self._used[use.queue, place] = self.used_by(use.queue, place) + use.amount


def cohort_of(queue: Manifest) -> str:
    """The cohort of a ClusterQueue: ``cohort`` in v1beta1, ``cohortName`` in v1beta2."""
    spec = queue.get("spec") or {}
    return str(spec.get("cohortName") or spec.get("cohort") or "")


def priority_of(workload: Manifest) -> int:
    """The priority of a Workload; nothing where it states none."""
    return int((workload.get("spec") or {}).get("priority") or 0)


def _parents(seen: Seen, cohort: str) -> tuple[dict[str, str], str]:
    """The cohorts of a tree with the parent of each, and one that is its own ancestor, empty where none is."""
    if not cohort:
        return {}, ""
    stated = {str(each["metadata"]["name"]): _parent_of(each) for each in seen.of("Cohort")}
    root, passed = cohort, {cohort}
    while stated.get(root):
        root = stated[root]
        if root in passed:
            return {}, root
        passed.add(root)
    tree = {root: ""}
    found = [root]
    while found:
        found = [name for name, parent in stated.items() if parent in found and name not in tree]
        tree |= {name: stated[name] for name in found}
    return tree, ""


def _parent_of(cohort: Manifest) -> str:
    """``parentName`` since v1beta1, ``parent`` before."""
    spec = cohort.get("spec") or {}
    return str(spec.get("parentName") or spec.get("parent") or "")


def _quotas(level: Manifest) -> Iterator[tuple[Place, Quota]]:
    for group in (level.get("spec") or {}).get("resourceGroups") or ():
        for flavor in group.get("flavors") or ():
            for each in flavor.get("resources") or ():
                borrowing, lending = (each.get(key) for key in ("borrowingLimit", "lendingLimit"))
                limits = (None if limit is None else quantity(limit) for limit in (borrowing, lending))
                yield (str(flavor["name"]), str(each["name"])), Quota(quantity(each.get("nominalQuota", 0)), *limits)


def _uses(workload: Manifest, admission: Manifest) -> Iterator[tuple[Place, Use]]:
    """What an admitted Workload uses, without the pods that it has given back (reclaimablePods)."""
    metadata, used = workload["metadata"], dict[Place, Fraction]()
    given_back = {
        str(each.get("name")): int(each.get("count") or 0)
        for each in (workload.get("status") or {}).get("reclaimablePods") or ()
    }
    for each in admission.get("podSetAssignments") or ():
        count = int(each.get("count") or 1)
        share = Fraction(max(0, count - given_back.get(str(each.get("name")), 0)), count)
        for resource, amount in (each.get("resourceUsage") or {}).items():
            place = str((each.get("flavors") or {}).get(resource) or ""), str(resource)
            used[place] = used.get(place, NOTHING) + quantity(amount) * share
    name, made = f"{metadata.get('namespace')}/{metadata['name']}", str(metadata.get("creationTimestamp") or "")
    for place, amount in used.items():
        if amount:
            yield place, Use(str(admission.get("clusterQueue")), name, amount, priority_of(workload), made)

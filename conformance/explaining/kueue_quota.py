"""Why the quota of a ClusterQueue has no room for a Workload: of which resource how much is missing, and who uses it.

What may be used is computed as Kueue computes it: without a cohort the nominal quota; within one what the queue does
not lend, and what is left of what the cohort's queues lend together, up to the borrowing limit. Quotas and parents of
Cohort objects are not read, which is said. Preemption and the order of a queue are not computed either, so nothing is
told where there is room. Sources: https://kueue.sigs.k8s.io/docs/concepts/cluster_queue/ and
https://kueue.sigs.k8s.io/docs/concepts/workload/, kubernetes-sigs/kueue (pkg/cache, resource node: available).
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from conformance.explaining.seen import Seen, condition, has_condition
from conformance.explaining.users import MOST_USERS, and_others
from conformance.gpu.placement import Manifest, in_units, requests_of
from conformance.gpu.quantities import quantity

_NOTHING = Fraction(0)
_MOST_FLAVORS = 3
_WAITS = "Nothing is broken: wait until enough of that has ended, ask for less, or have the quota raised."
_NEVER = "Waiting does not help: ask for less, or have the nominal quota raised by whoever owns the ClusterQueue."


class _Quota(NamedTuple):
    """What a ClusterQueue has of one resource in one flavor. None is a limit that is not set."""

    queue: str
    nominal: Fraction
    borrowing: Fraction | None
    lending: Fraction | None

    @property
    def kept(self) -> Fraction:
        """What no other queue may borrow."""
        return max(_NOTHING, self.nominal - self.lending) if self.lending is not None else _NOTHING


class _Use(NamedTuple):
    queue: str
    workload: str
    amount: Fraction


_Place = tuple[str, str]
"""A flavor and a resource."""


class _Books(NamedTuple):
    """The quotas of a ClusterQueue and of those of its cohort, and what is used of them, the largest uses first."""

    queue: str
    cohort: str
    quotas: Mapping[_Place, Sequence[_Quota]]
    uses: Mapping[_Place, Sequence[_Use]]
    used: Mapping[tuple[str, _Place], Fraction]

    def own(self, place: _Place) -> _Quota:
        """The quota of the queue itself; nothing where it has none."""
        found = (each for each in self.quotas.get(place, ()) if each.queue == self.queue)
        return next(found, _Quota(self.queue, _NOTHING, None, None))

    def used_by(self, queue: str, place: _Place) -> Fraction:
        """What admitted Workloads of a queue use."""
        return self.used.get((queue, place), _NOTHING)

    def available(self, place: _Place) -> Fraction:
        """What a Workload of the queue may still use; less than nothing where quotas have shrunk."""
        own, mine = self.own(place), self.used_by(self.queue, place)
        if not self.cohort:
            return own.nominal - mine
        shared = sum((self._left_to_share(each, place) for each in self.quotas.get(place, ())), _NOTHING)
        if own.borrowing is not None:
            shared = min(shared, self._left_to_share(own, place) + own.borrowing)
        return max(_NOTHING, own.kept - mine) + shared

    def _left_to_share(self, quota: _Quota, place: _Place) -> Fraction:
        over = max(_NOTHING, self.used_by(quota.queue, place) - quota.kept)
        return quota.nominal - quota.kept - over


def lacking(seen: Seen, workload: Manifest, queue: Manifest) -> tuple[str, str]:
    """What a Workload lacks in its ClusterQueue, and what to do; empty where it lacks nothing, or nothing is known."""
    if has_condition(workload, "QuotaReserved"):
        return "", ""
    try:
        books = seen.once(("quotas", queue["metadata"]["name"]), lambda: _books(seen, queue))
        for group in (queue.get("spec") or {}).get("resourceGroups") or ():
            for demand in _demands(workload, group):
                told = _lacking_in(books, group, demand)
                if told[0]:
                    return told
        return _uncovered(workload, queue)
    except ValueError:
        # An amount that is none: what Kueue says of it is told.
        return "", ""


def _uncovered(workload: Manifest, queue: Manifest) -> tuple[str, str]:
    """Resources that the queue does not cover, where Kueue names them too: it may be told to leave some out."""
    groups = (queue.get("spec") or {}).get("resourceGroups") or ()
    covered = {str(name) for group in groups for name in group.get("coveredResources") or ()}
    asked = {name for demand in _asked(workload) for name, amount in demand.items() if amount}
    words = str(condition(workload, "QuotaReserved").get("message") or "")
    named = sorted(name for name in asked - covered if name in words)
    if not named:
        return "", ""
    there = ", ".join(sorted(covered)) or "nothing"
    return (
        f"ClusterQueue {queue['metadata']['name']} covers no {', '.join(named)}: it covers {there}",
        "Waiting does not help: name a queue that covers it, or have it added to the ClusterQueue's resourceGroups.",
    )


def _lacking_in(books: _Books, group: Manifest, demand: Mapping[str, Fraction]) -> tuple[str, str]:
    """Why no flavor of a resource group has room for a demand; all of its resources are taken of one flavor."""
    flavors = [str(each["name"]) for each in group.get("flavors") or ()]
    missing = {flavor: _missing(books, flavor, demand) for flavor in flavors}
    if not demand or not flavors or any(not places for places in missing.values()):
        return "", ""
    parts = [
        f"flavor {flavor} {'; '.join(_part(books, (flavor, resource), demand[resource]) for resource in places)}"
        for flavor, places in list(missing.items())[:_MOST_FLAVORS]
    ]
    others = f"; {len(flavors) - _MOST_FLAVORS} other flavors have too little as well"
    more = others if len(flavors) > _MOST_FLAVORS else ""
    unread = "; quotas of Cohort objects are not counted" if books.cohort else ""
    never = not books.cohort and all(
        any(demand[resource] > books.own((flavor, resource)).nominal for resource in places)
        for flavor, places in missing.items()
    )
    return f"ClusterQueue {books.queue}: {'; '.join(parts)}{more}{unread}", _NEVER if never else _WAITS


def _missing(books: _Books, flavor: str, demand: Mapping[str, Fraction]) -> list[str]:
    return [resource for resource, amount in demand.items() if amount > books.available((flavor, resource))]


def _part(books: _Books, place: _Place, wanted: Fraction) -> str:
    """One resource of one flavor: what is asked for, what may be had, by which limits, and who has the rest."""
    resource, own = place[1], books.own(place)
    left = max(_NOTHING, books.available(place))
    amounts = f"lacks {_said(resource, wanted - left)}: {in_units(resource, wanted)} asked for, "
    limits = [f"nominal quota {in_units(resource, own.nominal)}"]
    if books.cohort:
        bound = (
            "without borrowing limit"
            if own.borrowing is None
            else f"borrowing limit {in_units(resource, own.borrowing)}"
        )
        limits.append(f"{bound} in cohort {books.cohort}")
    users = _users(books, place)
    return f"{amounts}{in_units(resource, left)} left ({', '.join(limits)}){f'; used by {users}' if users else ''}"


def _users(books: _Books, place: _Place) -> str:
    uses = books.uses.get(place, ())
    told = [
        f"{each.workload} ({in_units(place[1], each.amount)}"
        f"{f', of ClusterQueue {each.queue}' if each.queue != books.queue else ''})"
        for each in uses[:MOST_USERS]
    ]
    return and_others(told, len(uses))


def _said(resource: str, amount: Fraction) -> str:
    unit = "MiB of " if resource in ("memory", "ephemeral-storage") else ""
    return f"{in_units(resource, amount)} {unit}{resource}"


def _demands(workload: Manifest, group: Manifest) -> Iterator[dict[str, Fraction]]:
    """What has to be had of one flavor: all pod sets together where there is only one, else each of them."""
    covered = set(group.get("coveredResources") or ())
    each_asks = [{name: amount for name, amount in asked.items() if name in covered} for asked in _asked(workload)]
    if len(group.get("flavors") or ()) > 1:
        yield from each_asks
        return
    names = dict.fromkeys(name for asked in each_asks for name in asked)
    yield {name: sum((asked.get(name, _NOTHING) for asked in each_asks), _NOTHING) for name in names}


def _asked(workload: Manifest) -> Iterator[dict[str, Fraction]]:
    """What each pod set takes at least (minCount, where it may start with fewer pods).

    What Kueue says that it counted comes before the template: it may be configured to leave out or change resources.
    """
    counted = {str(each.get("name")): each for each in (workload.get("status") or {}).get("resourceRequests") or ()}
    for pods in (workload.get("spec") or {}).get("podSets") or ():
        wanted = int(pods.get("count", 1))
        least = int(pods.get("minCount") or wanted)
        said = counted.get(str(pods.get("name")))
        if said is not None and wanted:
            amounts = {name: quantity(text) * least / wanted for name, text in (said.get("resources") or {}).items()}
        else:
            template: dict[str, Any] = {"spec": {}, **(pods.get("template") or {})}
            amounts = {name: amount * least for name, amount in requests_of(template).items()}
        yield amounts | {"pods": Fraction(least)}


def _books(seen: Seen, queue: Manifest) -> _Books:
    cohort = _cohort(queue)
    of_cohort: list[Manifest] = [each for each in seen.of("ClusterQueue") if cohort and _cohort(each) == cohort]
    peers = of_cohort or [queue]
    names = {str(each["metadata"]["name"]) for each in peers}
    quotas: dict[_Place, list[_Quota]] = {}
    for each in peers:
        for place, quota in _quotas(each):
            quotas.setdefault(place, []).append(quota)
    uses: dict[_Place, list[_Use]] = {}
    used: dict[tuple[str, _Place], Fraction] = {}
    for workload in seen.of("Workload"):
        admission = (workload.get("status") or {}).get("admission") or {}
        if admission.get("clusterQueue") in names and not has_condition(workload, "Finished"):
            for place, use in _uses(workload, admission):
                uses.setdefault(place, []).append(use)
                used[use.queue, place] = used.get((use.queue, place), _NOTHING) + use.amount
    largest = {place: sorted(of_it, key=lambda each: (-each.amount, each.workload)) for place, of_it in uses.items()}
    return _Books(str(queue["metadata"]["name"]), cohort, quotas, largest, used)


def _cohort(queue: Manifest) -> str:
    """The cohort of a ClusterQueue: ``cohort`` in v1beta1, ``cohortName`` in v1beta2."""
    spec = queue.get("spec") or {}
    return str(spec.get("cohortName") or spec.get("cohort") or "")


def _quotas(queue: Manifest) -> Iterator[tuple[_Place, _Quota]]:
    for group in (queue.get("spec") or {}).get("resourceGroups") or ():
        for flavor in group.get("flavors") or ():
            for each in flavor.get("resources") or ():
                borrowing, lending = (each.get(key) for key in ("borrowingLimit", "lendingLimit"))
                yield (
                    (str(flavor["name"]), str(each["name"])),
                    _Quota(
                        str(queue["metadata"]["name"]),
                        quantity(each.get("nominalQuota", 0)),
                        None if borrowing is None else quantity(borrowing),
                        None if lending is None else quantity(lending),
                    ),
                )


def _uses(workload: Manifest, admission: Manifest) -> Iterator[tuple[_Place, _Use]]:
    """What an admitted Workload uses, without the pods that it has given back (reclaimablePods)."""
    metadata, used = workload["metadata"], dict[_Place, Fraction]()
    given_back = {
        str(each.get("name")): int(each.get("count") or 0)
        for each in (workload.get("status") or {}).get("reclaimablePods") or ()
    }
    for each in admission.get("podSetAssignments") or ():
        count = int(each.get("count") or 1)
        share = Fraction(max(0, count - given_back.get(str(each.get("name")), 0)), count)
        for resource, amount in (each.get("resourceUsage") or {}).items():
            place = str((each.get("flavors") or {}).get(resource) or ""), str(resource)
            used[place] = used.get(place, _NOTHING) + quantity(amount) * share
    name = f"{metadata.get('namespace')}/{metadata['name']}"
    for place, amount in used.items():
        if amount:
            yield place, _Use(str(admission.get("clusterQueue")), name, amount)

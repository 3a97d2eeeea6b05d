"""Why the quota of a ClusterQueue has no room for a Workload: of which resource how much is missing, and who uses it.

What may be used of each flavor is in kueue_books, which flavors the pods may be of in kueue_flavors, whom Kueue may
preempt in kueue_preemption. Nothing is told where there is room: the order of a queue is kueue_order's. Sources:
https://kueue.sigs.k8s.io/docs/concepts/cluster_queue/ and https://kueue.sigs.k8s.io/docs/concepts/workload/.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from conformance.explaining import kueue_flavors, kueue_preemption
from conformance.explaining.kueue_books import NOTHING, Books, Place
from conformance.explaining.seen import Seen, condition, has_condition
from conformance.explaining.users import MOST_USERS, and_others
from conformance.gpu.placement import Manifest, in_units, requests_of
from conformance.gpu.quantities import quantity

_MOST_FLAVORS = 3
_WAITS = "Nothing is broken: wait until enough of that has ended, ask for less, or have the quota raised."
_NEVER = "Waiting does not help: ask for less, or have the nominal quota raised by whoever owns the ClusterQueue."
_OTHER_FLAVOR = (
    "Waiting does not help: correct node selector, affinity or tolerations of its pods, or have the ClusterQueue offer "
    "a flavor that they may be of."
)


class _Demand(NamedTuple):
    """What has to be had of one flavor by pods of these templates."""

    amounts: Mapping[str, Fraction]
    templates: Sequence[Manifest]


class _Case(NamedTuple):
    """A Workload in its ClusterQueue."""

    seen: Seen
    workload: Manifest
    queue: Manifest
    books: Books


def lacking(seen: Seen, workload: Manifest, queue: Manifest) -> tuple[str, str]:
    """What a Workload lacks in its ClusterQueue, and what to do; empty where it lacks nothing, or nothing is known."""
    if has_condition(workload, "QuotaReserved"):
        return "", ""
    try:
        books = seen.once(("quotas", queue["metadata"]["name"]), lambda: Books(seen, queue))
        if books.circular:
            return (
                f"Cohort {books.circular} is a parent of itself, and Kueue admits nothing in such a circle",
                "Correct the parents of the Cohorts.",
            )
        case = _Case(seen, workload, queue, books)
        for group in (queue.get("spec") or {}).get("resourceGroups") or ():
            for demand in _demands(workload, group):
                told = _lacking_in(case, group, demand)
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


def _lacking_in(case: _Case, group: Manifest, demand: _Demand) -> tuple[str, str]:
    """Why no flavor of a resource group has room for a demand; all of its resources are taken of one flavor."""
    flavors = [str(each["name"]) for each in group.get("flavors") or ()]
    refused = {flavor: words for flavor in flavors if (words := _refusal(case.seen, flavor, demand))}
    missing = {flavor: _missing(case.books, flavor, demand) for flavor in flavors if flavor not in refused}
    if not any(demand.amounts.values()) or not flavors or any(not places for places in missing.values()):
        return "", ""
    told = [_of_flavor(case, flavor, demand, places) for flavor, places in missing.items()]
    told += [f"flavor {flavor} is not for it: {words}" for flavor, words in refused.items()]
    others = f"; {len(flavors) - _MOST_FLAVORS} other flavors do not take it either"
    more = others if len(flavors) > _MOST_FLAVORS else ""
    words = f"ClusterQueue {case.books.queue}: {'; '.join(told[:_MOST_FLAVORS])}{more}{_unread(case)}"
    if not missing:
        return words, _OTHER_FLAVOR
    never = all(_can_never(case, flavor, demand, places) for flavor, places in missing.items())
    return words, _NEVER if never else _WAITS


def _refusal(seen: Seen, flavor: str, demand: _Demand) -> str:
    found = (kueue_flavors.refusal(seen, flavor, template) for template in demand.templates)
    return next((words for words in found if words), "")


def _unread(case: _Case) -> str:
    unread = case.seen.lacks("Cohort") if case.books.cohort else ""
    return f"; quotas of Cohort objects are not counted, for these were not read: {unread}" if unread else ""


def _can_never(case: _Case, flavor: str, demand: _Demand, places: Sequence[str]) -> bool:
    """Whether a flavor has too little even when nobody else uses any of it."""
    known = not case.books.cohort or "Cohort" in case.seen.objects
    return known and any(demand.amounts[each] > case.books.at_most((flavor, each)) for each in places)


def _missing(books: Books, flavor: str, demand: _Demand) -> list[str]:
    return [resource for resource, amount in demand.amounts.items() if amount > books.available((flavor, resource))]


def _of_flavor(case: _Case, flavor: str, demand: _Demand, places: Sequence[str]) -> str:
    parts = "; ".join(_part(case.books, (flavor, each), demand.amounts[each]) for each in places)
    if _can_never(case, flavor, demand, places):
        return f"flavor {flavor} {parts}"
    first = flavor, places[0]
    preempted = kueue_preemption.said(case.books, case.queue, case.workload, first, demand.amounts[places[0]])
    return f"flavor {flavor} {parts}; {preempted}"


def _part(books: Books, place: Place, wanted: Fraction) -> str:
    """One resource of one flavor: what is asked for, what may be had, by which limits, and who has the rest."""
    resource, own = place[1], books.own(place)
    left = max(NOTHING, books.available(place))
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


def _users(books: Books, place: Place) -> str:
    uses = books.uses(place)
    told = [
        f"{each.workload} ({in_units(place[1], each.amount)}"
        f"{f', of ClusterQueue {each.queue}' if each.queue != books.queue else ''})"
        for each in uses[:MOST_USERS]
    ]
    return and_others(told, len(uses))


def _said(resource: str, amount: Fraction) -> str:
    unit = "MiB of " if resource in ("memory", "ephemeral-storage") else ""
    return f"{in_units(resource, amount)} {unit}{resource}"


def _demands(workload: Manifest, group: Manifest) -> Iterator[_Demand]:
    """What has to be had of one flavor: all pod sets together where there is only one, else each of them."""
    covered = set(group.get("coveredResources") or ())
    templates = [each.get("template") or {} for each in (workload.get("spec") or {}).get("podSets") or ()]
    each_asks = [{name: amount for name, amount in asked.items() if name in covered} for asked in _asked(workload)]
    asking = [(asks, template) for asks, template in zip(each_asks, templates, strict=True) if any(asks.values())]
    if len(group.get("flavors") or ()) > 1:
        yield from (_Demand(asks, [template]) for asks, template in asking)
        return
    names = dict.fromkeys(name for asks, _ in asking for name in asks)
    together = {name: sum((asks.get(name, NOTHING) for asks, _ in asking), NOTHING) for name in names}
    yield _Demand(together, [template for _, template in asking])


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

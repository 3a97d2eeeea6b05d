"""Which free devices of a node meet the requests of a pod's claims, in the order in which kube-scheduler looks at them.

It gives each request the first devices that match, one request after the other, and tries others where that leads
nowhere. So whether there is any assignment decides, unless a selector cannot be evaluated for a device: then it matters
whether that device is looked at before enough others are found.
Source: kubernetes/staging/src/k8s.io/dynamic-resource-allocation/structured (allocateOne).
"""

from collections.abc import Sequence, Set
from enum import Enum, auto
from typing import TypeAlias

import msgspec

from conformance.gpu.device_selectors import Match
from conformance.gpu.device_taints import DeviceTaint

Place: TypeAlias = tuple[str, str, str]
"""Driver, pool and name of a device."""


class Candidate(msgspec.Struct, frozen=True):
    """A device, what the selectors of one request say of it, and the slice in which it is offered.

    ``taints`` are those that the request does not tolerate.
    """

    place: Place
    match: Match
    slice: str
    taints: tuple[DeviceTaint, ...] = ()


class Asked(msgspec.Struct, frozen=True):
    """How many devices a request wants, and devices of the node in the order in which they are offered."""

    count: int
    candidates: Sequence[Candidate]

    def without(self, taken: Set[Place]) -> "Asked":
        """The same without the devices that are given away."""
        return Asked(self.count, [each for each in self.candidates if each.place not in taken])

    def places(self, *matches: Match) -> list[Place]:
        """The devices of which the selectors say one of these."""
        return [each.place for each in self.candidates if each.match in matches]


class Outcome(Enum):
    """What looking at the devices in their order comes to."""

    MET = auto()
    NOT_MET = auto()
    ERROR = auto()
    UNSURE = auto()


def outcome(requests: Sequence[Asked]) -> tuple[Outcome, Place | None]:
    """Whether the requests are met, with the device of which a selector could not be evaluated where that ends it."""
    if not _can_be_met(requests, Match.YES, Match.PERHAPS):
        return Outcome.NOT_MET, _met_error(requests)
    if not any(each.places(Match.ERROR) for each in requests):
        return (Outcome.MET if _can_be_met(requests, Match.YES) else Outcome.UNSURE), None
    return _in_order(requests)


def _met_error(requests: Sequence[Asked]) -> Place | None:
    """The device that ends an attempt that would fail as well."""
    ended, place = _in_order(requests)
    return place if ended is Outcome.ERROR else None


def _in_order(requests: Sequence[Asked]) -> tuple[Outcome, Place | None]:
    """Take the first devices that match; in which order slices come is chance, and so is what depends on it."""
    slices = {each.slice for one in requests for each in one.candidates if each.match is not Match.NO}
    if len(slices) > 1:
        return Outcome.UNSURE, None
    taken: set[Place] = set()
    for request in requests:
        left = request.count
        for each in request.candidates:
            if left == 0:
                break
            if each.place in taken or each.match is Match.NO:
                continue
            if each.match is Match.ERROR:
                return Outcome.ERROR, each.place
            if each.match is Match.PERHAPS:
                return Outcome.UNSURE, None
            taken.add(each.place)
            left -= 1
        if left:
            return Outcome.UNSURE, None
    return Outcome.MET, None


def _can_be_met(requests: Sequence[Asked], *matches: Match) -> bool:
    """Whether each request can have as many devices as it wants, none twice: a matching, found by augmenting paths."""
    wanted = [set(each.places(*matches)) for each in requests for _ in range(each.count)]
    holder: dict[Place, int] = {}

    def give(at: int, tried: set[Place]) -> bool:
        for place in wanted[at] - tried:
            tried.add(place)
            if place not in holder or give(holder[place], tried):
                holder[place] = at
                return True
        return False

    # What cannot be met one by one need not be searched for.
    alone = all(len(each.places(*matches)) >= each.count for each in requests)
    return alone and all(give(at, set()) for at in range(len(wanted)))

"""Device claims of a pod: on which nodes they can be met, as far as counting decides it (DynamicResources).

A node is ruled out where no choice of the free devices that could match is enough; that is sure. It is not said that a
node meets a claim where a selector is not understood (cel.py), or a constraint joins devices, or devices share
counters: then it is undecided. Sources: kubernetes.io, Dynamic Resource Allocation; resource.k8s.io/v1.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import msgspec

from conformance.gpu.affinity import term_matches
from conformance.gpu.device_allocation import Asked, Candidate, Outcome, Place, outcome
from conformance.gpu.device_selectors import Match, Matching, expressions
from conformance.gpu.device_taints import DeviceTaint, TaintRules

Manifest: TypeAlias = Mapping[str, Any]

_DECIDE_AS_WELL = ("consumesCounters", "bindingConditions")
_MOST_TAINTS = 2


class Device(msgspec.Struct, frozen=True):
    """A device that a slice offers, with what decides on which nodes it is."""

    place: Place
    body: Manifest
    where: Manifest
    slice: str
    taints: tuple[DeviceTaint, ...] = ()

    def is_on(self, node: Manifest) -> bool:
        """Whether a pod on this node could get the device."""
        where, name = self.where, str(node["metadata"]["name"])
        if where.get("allNodes") or where.get("nodeName") == name:
            return True
        return on_selected_node(where.get("nodeSelector"), node)


class Offer:
    """All devices of a cluster, their classes, and which of them are given to claims."""

    def __init__(
        self,
        slices: Sequence[Manifest],
        classes: Sequence[Manifest],
        claims: Sequence[Manifest],
        rules: Sequence[Manifest] = (),
    ) -> None:
        self._slices = slices
        self._rules = TaintRules(rules, classes)
        self.classes = {str(each["metadata"]["name"]): each for each in classes}
        self._of_classes: dict[str, Wish] = {}
        self.taken = {place for claim in claims for place in _given(claim)}

    @cached_property
    def drivers(self) -> Sequence[str]:
        """The drivers that have devices in slices, by name."""
        return sorted({str(each["spec"].get("driver")) for each in self._newest if each["spec"].get("devices")})

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """The devices of each pool's newest generation."""
        return tuple(device for each in self._newest for device in _devices(each, self._rules))

    @cached_property
    def _newest(self) -> Sequence[Manifest]:
        """The slices of each pool's newest generation."""
        newest: dict[tuple[str, str], int] = {}
        generations = [(each, *_generation(each)) for each in self._slices]
        for _, pool, generation in generations:
            newest[pool] = max(newest.get(pool, 0), generation)
        return [each for each, pool, generation in generations if generation >= newest[pool]]

    @cached_property
    def by_node(self) -> Mapping[str, list[Device]]:
        """The devices that belong to one node, by its name."""
        found: dict[str, list[Device]] = {}
        for device in self.devices:
            found.setdefault(str(device.where.get("nodeName") or ""), []).append(device)
        return found

    def on(self, node: Manifest) -> list[Device]:
        """The devices that a pod on this node could get, given away ones included."""
        there = self.by_node.get(str(node["metadata"]["name"]), [])
        return [*there, *(each for each in self.by_node.get("", ()) if each.is_on(node))]

    def of_class(self, node: Manifest, device_class: Manifest) -> "OfClass":
        """How many devices on a node may be of a class, and how many of these are free."""
        name = str(device_class["metadata"]["name"])
        if name not in self._of_classes:
            selectors = expressions((device_class.get("spec") or {}).get("selectors") or ())
            self._of_classes[name] = Wish("", name, 1, Matching(selectors))
        asked = _asked(self._of_classes[name], self.on(node))
        sound = _without_tainted(asked)
        free = sound.without(self.taken)
        return OfClass(len(asked.candidates), len(sound.candidates), len(free.candidates), _taints_in([asked]))


class OfClass(NamedTuple):
    """The devices of a class on a node: all, those without taints, those that are free as well; and the taints."""

    there: int
    untainted: int
    free: int
    taints: Sequence[DeviceTaint]


class Wish(msgspec.Struct, frozen=True):
    """What one request of a claim asks for."""

    request: str
    device_class: str
    count: int
    matching: Matching
    tolerations: Sequence[Manifest] = ()


class Kept(msgspec.Struct, frozen=True):
    """What keeps a pod off a node; ``nothing_there`` where the node has no such devices at all.

    What ``ends_the_attempt`` keeps kube-scheduler from looking at any other node as well; ``tainted`` where enough
    devices would be there but for their taints, whatever other claims give back.
    """

    text: str
    nothing_there: bool = False
    ends_the_attempt: bool = False
    tainted: bool = False


class Claims:
    """The claims of one pod. ``missing`` says what is wrong with them on any node, ``undecided`` what is not judged."""

    def __init__(self, pod: Manifest, offer: Offer, claims: Sequence[Manifest], templates: Sequence[Manifest]) -> None:
        self._offer = offer
        self.missing: list[str] = []
        self.undecided: list[str] = []
        self._allocated: list[tuple[str, Manifest]] = []
        self._wishes: list[tuple[str, Wish]] = []
        for name, spec, allocation in self._of(pod, claims, templates):
            if allocation is not None:
                self._allocated.append((name, allocation))
            else:
                self._wishes += [(name, wish) for wish in self._read(name, spec)]
        # What else is asked for takes devices, or leaves some out: others are looked at then.
        self._every_request_is_read = not self.undecided

    def on(self, node: Manifest) -> Iterator[Kept]:
        """What keeps the pod off the node."""
        for name, allocation in self._allocated:
            if allocation.get("nodeSelector") and not on_selected_node(allocation["nodeSelector"], node):
                yield Kept(f"claim {name} has devices of another node already")
        if self._wishes:
            yield from self._lacking(self._offer.on(node))

    def _lacking(self, there: Sequence[Device]) -> Iterator[Kept]:
        all_there = [_asked(wish, there) for _, wish in self._wishes]
        asked = [_without_tainted(each).without(self._offer.taken) for each in all_there]
        found, unreadable = outcome(asked)
        if unreadable is not None and self._every_request_is_read:
            yield Kept(_cannot_be_evaluated(unreadable), ends_the_attempt=True)
        if found is Outcome.NOT_MET:
            yield from self._too_few(asked, all_there)
        elif found is Outcome.UNSURE or (unreadable is not None and not self._every_request_is_read):
            names = ", ".join(dict.fromkeys(name for name, _ in self._wishes))
            self._doubt(f"whether devices match claim {names} (selectors, counters and conditions of devices)")

    def _too_few(self, asked: Sequence[Asked], all_there: Sequence[Asked]) -> Iterator[Kept]:
        alone = False
        possible: set[Place] = set()
        taints = _taints_in(all_there)
        tainted = f" ({format_taints(taints)})" if taints else ""
        by_taints = bool(taints) and outcome(list(map(_without_tainted, all_there)))[0] is Outcome.NOT_MET
        for (name, wish), each, there in zip(self._wishes, asked, all_there, strict=True):
            perhaps = each.places(Match.PERHAPS)
            amount = len(each.places(Match.YES)) + len(perhaps)
            possible |= {*each.places(Match.YES), *perhaps}
            if wish.count > amount:
                alone = True
                total = len(there.places(Match.YES, Match.PERHAPS))
                words = f"{'at most ' if perhaps else ''}{amount} of {total} free"
                of_these = _taints_in([there])
                words += f" ({format_taints(of_these)})" if of_these else ""
                wants = f"claim {name} wants {wish.count} of class {wish.device_class}, {words}"
                yield Kept(wants, total == 0, tainted=len(_without_tainted(there).candidates) < wish.count <= total)
        wanted = sum(wish.count for _, wish in self._wishes)
        if not alone and wanted > len(possible):
            together = f"its claims want {wanted} devices together, {len(possible)} that could match are free here"
            yield Kept(f"{together}{tainted}", tainted=by_taints)
        elif not alone:
            same = f"its claims want the same devices: no choice of the {len(possible)} that are free meets them all"
            yield Kept(f"{same}{tainted}", tainted=by_taints)

    def _of(
        self, pod: Manifest, claims: Sequence[Manifest], templates: Sequence[Manifest]
    ) -> Iterator[tuple[str, Manifest, Manifest | None]]:
        """Name, spec and allocation of each claim of the pod that there is; one not made yet from its template."""
        namespace = pod["metadata"].get("namespace")
        held = {each["metadata"]["name"]: each for each in claims if each["metadata"].get("namespace") == namespace}
        made = {
            each.get("name"): each.get("resourceClaimName")
            for each in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
        }
        drafts = {
            each["metadata"]["name"]: each for each in templates if each["metadata"].get("namespace") == namespace
        }
        for stated in pod["spec"].get("resourceClaims") or ():
            name = str(stated.get("resourceClaimName") or made.get(stated.get("name")) or "")
            template = str(stated.get("resourceClaimTemplateName") or "")
            if name in held:
                found = held[name]
                yield name, found["spec"], (found.get("status") or {}).get("allocation")
            elif template in drafts:
                yield str(stated.get("name")), drafts[template]["spec"].get("spec") or {}, None
            elif template:
                self.missing.append(f"there is no ResourceClaimTemplate {template} in its namespace")
            else:
                self.missing.append(f"there is no ResourceClaim {name} in its namespace")

    def _read(self, name: str, spec: Manifest) -> Iterator[Wish]:
        devices = spec.get("devices") or {}
        if devices.get("constraints"):
            self._doubt(f"the constraints of claim {name}")
        for request in devices.get("requests") or ():
            exactly = request.get("exactly") or ({} if request.get("firstAvailable") else request)
            device_class = str(exactly.get("deviceClassName") or "")
            if not exactly:
                self._doubt(f"the alternatives (firstAvailable) of claim {name}")
            elif exactly.get("adminAccess") or exactly.get("allocationMode") == "All" or exactly.get("capacity"):
                self._doubt(
                    f"the request {request.get('name')} of claim {name} (all devices, capacity or admin access)"
                )
            elif device_class not in self._offer.classes:
                self.missing.append(f"claim {name} asks for the DeviceClass {device_class}, there is none")
            else:
                of_class = (self._offer.classes[device_class].get("spec") or {}).get("selectors") or ()
                selectors = expressions((*of_class, *(exactly.get("selectors") or ())))
                amount, tolerations = int(exactly.get("count") or 1), exactly.get("tolerations") or ()
                yield Wish(str(request.get("name")), device_class, amount, Matching(selectors), tolerations)

    def _doubt(self, what: str) -> None:
        if what not in self.undecided:
            self.undecided.append(what)


def on_selected_node(selector: Manifest | None, node: Manifest) -> bool:
    """Whether a NodeSelector (terms, of which one has to hold) selects a node; none selects no node."""
    labels, name = node["metadata"].get("labels") or {}, str(node["metadata"]["name"])
    return any(term_matches(term, labels, name) for term in (selector or {}).get("nodeSelectorTerms") or ())


def _asked(wish: Wish, devices: Sequence[Device]) -> Asked:
    """What a request asks of devices; those that do not match are left out, for they decide nothing."""
    found = ((each, _matched(wish, each)) for each in devices)
    return Asked(
        wish.count,
        [
            Candidate(each.place, told, each.slice, _not_tolerated(wish, each))
            for each, told in found
            if told is not Match.NO
        ],
    )


def _not_tolerated(wish: Wish, device: Device) -> tuple[DeviceTaint, ...]:
    return tuple([each for each in device.taints if not each.is_tolerated(wish.tolerations)])


def _without_tainted(asked: Asked) -> Asked:
    """The same without the devices whose taints the request does not tolerate.

    A selector that cannot be evaluated is met before the taints are looked at.
    """
    left = [each for each in asked.candidates if not each.taints or each.match is Match.ERROR]
    return Asked(asked.count, left)


def _taints_in(requests: Sequence[Asked]) -> list[DeviceTaint]:
    """The taints that keep requests off devices, each once."""
    return list(dict.fromkeys(taint for one in requests for each in one.candidates for taint in each.taints))


def format_taints(taints: Sequence[DeviceTaint]) -> str:
    """Taints in words, such as ``tainted: rma:NoSchedule of DeviceTaintRule gpu-3``."""
    more = f" and {len(taints) - _MOST_TAINTS} others" if len(taints) > _MOST_TAINTS else ""
    return f"tainted: {', '.join(map(str, taints[:_MOST_TAINTS]))}{more}"


def _matched(wish: Wish, device: Device) -> Match:
    """What is surely a match may still not be given where counters or conditions of the device decide."""
    found = wish.matching.of(device.place[0], device.body)
    unsure = found is Match.YES and any(device.body.get(each) for each in _DECIDE_AS_WELL)
    return Match.PERHAPS if unsure else found


def _cannot_be_evaluated(place: Place) -> str:
    return (
        f"a selector of its claims cannot be evaluated for device {place[2]} of {place[0]} (pool {place[1]}): it reads "
        "what the device does not have, or compares other types; with this error kube-scheduler ends the attempt for "
        "all nodes"
    )


def _generation(each: Manifest) -> tuple[tuple[str, str], int]:
    """Driver and name of the pool of a slice, and of which generation of it the slice is."""
    pool = each["spec"].get("pool") or {}
    return (str(each["spec"].get("driver")), str(pool.get("name"))), int(pool.get("generation") or 0)


def _devices(each: Manifest, rules: TaintRules) -> Iterator[Device]:
    spec, name = each["spec"], str(each["metadata"].get("name"))
    driver, pool = _generation(each)[0]
    for device in spec.get("devices") or ():
        body = device.get("basic") or device
        where = body if spec.get("perDeviceNodeSelection") else spec
        place = (driver, pool, str(device.get("name")))
        yield Device(place, body, where, name, rules.taints_of(driver, pool, device))


def _given(claim: Manifest) -> Iterator[Place]:
    """The devices that a claim holds alone."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    for each in (allocation.get("devices") or {}).get("results") or ():
        if not each.get("adminAccess") and not each.get("shareID"):
            yield str(each.get("driver")), str(each.get("pool")), str(each.get("device"))

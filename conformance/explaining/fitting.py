"""One pod among all nodes: every obstacle on every node, what is wrong wherever it goes, and what is not judged."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import msgspec

from conformance.explaining.seen import Seen
from conformance.explaining.sharing_schedulers import add_fractions, leave_to_hami, parts_of_gpus
from conformance.gpu.claims import Kept, format_taints
from conformance.gpu.neighbours import Neighbours
from conformance.gpu.placement import (
    CLAIM,
    DEVICE_TAINT,
    NONE_OF_IT,
    SELECTOR,
    VOLUME,
    Manifest,
    Obstacle,
    in_units,
    judge_of,
    taken_of_node,
)
from conformance.gpu.resources import BY_DEVICE_CLASS
from conformance.gpu.volume_places import VolumePlaces

_FOR_CLAIMS = ("ResourceClaim", "ResourceSlice", "DeviceClass")
_FOR_VOLUMES = ("PersistentVolumeClaim", "PersistentVolume", "StorageClass")
_LOOKED_AT_ALL = 100
"""Of more nodes than these kube-scheduler stops when it has found enough (minFeasibleNodesToFind)."""


class Fit(msgspec.Struct, frozen=True):
    """``nowhere`` has what keeps the pod off every node; ``undecided`` what the scheduler looks at and this did not."""

    found: Mapping[str, Sequence[Obstacle]]
    nowhere: tuple[Obstacle, ...]
    undecided: tuple[str, ...]


def fit_of(seen: Seen, pod: Manifest) -> Fit:
    """Judge every node for the pod."""
    judge = judge_of(pod, seen.of("Node"), seen.occupancy, seen.namespaces)
    found = {name: judge(node) for name, node in seen.nodes.items()}
    undecided = [*Neighbours(pod, (), {}, seen.namespaces).undecided]
    nowhere: list[Obstacle] = []
    if pod["spec"].get("resourceClaims"):
        undecided += _add_claims(seen, pod, found, nowhere)
    if _has_volumes(pod):
        undecided += _add_volumes(seen, pod, found, nowhere)
    undecided += (*_given_by_classes(seen, pod, found), *add_fractions(seen, pod, found), *leave_to_hami(pod, found))
    undecided += parts_of_gpus(pod)
    return Fit(found, tuple(nowhere), tuple(undecided))


def _add_claims(seen: Seen, pod: Manifest, found: dict[str, list[Obstacle]], nowhere: list[Obstacle]) -> list[str]:
    unread = seen.lacks(*_FOR_CLAIMS)
    if unread:
        return [f"device claims (DynamicResources), for these were not read: {unread}"]
    claims = seen.claims_of(pod)
    nowhere += [Obstacle(CLAIM, words, True) for words in (*claims.missing, *_not_made(seen, pod))]
    ending: dict[str, str] = {}
    for name, kept in found.items():
        of_claims = list(claims.on(seen.nodes[name]))
        errors = [each.text for each in of_claims if each.ends_the_attempt]
        if errors and not kept:
            # This filter is the last: a node that another one rules out is not looked at.
            ending[name] = errors[0]
        kept += map(_of_claims, of_claims)
    return [*claims.undecided, *_ended_by(ending, found, nowhere)]


def _of_claims(kept: Kept) -> Obstacle:
    kind = SELECTOR if kept.ends_the_attempt else NONE_OF_IT if kept.nothing_there else CLAIM
    kind = DEVICE_TAINT if kept.tainted else kind
    return Obstacle(kind, kept.text, kind != CLAIM)


def _ended_by(ending: Mapping[str, str], found: Mapping[str, list[Obstacle]], nowhere: list[Obstacle]) -> list[str]:
    """What becomes of nodes that would fit, where an error at another one ends the attempt."""
    if not ending or all(found.values()):
        return []
    name, words = min(ending.items())
    if len(found) <= _LOOKED_AT_ALL:
        nowhere.append(Obstacle(SELECTOR, f"{words} (it is met on node {name})", True))
        return []
    return [f"whether kube-scheduler looks at node {name} before it has found enough others: {words}"]


def _not_made(seen: Seen, pod: Manifest) -> list[str]:
    """Why claims are not made that a template stands for (kubernetes/pkg/controller/resourceclaim)."""
    made = {each.get("name") for each in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    templates = [each for each in pod["spec"]["resourceClaims"] if each.get("resourceClaimTemplateName")]
    if all(each.get("name") in made for each in templates):
        return []
    told = (each for each in seen.warnings_of(pod) if each.get("reason") == "FailedResourceClaimCreation")
    return [f"its claims are not made from their templates: {each.get('message')}" for each in told][:1]


def _add_volumes(seen: Seen, pod: Manifest, found: dict[str, list[Obstacle]], nowhere: list[Obstacle]) -> list[str]:
    unread = seen.lacks(*_FOR_VOLUMES)
    if unread:
        return [f"where its volumes can be (VolumeBinding), for these were not read: {unread}"]
    places = VolumePlaces(pod, seen.storage, seen.of("Pod"), seen.bound)
    nowhere += [Obstacle(VOLUME, words, True) for words in places.missing]
    for name, kept in found.items():
        kept += [Obstacle(VOLUME, words, True) for words in places.on(seen.nodes[name])]
    return list(places.undecided)


def _has_volumes(pod: Manifest) -> bool:
    volumes = pod["spec"].get("volumes") or ()
    return any(each.get("persistentVolumeClaim") or each.get("ephemeral") for each in volumes)


def _of_class(seen: Seen, node: Manifest, lacking: Obstacle, device_class: Manifest) -> Obstacle | None:
    """What keeps a pod off a node without a device plugin: too few devices of the class; None where enough are free."""
    devices = seen.offer.of_class(node, device_class)
    there, free = devices.there, devices.free
    if lacking.wanted <= free:
        return None
    asked = f"{in_units(lacking.resource, lacking.wanted)} {lacking.resource} asked for"
    through = f"{asked} through DeviceClass {device_class['metadata']['name']}, {free} of {there} free"
    through += f" ({format_taints(devices.taints)})" if devices.taints else ""
    kind = CLAIM if there else NONE_OF_IT
    if devices.untainted < lacking.wanted <= there:
        kind = DEVICE_TAINT
    return Obstacle(kind, through, lacking.wanted > there, lacking.resource, lacking.wanted, Fraction(free))


def _given_by_classes(seen: Seen, pod: Manifest, found: dict[str, list[Obstacle]]) -> list[str]:
    """Extended resources that a DeviceClass gives where no device plugin does: whether it does is not sure."""
    by_class = {
        str(
            (each.get("spec") or {}).get("extendedResourceName") or f"{BY_DEVICE_CLASS}{each['metadata']['name']}"
        ): each
        for each in seen.of("DeviceClass")
    }
    asked = sorted(by_class.keys() & taken_of_node(pod).keys())
    for name, kept in found.items():
        of_plugins = [each for each in kept if not (each.kind == NONE_OF_IT and each.resource in asked)]
        lacking = [each for each in kept if each not in of_plugins]
        instead = (_of_class(seen, seen.nodes[name], each, by_class[each.resource]) for each in lacking)
        found[name] = [*of_plugins, *(each for each in instead if each is not None)]
    return [f"{each} through DeviceClass {by_class[each]['metadata']['name']}" for each in asked]

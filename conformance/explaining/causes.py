"""The first cause of a pod that no node takes, in one sentence: the narrowest thing that would have to change.

Nodes that are not meant (selector, affinity) or do not offer what is asked for say nothing about the others, so the
sentence is about the rest: what keeps the pod off those, with the nodes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from conformance.explaining.offers import why_none_offers
from conformance.gpu.placement import (
    AFFINITY,
    CLAIM,
    DEVICE_TAINT,
    HOST_PORT,
    NEIGHBOUR,
    NONE_OF_IT,
    ROOM,
    SELECTOR,
    SPREAD,
    TAINT,
    VOLUME,
    Manifest,
    Obstacle,
    in_units,
)

_MOST_VALUES = 5
_MOST_NODES = 3
_FIRST = (TAINT, VOLUME, SELECTOR, DEVICE_TAINT, CLAIM, ROOM, HOST_PORT, NEIGHBOUR, SPREAD)
"""Of several obstacles of a node that which waiting helps least is told; all are in the groups of nodes."""
_NOTHING = Fraction(0)
_Found = Mapping[str, Sequence[Obstacle]]


def cause(pod: Manifest, nodes: Sequence[Manifest], found: _Found, drivers: Sequence[str] = ()) -> str:
    """Why none of the nodes takes the pod; ``drivers`` are those that have devices in resource slices."""
    meant = _without(found, AFFINITY)
    if not meant:
        return f"no node matches its node selector and affinity{_there(pod, nodes) or _met_by_none(found)}"
    offering = _without(meant, NONE_OF_IT)
    if not offering:
        there = [node for node in nodes if node["metadata"]["name"] in meant]
        return f"{_left(found, meant)}, none of which offers what it asks for: {why_none_offers(meant, there, drivers)}"
    offered = f", of which {_count(offering)} offer{'' if len(offering) > 1 else 's'} what it asks for"
    told = _left(found, meant) + (offered if len(offering) < len(meant) else "")
    return f"{told}: {'; '.join(_parts(offering))}"


def _left(found: _Found, meant: _Found) -> str:
    if len(meant) < len(found):
        return f"of {len(found)} nodes its selector and affinity leave {_count(meant)}"
    return f"of {_nodes(len(found))}"


def _nodes(number: int) -> str:
    return f"{number} node{'s' if number != 1 else ''}"


def _without(found: _Found, kind: str) -> dict[str, Sequence[Obstacle]]:
    return {name: kept for name, kept in found.items() if not any(each.kind == kind for each in kept)}


def _parts(offering: _Found) -> list[str]:
    """One part for each kind of first obstacle, that of most nodes first."""
    by_kind: dict[str, list[str]] = {}
    for name, kept in offering.items():
        by_kind.setdefault(next(kind for kind in _FIRST if any(each.kind == kind for each in kept)), []).append(name)
    ordered = sorted(by_kind.items(), key=lambda each: (-len(each[1]), _FIRST.index(each[0])))
    return [_part(kind, {name: offering[name] for name in names}) for kind, names in ordered]


def _part(kind: str, of_these: _Found) -> str:
    if kind == ROOM:
        return _room(of_these)
    names: dict[str, list[str]] = {}
    for name, kept in of_these.items():
        for words in dict.fromkeys(each.text for each in kept if each.kind == kind):
            names.setdefault(words, []).append(name)
    told = sorted(names.items(), key=lambda each: (-len(each[1]), each[0]))[:_MOST_VALUES]
    return "; ".join(f"{words} (on {_listed(on)})" for words, on in told)


def _room(of_these: _Found) -> str:
    """The resource that most nodes lack, and how near the best of them comes."""
    lacking: dict[str, dict[str, Obstacle]] = {}
    for name, kept in of_these.items():
        for each in kept:
            if each.kind == ROOM:
                lacking.setdefault(each.resource, {})[name] = each
    resource, at = max(lacking.items(), key=lambda each: (len(each[1]), "/" in each[0], each[0]))
    best = min(at, key=lambda name: (-at[name].free, name))
    wanted, free = at[best].wanted, sum((max(each.free, _NOTHING) for each in at.values()), _NOTHING)
    amount, most = in_units(resource, wanted), in_units(resource, max(at[best].free, _NOTHING))
    unit = f"MiB of {resource}" if resource in ("memory", "ephemeral-storage") else resource
    if len(at) == 1:
        return f"too little room: it wants {amount} {unit}, {at[best].text.partition(' asked for, ')[2]} on {best}"
    in_all = f", {in_units(resource, free)} in all" if free >= wanted else ""
    return f"too little room: it wants {amount} {unit}, at most {most} are free on one node ({best}{in_all})"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:_MOST_NODES])
    return shown if len(names) <= _MOST_NODES else f"{len(names)} nodes: {shown} and others"


def _count(nodes: Mapping[str, object]) -> str:
    return str(len(nodes)) if len(nodes) != 1 else f"1 ({next(iter(nodes))})"


def _there(pod: Manifest, nodes: Sequence[Manifest]) -> str:
    """For each label of its node selector that no node meets: which values there are."""
    told = []
    for key, value in sorted((pod["spec"].get("nodeSelector") or {}).items()):
        values = {(node["metadata"].get("labels") or {}).get(key) for node in nodes}
        if value in values:
            continue
        known = sorted(str(each) for each in values if each is not None)
        there = f"nodes have {', '.join(known[:_MOST_VALUES])}" if known else "no node has that label"
        told.append(f"it wants {key}={value}, {there}")
    return f": {'; '.join(told)}" if told else ""


def _met_by_none(found: _Found) -> str:
    """What most nodes lack of a selector or an affinity whose values exist."""
    texts = Counter(each.text for kept in found.values() for each in kept if each.kind == AFFINITY)
    (words, many), *_ = texts.most_common(1)
    return f": {words} (on {_nodes(many)})"

"""Pools from groups of nodes: selector, number, the owners' labels and taints, the GPUs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from conformance.drafting.accelerators import offered
from conformance.drafting.gpus import Hardware, gpu_part, most
from conformance.drafting.grouping import Group, groups_of
from conformance.drafting.node_groups import is_a_choice
from conformance.drafting.notes import Guess, LeftOut, Part, plain
from conformance.drafting.platforms import TAINTS, owner_of
from conformance.facts import Facts, Node
from conformance.gpu.claims import Offer
from conformance.gpu.labels import MIG_CONFIG, MIG_CONFIG_STATE
from conformance.gpu.resources import DRA_DRIVER, GPU, is_accelerator_driver
from conformance.gpu.taints import Taint
from conformance.reference.expected import layout_of, offer_of
from conformance.reference.model import Pool, Reference
from conformance.verdict import Inconclusive

# What so many of a pool's nodes carry is taken for what its owners want, and the others for nodes that lost it.
_MOST = 2 / 3
_APPLIED = "success"
_NAMED = 3


class DraftedPool(NamedTuple):
    """A drafted pool, its nodes, and whether they have GPUs."""

    part: Part
    nodes: tuple[Node, ...]
    has_gpus: bool

    @property
    def name(self) -> str:
        """Its name in the draft."""
        return str(self.part.value["name"])


def drafted_pools(facts: Facts, stack: dict[str, Any] | None) -> tuple[list[DraftedPool], list[LeftOut]]:
    """Every pool that nodes tell of, and what is left out. ``stack`` is the drafted one, as plain values."""
    hardware = Hardware(facts)
    with_gpus = [node for node in facts.nodes if hardware.has_gpus(node)]
    groups = groups_of(facts.nodes, with_gpus)
    equipped = {node.name for node in with_gpus}
    drafted = [_pool(name, group, hardware, stack, equipped) for name, group in _named(groups)]
    grouped = {node.name for group in groups for node in group.nodes}
    others = _devices_of_others(facts)
    told = {name for names in others.values() for name in names}
    rest = [node for node in facts.nodes if node.name not in told]
    return drafted, [*_left_out(rest, grouped), *_not_judged(others)]


def _named(groups: Iterable[Group]) -> Iterator[tuple[str, Group]]:
    """Each group with a name of its own."""
    taken: Counter[str] = Counter()
    for group in groups:
        taken[group.name] += 1
        yield group.name if taken[group.name] == 1 else f"{group.name[:60]}-{taken[group.name]}", group


def _pool(name: str, group: Group, hardware: Hardware, stack: dict[str, Any] | None, equipped: set[str]) -> DraftedPool:
    with_gpus = [node for node in group.nodes if node.name in equipped]
    value: dict[str, Any] = {"name": name, "selector": group.selector, "nodes": _nodes(group)}
    guesses = {"nodes": _number(group)}
    guess = group.guess
    if not with_gpus:
        return DraftedPool(Part(value, guess, guesses), group.nodes, False)
    without = [node.name for node in group.nodes if node.name not in equipped]
    if without:
        guess = guess._replace(contradicted=(*guess.contradicted, f"no GPU is seen on {_some(without)}"))
    for key, (found, why) in (("labels", _labels(group)), ("taints", _taints(group))):
        if found:
            value[key] = found
        if why:
            guesses[key if found else "nodes"] = why if found else _joined(guesses["nodes"], why)
    value["gpu"] = _gpu(value, with_gpus, hardware, stack)
    return DraftedPool(Part(value, guess, guesses), group.nodes, True)


def _nodes(group: Group) -> int:
    return 0 if group.scales else len(group.nodes)


def _number(group: Group) -> Guess:
    there = len(group.nodes)
    if group.scales:
        return Guess(
            f"the group makes and removes nodes by itself ({there} now)", decide="the least that must be there"
        )
    return Guess(f"{there} {'is' if there == 1 else 'are'} there now")


def _labels(group: Group) -> tuple[dict[str, str], Guess | None]:
    """The labels that most nodes carry and that owners chose."""
    counted = Counter(pair for node in group.nodes for pair in node.labels.items() if is_a_choice(*pair))
    usual = {
        key: value
        for (key, value), count in counted.items()
        if key not in group.selector and count >= _MOST * len(group.nodes)
    }
    usual = _applied_layout(group) | usual
    found, lacking = {}, []
    for key, value in sorted(usual.items()):
        found[key] = value
        others = [node.name for node in group.nodes if node.labels.get(key) != value]
        lacking += [f"{_lacks(others)} {key}={value}"] if others else []
    return found, Guess("the nodes, labels of programs left out", tuple(lacking)) if found else None


def _applied_layout(group: Group) -> dict[str, str]:
    """The MIG layout that is applied where most nodes ask for one: what fails elsewhere is not what is meant."""
    asking = [node for node in group.nodes if MIG_CONFIG in node.labels]
    if len(asking) < _MOST * len(group.nodes):
        return {}
    applied = most(node.labels[MIG_CONFIG] for node in asking if node.labels.get(MIG_CONFIG_STATE) == _APPLIED)
    return {MIG_CONFIG: applied} if applied else {}


def _taints(group: Group) -> tuple[list[dict[str, str]], Guess | None]:
    """The lasting taints that most nodes carry; a quarantine is named and left out, as it tells of one node only."""
    there = (taint for node in group.nodes for taint in node.taints)
    counted = Counter(taint for taint in there if not taint.is_lifecycle or owner_of(taint.key, TAINTS))
    reserved = [taint for taint in counted if not owner_of(taint.key, TAINTS)]
    usual = [taint for taint in reserved if counted[taint] >= _MOST * len(group.nodes)]
    odd = [
        f"{_lacks([node.name for node in group.nodes if taint not in node.taints])} {taint}"
        for taint in usual
        if counted[taint] < len(group.nodes)
    ]
    odd += [
        f"only {_some([node.name for node in group.nodes if taint in node.taints])}: {taint}, left out"
        for taint in counted
        if taint not in usual
    ]
    if not usual and not odd:
        return [], Guess(decide="whether ordinary pods shall be kept off: the nodes have no taint, so none is declared")
    return [_taint(taint) for taint in usual], Guess("the nodes", tuple(odd)) if odd else None


def _taint(taint: Taint) -> dict[str, str]:
    return {"key": taint.key, **({"value": taint.value} if taint.value else {}), "effect": taint.effect}


def _gpu(pool: dict[str, Any], nodes: Sequence[Node], hardware: Hardware, stack: dict[str, Any] | None) -> Part:
    """The GPUs of a pool. Where a MIG layout divides them, what it gives is compared with what nodes offer."""
    asked = pool.get("labels", {}).get(MIG_CONFIG, "")
    if not asked:
        return gpu_part(nodes, hardware, None)
    counted = gpu_part(nodes, hardware, {}).value
    layout = layout_of(_alone(pool, counted, stack), _typed(pool, counted))
    part = gpu_part(nodes, hardware, layout.profiles if layout is not None else {})
    offer = offer_of(_alone(pool, part.value, stack), _typed(pool, part.value))
    if layout is None or offer.resources is None:
        odd = [f"the layout {asked} is neither declared nor one of the MIG manager's own for this model"]
    else:
        odd = [f"{node.name} offers another set than {asked}" for node in nodes if offered(node) != offer.resources]
    derived = f"{part.guess.derived}; divided as label {MIG_CONFIG}={asked} says"
    return part._replace(guess=Guess(derived, (*part.guess.contradicted, *odd[:_NAMED]), part.guess.decide))


def _alone(pool: dict[str, Any], gpu: dict[str, Any], stack: dict[str, Any] | None) -> Reference:
    """A set-up of this pool and the stack, to compute what its nodes ought to offer."""
    whole = {"name": "draft", "pools": [_plain_pool(pool, gpu)], **({"stack": stack} if stack else {})}
    return msgspec.convert(whole, Reference)


def _typed(pool: dict[str, Any], gpu: dict[str, Any]) -> Pool:
    return msgspec.convert(_plain_pool(pool, gpu), Pool)


def _plain_pool(pool: dict[str, Any], gpu: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = plain({**pool, "gpu": gpu})
    return value


def _left_out(nodes: Sequence[Node], grouped: set[str]) -> Iterator[LeftOut]:
    rest = [node.name for node in nodes if node.name not in grouped]
    if rest:
        yield LeftOut(
            _some(rest), "control plane, or without GPUs and without a label of a node group: nothing of it is judged"
        )


def _devices_of_others(facts: Facts) -> dict[str, list[str]]:
    """The nodes with accelerators of other DRA drivers than NVIDIA's, by driver; none where slices were not read."""
    found: dict[str, list[str]] = {}
    with suppress(Inconclusive):
        offer = Offer([each.body for each in facts.resource_slices], (), ())
        for node, devices in sorted(offer.by_node.items()):
            for driver in sorted({device.place[0] for device in devices} - {DRA_DRIVER}):
                if node and is_accelerator_driver(driver):
                    found.setdefault(driver, []).append(node)
    return found


def _not_judged(others: Mapping[str, Sequence[str]]) -> Iterator[LeftOut]:
    for driver, names in others.items():
        yield LeftOut(
            f"the devices of {_some(list(names))}",
            f"DRA driver {driver} publishes them, and only NVIDIA's DRA driver is judged: nothing tests whether they "
            "are there",
        )


def usual_resource(pools: Sequence[DraftedPool]) -> str:
    """The resource by which GPUs are asked for on most pools; the usual one where any pool has it."""
    names = [pool.part.value["gpu"].value.get("resource", GPU) for pool in pools if pool.has_gpus]
    return GPU if GPU in names or not names else str(most(names))


def _joined(first: Guess, second: Guess) -> Guess:
    decide = "; ".join(each for each in (first.decide, second.decide) if each)
    return Guess(first.derived, (*first.contradicted, *second.contradicted), decide)


def _lacks(names: Sequence[str]) -> str:
    return f"{_some(names)} {'lacks' if len(names) == 1 else 'lack'}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


__all__ = ["DraftedPool", "drafted_pools", "usual_resource"]

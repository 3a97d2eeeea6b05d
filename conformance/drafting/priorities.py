"""Priority classes of the owners: Kubernetes' own and those of the platform are left out, and named."""

from collections.abc import Sequence
from typing import Any

from conformance.drafting.notes import Guess, Item, LeftOut, Part
from conformance.facts import Facts, PriorityClass
from conformance.facts.limits import PREEMPTS
from conformance.reference.platform import part_of_class

_NEVER = "Never"


def drafted_classes(facts: Facts) -> list[Item]:
    """The owners' classes, the highest first; of several with one value the one that most pods carry."""
    own, items = [], []
    for each in sorted(facts.priority_classes, key=lambda each: (-each.value, each.name)):
        part = part_of_class(each.name)
        if part is None:
            own.append(each)
        elif not each.is_system:
            items.append(LeftOut(str(each), f"value {each.value}; it belongs to {part.title} ({part.source})"))
    carried = {each.name: sum(pod.priority_class == each.name for pod in facts.pods) for each in own}
    kept: list[PriorityClass] = []
    for each in own:
        equal = [other for other in own if other.value == each.value]
        first = min(equal, key=lambda other: (-carried[other.name], other.name))
        if each is first:
            kept.append(each)
        else:
            items.append(_equal(each, first))
    return [*(_class(each, kept, facts, carried[each.name]) for each in kept), *items]


def _class(each: PriorityClass, kept: Sequence[PriorityClass], facts: Facts, pods: int) -> Part:
    lower = [other.name for other in kept if each.preempts(other)]
    odd = []
    if each.global_default:
        others = [other.name for other in facts.priority_classes if other.global_default and other is not each]
        odd += [f"{', '.join(others)} {'is' if len(others) == 1 else 'are'} the default as well"] if others else []
    return Part(_value(each, facts), Guess(_carried(pods), tuple(odd), _whom_it_evicts(each, lower)))


def _carried(pods: int) -> str:
    return f"the class of {pods} pod{'' if pods == 1 else 's'}" if pods else "a class that no pod carries now"


def _whom_it_evicts(each: PriorityClass, lower: Sequence[str]) -> str:
    if not lower:
        return ""
    broad = "; as the default it reaches every pod without a class" if each.global_default else ""
    return f"whom it shall evict. It can evict pods of {', '.join(lower)}; name in preempts those you rely on{broad}"


def _value(each: PriorityClass, facts: Facts) -> dict[str, Any]:
    value: dict[str, Any] = {"name": each.name, "value": each.value}
    effective = facts.default_priority_class
    if each.global_default and effective is not None and effective.name == each.name:
        value["global_default"] = True
    value["preemption_policy"] = each.preemption_policy if each.preemption_policy == _NEVER else PREEMPTS
    if each.description:
        value["description"] = each.description
    return value


def _equal(each: PriorityClass, first: PriorityClass) -> LeftOut:
    why = f"its value {each.value} is that of {first.name}, so that neither evicts the other; decide their order"
    return LeftOut(str(each), why)


def class_names(classes: Sequence[Item]) -> list[str]:
    """The classes that a draft declares."""
    return [str(each.value["name"]) for each in classes if isinstance(each, Part)]

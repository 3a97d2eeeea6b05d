"""Advice on priority classes: what is left to its default, whom a class can evict, what the default reaches."""

from collections import defaultdict
from collections.abc import Iterator

from conformance.advice.rules import Remark, Rules, Setup

RULES = Rules()
_PREEMPTION = "kubernetes.io: Pod Priority and Preemption"
_NEVER = "Never"


@RULES.rule("policy-left-to-the-default", _PREEMPTION)
def policy_left_to_the_default(setup: Setup) -> Iterator[Remark]:
    """Classes that may evict others because nobody wrote that they may not."""
    for at, each in enumerate(setup.reference.priority_classes):
        lower = [other.name for other in setup.reference.priority_classes if other.value < each.value]
        if setup.written("priority_classes", at, "preemption_policy") is None and lower and not each.preempts:
            text = f"{each} says no preemption_policy, so it evicts pods of {', '.join(lower)} when GPUs run out"
            yield Remark(("priority_classes", at), f"{text}; write PreemptLowerPriority if that is meant, else Never")


@RULES.rule("default-class-evicts", f"{_PREEMPTION}, globalDefault")
def default_class_evicts(setup: Setup) -> Iterator[Remark]:
    """A default class whose pods evict others, although nobody chose it for them."""
    for at, each in enumerate(setup.reference.priority_classes):
        lower = [other.name for other in setup.reference.priority_classes if other.value < each.value]
        if each.global_default and each.preemption_policy != _NEVER and lower:
            text = f"{each} reaches every pod that names no class, and lets all of them evict {', '.join(lower)}"
            yield Remark(("priority_classes", at, "global_default"), text)


@RULES.rule("cannot-preempt", f"{_PREEMPTION}; PRIO-14")
def cannot_preempt(setup: Setup) -> Iterator[Remark]:
    """Classes that are declared to preempt others and cannot."""
    for at, each in enumerate(setup.reference.priority_classes):
        for number, name in enumerate(each.preempts):
            other = setup.reference.priority_class(name)
            if other is None:
                continue
            path = ("priority_classes", at, "preempts", number)
            if each.preemption_policy == _NEVER:
                yield Remark(path, f"{each} shall preempt {name}, and its policy is Never: it waits")
            elif other.value >= each.value:
                yield Remark(
                    path, f"{each} ({each.value}) shall preempt {name}, whose value {other.value} is not lower"
                )


@RULES.rule("equal-values", f"{_PREEMPTION}; PRIO-02")
def equal_values(setup: Setup) -> Iterator[Remark]:
    """Classes between which there is no order."""
    by_value = defaultdict(list)
    for at, each in enumerate(setup.reference.priority_classes):
        by_value[each.value].append((at, each.name))
    for value, classes in by_value.items():
        for at, name in classes[1:]:
            text = f"has the value {value}, as {classes[0][1]}: neither evicts the other"
            yield Remark(("priority_classes", at, "value"), f"{name} {text}")


@RULES.rule("never-shields-nobody", f"{_PREEMPTION}, non-preempting PriorityClass; PRIO-02")
def never_shields_nobody(setup: Setup) -> Iterator[Remark]:
    """Classes that evict nobody, below one that does and is not declared to evict them."""
    classes = setup.reference.priority_classes
    for at, each in enumerate(classes):
        above = [
            other.name
            for other in classes
            if other.value > each.value and other.preemption_policy != _NEVER and other.preempts
            and each.name not in other.preempts
        ]  # fmt: skip
        if each.preemption_policy == _NEVER and above:
            text = (
                f"{above[0]} can evict pods of {each.name} without being declared to: Never keeps a class from evicting"
            )
            yield Remark(
                ("priority_classes", at), f"{text}, and shields nobody. Add it to preempts, or raise its value"
            )

"""The declared priority classes and preemptions, and the PriorityClasses of the cluster that implement them."""

from typing import NamedTuple

from conformance.facts import Facts
from conformance.facts import PriorityClass as LiveClass
from conformance.reference.model import PriorityClass, Reference
from conformance.verdict import NotApplicable, Waits


class Preemption(NamedTuple):
    """One declared relation: pods of ``winner`` may take GPUs from pods of ``loser``."""

    winner: PriorityClass
    loser: PriorityClass


def declared_classes(reference: Reference) -> tuple[PriorityClass, ...]:
    """The declared classes, the highest first. Raises NotApplicable when there are none."""
    if not reference.priority_classes:
        raise NotApplicable(f"{reference} declares no priority classes")
    return tuple(sorted(reference.priority_classes, key=lambda declared: -declared.value))


def declared_preemptions(reference: Reference) -> tuple[Preemption, ...]:
    """The declared preemptions, whatever the preemptionPolicy. Raises NotApplicable when there are none."""
    classes = declared_classes(reference)
    named = {declared.name: declared for declared in classes}
    found = tuple(Preemption(winner, named[loser]) for winner in classes for loser in winner.preempts)
    if not found:
        raise NotApplicable("no priority class is declared to preempt another (preempts)")
    return found


def live_class(facts: Facts, declared: PriorityClass) -> LiveClass:
    """The class of that name in the cluster. Raises Waits when it is missing."""
    found = facts.priority_class(declared.name)
    if found is None:
        raise Waits(f"the cluster has no {declared}", on="PRIO-01")
    return found

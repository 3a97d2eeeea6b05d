"""Advice: what in a set-up loads and is unwise all the same, told without a cluster.

Loading refuses what can never be right. What is here may be meant: each rule is one small function with an id and a
source, and says what follows from the declaration as it stands.
"""

from collections.abc import Iterator

from conformance.advice import pools, priorities, stack, teams, workloads
from conformance.advice.rules import Advice, Remark, Rule, Setup
from conformance.reference.loading import Placed

__all__ = ["RULES", "Advice", "Remark", "Rule", "advise"]

RULES: tuple[Rule, ...] = tuple(
    rule for subject in (stack, pools, teams, priorities, workloads) for rule in subject.RULES.all
)
"""Every rule, by subject."""


def advise(placed: Placed) -> tuple[Advice, ...]:
    """Every piece of advice on a set-up, in the order of its files and lines."""
    return tuple(sorted(_all(placed), key=lambda each: (each.position, each.rule.id, each.remark.text)))


def _all(placed: Placed) -> Iterator[Advice]:
    setup = Setup(placed.reference, placed.value)
    for rule in RULES:
        for remark in rule.look(setup):
            yield Advice(placed.position(remark.path), remark, rule)

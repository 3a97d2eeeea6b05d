"""What is broken in a report, by object, and which of it is the same in two reports.

An object is known by what it is called (``pod team-a/worker-0``), which every version of a report has. A pod that its
controller replaced has a new name with a new suffix: it is the same trouble, not new trouble.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from conformance.report.comparing.changes import Change
from conformance.report.grouping import FindingGroup, GroupedSubject
from conformance.report.model import Verdict

# What Kubernetes makes names from, which has no vowels and nothing that is easily confused:
# https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go
_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
# The hash of a ReplicaSet, where there is one, and the five characters of a generated name.
_GENERATED = re.compile(rf"(?:-{_SAFE}{{6,10}})?-{_SAFE}{{5}}(?=$|,)")
_NUMBER = re.compile(r"\d+")


class Broken(NamedTuple):
    """One subject of a group that is not ok. ``cause`` is its cause without numbers, which change from run to run."""

    verdict: Verdict
    group: FindingGroup
    subject: GroupedSubject
    name: str
    cause: str


class Met(NamedTuple):
    """A subject that is broken now, or was, with what became of it; ``before`` is what it was where it is known."""

    change: Change
    broken: Broken
    before: Broken | None = None


def broken_in(verdict: Verdict | None) -> list[Broken]:
    """Every broken subject of a verdict, each finding on its own."""
    return [] if verdict is None else [each for group in verdict.causes for each in _members(verdict, group)]


def _members(verdict: Verdict, group: FindingGroup) -> Iterator[Broken]:
    cause = _NUMBER.sub("#", group.cause or group.expected)
    names = group.names(len(group.subjects))
    for subject, name in zip(group.subjects, names, strict=True):
        yield Broken(verdict, group, subject, name, cause)


def stable_name(broken: Broken) -> str:
    """What the subject is called whenever its controller makes it anew."""
    return _GENERATED.sub("-*", broken.name) if broken.group.kind == "Pod" else broken.name


def matched(old: Sequence[Broken], new: Sequence[Broken]) -> tuple[list[Met], list[Broken]]:
    """What became of the subjects of one requirement: those that are broken now, and those that no longer are.

    First each object is looked for by its name, then by the name that is left when its pod is made anew.
    """
    met, new_left, old_left = _by_name(old, new, [each.name for each in old], [each.name for each in new])
    old_names, new_names = [stable_name(each) for each in old_left], [stable_name(each) for each in new_left]
    again, new_left, old_left = _by_name(old_left, new_left, old_names, new_names)
    return [*met, *again, *(Met(Change.NEW, each) for each in new_left)], old_left


def _by_name(
    old: Sequence[Broken], new: Sequence[Broken], old_names: Iterable[str], new_names: Sequence[str]
) -> tuple[list[Met], list[Broken], list[Broken]]:
    """Pairs of the same name and cause, then of the same name; and what of both is left."""
    waiting: dict[str, dict[str, list[Broken]]] = {}
    for name, each in zip(old_names, old, strict=True):
        waiting.setdefault(name, {}).setdefault(each.cause, []).append(each)
    met, others = [], []
    for name, each in zip(new_names, new, strict=True):
        if same := waiting.get(name, {}).get(each.cause):
            met.append(Met(Change.KNOWN, each, same.pop()))
        else:
            others.append((name, each))
    unmet = []
    for name, each in others:
        if before := next((left for left in waiting.get(name, {}).values() if left), None):
            met.append(Met(Change.OTHER_CAUSE, each, before.pop()))
        else:
            unmet.append(each)
    return met, unmet, [each for causes in waiting.values() for left in causes.values() for each in left]

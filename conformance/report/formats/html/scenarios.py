"""What scenarios did, on the page: each object of a scenario as a lane over time, and who was evicted by whom."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from conformance.report.model import Verdict
from conformance.report.outcome import moment
from conformance.timeline import Step

# What an object is in after a step; after those that are not here it is in nothing any more.
_PHASES = {
    "created": "waiting", "pending": "waiting", "nominated": "waiting", "running": "running",
    "borrowed": "held", "tainted": "held", "offers": "held",
}  # fmt: skip
_EVICTED = "evicted"


class Bar(msgspec.Struct, frozen=True):
    """A part of a lane, in hundredths of the scenario's time: waiting, running, held, or evicted (a mark)."""

    phase: str
    at: float
    width: float


class Lane(msgspec.Struct, frozen=True):
    """One object of a scenario: what became of it and when, in words and as bars."""

    object: str
    told: tuple[str, ...]
    bars: tuple[Bar, ...]


class Eviction(msgspec.Struct, frozen=True):
    """Who was evicted when, where and by whom, as a requirement saw it."""

    requirement: str
    time: str
    object: str
    node: str
    by: str


def lanes(steps: Sequence[Step]) -> tuple[Lane, ...]:
    """The lanes of a scenario, in the order in which its objects came."""
    timed = [(step, at) for step in steps if (at := moment(step.time))]
    if not timed:
        return ()
    first, last = min(at for _, at in timed), max(at for _, at in timed)
    of_object: dict[tuple[str, str, str], list[tuple[Step, datetime]]] = {}
    for step, at in timed:
        of_object.setdefault((step.kind, step.namespace, step.name), []).append((step, at))
    return tuple(_lane(own, first, last) for own in of_object.values())


def evictions(verdicts: Iterable[Verdict]) -> tuple[Eviction, ...]:
    """Every eviction that a scenario saw, in the order of time."""
    found = [
        Eviction(verdict.requirement, step.time, step.object, step.node, step.by or step.detail)
        for verdict in verdicts
        for step in verdict.timeline
        if step.did == _EVICTED
    ]
    return tuple(sorted(found, key=lambda each: each.time))


def _lane(steps: Sequence[tuple[Step, datetime]], first: datetime, last: datetime) -> Lane:
    step = steps[0][0]
    told = tuple(f"{(at - first).total_seconds():.2f} s: {_told(each)}" for each, at in steps)
    return Lane(f"{step.kind.lower()} {step.name}", told, tuple(_bars(steps, first, last)))


def _told(step: Step) -> str:
    where = f" on {step.node}" if step.node else ""
    by = f" by {step.by}" if step.by else ""
    return f"{step.did}{where}{by}" + f" ({step.detail})" * bool(step.detail)


def _bars(steps: Sequence[tuple[Step, datetime]], first: datetime, last: datetime) -> Iterable[Bar]:
    whole = max(last - first, timedelta(milliseconds=1))
    ends = [at for _, at in steps[1:]] + [last]
    for (step, begin), end in zip(steps, ends, strict=True):
        at = 100 * ((begin - first) / whole)
        if phase := _PHASES.get(step.did):
            yield Bar(phase, round(at, 1), round(100 * ((end - begin) / whole), 1))
        elif step.did == _EVICTED:
            yield Bar(_EVICTED, round(min(at, 98.5), 1), 1.5)

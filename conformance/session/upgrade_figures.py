"""Figures that requirements measured before an upgrade and after it: rates, of which more is better.

A figure is a number with a unit of a rate in what a finding says that it saw (``actual``): a bandwidth of NCCL, the
throughput of a model. It is that of the requirement and the subject of the finding.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from conformance.report.model import Verdict

Figures: TypeAlias = Mapping[str, float]
"""By requirement, subject and unit, as one text."""

_RATE = re.compile(
    r"(?<![\w.,])(?P<value>\d+(?:\.\d+)?)\s?(?P<unit>[kKMGTP]?i?(?:B|b|bit|bits|bytes)/s|[MGTP]?bps|[GTP]FLOPS"
    r"|[GTP]FLOP/s|[\w-]{1,20}/s(?:ec(?:ond)?)?)(?!\w)"
)


def figures_of(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """The figures of findings; where a finding has several of one unit, they are told apart by their order."""
    return {key: value for verdict in verdicts for key, value in _figures_in(verdict)}


def slower_since(before: Figures, now: Figures, tolerance: float) -> tuple[str, ...]:
    """The figures that are lower by more than a part of what they were before, in words."""
    return tuple(
        f"{key.rpartition(' ')[0]} had {value:g} {key.rpartition(' ')[2]}, and has {now[key]:g} "
        f"({(now[key] / value - 1) * 100:+.0f}%)"
        for key, value in before.items()
        if key in now and now[key] < value * (1 - tolerance)
    )


def _figures_in(verdict: Verdict) -> Iterator[tuple[str, float]]:
    for finding in verdict.findings:
        met: dict[str, int] = {}
        for found in _RATE.finditer(finding.actual):
            unit = found["unit"]
            met[unit] = met.get(unit, 0) + 1
            order = f" (figure {met[unit]})" if met[unit] > 1 else ""
            yield f"{verdict.requirement} {finding.subject}{order} {unit}", float(found["value"])

"""An explanation as somebody on call reads it at a terminal."""

import textwrap
from collections.abc import Iterator

from conformance.explaining.explanation import Explanation
from conformance.progress import printable

_WIDTH = 110
_NODES_SHOWN = 3
_GROUPS_SHOWN = 10


def lines(explained: Explanation) -> Iterator[str]:
    """The sentence first, then what to do, then every group of nodes with its reasons.

    Messages of kubelets and runtimes may hold anything: what a terminal would act on is replaced.
    """
    return map(printable, _lines(explained))


def _lines(explained: Explanation) -> Iterator[str]:
    where = f" on node {explained.node}" if explained.node else ""
    yield f"{explained.subject}: {explained.stage}{where}"
    nearest = f"node {explained.nearest}" + (f": {'; '.join(explained.missing)}" if explained.missing else "")
    for label, text in (
        ("cause", explained.cause),
        ("nearest", nearest if explained.nearest else ""),
        ("remedy", explained.remedy),
        ("eviction", explained.eviction),
        ("besides", f"not computed here: {', '.join(explained.not_computed)}" if explained.not_computed else ""),
        ("inspect", explained.inspect),
    ):
        if text:
            yield from textwrap.wrap(text, _WIDTH, initial_indent=f"  {label:<9}", subsequent_indent=" " * 11)
    if explained.groups:
        yield "  nodes"
    for group in explained.groups[:_GROUPS_SHOWN]:
        more = f" and {len(group.nodes) - _NODES_SHOWN} more" if len(group.nodes) > _NODES_SHOWN else ""
        yield f"    {len(group.nodes):>4}  {', '.join(group.nodes[:_NODES_SHOWN])}{more}"
        yield from (f"          {reason}" for reason in group.reasons)
    if len(explained.groups) > _GROUPS_SHOWN:
        yield f"    and {len(explained.groups) - _GROUPS_SHOWN} other groups of nodes; --json has them all"

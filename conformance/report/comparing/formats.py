"""What a comparison can be written as."""

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from conformance.report import emitters
from conformance.report.comparing.changes import Difference
from conformance.report.comparing.clusters import Fleet
from conformance.report.comparing.fleet_markdown import fleet_markdown
from conformance.report.comparing.fleet_text import fleet_lines, trend_lines
from conformance.report.comparing.markdown import difference_markdown
from conformance.report.comparing.pages import difference_page, fleet_page, trend_page
from conformance.report.comparing.text import lines
from conformance.report.comparing.trend import Trend
from conformance.report.comparing.trend_markdown import trend_markdown
from conformance.report.formats import line
from conformance.report.model import Report

_T = TypeVar("_T")
# So many of each kind fit a screen together; what is piped or written gets all.
_ON_A_SCREEN = 8


def _text(lines: Callable[[Any, int | None], Iterable[str]]) -> Callable[[Any], str]:
    """Plain text. On a terminal the first of each kind, on lines that fit; else all of it."""

    def render(content: Any) -> str:
        if not sys.stdout.isatty():
            return "".join(f"{line}\n" for line in lines(content, None))
        width = shutil.get_terminal_size().columns
        return "".join(f"{_cut(line, width)}\n" for line in lines(content, _ON_A_SCREEN))

    return render


def as_json(content: Any) -> str:
    """JSON for programs; reports/ has the schemas."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


DIFFERENCE: Mapping[str, Callable[[Difference], str]] = {
    "text": _text(lambda difference, most: lines(difference, most=most)),
    "json": as_json,
    "markdown": difference_markdown,
    "html": difference_page,
}
FLEET: Mapping[str, Callable[[Fleet], str]] = {
    "text": _text(lambda fleet, most: fleet_lines(fleet, most=most)),
    "json": as_json,
    "markdown": fleet_markdown,
    "html": fleet_page,
}
TREND: Mapping[str, Callable[[Trend], str]] = {
    "text": _text(lambda trend, most: trend_lines(trend, most=most)),
    "json": as_json,
    "markdown": trend_markdown,
    "html": trend_page,
}
ONE_CLUSTER: Mapping[str, Callable[[Report], str]] = {"text": line.render, "json": emitters.as_text}
"""What the merged report of one cluster is written as; ``report convert`` makes everything else of it."""


def chosen(formats: Mapping[str, Callable[[_T], str]], name: str) -> Callable[[_T], str]:
    """The format of this name. Raises ValueError for one that there is not."""
    if name not in formats:
        raise ValueError(f"--to={name}: there is no such format here; there are {', '.join(formats)}")
    return formats[name]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."

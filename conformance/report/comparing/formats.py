"""What a comparison can be written as."""

import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from conformance.report.comparing.changes import Difference
from conformance.report.comparing.text import lines

_T = TypeVar("_T")
# So many of each kind fit a screen together; what is piped or written gets all.
_ON_A_SCREEN = 8


def text(difference: Difference) -> str:
    """Plain text. On a terminal the first of each kind, on lines that fit; else all of it."""
    if not sys.stdout.isatty():
        return "".join(f"{line}\n" for line in lines(difference))
    width = shutil.get_terminal_size().columns
    return "".join(f"{_cut(line, width)}\n" for line in lines(difference, most=_ON_A_SCREEN))


def as_json(content: Any) -> str:
    """JSON for programs; reports/ has the schemas."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


DIFFERENCE: Mapping[str, Callable[[Difference], str]] = {"text": text, "json": as_json}


def chosen(formats: Mapping[str, Callable[[_T], str]], name: str) -> Callable[[_T], str]:
    """The format of this name. Raises ValueError for one that there is not."""
    if name not in formats:
        raise ValueError(f"--to={name}: there is no such format here; there are {', '.join(formats)}")
    return formats[name]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."

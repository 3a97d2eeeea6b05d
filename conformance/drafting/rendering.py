"""A draft as YAML text: comments above what they are about, short mappings in one line, everything else in blocks."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from conformance.drafting.notes import Guess, LeftOut, Part, Section, is_remark

WIDTH = 118
_STEP = "  "
# A comment in a narrow column is read by nobody.
_LEAST = 60


def document(head: Sequence[str], sections: Mapping[str, Section | str]) -> str:
    """A whole file: comments at its head, then each section under its key."""
    lines = list(_comment(head, ""))
    for key, section in sections.items():
        lines += [] if isinstance(section, str) else [""]
        remark = is_remark(section) and not isinstance(section, Part)
        lines += _items(section, "") if remark else _member(key, section, "")
    return "\n".join(lines) + "\n"


def _member(key: str, value: Any, indent: str) -> Iterator[str]:
    """One key of a mapping with its value."""
    name = _scalar(key)
    if isinstance(value, Part):
        yield from _comment(value.guess.lines, indent)
        if not value.guesses and _fits(f"{name}: ", value.value, indent):
            yield f"{indent}{name}: {_flow(value.value)}"
            return
        yield f"{indent}{name}:"
        yield from _mapping(value, indent + _STEP)
    elif isinstance(value, dict) and value and not _fits(f"{name}: ", value, indent):
        yield f"{indent}{name}:"
        yield from _mapping(Part(value), indent + _STEP)
    elif isinstance(value, (list, tuple)) and value and not _fits(f"{name}: ", value, indent):
        if is_remark(value):
            yield from _items(value, indent)
            return
        yield f"{indent}{name}:"
        yield from _items(value, indent + _STEP)
    else:
        yield f"{indent}{name}: {_flow(value)}"


def _mapping(part: Part, indent: str) -> Iterator[str]:
    for key, value in part.value.items():
        yield from _comment(part.guesses.get(key, Guess()).lines, indent)
        yield from _member(key, value, indent)


def _items(values: Sequence[Any], indent: str) -> Iterator[str]:
    apart = False
    for value in values:
        # Parts of several lines stand apart from each other, as people write them.
        if apart:
            yield ""
        apart = isinstance(value, Part) and not indent.removeprefix(_STEP) and bool(value.guesses or value.guess.lines)
        if isinstance(value, LeftOut):
            yield from _comment([str(value)], indent)
            if value.value is not None:
                yield from (f"{indent}# {line}" for line in _items([value.value], ""))
        elif isinstance(value, Part):
            yield from _comment(value.guess.lines, indent)
            yield from _item(value, indent)
        elif isinstance(value, dict) and value and not _fits("- ", value, indent):
            yield from _item(Part(value), indent)
        else:
            yield f"{indent}- {_flow(value)}"


def _item(part: Part, indent: str) -> Iterator[str]:
    """A mapping in a list: its first key stands beside the dash, and comments about that key above it."""
    if not part.guesses and _fits("- ", part.value, indent):
        yield f"{indent}- {_flow(part.value)}"
        return
    first = next(iter(part.value))
    yield from _comment(part.guesses.get(first, Guess()).lines, indent)
    rest = part._replace(guesses={key: guess for key, guess in part.guesses.items() if key != first})
    lines = list(_mapping(rest, indent + _STEP))
    yield f"{indent}- {lines[0][len(indent) + 2 :]}"
    yield from lines[1:]


def _fits(before: str, value: Any, indent: str) -> bool:
    """Whether a value can stand in one line: nothing in it has comments, and it is not long."""
    return not _is_noted(value) and len(indent) + len(before) + len(_flow(value)) <= WIDTH


def _is_noted(value: Any) -> bool:
    if isinstance(value, (Part, LeftOut)):
        return True
    members = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(_is_noted(member) for member in members)


def _flow(value: Any) -> str:
    import yaml

    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump([plain], default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.strip()[1:-1]


def _scalar(key: str) -> str:
    return _flow(key)


def _comment(paragraphs: Sequence[str], indent: str) -> Iterator[str]:
    width = max(WIDTH - len(indent) - 2, _LEAST)
    for paragraph in paragraphs:
        for line in textwrap.wrap(paragraph, width, break_long_words=False, break_on_hyphens=False) or [""]:
            yield f"{indent}# {line}".rstrip()

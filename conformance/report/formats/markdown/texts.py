"""Text of a cluster as Markdown that says nothing but the text: no mark-up, no link, no HTML, no mention of anybody.

Backslashes do not keep GitHub from turning ``@name`` and ``#12`` into links, code spans do. So plain words stay words,
and every word with a character that could mean something stands in a code span.
https://github.github.com/gfm/ has the rules.
"""

import re
from collections.abc import Collection

from conformance.report.formats import references
from conformance.report.visible import visible

MOST = 1000
"""Characters of one text; report.json has the rest."""

# Letters and digits, and what stands beside them in a sentence.
_WORD = re.compile(r"""[\w.,;:?!()'"%/=+–…-]+""")
# :names: are pictures, addresses become links, and GH-12 is an issue.
_MEANS_SOMETHING = re.compile(r":[\w+-]+:|//|www\.|\bgh-\d", re.IGNORECASE)
_BACKTICKS = re.compile("`+")


def plain(text: str, *, most: int = MOST, ids: Collection[str] = ()) -> str:
    """A text in one line. It never stands at the beginning of a line, where a number or a dash would begin a list.

    Requirements that have a heading of their own (``ids``) are links to it.
    """
    words = _one_line(text, most).split(" ")
    parts: list[str] = []
    marked: list[str] = []
    for word in words:
        if _is_plain(word):
            parts += [*_spans(marked), _linked(word, ids)]
            marked = []
        else:
            marked.append(word)
    return " ".join([*parts, *_spans(marked)])


def code(text: str, *, most: int = MOST) -> str:
    """A name or value in one line, as code; an empty one gives nothing."""
    return "".join(_spans([_one_line(text, most)])) if text.strip() else ""


def cell(text: str, *, most: int = MOST) -> str:
    """A name as code in a table, whose rows a bar would split."""
    return code(text.replace("|", "⟨VERTICAL LINE⟩"), most=most)


def block(text: str) -> str:
    """Lines to copy, as a block of code."""
    shown = visible(text)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}\n{shown}\n{fence}"


def _is_plain(word: str) -> bool:
    return "_" not in word and bool(_WORD.fullmatch(word)) and not _MEANS_SOMETHING.search(word)


def _linked(word: str, ids: Collection[str]) -> str:
    """A word of which an id is a link: readers of Markdown make ``#oper-10`` of the heading ``OPER-10``."""
    parts = references.split(word, ids) if ids else ((word, False),)
    return "".join(f"[{part}](#{part.lower()})" if is_id else part for part, is_id in parts)


def _one_line(text: str, most: int) -> str:
    line = " ".join(visible(text).split())
    return line if len(line) <= most else f"{line[:most]} … and {len(line) - most} more characters"


def _spans(words: list[str]) -> list[str]:
    if not words:
        return []
    text = " ".join(words)
    fence = "`" * (_longest_run(text) + 1)
    space = " " if text[0] == "`" or text[-1] == "`" else ""
    return [f"{fence}{space}{text}{space}{fence}"]


def _longest_run(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)

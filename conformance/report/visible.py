"""Text whose hidden characters are named, so that what is read is what is there."""

import re
import unicodedata

# Controls but for tab and line feed, marks of direction, separators of lines and paragraphs, and halves of surrogates.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_SPACE = re.compile(r"\s+")


def visible(text: str) -> str:
    """Text whose hidden characters are named: what is read is what is there, and a terminal does not act on a copy."""
    return _HIDDEN.sub(_named, text)


def one_line(text: str) -> str:
    """Visible text without line breaks: what a cluster says cannot begin a line of its own."""
    return _SPACE.sub(" ", visible(text)).strip()


def _named(found: re.Match[str]) -> str:
    return f"⟨{unicodedata.name(found[0], '') or f'U+{ord(found[0]):04X}'}⟩"

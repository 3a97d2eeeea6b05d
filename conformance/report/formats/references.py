"""Requirements that a text names by their ids, as remedies do ("Follow OPER-10"): formats make links of them."""

import re
from collections.abc import Collection, Iterator

_ID = re.compile(r"(?<![\w-])([A-Z][A-Z0-9]*-\d+)(?![\w-])")


def split(text: str, ids: Collection[str]) -> Iterator[tuple[str, bool]]:
    """The parts of a text in order, and of each whether it is one of the ids."""
    rest = ""
    for part in _ID.split(text):
        if part in ids:
            yield from ((rest, False),) if rest else ()
            yield part, True
            rest = ""
        else:
            rest += part
    if rest:
        yield rest, False

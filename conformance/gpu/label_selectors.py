"""Label selectors as text, as ``kubectl -l`` and the operator's upgrade policy take them.

Source: kubernetes/apimachinery, pkg/labels/selector.go (Parse).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_SET = re.compile(r"(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s=!]+)\s*(?P<operator>==|!=|=)\s*(?P<value>[^\s=!]*)")
_EXISTS = re.compile(r"(?P<operator>!?)\s*(?P<key>[^\s=!()]+)")
# A comma between terms is followed by no closing parenthesis before the next opening one.
_BETWEEN_TERMS = re.compile(r",(?![^(]*\))")


class _Term(NamedTuple):
    key: str
    values: tuple[str, ...] | None
    wanted: bool

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the term holds; a key that is not there is not equal to anything."""
        found = self.key in labels if self.values is None else labels.get(self.key) in self.values
        return found is self.wanted


def text_selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a selector such as ``app=a,tier in (x, y),!old`` selects an object with these labels; an empty one does.

    Raises ValueError for a text that is no selector.
    """
    return all(term.holds(labels) for term in _terms(selector))


@lru_cache(maxsize=64)
def _terms(selector: str) -> tuple[_Term, ...]:
    parts = _BETWEEN_TERMS.split(selector) if selector.strip() else ()
    return tuple(_term(part.strip(), selector) for part in parts)


def _term(text: str, selector: str) -> _Term:
    if found := _SET.fullmatch(text):
        values = tuple(each.strip() for each in found["values"].split(","))
        return _Term(found["key"], values, found["operator"] == "in")
    if found := _EQUAL.fullmatch(text):
        return _Term(found["key"], (found["value"],), found["operator"] != "!=")
    if found := _EXISTS.fullmatch(text):
        return _Term(found["key"], None, not found["operator"])
    raise ValueError(f"{selector!r} is no label selector: {text!r} is neither key=value, key in (values) nor key")

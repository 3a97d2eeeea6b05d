"""Queues below queues, as KAI and Volcano have them."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

_Q = TypeVar("_Q")


def with_those_above(name: str, queues: Mapping[str, _Q], parent: Callable[[_Q], str]) -> Iterator[str]:
    """The names of a queue and of those above it, as far as they exist; a circle of queues is walked once."""
    visited: set[str] = set()
    while name in queues and name not in visited:
        visited.add(name)
        yield name
        name = parent(queues[name])

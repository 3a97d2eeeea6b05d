"""A list that comes in one answer, handed out in pieces of whole items while it is still on its way."""

from collections.abc import Iterable, Iterator

from conformance.kube.errors import BrokenOff

PIECE = 2**17
"""So many bytes of an answer are read at once. A piece is decoded in about a millisecond, while the next bytes come.

It fits with its copies into the caches of a processor, and its memory is used again for the next one: a piece of a
megabyte gets new pages of memory from the kernel each time (docs/architecture.md: what that costs).
"""

_ITEMS = b'"items":['
# The end of an item and the beginning of the next, as the API server writes them; no other list in a Pod or Node has
# elements that begin with their metadata.
_BETWEEN = b'},{"metadata":{'
# Kind, apiVersion and metadata of a list.
_HEAD = 4096
_CONTINUED = b'"continue":"'


def pieces(answer: Iterable[bytes], path: str) -> Iterator[bytes]:
    """Cut the JSON of a list into lists of some of its items, each with the kind and metadata of all.

    A list in another order than the API server writes comes in one piece. A cut within an item would leave a piece that
    is no JSON, so nobody takes it for a shorter list. Raises BrokenOff for a list that goes on behind this answer.
    """
    head, rest = b"", b""
    for part in answer:
        rest += part
        if not head:
            before, items, after = rest.partition(_ITEMS)
            if not items or len(before) > _HEAD:
                continue
            if _CONTINUED in before:
                raise BrokenOff(path, "the server gave only a part of the list")
            head, rest = before + items, after
        end = rest.rfind(_BETWEEN)
        if end >= 0:
            yield head + rest[: end + 1] + b"]}"
            rest = rest[end + 2 :]
    yield head + rest

"""From the bytes of a list page to facts. One odd object never costs the others."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from conformance.facts.kinds import Fact, Kind

_Item = TypeVar("_Item")


class OddObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object that could not be understood, and why. It is missing from the facts of its kind."""

    kind: str
    namespace: str
    name: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.kind.lower()} {self.namespace}/{self.name}"
            if self.namespace
            else f"{self.kind.lower()} {self.name}"
        )


class Harvest:
    """Facts and odd objects of one kind, gathered page by page."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.facts: list[Fact] = []
        self.odd: list[OddObject] = []
        # Whoever makes a harvest is alone; those who fill it are threads. msgspec builds what it knows of a type on
        # first use, and two threads that do so at once can crash the interpreter (seen with msgspec 0.22).
        self._fact = kind.fact
        self._pages = _page_decoder(kind.wire)
        self._items = _item_decoder(kind.wire)
        self._raw_pages = _raw_decoder()

    def clear(self) -> None:
        """Forget what was gathered: the list starts again from its beginning."""
        self.facts.clear()
        self.odd.clear()

    def add_page(self, page: bytes) -> None:
        """Take in one page of a list. Raises msgspec.DecodeError when the page is no list in JSON at all."""
        try:
            items = self._pages.decode(page).items or ()
            self.facts += [self._fact(item) for item in items]
        except msgspec.ValidationError:
            for raw in self._raw_pages.decode(page).items or ():
                self.add_raw(raw)

    def add_raw(self, raw: bytes | msgspec.Raw) -> None:
        """Take in one object in JSON; what cannot be understood goes among the odd ones."""
        try:
            self.facts.append(self._fact(self._items.decode(raw)))
        except msgspec.ValidationError as error:
            self._set_aside(msgspec.json.decode(raw), error)

    def add_object(self, obj: Mapping[str, Any]) -> None:
        """Take in one plain object, as ``add_raw`` does. Raises TypeError where it holds what JSON cannot."""
        self.add_raw(msgspec.json.encode(obj))

    def _set_aside(self, obj: object, error: Exception) -> None:
        metadata = obj.get("metadata") if isinstance(obj, Mapping) else None
        named = metadata if isinstance(metadata, Mapping) else {}
        odd = OddObject(
            kind=self.kind.name,
            namespace=str(named.get("namespace") or ""),
            name=str(named.get("name") or "without a name"),
            reason=str(error),
        )
        self.odd.append(odd)


class _Page(msgspec.Struct, Generic[_Item]):
    items: list[_Item] | None = None


@cache
def _page_decoder(wire: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_Page[wire], strict=False)


@cache
def _item_decoder(wire: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wire, strict=False)


@cache
def _raw_decoder() -> msgspec.json.Decoder[_Page[msgspec.Raw]]:
    return msgspec.json.Decoder(_Page[msgspec.Raw])

"""Indexes of facts: where a cluster has thousands of objects, nobody looks through all of them for a few."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar


class _Named(Protocol):
    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...


_Namespaced = TypeVar("_Namespaced", bound=_Named)
_Key = TypeVar("_Key", bound=Hashable)
_Member = TypeVar("_Member")


class ByNamespace(Generic[_Namespaced]):
    """Objects of one kind by their namespace, in the order in which they were read."""

    def __init__(self, members: Iterable[_Namespaced]) -> None:
        self._within = grouped((member.namespace, member) for member in members)
        self._named: dict[str, dict[str, _Namespaced]] = {}

    def within(self, namespace: str) -> tuple[_Namespaced, ...]:
        """Those of one namespace."""
        return self._within.get(namespace, ())

    def named(self, namespace: str, name: str) -> _Namespaced | None:
        """The one of that name, None when there is none."""
        if namespace not in self._named:
            # Of several with one name, which a snapshot may hold, the first one counts.
            self._named[namespace] = {member.name: member for member in reversed(self.within(namespace))}
        return self._named[namespace].get(name)


def grouped(pairs: Iterable[tuple[_Key, _Member]]) -> Mapping[_Key, tuple[_Member, ...]]:
    """The members of each key, in their order."""
    groups: dict[_Key, list[_Member]] = defaultdict(list)
    for key, member in pairs:
        groups[key].append(member)
    return {key: tuple(members) for key, members in groups.items()}

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


class BySelector(Generic[_Namespaced]):
    """Objects with a label selector by their namespace, and there by one of the labels that the selector demands.

    Of hundreds in one namespace only those are looked at of which the object at hand has that label.
    """

    def __init__(self, members: Iterable[tuple[_Namespaced, Mapping[str, object] | None]]) -> None:
        self._members: dict[tuple[str, object], list[tuple[int, _Namespaced]]] = defaultdict(list)
        for place, (member, selector) in enumerate(members):
            wanted = (selector or {}).get("matchLabels")
            demanded = next(iter(wanted.items()), None) if isinstance(wanted, Mapping) else None
            self._members[member.namespace, demanded].append((place, member))

    def candidates(self, namespace: str, labels: Mapping[str, str]) -> list[_Namespaced]:
        """Those that may select an object with these labels, in the order in which they were read."""
        keys = [(namespace, None), *((namespace, label) for label in labels.items())]
        found = [pair for key in keys for pair in self._members.get(key, ())]
        return [member for _, member in sorted(found, key=lambda pair: pair[0])]


def grouped(pairs: Iterable[tuple[_Key, _Member]]) -> Mapping[_Key, tuple[_Member, ...]]:
    """The members of each key, in their order."""
    groups: dict[_Key, list[_Member]] = defaultdict(list)
    for key, member in pairs:
        groups[key].append(member)
    return {key: tuple(members) for key, members in groups.items()}

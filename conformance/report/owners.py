"""Who has to act on findings: found once for each group of them, and told in the same words by every format."""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from conformance.owners import Owner, owner_of
from conformance.report.grouping import FindingGroup
from conformance.report.model import Verdict
from conformance.verdict import join_limited

_NAMED = 5
# The order in which owners are told, and whether their namespaces are.
_TOLD = ((Owner.PLATFORM, False), (Owner.WORKLOAD, True), (Owner.BOTH, True))


def with_owners(verdict: Verdict, declared: Owner, is_of_the_platform: Callable[[str], bool]) -> Verdict:
    """The verdict, whose broken findings say who has to act.

    ``declared`` is what the requirement says, ``is_of_the_platform`` tells whose a namespace is.
    """
    if not verdict.broken:
        return verdict
    groups = (
        group if group.ok else replace(group, owner=_of(group, declared, is_of_the_platform))
        for group in verdict.groups
    )
    return replace(verdict, groups=tuple(groups))


def _of(group: FindingGroup, declared: Owner, is_of_the_platform: Callable[[str], bool]) -> Owner:
    namespaces = {each.namespace for each in group.subjects}
    platform = frozenset(map(is_of_the_platform, namespaces)) if all(namespaces) else frozenset()
    return owner_of(group.owner or declared, group.kind, platform)


def who_acts(groups: Iterable[FindingGroup]) -> str:
    """Who has to act on these findings: the teams, a workload's by its namespace. Empty where one is unclear."""
    namespaces: dict[Owner, dict[str, None]] = {}
    for group in groups:
        namespaces.setdefault(group.owner, {}).update(dict.fromkeys(each.namespace for each in group.subjects))
    if Owner.UNKNOWN in namespaces:
        return ""
    told = (
        _told(owner, tuple(namespaces[owner]) if by_name else ()) for owner, by_name in _TOLD if owner in namespaces
    )
    return "; ".join(told)


def _told(owner: Owner, namespaces: tuple[str, ...]) -> str:
    if not namespaces:
        return str(owner)
    several = "s" * (len(namespaces) > 1)
    names = join_limited(namespaces, most=_NAMED)
    workload = f"{Owner.WORKLOAD}{several} of namespace{several} {names}"
    return f"{workload}, and {Owner.PLATFORM}" if owner is Owner.BOTH else workload

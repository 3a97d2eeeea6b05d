"""Who has to fix what is broken: the platform's team, or the team whose workload it is.

A requirement declares who carries out its remedy, and a finding says so where its own remedy is somebody else's. Of
objects that teams are given (their namespaces, quotas, accounts) nobody but the platform's team is the owner.
"""

from enum import StrEnum


class Owner(StrEnum):
    """Who has to act. UNKNOWN where either could, or where nobody can tell: then nothing is said."""

    PLATFORM = "platform team"
    WORKLOAD = "workload team"
    BOTH = "workload team and platform team"
    UNKNOWN = ""


_OF_THE_PLATFORM = frozenset(
    {"LimitRange", "Namespace", "Node", "Pool", "PriorityClass", "Queue", "ResourceQuota", "ServiceAccount", "Team"}
)


def owner_of(owner: Owner, kind: str, platform: frozenset[bool]) -> Owner:
    """Whose a group of findings is, of objects of one kind.

    ``owner`` is what their requirement declares or the findings say, ``platform`` whether the objects' namespaces are
    the platform's: empty where they are in none.
    """
    if owner not in (Owner.WORKLOAD, Owner.BOTH):
        return owner
    if kind in _OF_THE_PLATFORM:
        return Owner.PLATFORM
    if len(platform) != 1:
        return Owner.UNKNOWN
    return Owner.PLATFORM if True in platform else owner

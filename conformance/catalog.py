"""Requirements: one rule, one stable id, one test function, and the profiles they belong to."""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec
import pytest

from conformance.kube.effects import Effect, Landing, Mode
from conformance.owners import Owner
from conformance.sources import SOURCES, Source

__all__ = [
    "DISRUPTIVE",
    "MAY",
    "MUST",
    "OCCUPIES_IDLE_GPUS",
    "ON_BORROWED_NODES",
    "ON_NO_NODE",
    "ON_PICKED_NODES",
    "OWN_CLUSTER_OBJECTS",
    "OWN_NAMESPACE",
    "PATCHES_NODES",
    "PROFILES",
    "READS",
    "SHOULD",
    "WITHOUT_DEVICES",
    "Effect",
    "Landing",
    "Level",
    "Mode",
    "Owner",
    "Requirement",
    "Source",
    "declare_profile",
    "requirement",
    "requirement_of",
]


class Level(StrEnum):
    """How binding a requirement is, in the sense of RFC 2119."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


ON_BORROWED_NODES, ON_PICKED_NODES = Landing.ON_BORROWED_NODES, Landing.ON_PICKED_NODES
ON_NO_NODE, WITHOUT_DEVICES = Landing.NOWHERE, Landing.WITHOUT_DEVICES
MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY
READS = Effect.READS
OWN_NAMESPACE = Effect.OWN_NAMESPACE
OCCUPIES_IDLE_GPUS = Effect.OCCUPIES_IDLE_GPUS
OWN_CLUSTER_OBJECTS = Effect.OWN_CLUSTER_OBJECTS
PATCHES_NODES = Effect.PATCHES_NODES
DISRUPTIVE = Effect.DISRUPTIVE

# The first part of a requirement's id names its profile.
PROFILES = {
    "POOL": "pools",
    "SCHED": "scheduling",
    "TEN": "tenancy",
    "PRIO": "priorities",
    "QUOTA": "quota",
    "OPER": "operator",
    "TS": "time-slicing",
    "MPS": "mps",
    "MIG": "mig",
    "DRA": "dra",
    "GANG": "gang",
    "WORK": "workloads",
    "ISO": "isolation",
    "OBS": "observability",
    "UPG": "upgrade",
}

_SHIPPED = frozenset(PROFILES)
_ID = re.compile(r"(?P<prefix>[A-Z]+)-(?P<number>\d\d)")
_PREFIX = re.compile(r"[A-Z]{2,12}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_T = TypeVar("_T", bound=Callable[..., object])


class Requirement(msgspec.Struct, frozen=True):
    """One rule that a cluster can be held to. Ids are never renumbered or reused."""

    id: str
    title: str
    level: Level
    profile: str
    effect: Effect
    sources: tuple[Source, ...]
    remedy: str
    feature: str = "core"
    pods: Landing = Landing.ANYWHERE
    owner: Owner = Owner.UNKNOWN
    pause: float = 0.0


def declare_profile(prefix: str, name: str) -> None:
    """Add a profile for requirements of your own, whose ids begin with ``prefix``: once, in their conftest.py.

    A prefix of their own keeps their ids apart from those that later versions of the shipped suites bring. Raises
    ValueError for a prefix that is not of two to twelve capitals, for a name that is not of lower-case letters, digits
    and dashes, and for either that another profile has.
    """
    if PROFILES.get(prefix) == name:
        return
    if not _PREFIX.fullmatch(prefix) or not _NAME.fullmatch(name):
        raise ValueError(
            f"profile {name!r} with prefix {prefix!r}: a prefix is 2 to 12 capitals, such as ACME; a name is up to 32 "
            "lower-case letters, digits and dashes, such as acme-clusters"
        )
    if prefix in PROFILES or name in PROFILES.values():
        taken = prefix if prefix in PROFILES else name
        raise ValueError(f"profile {name!r} with prefix {prefix!r}: there is a profile with {taken} already")
    PROFILES[prefix] = name


def requirement(
    id: str,
    title: str,
    *,
    level: Level,
    sources: Sequence[str | Source],
    remedy: str,
    effect: Effect = READS,
    feature: str = "core",
    pods: Landing = Landing.ANYWHERE,
    pause: float = 0.0,
    owner: Owner | None = None,
) -> Callable[[_T], _T]:
    """Make a test function the test of one requirement.

    ``sources`` are ids of ``conformance.sources.SOURCES``; a requirement of your own may bring a Source of its own.
    ``feature`` is ``core`` or the name of an extended feature of the profile. ``pods`` says where the pods of a
    scenario may get to. One that restricts that may run beside others that do: the lab holds it to that, and it gets no
    fixture but ``lab`` that has something to do after its ``yield``, because that comes before the scenario has ended.
    ``pause`` are the seconds that Kubernetes lets such a one wait, whatever the cluster: it begins before others, which
    act meanwhile.
    ``owner`` is who carries out the remedy: of a shipped profile the platform's team where nothing is said, of a
    profile of your own nobody.
    Raises ValueError for an id whose form or prefix no profile has, for an unknown source, and where source or remedy
    is missing: nobody could act on that.
    """
    match = _ID.fullmatch(id)
    if match is None or match["prefix"] not in PROFILES:
        raise ValueError(
            f"requirement id {id!r} is not PREFIX-NN with a prefix of {', '.join(PROFILES)}; "
            "declare_profile() adds one for requirements of your own"
        )
    if not sources or not remedy:
        raise ValueError(f"requirement {id} needs at least one source and a remedy")
    if owner is None:
        owner = Owner.PLATFORM if match["prefix"] in _SHIPPED else Owner.UNKNOWN
    cited = _cited(id, sources)
    rule = Requirement(id, title, level, PROFILES[match["prefix"]], effect, cited, remedy, feature, pods, owner, pause)

    def decorate(function: _T) -> _T:
        function.__requirement__ = rule  # type: ignore[attr-defined]
        marked: _T = pytest.mark.requirement(id)(function)
        return marked

    return decorate


def requirement_of(function: object) -> Requirement | None:
    """The requirement that a test function tests, None for an ordinary test."""
    return getattr(function, "__requirement__", None)


def _cited(id: str, sources: Sequence[str | Source]) -> tuple[Source, ...]:
    unknown = [each for each in sources if isinstance(each, str) and each not in SOURCES]
    if unknown:
        raise ValueError(f"requirement {id} cites unknown sources: {', '.join(unknown)}; see conformance/sources.py")
    return tuple(SOURCES[each] if isinstance(each, str) else each for each in sources)

"""Pod manifests of the lab: pods that hold a place, cost next to nothing, and are welcome in a restricted namespace."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from conformance.gpu.taints import Taint, Toleration, toleration_from
from conformance.kube.names import DOMAIN

__all__ = [
    "GATE",
    "HOLD_FINALIZER",
    "STOP_SECONDS",
    "Asked",
    "HasTaints",
    "Named",
    "Place",
    "Tolerated",
    "annotations_for",
    "members_of",
    "merged",
    "node_names",
    "pinned",
    "pod_spec",
    "preferring",
    "tolerations_for",
    "used",
]

GATE = f"{DOMAIN}/never"
# Keeps an evicted pod visible until the lab lets it go, so that nobody has to be quick to see the eviction. Its room
# is free as soon as its containers have ended.
HOLD_FINALIZER = f"{DOMAIN}/held"
# How long a pod goes on after it was told to stop, in seconds. The image does not linger; a simulated node, which has
# no image to look at, would otherwise use up the grace period.
STOP_SECONDS = f"{DOMAIN}/stop-seconds"

# Ends so many seconds after SIGTERM, as one does that saves a checkpoint first. As first process of its container it
# gets no signal before it has asked for it, which it then says where a probe of readiness sees it.
_STARTED = "/dev/shm/started"  # noqa: S108 (in a container of its own)
_STOPS = f"""
import signal, sys, time
def end(*_):
    time.sleep({{seconds}})
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open({_STARTED!r}, "w").close()
while True:
    signal.pause()
"""
_PYTHON = ("python3", "-I", "-S", "-c")
_READY = {
    "exec": {"command": [*_PYTHON, f"open({_STARTED!r})"]},
    "periodSeconds": 1,
    "timeoutSeconds": 10,
}


@runtime_checkable
class Named(Protocol):
    """Anything with a node's name: a node of the facts, a borrowed node."""

    @property
    def name(self) -> str:
        """The node's name."""


@runtime_checkable
class HasTaints(Named, Protocol):
    """Anything with a node's taints."""

    @property
    def taints(self) -> tuple[Taint, ...]:
        """The node's taints."""


Place: TypeAlias = str | Named
Tolerated: TypeAlias = HasTaints | Taint | Toleration | Mapping[str, Any]


class Asked(msgspec.Struct, frozen=True):
    """What a scenario asks of a pod; see RequirementLab.pod for the meaning of each."""

    resources: dict[str, str] = {}
    limits: dict[str, str] = {}
    priority: str | None = None
    tolerations: tuple[Toleration, ...] = ()
    nodes: tuple[str, ...] = ()
    node_selector: dict[str, str] = {}
    affinity: dict[str, Any] = {}
    grace_seconds: int = 0
    stop_seconds: int = 0
    gated: bool = False
    image: str = ""
    pull_secret: str | None = None
    claims: dict[str, dict[str, str]] = {}
    spec: dict[str, Any] = {}


def pod_spec(asked: Asked) -> dict[str, Any]:
    """The spec for what was asked; ``asked.spec`` is merged over it, deep for mappings."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": asked.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65535,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "holder",
                "image": asked.image,
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "resources": {
                    "requests": dict(asked.resources),
                    "limits": {**asked.resources, **asked.limits},
                    **used(asked.claims),
                },
                **(_stopping(asked.stop_seconds) if asked.stop_seconds else {}),
            }
        ],
    }
    optional: dict[str, Any] = {
        "priorityClassName": asked.priority,
        "tolerations": [_raw(toleration) for toleration in asked.tolerations],
        "nodeSelector": dict(asked.node_selector),
        "affinity": pinned(asked.affinity, asked.nodes),
        "schedulingGates": [{"name": GATE}] if asked.gated else None,
        "imagePullSecrets": [{"name": asked.pull_secret}] if asked.pull_secret else None,
        "resourceClaims": [{"name": name, **source} for name, source in asked.claims.items()],
    }
    return merged(spec | {key: value for key, value in optional.items() if value}, asked.spec)


def _stopping(seconds: int) -> dict[str, Any]:
    """A container's command that ends so many seconds after it is told to, and how one sees that it can be told."""
    return {"command": [*_PYTHON, _STOPS.format(seconds=seconds)], "readinessProbe": _READY}


def used(claims: Iterable[str]) -> dict[str, Any]:
    """The part of a container's resources by which it uses the pod's claims of these names."""
    named = [{"name": name} for name in claims]
    return {"claims": named} if named else {}


def annotations_for(asked: Asked) -> dict[str, str]:
    """The annotations for what was asked: how soon it stops, for nodes that only play their pods."""
    if asked.stop_seconds or not asked.grace_seconds:
        return {STOP_SECONDS: str(asked.stop_seconds)}
    return {}


def pinned(affinity: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The affinity narrowed to the nodes of these names; unchanged when there are none.

    A field expression may name one node only, so there is one term for each node and each term of the affinity.
    """
    if not names:
        return dict(affinity)
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or [{}]
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
        "nodeSelectorTerms": [_on(term, name) for term in terms for name in names]
    }
    return {**affinity, "nodeAffinity": node_affinity}


def preferring(affinity: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The affinity, with a preference for the nodes of these names unless it has terms, which may prefer others."""
    if affinity or not names:
        return dict(affinity)
    terms = [{"weight": 100, "preference": _on({}, name)} for name in sorted(names)]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``: mappings are merged, everything else is replaced, None removes."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def node_names(on: Place | Iterable[Place] | None) -> tuple[str, ...]:
    """The names of one node or several, given by name or as objects that have one."""
    if on is None:
        return ()
    if isinstance(on, str):
        return (on,)
    if isinstance(on, Named):
        return (on.name,)
    return tuple(each if isinstance(each, str) else each.name for each in on)


def tolerations_for(tolerated: Tolerated | Iterable[Tolerated]) -> tuple[Toleration, ...]:
    """The tolerations for a node's taints, for taints, or as they are given; without repetition.

    Raises TypeError for what is none of them.
    """
    return tuple(dict.fromkeys(each for member in members_of(tolerated) for each in _tolerations(member)))


def members_of(tolerated: Tolerated | Iterable[Tolerated]) -> list[Tolerated]:
    """What is tolerated, one by one."""
    if isinstance(tolerated, HasTaints | Taint | Toleration | Mapping):
        return [tolerated]
    return list(tolerated)


def _tolerations(member: object) -> Iterable[Toleration]:
    if isinstance(member, Toleration):
        return (member,)
    if isinstance(member, Taint):
        return (Toleration(key=member.key, operator="Equal", value=member.value, effect=member.effect),)
    if isinstance(member, HasTaints):
        # Lifecycle taints (cordon, not ready) are signs of problems that no lab pod should ignore.
        return tuple(each for taint in member.taints if not taint.is_lifecycle for each in _tolerations(taint))
    if isinstance(member, Mapping):
        return (toleration_from(member),)
    raise TypeError(f"{member!r} is no toleration, no taint and no node")


def _on(term: Mapping[str, Any], name: str) -> dict[str, Any]:
    field = {"key": "metadata.name", "operator": "In", "values": [name]}
    return {**term, "matchFields": [*(term.get("matchFields") or ()), field]}


def _raw(toleration: Toleration) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
        "tolerationSeconds": toleration.toleration_seconds,
    }
    return {key: value for key, value in raw.items() if value not in ("", None)}

"""What becomes of pods with GPUs while their nodes are away: who finds room elsewhere, who evicts whom, who waits.

Computed from the cluster as it is, for one set of nodes after the other, as kube-scheduler decides: taints, cordons,
selectors and required node affinity, what is free, priorities, preemptionPolicy, disruption budgets. Not looked at are
what pods ask of each other (affinity, topology spread), volumes and ports, quotas, and pods that wait already.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from conformance.facts import Facts, Node, Pod
from conformance.gpu.labels import DEPLOY_DRIVER, KUEUE_QUEUE
from conformance.upgrading.baseline import has_gpus, owner_of
from conformance.upgrading.policy import UpgradePolicy, policy_for
from conformance.upgrading.room import Room

MOST_AWAY = 100
"""How many sets of nodes are told one by one."""

_OURS = ("", "default-scheduler")
_INSTALLED_BY_OTHERS = ("false", "pre-installed")


class Fate(StrEnum):
    """What becomes of a pod that has to leave its node, or that another one evicts."""

    MOVES = "finds room on another node"
    PREEMPTS = "evicts others"
    WAITS = "waits until a node is back"
    LOST = "is made by nobody again"
    UNKNOWN = "is not computed"


class Displaced(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Pods of one owner with the same fate.

    ``node`` is where they evict others, ``instead`` how many other nodes serve as well, ``victims`` whom, by name.
    ``evicted_by`` names the pod for which they have to go, where it is not an upgrade; ``why`` is for what is unknown.
    """

    owner: str
    pods: int
    priority: int
    fate: Fate
    node: str = ""
    instead: int = 0
    victims: tuple[str, ...] = ()
    evicted_by: str = ""
    why: str = ""

    def __str__(self) -> str:
        """One line about them."""
        count = f"{self.pods} pod{'s' * (self.pods != 1)}"
        told = f"{self.owner} ({count}, priority {self.priority})"
        told += f", evicted by {self.evicted_by}," if self.evicted_by else ""
        if self.fate is Fate.PREEMPTS:
            other = f" or {self.instead} like it" if self.instead else ""
            return f"{told} evicts {', '.join(self.victims)} on node {self.node}{other}"
        return f"{told} {self.fate}" + (f": {self.why}" if self.why else "")


class Stopped(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Job, or the like, of which pods are ended: it starts over, or fails for good (``fails`` says why)."""

    owner: str
    pods: int
    fails: str = ""

    def __str__(self) -> str:
        """One line about it."""
        told = f"{self.owner} ({self.pods} pod{'s' * (self.pods != 1)})"
        return f"{told} fails: {self.fails}" if self.fails else f"{told} starts over, but for checkpoints of its own"


class Away(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Nodes that are away at once, how many pods with GPUs that moves, and those that do not just find room."""

    nodes: tuple[str, ...]
    pods: int
    displaced: tuple[Displaced, ...]


class Capacity(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What becomes of all pods with GPUs, summed up over the nodes, each of which is away once.

    ``evicted`` counts those that have to go for others; what becomes of them is in the other counts as well. ``away``
    are the sets of nodes with something to tell, ``away_left`` those that are not listed. ``stopped`` are the Jobs
    whose pods are ended, which the upgrade policy does not wait for without end.
    """

    at_once: int
    pods: int
    moves: int = 0
    preempts: int = 0
    waits: int = 0
    lost: int = 0
    unknown: int = 0
    evicted: int = 0
    away: tuple[Away, ...] = ()
    away_left: int = 0
    stopped: tuple[Stopped, ...] = ()

    def __str__(self) -> str:
        """All of it in one sentence."""
        counted = (
            (self.moves, "with room elsewhere"),
            (self.preempts, "by evicting others"),
            (self.waits, "waiting until a node is back"),
            (self.lost, "made by nobody again"),
            (self.unknown, "not computed"),
        )
        nodes = "one node is" if self.at_once == 1 else f"up to {self.at_once} nodes are"
        if not self.pods:
            return f"while {nodes} away no pod with GPUs has to leave"
        fates = ", ".join(f"{count} {what}" for count, what in counted if count)
        evicted = f" and {self.evicted} evicted for them" if self.evicted else ""
        leaving = f"{self.pods} pod{'s' * (self.pods != 1)} with GPUs leaving{evicted}"
        jobs = f"; Jobs that start over or fail: {len(self.stopped)}" if self.stopped else ""
        return f"while {nodes} away, over all nodes: {leaving}: {fates}{jobs}"


class Together(NamedTuple):
    """Nodes that are upgraded by one policy, and how many of them may be away at once; None where nobody has one."""

    nodes: tuple[Node, ...]
    at_once: int
    policy: UpgradePolicy | None = None


def by_policy(facts: Facts, resources: Iterable[str]) -> tuple[Together, ...]:
    """The nodes with GPUs whose driver the operator upgrades by itself, by policy. Raises Waits for what is unread."""
    names = frozenset(resources)
    groups: dict[str, tuple[UpgradePolicy, list[Node]]] = {}
    for node in facts.nodes:
        if has_gpus(node, names) and node.labels.get(DEPLOY_DRIVER) not in _INSTALLED_BY_OTHERS:
            policy = policy_for(node, facts)
            groups.setdefault(policy.source, (policy, []))[1].append(node)
    found = (
        Together(tuple(nodes), policy.at_once(len(nodes)), policy)
        for policy, nodes in groups.values()
        if policy.automatic
    )
    return tuple(each for each in found if each.at_once)


def one_by_one(facts: Facts, resources: Iterable[str]) -> tuple[Together, ...]:
    """All nodes with GPUs, each away by itself. Raises Waits for what is unread."""
    names = frozenset(resources)
    nodes = tuple(node for node in facts.nodes if has_gpus(node, names))
    return (Together(nodes, 1),) if nodes else ()


def foretell(groups: Sequence[Together], facts: Facts, resources: Iterable[str]) -> Capacity | None:
    """What becomes of the pods; None where no node is to be away. Raises Waits for what is unread.

    Nodes go together in the order of their names: in which order an operator takes them, nobody can tell.
    """
    room, names = Room(facts), frozenset(resources)
    counts: Counter[Fate] = Counter()
    told: list[Away] = []
    evicted = 0
    for group in groups:
        nodes = sorted(group.nodes, key=lambda node: node.name)
        for first in range(0, len(nodes), group.at_once):
            away = [node.name for node in nodes[first : first + group.at_once]]
            fates = list(_fates(away, room, facts, names))
            counts.update(each.fate for each in fates)
            evicted += sum(bool(each.evicted_by) for each in fates)
            shown = _together(each for each in fates if each.fate is not Fate.MOVES or each.evicted_by)
            if shown:
                leaving = sum(not each.evicted_by for each in fates)
                told.append(Away(nodes=tuple(away), pods=leaving, displaced=shown))
    if not groups:
        return None
    told.sort(key=lambda each: -sum(one.pods for one in each.displaced))
    return Capacity(
        at_once=max(group.at_once for group in groups),
        pods=sum(counts.values()) - evicted,
        moves=counts[Fate.MOVES],
        preempts=counts[Fate.PREEMPTS],
        waits=counts[Fate.WAITS],
        lost=counts[Fate.LOST],
        unknown=counts[Fate.UNKNOWN],
        evicted=evicted,
        away=tuple(told[:MOST_AWAY]),
        away_left=len(told[MOST_AWAY:]),
        stopped=stopped_jobs(groups, facts, names),
    )


def stopped_jobs(groups: Iterable[Together], facts: Facts, resources: Iterable[str]) -> tuple[Stopped, ...]:
    """The Jobs, and kinds that are called like that, of which pods have to leave before they have ended."""
    names = frozenset(resources)
    counted: Counter[tuple[str, str, str]] = Counter()
    for group in groups:
        policy = group.policy
        for pod in (pod for node in group.nodes for pod in facts.pods_on(node.name)):
            endless = policy is not None and policy.waits_for_pod(pod.labels) and policy.waits_without_timeout
            if pod.owner_kind.endswith("Job") and not endless and _has_to_leave(pod, names):
                counted[pod.owner_kind, pod.namespace, pod.owner_name] += 1
    return tuple(
        Stopped(owner=f"{kind} {namespace}/{name}", pods=pods, fails=_why_fails(kind, namespace, name, pods, facts))
        for (kind, namespace, name), pods in sorted(counted.items())
    )


def _why_fails(kind: str, namespace: str, name: str, pods: int, facts: Facts) -> str:
    """Why a Job fails whose pods are evicted; empty where it makes them again, or nobody can tell."""
    job = facts.workload(kind, namespace, name) if kind == "Job" else None
    left = job.failures_left if job is not None else None
    if left is None or pods <= left:
        return ""
    return f"its backoffLimit leaves {left}, and each evicted pod is one that failed"


def _fates(away: Sequence[str], room: Room, facts: Facts, resources: frozenset[str]) -> Iterable[Displaced]:
    """What becomes of each pod with GPUs of nodes that are away, and of each that is evicted for one of them."""
    meanwhile = room.without(away)
    leaving = [pod for node in away for pod in facts.pods_on(node) if _has_to_leave(pod, resources)]
    queue = [(pod, "") for pod in sorted(leaving, key=turn_of)]
    while queue:
        pod, evictor = queue.pop(0)
        why = why_not_placed(pod)
        if why or not pod.owner_kind:
            yield _displaced(pod, Fate.UNKNOWN if why else Fate.LOST, evictor, why=why)
            continue
        if meanwhile.take(pod):
            yield _displaced(pod, Fate.MOVES, evictor)
            continue
        place = meanwhile.take_from_others(pod)
        if place is None:
            yield _displaced(pod, Fate.WAITS, evictor)
            continue
        victims = tuple(map(str, place.victims))
        yield _displaced(pod, Fate.PREEMPTS, evictor, node=place.node, instead=place.instead, victims=victims)
        queue = sorted([*queue, *((victim, str(pod)) for victim in place.victims)], key=lambda each: turn_of(each[0]))


def _has_to_leave(pod: Pod, resources: frozenset[str]) -> bool:
    if pod.finished or pod.deleting or pod.static or pod.owner_kind == "DaemonSet":
        return False
    return bool(pod.gpu_requests(resources) or pod.claims)


def why_not_placed(pod: Pod) -> str:
    """Why nobody can tell from reads where a pod goes; empty where one can."""
    if pod.claims:
        return "it has devices by claim"
    if pod.scheduler not in _OURS:
        return f"{pod.scheduler} places it"
    return "Kueue has to admit it again" if KUEUE_QUEUE in pod.labels else ""


def turn_of(pod: Pod) -> tuple[int, float, str]:
    """The order in which the scheduler takes pods: of higher priority first, then the older one."""
    return -(pod.priority or 0), pod.created.timestamp() if pod.created else 0.0, str(pod)


def _displaced(
    pod: Pod,
    fate: Fate,
    evictor: str,
    *,
    node: str = "",
    instead: int = 0,
    victims: tuple[str, ...] = (),
    why: str = "",
) -> Displaced:
    return Displaced(
        owner=owner_of(pod),
        pods=1,
        priority=pod.priority or 0,
        fate=fate,
        node=node,
        instead=instead,
        victims=victims,
        evicted_by=evictor,
        why=why,
    )


def _together(fates: Iterable[Displaced]) -> tuple[Displaced, ...]:
    """Those that differ in nothing as one, with their number."""
    counted = Counter(fates)
    return tuple(msgspec.structs.replace(each, pods=count) for each, count in counted.items())

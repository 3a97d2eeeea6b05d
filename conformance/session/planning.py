"""The plan of a run: what it would create, occupy and evict, on which nodes, and about how long. It only reads.

Everything comes from what the run itself goes by: which requirements a mode lets act, where they declare their pods to
land, what their own text does in the lab, and how an idle node is told. How many pods and how long, nobody declares: an
earlier report tells what it was then.
"""

import importlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from conformance.catalog import Requirement, requirement_of
from conformance.clusters.named import SNAPSHOT
from conformance.deploy import Foreseen, foresee
from conformance.facts import Facts, Node, read, snapshot
from conformance.kube.client import Client
from conformance.kube.effects import Effect, Landing, Mode
from conformance.kube.guard import Guard
from conformance.lab.borrowing import FENCE
from conformance.lab.creating import OF_A_RUN
from conformance.reference import load
from conformance.reference.model import Pool, Reference
from conformance.report.model import Report
from conformance.report.reading import read as read_report
from conformance.session import catalogue
from conformance.session.access import opened_cluster
from conformance.session.own_suites import NO_SUITES, OwnSuites, own_suites
from conformance.session.scenario_acts import Acts, acts_of
from conformance.session.set_up import SHIPPED_REFERENCE
from conformance.session.upgrades import Asked
from conformance.shipped import shipped
from conformance.verdict import Status, join_limited

_NAMED = 8
# Of these a timeline has each one; of others it tells a few.
_TOLD = ("Pod", "Job", "Deployment")
Acting = Mapping[str, tuple[Requirement, object]]


class Request(NamedTuple):
    """What the user asked about; ``baseline`` is the report of an earlier run on the same cluster.

    ``upgrade`` is what the planned run would be asked about an upgrade, ``deploy`` whether it would deploy the set-up,
    ``suites`` where requirements of the owners are that it would judge as well.
    """

    cluster: str
    clusters_file: Path | None = None
    kubeconfig: Path | None = None
    mode: Mode | None = None
    reference: Path | None = None
    baseline: Path | None = None
    upgrade: Asked = Asked()
    deploy: bool = False
    suites: tuple[Path, ...] = ()


class Created(msgspec.Struct, frozen=True, rename="camel"):
    """Objects of one kind: how many the run itself makes, and which requirements may make some.

    ``last`` is how many the earlier run made, None where that is not known.
    """

    kind: str
    of_run: int
    why: str
    requirements: tuple[str, ...]
    last: int | None = None


class PoolPlan(msgspec.Struct, frozen=True, rename="camel"):
    """The nodes of a declared pool with GPUs: those that a run could use or borrow now, and why not the others."""

    name: str
    idle: tuple[str, ...]
    gpus_idle: int
    not_idle: dict[str, str]


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    """What a run would do. ``seconds`` is how long the same requirements took in the earlier run, None without one.

    ``upgrade`` is the upgrade that the run would be asked about, in words, and empty without one. ``deploys`` is what
    deploying the set-up would do; the rest of the plan is about the cluster as it was before that.
    """

    cluster: str
    mode: Mode
    reference: str
    reads: tuple[str, ...]
    acts: tuple[str, ...]
    left_out: tuple[str, ...]
    creates: tuple[Created, ...]
    occupies: tuple[str, ...]
    borrows: tuple[str, ...]
    evicts: tuple[str, ...]
    alone: tuple[str, ...]
    pools: tuple[PoolPlan, ...]
    seconds: float | None = None
    not_timed: tuple[str, ...] = ()
    upgrade: str = ""
    deploys: Foreseen | None = None

    def lines(self) -> Iterator[str]:
        """The plan for people."""
        yield f"a run on {self.cluster} in mode {self.mode}, held to {self.reference}; the plan itself only reads"
        if self.upgrade:
            yield f"  asked about the upgrade to {self.upgrade}: judges only what answers it; upgrades nothing"
        if self.deploys is not None:
            yield from format_deploying(self.deploys)
        counted = f"{len(self.reads)} requirements only read, {len(self.acts)} may act"
        yield f"  {counted}, {len(self.left_out)} are left out by the mode"
        if not self.creates:
            yield "  creates, occupies and evicts nothing"
        else:
            yield from self._creating()
        if self.acts:
            yield from self._acting()
        elif self.creates:
            yield "  occupies, borrows and evicts nothing; mode audit answers the same and creates nothing"
        yield f"  takes    {self._duration()}"

    def _creating(self) -> Iterator[str]:
        yield "  creates  (everything goes again before the run ends)"
        for each in self.creates:
            parts = [f"{each.of_run} of the run ({each.why})"] if each.of_run else []
            if each.requirements:
                parts.append(f"at most those of {_ids(each.requirements)}")
            last = f"; the earlier run itself made {each.last}" if each.last is not None else ""
            yield f"    {each.kind:<22} {', and '.join(parts)}{last}"

    def _acting(self) -> Iterator[str]:
        yield f"  occupies devices of idle nodes: {_ids(self.occupies)}"
        yield f"  borrows  an idle node each, fenced meanwhile: {_ids(self.borrows)}"
        yield f"  evicts   only pods of its own, on nodes that it has borrowed: {_ids(self.evicts)}"
        yield f"  alone    with no other scenario beside it: {_ids(self.alone)}"
        for pool in self.pools:
            nodes = len(pool.idle) + len(pool.not_idle)
            idle = f": {join_limited(pool.idle, most=_NAMED)}" if pool.idle else ""
            yield f"  pool {pool.name}: {len(pool.idle)} of {nodes} nodes idle, with {pool.gpus_idle} devices{idle}"
            why = [f"{name} {reason}" for name, reason in pool.not_idle.items()]
            if why:
                yield f"    not used: {join_limited(why, apart='; ', most=_NAMED)}"

    def _duration(self) -> str:
        if self.seconds is None:
            return "nobody knows how long: --gpu-baseline REPORT tells it by an earlier run"
        unknown = f", without {_ids(self.not_timed)}, which that run did not judge" if self.not_timed else ""
        return f"about {self.seconds:.0f} s of judging, as in the earlier run{unknown}"


def _ids(requirements: Sequence[str]) -> str:
    return f"{len(requirements)}: {join_limited(requirements, most=_NAMED)}" if requirements else "none"


def format_deploying(deploys: Foreseen) -> Iterator[str]:
    """What deploying the set-up would do, for people."""
    yield "  deploys  the set-up first, and takes it back before the run ends"
    told = (
        ("would be refused", deploys.refused),
        ("creates", deploys.created),
        ("brings up to date", deploys.updated),
        ("installs", deploys.releases),
        ("labels or taints nodes", deploys.nodes),
        ("leaves CRDs that are there", deploys.definitions),
    )
    for what, members in told:
        if members:
            yield f"    {what}, {len(members)}: {join_limited(members, most=_NAMED, apart='; ')}"
    if deploys.releases:
        yield "    CRDs that the charts bring, and what they write on nodes, go with the releases"
    if deploys.left_alone:
        yield f"    {deploys.left_alone}"
    yield "    what follows is about the cluster as it is before that"


def plan(asked: Request) -> Plan:
    """Plan a run from reads alone.

    Raises ValueError for a cluster that a run would make and for a baseline of other nodes, ReferenceError and
    ReportError for files that cannot be used, and what reading a cluster raises.
    """
    earlier = read_report(asked.baseline) if asked.baseline else None
    seen = _read(asked)
    mode, facts = seen.mode, seen.facts
    asked.upgrade.require_cluster((node.name for node in facts.nodes), facts.cluster_uid)
    declared = seen.declared
    own = own_suites(asked.suites)
    judged_by = sorted([*_functions(asked.upgrade), *own.functions], key=lambda each: each[0].id)
    rules = {rule.id: (rule, function) for rule, function in judged_by}
    acting = {id: each for id, each in rules.items() if Effect.READS < each[0].effect <= mode.limit}
    acts = acts_of_all(acting.values(), own)
    timed = _times(earlier) if earlier else {}
    judged = [id for id, (rule, _) in rules.items() if rule.effect <= mode.limit]
    return Plan(
        cluster=asked.cluster,
        mode=mode,
        reference=declared.name,
        reads=tuple(id for id in judged if id not in acting),
        acts=tuple(acting),
        left_out=tuple(id for id in rules if id not in judged),
        creates=tuple(_created(seen, acts, earlier)) if mode is not Mode.AUDIT else (),
        occupies=_those(acting, lambda rule: _occupies(rule, acts[rule.id])),
        borrows=tuple(id for id in acting if acts[id].borrows),
        evicts=_those(acting, lambda rule: rule.effect >= Effect.DISRUPTIVE),
        alone=_those(acting, lambda rule: rule.pods is Landing.ANYWHERE),
        pools=tuple(_pool(facts, pool) for pool in declared.gpu_pools),
        seconds=sum(timed.get(id, 0.0) for id in judged) if earlier else None,
        not_timed=tuple(id for id in judged if id not in timed) if earlier else (),
        upgrade=asked.upgrade.target if asked.upgrade else "",
        deploys=seen.deploys,
    )


class _Seen(NamedTuple):
    """A cluster, and how a run would go there. ``copied`` are the kinds that each namespace of a scenario gets too."""

    mode: Mode
    declared: Reference
    facts: Facts
    copied: tuple[str, ...] = ()
    deploys: Foreseen | None = None


def _read(asked: Request) -> _Seen:
    kind, _, file = asked.cluster.partition(":")
    if kind == SNAPSHOT:
        if asked.deploy:
            raise ValueError("--gpu-deploy needs a cluster: whether what it would create is there, no snapshot tells")
        # What was saved can still be planned for: in any mode, as the cluster was then.
        return _Seen(asked.mode or Mode.AUDIT, _declared(asked.reference), snapshot.load(file))
    with opened_cluster(asked.cluster, asked.clusters_file, asked.kubeconfig, asked.mode) as opened:
        if opened.connection is None:
            raise ValueError(f"{asked.cluster}: there is no cluster behind it")
        client = Client(opened.connection, Guard(Effect.READS, None))
        copied = ("Secret",) if opened.images.pull_secret else ()
        declared = _declared(asked.reference or opened.reference)
        if asked.deploy and opened.mode is not Mode.FULL:
            raise ValueError(f"deploying the reference needs --gpu-mode full, and this run would have {opened.mode}")
        deploys = foresee(client, declared, opened.installer) if asked.deploy else None
        return _Seen(opened.mode, declared, read(client), copied, deploys)


def _declared(folder: Path | None) -> Reference:
    is_shipped = folder == Path(SHIPPED_REFERENCE) and not folder.exists()
    return load(shipped("fixtures/reference") if is_shipped or folder is None else folder)


def _functions(upgrade: Asked) -> Iterator[tuple[Requirement, object]]:
    """What a run would judge in some mode: everything, or what answers the question about an upgrade."""
    wanted = upgrade.names if upgrade else upgrade.admits
    for module in catalogue.modules():
        for _, function in inspect.getmembers(module, inspect.isfunction):
            rule = requirement_of(function)
            if rule is not None and function.__module__ == module.__name__ and wanted(rule):
                yield rule, function


def acts_of_all(acting: Iterable[tuple[Requirement, object]], own: OwnSuites = NO_SUITES) -> dict[str, Acts]:
    """What each of these requirements may do in the lab, by id."""
    catalogue.modules()
    conftests = (*own.conftests, importlib.import_module("suites.conftest"))
    return {rule.id: acts_of(function, conftests, own.folders) for rule, function in acting}


def _those(acting: Acting, wanted: Callable[[Requirement], bool]) -> tuple[str, ...]:
    return tuple(id for id, (rule, _) in acting.items() if wanted(rule))


def _occupies(rule: Requirement, acts: Acts) -> bool:
    return rule.effect >= Effect.OCCUPIES_IDLE_GPUS and rule.pods is not Landing.NOWHERE and "Pod" in acts.kinds


def _created(seen: _Seen, acts: Mapping[str, Acts], earlier: Report | None) -> Iterator[Created]:
    own = dict.fromkeys(OF_A_RUN, 1) | {"ConfigMap": 2, "Lease": 2 if seen.mode is Mode.FULL else 1}
    made = {id: {*each.kinds, *(seen.copied if "Namespace" in each.kinds else ())} for id, each in acts.items()}
    last = _made(earlier) if earlier else {}
    for kind in sorted({*own, *(kind for kinds in made.values() for kind in kinds)}):
        why = OF_A_RUN.get(kind, "")
        if kind == "Lease" and seen.mode is Mode.FULL:
            why += ", and the lock that keeps two full runs apart"
        makers = tuple(id for id, kinds in made.items() if kind in kinds)
        yield Created(kind, own.get(kind, 0), why, makers, last.get(kind))


def _times(earlier: Report) -> dict[str, float]:
    """Seconds by requirement; not those which an earlier run left out, whose time nobody knows."""
    return {each.requirement: each.duration for each in earlier.requirements if each.status is not Status.NOT_RUN}


def _made(earlier: Report) -> dict[str, int]:
    """How many pods and workloads an earlier run tells of having created; nothing where it left out steps.

    Pods that Jobs and Deployments made are theirs, and not counted.
    """
    if any(each.steps_left for each in earlier.requirements):
        return {}
    steps = (step for each in earlier.requirements for step in each.timeline if step.did == "created")
    return Counter(step.kind for step in steps if step.kind in _TOLD)


def _pool(facts: Facts, pool: Pool) -> PoolPlan:
    nodes = sorted((node for node in facts.nodes if pool.holds(node.labels)), key=lambda node: node.name)
    reasons = {node.name: unfit(facts, node) for node in nodes}
    idle = tuple(name for name, reason in reasons.items() if not reason)
    devices = sum(node.gpus(resource) for node in nodes if not reasons[node.name] for resource in node.gpu_resources)
    return PoolPlan(pool.name, idle, devices, {name: reason for name, reason in reasons.items() if reason})


def unfit(facts: Facts, node: Node) -> str:
    """Why a run would not take this node, as the lab tells it of a living one (lab/borrowing.py)."""
    if not node.ready:
        return "is not ready"
    if node.unschedulable:
        return "is cordoned"
    for taint in node.taints:
        if taint.key == FENCE or taint.is_lifecycle:
            return f"has the taint {taint}"
    busy = [
        f"{pod.namespace}/{pod.name}"
        for pod in facts.pods_on(node.name)
        if not pod.finished and not pod.static and pod.owner_kind not in ("DaemonSet", "Node")
    ]
    return f"has {', '.join(busy[:3])}{' and more' if len(busy) > 3 else ''}" if busy else ""

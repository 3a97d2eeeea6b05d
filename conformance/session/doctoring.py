"""The doctor at work: the questions in the order in which a run would fail on them, until one ends it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from conformance.clusters import named
from conformance.clusters.errors import ClusterError
from conformance.doctor import Answer, State, admission, exit_code, machine, rights, runs, server
from conformance.kube.client import Client
from conformance.kube.effects import Mode
from conformance.kube.errors import KubeconfigError, KubeError
from conformance.kube.guard import Guard
from conformance.kube.kubeconfig import IN_CLUSTER
from conformance.kube.timeouts import Timeouts
from conformance.reference import ReferenceError, load
from conformance.session import catalogue
from conformance.session.access import opened_cluster
from conformance.session.cluster import OpenCluster

# Somebody sits and waits: a server that is silent for longer is told as one that is.
_TIMEOUTS = Timeouts(connect=5, read=15, retry=1)
_USUAL_NAMESPACE = "gpu-operator"


class Request(NamedTuple):
    """What the user asked about: a cluster as every command names it, and the mode of the run that is meant."""

    cluster: str
    clusters_file: Path | None
    kubeconfig: Path | None
    mode: Mode | None


class Examination(msgspec.Struct, frozen=True, rename="camel"):
    """All answers about one cluster, for a run in ``mode``."""

    cluster: str
    mode: Mode
    answers: tuple[Answer, ...]

    @property
    def exit_code(self) -> int:
        """0 ready, 1 ready but for some requirements, 4 not ready."""
        return exit_code(self.answers)

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {**msgspec.to_builtins(self), "exitCode": self.exit_code}

    def lines(self) -> Iterator[str]:
        """The same for people: a line for each answer, and what they add up to."""
        for before, answer in zip((None, *self.answers), self.answers, strict=False):
            yield answer.line(after=before.remedy if before is not None else "")
        states = [each.state for each in self.answers]
        blocked, attention = states.count(State.BLOCKED), states.count(State.ATTENTION)
        end = f"(exit code {self.exit_code})"
        if blocked:
            yield f"not ready for a run in mode {self.mode}: {blocked} in the way {end}"
        elif attention:
            yield f"ready for a run in mode {self.mode}, with {attention} to look at first {end}"
        else:
            yield f"ready for a run in mode {self.mode} {end}"


def examine(request: Request) -> Examination:
    """Ask everything about a cluster. Raises ValueError for a snapshot and for a cluster that is not there yet."""
    answers = [machine.versions()]
    try:
        target = named.resolve(
            request.cluster, clusters_file=request.clusters_file, kubeconfig=request.kubeconfig, mode=request.mode
        )
    except ClusterError as error:
        answers += _not_named(request, error)
        return Examination(request.cluster, request.mode or Mode.AUDIT, tuple(answers))
    if target.kind == named.SNAPSHOT:
        raise ValueError(f"{request.cluster} is a snapshot: nothing stands between it and an audit")
    answers += _about_target(target)
    if not _is_blocked(answers):
        answers += _about_cluster(request, target)
    return Examination(request.cluster, target.mode, tuple(answers))


def _is_blocked(answers: list[Answer]) -> bool:
    return any(each.state is State.BLOCKED for each in answers)


def _not_named(request: Request, error: ClusterError) -> Iterator[Answer]:
    """Why no cluster could be told by the name: above all a kubeconfig that is not there."""
    is_context = request.cluster.partition(":")[0] not in (named.EMBEDDED, named.SNAPSHOT)
    found = machine.kubeconfig(request.kubeconfig) if is_context else None
    if found is not None:
        yield found
    if found is None or found.state is not State.BLOCKED:
        yield Answer("cluster", State.BLOCKED, str(error))


def _about_target(target: named.ClusterTarget) -> Iterator[Answer]:
    mode = f"mode {target.mode}{', protected' if target.protected else ''}"
    if target.kind != "context":
        yield Answer("cluster", State.OK, f"{target.name}, {mode}")
        return
    if target.context == IN_CLUSTER:
        yield Answer("kubeconfig", State.OK, "none: the service account of the pod in which this runs")
    else:
        yield machine.kubeconfig(target.kubeconfig)
    yield Answer("cluster", State.OK, f"{target.name}: context {target.context}, {mode}")
    if target.context != IN_CLUSTER:
        try:
            program = machine.credentials(target.kubeconfig, target.context)
        except KubeError as error:
            program = Answer("credentials", State.BLOCKED, str(error))
        if program is not None:
            yield program


def _about_cluster(request: Request, target: named.ClusterTarget) -> Iterator[Answer]:
    try:
        with opened_cluster(request.cluster, request.clusters_file, request.kubeconfig, request.mode) as opened:
            if opened.connection is not None:
                client = Client(opened.connection, Guard(target.mode.limit, None), _TIMEOUTS)
                yield from _about_server(client, opened)
    except KubeconfigError as error:
        yield Answer("credentials", State.BLOCKED, str(error))
    except (KubeError, ClusterError) as error:
        yield Answer("server", State.BLOCKED, str(error))


def _about_server(client: Client, opened: OpenCluster) -> Iterator[Answer]:
    reached = server.reach(client)
    yield reached.answer
    if reached.version is None:
        return
    yield server.version(reached.version)
    yield server.clock(client)
    identity = server.identity(client)
    yield identity.answer
    if identity.answer.state is State.BLOCKED:
        return
    setup, namespace = _set_up(opened)
    yield setup
    effects = {rule.id: rule.effect for rule in catalogue.requirements()}
    yield from rights.answers(client, opened.mode, effects, identity.user, namespace)
    if opened.mode is not Mode.AUDIT:
        yield from _about_pods(client, opened)
    yield from runs.others(client, opened.mode, opened.name)


def _about_pods(client: Client, opened: OpenCluster) -> Iterator[Answer]:
    """What an audit has nothing to do with, for it creates no pod."""
    if opened.kind == "context":
        yield from admission.images(client, opened.images)
    yield admission.deciders(client)
    yield from admission.pods_are_admitted(client, opened.images)
    if opened.mode is Mode.FULL and opened.kind == "context":
        yield machine.helm()


def _set_up(opened: OpenCluster) -> tuple[Answer, str]:
    """The set-up to which a run holds the cluster, and the namespace of its stack."""
    if opened.reference is None:
        remedy = f"Draft one: gpu-conformance init --cluster {opened.name}"
        text = "none of its own: without --gpu-reference a run takes the shipped one"
        return Answer("set-up", State.NOTE, text, remedy), _USUAL_NAMESPACE
    try:
        reference = load(opened.reference)
    except ReferenceError as error:
        return Answer("set-up", State.BLOCKED, str(error)), _USUAL_NAMESPACE
    namespace = reference.stack.namespace if reference.stack is not None else _USUAL_NAMESPACE
    return Answer("set-up", State.OK, f"{reference.name} ({opened.reference})"), namespace

"""Pairs of embedded clusters for bench/operator_comparison.py, one for the program and one for the simulator.

Starting a cluster takes longer than a comparison. So set-ups with the same fleet share a pair: after each of them
everything that it brought is removed and its nodes are given back what they had, and only where both clusters then look
as they did in the beginning does the next set-up get them.
"""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import operator_views
import yaml

from conformance.clusters.embedded import EmbeddedError, EmbeddedSpec, start
from conformance.kube.errors import KubeError, NotFound
from conformance.kube.paths import path

if TYPE_CHECKING:
    from collections.abc import Callable

    from operator_setups import Setup

    from conformance.clusters.embedded import EmbeddedCluster
    from conformance.kube.client import Client

Object = dict[str, Any]

MANIFESTS = Path("/opt/gpu-operator")
NAMESPACE = "gpu-operator"
PLAYED_BY_THE_PROGRAM = ("operator", "upgrade")
GONE_WITHIN = 120.0
"""Seconds within which what a set-up brought has to be gone; after that its clusters are not used again."""

STARTS = 3
"""How often a pair is started until one is there."""

_OPERATOR_RESOURCES = ("NVIDIADriver", "GPUCluster", "ClusterPolicy")


class Side(NamedTuple):
    """One of the two clusters."""

    client: Client
    kubeconfig: Path
    definitions: tuple[Object, ...]
    """CRDs that stand for those that the simulated chart brings."""
    nodes: dict[str, Object]
    """The nodes as they were in the beginning, by name."""


class Clusters:
    """The pair at hand, and the fleet that it has."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._fleet = ""
        self._sides: list[Side] = []
        self._running: list[EmbeddedCluster] = []
        self._first: list[operator_views.View] = []

    def __enter__(self) -> Clusters:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the pair at hand, if there is one."""
        self._stack.close()
        self._fleet, self._sides, self._running = "", [], []

    def check(self) -> None:
        """Raise EmbeddedError where a part of a cluster has ended, so that nothing can be said of a difference."""
        for each in self._running:
            each.check()

    def sides(self, setup: Setup) -> list[Side]:
        """The program's cluster and the simulator's, as new, with the fleet of a set-up. Raises EmbeddedError."""
        fleet = Path(setup.topology).read_text(encoding="utf-8") if setup.topology else json.dumps(setup.fleet)
        if fleet != self._fleet or not self._sides:
            self._sides = self._started_at_last(fleet)
            self._first = [operator_views.view(objects(side.client)) for side in self._sides]
            self._fleet = fleet
        return self._sides

    def _started_at_last(self, fleet: str) -> list[Side]:
        """A pair; on a busy machine a part of a new cluster gives up before the others are there: it is tried again."""
        for _ in range(STARTS - 1):
            self.stop()
            with suppress(EmbeddedError):
                return self._started(fleet)
        self.stop()
        return self._started(fleet)

    def _started(self, fleet: str) -> list[Side]:
        topology = Path(self._stack.enter_context(tempfile.TemporaryDirectory()), "topology.yaml")
        topology.write_text(fleet, encoding="utf-8")
        specs = [EmbeddedSpec(topology=str(topology), without_parts=parts) for parts in (PLAYED_BY_THE_PROGRAM, ())]
        with ThreadPoolExecutor(2) as pool:
            starting = [pool.submit(start, spec) for spec in specs]
            # Both are taken before one that did not start is told of: the other is to be stopped.
            running = [self._stack.enter_context(each.result()) for each in starting if each.exception() is None]
        for each in starting:
            each.result()
        self._running = running
        clients = [self._stack.enter_context(each.client()) for each in running]
        definitions = (_definitions(), ())
        return [
            Side(client, each.kubeconfig, own, _nodes(client))
            for client, each, own in zip(clients, running, definitions, strict=True)
        ]

    def withdraw(self) -> None:
        """Delete what operators are asked for, while they are there to see to it."""
        for side in self._sides:
            for kind in _OPERATOR_RESOURCES:
                for obj in _listed(side.client, kind):
                    _delete(side.client, path(kind, name=obj["metadata"]["name"]))
        _until(lambda: all(not _deployed(side.client) for side in self._sides))

    def restore(self) -> None:
        """Remove the rest and give the nodes back what they had; a pair that is not as it was is stopped."""
        try:
            for side in self._sides:
                _delete(side.client, path("Namespace", name=NAMESPACE))
                for pod in side.client.list(path("Pod", namespace="default")):
                    _delete(side.client, path("Pod", namespace="default", name=pod["metadata"]["name"]))
            as_new = _until(lambda: all(map(_is_emptied, self._sides))) and _until(self._is_as_in_the_beginning)
        except KubeError:
            as_new = False
        if not as_new:
            self.stop()

    def _is_as_in_the_beginning(self) -> bool:
        for side in self._sides:
            for node in side.client.list(path("Node")):
                if change := undoing(side.nodes[node["metadata"]["name"]], node):
                    side.client.patch(path("Node", name=node["metadata"]["name"]), change)
        return [operator_views.view(objects(side.client)) for side in self._sides] == self._first


def objects(client: Client) -> dict[str, list[Object]]:
    """What a view is made of: the objects of a cluster by kind."""
    read: dict[str, list[Object]] = {}
    for kind in operator_views.KINDS:
        with suppress(NotFound):
            read[kind] = client.list(path(kind))
    return read


def _definitions() -> tuple[Object, ...]:
    """The CRDs that belong to the program, where its manifests are."""
    return tuple(yaml.safe_load(file.read_text(encoding="utf-8")) for file in MANIFESTS.glob("nvidia.com_*.yaml"))


def _nodes(client: Client) -> dict[str, Object]:
    return {node["metadata"]["name"]: node for node in client.list(path("Node"))}


def _listed(client: Client, kind: str) -> list[Object]:
    try:
        return client.list(path(kind))
    except NotFound:
        return []


def _delete(client: Client, where: str) -> None:
    with suppress(NotFound):
        client.delete(where)


def _deployed(client: Client) -> bool:
    """Whether something is left that a controller has to remove, or the garbage collector."""
    owned = [each for kind in ("DaemonSet", "RuntimeClass", "DeviceClass") for each in _listed(client, kind)]
    asked = [each for kind in _OPERATOR_RESOURCES for each in _listed(client, kind)]
    return bool(asked) or any(operator_views.is_operators(each) for each in owned)


def _is_emptied(side: Side) -> bool:
    names = {each["metadata"]["name"] for each in side.client.list(path("Namespace"))}
    return NAMESPACE not in names and not side.client.list(path("Pod", namespace="default"))


def undoing(before: Object, now: Object) -> Object:
    """The merge patch that gives a node its labels, annotations, taints and schedulability back."""
    change: Object = {}
    for key in ("labels", "annotations"):
        old, new = before["metadata"].get(key) or {}, now["metadata"].get(key) or {}
        differing = {k: old.get(k) for k in old.keys() | new.keys() if old.get(k) != new.get(k)}
        if differing:
            change.setdefault("metadata", {})[key] = differing
    for key in ("taints", "unschedulable"):
        if before["spec"].get(key) != now["spec"].get(key):
            change.setdefault("spec", {})[key] = before["spec"].get(key)
    return change


def _until(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; whether it came to that in time."""
    limit = time.monotonic() + GONE_WITHIN
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(1)
    return True

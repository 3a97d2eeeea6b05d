"""The command explain-pod: reads a cluster or a snapshot, and tells why a pod or a workload does not run."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from conformance.clusters.errors import ClusterError
from conformance.clusters.named import SNAPSHOT
from conformance.explaining import Explanation, Seen, explain, explain_workload
from conformance.explaining.seen import CUSTOM_WORKLOADS, KINDS, MAY_BE_UNREADABLE, OWNERS, WORKLOADS, word_for
from conformance.explaining.shapes import odd_object
from conformance.facts import snapshot
from conformance.facts.kinds import EVENTS, WARNINGS
from conformance.facts.reading import in_served_version
from conformance.facts.snapshot import SnapshotError
from conformance.kube.client import Client
from conformance.kube.errors import ApiError, NotFound
from conformance.kube.paths import PLACES, path, resource_of
from conformance.session.access import reading_access
from conformance.session.garbage import kept_from_the_collector

_KINDS = {
    word: kind
    for kind in (*WORKLOADS, *OWNERS, *CUSTOM_WORKLOADS)
    for word in (kind.lower(), word_for(kind), f"{word_for(kind)}s")
}
_KINDS |= {
    "deploy": "Deployment",
    "sts": "StatefulSet",
    "ds": "DaemonSet",
    "rs": "ReplicaSet",
    "pod": "Pod",
    "pods": "Pod",
    "po": "Pod",
    "lws": "LeaderWorkerSet",
    "cj": "CronJob",
}

_EVENT, _OF_NODES = "Event", "default"


class NoSuchPod(ClusterError):
    """There is no object of that name."""


def explanations(cluster: str, asked: str, clusters_file: Path | None, kubeconfig: Path | None) -> list[Explanation]:
    """Why what ``asked`` names does not run: ``NAMESPACE/NAME`` of a pod, or ``KIND/NAMESPACE/NAME``.

    Raises ValueError for another form, NoSuchPod where there is none, and what reading a cluster or a snapshot raises.
    """
    kind, namespace, name = parsed(asked)
    source, _, file = cluster.partition(":")
    if source == SNAPSHOT:
        with kept_from_the_collector():
            seen = held_in(snapshot.open_file(file))
            with understood(seen, file):
                return told(seen, kind, namespace, name)
    with reading_access(cluster, clusters_file, kubeconfig) as client:
        return explained_by(client, kind, namespace, name)


def explained_by(client: Client, kind: str, namespace: str, name: str) -> list[Explanation]:
    """The explanations, from a live cluster. Raises NoSuchPod, and ApiError where what is needed is unreadable."""
    with kept_from_the_collector():
        seen = _read(client, (*KINDS, kind), (), lambda each: _events(each, namespace))
        return told(seen, kind, namespace, name)


def parsed(asked: str) -> tuple[str, str, str]:
    """Kind, namespace and name of what is asked about. Raises ValueError for another form."""
    parts = asked.split("/")
    if len(parts) == 2 and all(parts):
        return "Pod", parts[0], parts[1]
    if len(parts) == 3 and all(parts) and parts[0].lower() in _KINDS:
        return _KINDS[parts[0].lower()], parts[1], parts[2]
    known = ", ".join(word_for(kind) for kind in (*WORKLOADS, *OWNERS, *CUSTOM_WORKLOADS))
    raise ValueError(f"{asked!r} is neither NAMESPACE/POD nor KIND/NAMESPACE/NAME with a kind of {known}")


def told(seen: Seen, kind: str, namespace: str, name: str) -> list[Explanation]:
    """The explanations, from what was seen. Raises NoSuchPod."""
    there = seen.within(kind, namespace)
    found = next((each for each in there if each["metadata"]["name"] == name), None)
    if found is None:
        near = sorted(each["metadata"]["name"] for each in there)
        instead = f"; there are {', '.join(near[:5])}" if near else f"; the namespace {namespace} has none"
        raise NoSuchPod(f"no {word_for(kind)} {namespace}/{name}{instead}")
    return [explain(seen, found)] if kind == "Pod" else explain_workload(seen, found)


def read_everything(client: Client) -> Seen:
    """What explanations of all pods are computed from. Raises ApiError where nodes or pods are unreadable."""
    return _read(client, KINDS, WORKLOADS, _all_events)


def _read(
    client: Client,
    needed: Collection[str],
    besides: Iterable[str],
    events: Callable[[Client], list[dict[str, Any]]],
) -> Seen:
    """Everything that an explanation is computed from; only what is ``needed`` has to be readable."""
    objects: dict[str, list[dict[str, Any]]] = {}
    unreadable: dict[str, str] = {}
    for each in dict.fromkeys((*needed, *besides, *MAY_BE_UNREADABLE)):
        try:
            objects[each] = events(client) if each == _EVENT else _listed(client, each)
        except ApiError as error:
            if each in needed:
                raise
            unreadable[each] = str(error)
    return Seen(objects, unreadable)


def _listed(client: Client, kind: str) -> list[dict[str, Any]]:
    """The objects of a kind; none where it is not served."""
    try:
        return in_served_version(kind, client.list)
    except NotFound:
        return []


def _all_events(client: Client) -> list[dict[str, Any]]:
    return _events_in(client, path(_EVENT))


def _events(client: Client, namespace: str) -> list[dict[str, Any]]:
    """What events of a namespace say, and the warnings about nodes, whose namespace is default."""
    found = _events_in(client, path(_EVENT, namespace=namespace))
    if namespace != _OF_NODES:
        about_nodes = f"{WARNINGS},involvedObject.kind=Node"
        found += client.list(path(_EVENT, namespace=_OF_NODES), field_selector=about_nodes)
    return found


def _events_in(client: Client, place: str) -> list[dict[str, Any]]:
    return [each for selector in EVENTS for each in client.list(place, field_selector=selector)]


@contextmanager
def understood(seen: Seen, file: Path | str) -> Iterator[None]:
    """Tell of an object of a snapshot that no API server has like that, where explaining fails on it.

    Raises SnapshotError instead of what was raised.
    """
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        odd = odd_object(seen)
        if odd:
            raise SnapshotError(
                f"the snapshot {file} has an object that is not as an API server has it: {odd}"
            ) from None
        raise SnapshotError(
            f"what the snapshot {file} holds cannot be explained ({type(error).__name__}: {error}): an object in it is "
            "not as an API server has it, or the error is in gpu-conformance itself; if nobody changed the file, "
            "please report it"
        ) from error


def held_in(held: snapshot.Snapshot) -> Seen:
    """What a snapshot has, to explain from; a kind that it does not hold counts as not read."""
    objects = {name: [msgspec.json.decode(raw) for raw in raws] for name, raws in held.objects.items()}
    reasons = held.unreadable | held.without
    by_kind = {name: reasons[resource_of(name)] for name in PLACES if resource_of(name) in reasons}
    return Seen(objects, by_kind)

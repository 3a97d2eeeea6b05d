"""Who else is running on the cluster, and what earlier runs left."""

from collections.abc import Iterator

from conformance.doctor.answers import Answer, State
from conformance.kube.client import Client
from conformance.kube.effects import Mode
from conformance.kube.errors import Forbidden, KubeError
from conformance.kube.names import HOME_NAMESPACE, RUN_LABEL
from conformance.kube.paths import path
from conformance.lab.advice import clean_command
from conformance.lab.cleanup.leftovers import Leftovers, find_leftovers


def others(client: Client, mode: Mode, cluster: str) -> Iterator[Answer]:
    """One answer for each run that has something on the cluster; ``cluster`` is its name in commands."""
    try:
        found = find_leftovers(client)
    except Forbidden:
        # The role of an audit has no right to the records namespace; what runs make shows in namespaces, too.
        yield _by_namespaces(client, cluster)
        return
    except KubeError as error:
        yield Answer("runs", State.ATTENTION, f"whether another run is going on could not be read: {error}")
        return
    for each in found:
        yield _told(each, mode, cluster)
    if not found:
        yield Answer("runs", State.OK, "no other run, and nothing left of earlier ones")


def _by_namespaces(client: Client, cluster: str) -> Answer:
    try:
        found = client.list(path("Namespace"), label_selector=RUN_LABEL)
    except KubeError as error:
        return Answer("runs", State.NOTE, f"whether another run is going on could not be read: {error}")
    runs = sorted({str(each["metadata"]["labels"][RUN_LABEL]) for each in found})
    if not runs:
        return Answer("runs", State.OK, f"no namespace of a run; the records in {HOME_NAMESPACE} may not be read")
    text = f"run {', '.join(runs)} has namespaces here; an audit leaves them out"
    return Answer("runs", State.ATTENTION, text, f"If it was killed, run: {clean_command(runs[0], cluster)}")


def _told(left: Leftovers, mode: Mode, cluster: str) -> Answer:
    state = State.BLOCKED if mode is Mode.FULL else State.ATTENTION
    if left.alive:
        text = f"{left}; an audit leaves out what it has on the cluster"
        return Answer("runs", state, text, f"Wait for its end; if it never comes: {_clean(left, cluster, force=True)}")
    return Answer("runs", state, f"{left}; an audit leaves that out", f"Run: {_clean(left, cluster)}")


def _clean(left: Leftovers, cluster: str, *, force: bool = False) -> str:
    return clean_command(left.run_id, cluster, force=force)

"""The first hour with a cluster of one's own: a set-up drafted from it, and checked, told to somebody at a terminal."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from conformance.advice import advise
from conformance.clusters.errors import ClusterError
from conformance.drafting import Draft, NotEmpty, draft, write
from conformance.facts import Facts
from conformance.kube.names import RUN_LABEL
from conformance.lab.advice import SOME_CLUSTER, clean_command
from conformance.reference import Reference, load
from conformance.reference.loading import load_placed
from conformance.reference.sources import path_text
from conformance.session.access import facts_of
from conformance.verdict import Inconclusive

REFERENCES = Path("references")
"""Where set-ups are written when nobody says where."""

_SNAPSHOT_ENDINGS = (".gz", ".json")
_LONGEST_NAME = 63
_NAMED = 3


class HoldsARun(ClusterError):
    """A cluster holds what a run of gpu-conformance made."""

    def __init__(self, cluster: str, found: Mapping[str, Sequence[str]]) -> None:
        (run, made), *others = found.items()
        named = SOME_CLUSTER if cluster.startswith("snapshot:") else cluster
        more = f" and {len(made) - _NAMED} more" if len(made) > _NAMED else ""
        beside = f"; and so do {', '.join(name for name, _ in others)}" if others else ""
        super().__init__(
            f"run {run} of gpu-conformance has {', '.join(made[:_NAMED])}{more} on the cluster{beside}: a draft would "
            f"take them for yours. Wait until it has ended; if it was killed: {clean_command(run, named)}"
        )


def init(cluster: str, clusters_file: Path | None, kubeconfig: Path | None, output: Path | None) -> Iterator[str]:
    """Draft a set-up of a cluster into a folder, and tell line by line what was done.

    The folder is looked at before the cluster is. Raises NotEmpty where it has something in it, HoldsARun where a run
    has left something or is going on, and what reading a cluster or a snapshot raises.
    """
    name = setup_name(cluster)
    folder = output or REFERENCES / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotEmpty(folder)
    facts = facts_of(cluster, clusters_file, kubeconfig)
    _require_no_run(facts, cluster)
    yield f"read {cluster}: {_read(facts)}"
    drafted = draft(facts, name)
    files = write(drafted, folder)
    yield f"{folder}: {summary(load(folder))}"
    yield from (f"  {file}" for file in files)
    yield from _to_look_at(drafted)
    yield "next: read the comments and decide, then"
    yield f"  gpu-conformance check {folder}"
    yield f"  pytest --cluster {cluster} --gpu-reference={folder}"


def _require_no_run(facts: Facts, cluster: str) -> None:
    """Raise HoldsARun where namespaces or workloads are those of a run: a draft would take them for the owners'."""
    found: dict[str, list[str]] = {}
    labelled: list[tuple[str, dict[str, str]]] = []
    with suppress(Inconclusive):
        labelled += [(str(each), each.labels) for each in facts.namespaces]
    with suppress(Inconclusive):
        labelled += [(str(each), each.labels) for each in facts.workloads]
    for what, labels in labelled:
        if run := labels.get(RUN_LABEL):
            found.setdefault(run, []).append(what)
    if found:
        raise HoldsARun(cluster, found)


def check(folder: Path) -> Iterator[str]:
    """Everything that is unwise in a set-up, line by line. Raises InvalidReference with everything that is wrong."""
    placed = load_placed(folder)
    yield f"{folder}: {summary(placed.reference)}"
    advice = advise(placed)
    for each in advice:
        where = path_text(each.remark.path)
        yield f"  {each.position}  {f'{where}: ' if where else ''}{each.remark.text}"
        yield f"    [{each.rule.id}; {each.rule.source}]"
    told = f"{len(advice)} {'piece' if len(advice) == 1 else 'pieces'} of advice" if advice else "no advice"
    yield f"it loads; {told}"


def setup_name(cluster: str) -> str:
    """A name for the set-up of a cluster: the last part of its own, in the form that the name of a set-up has."""
    last = re.split(r"[/:]", cluster.rstrip("/:"))[-1]
    for ending in _SNAPSHOT_ENDINGS if cluster.startswith("snapshot:") else ():
        last = last.removesuffix(ending)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last)[:_LONGEST_NAME].strip("-._")
    return name or "cluster"


def summary(reference: Reference) -> str:
    """What a set-up declares, in one line."""
    parts = [
        _counted(len(reference.pools), "pool") + f" ({len(reference.gpu_pools)} with GPUs)",
        _counted(len(reference.teams), "team"),
        _counted(len(reference.priority_classes), "priority class"),
        _counted(len(reference.workloads), "workload"),
        f"stack {reference.stack.kind}" if reference.stack else "no stack",
    ]
    return ", ".join(parts)


def _read(facts: Facts) -> str:
    version = f"Kubernetes {facts.server_version}, " if facts.server_version else ""
    unread = f"; could not be read: {', '.join(sorted(facts.unreadable))}" if facts.unreadable else ""
    return f"{version}{_counted(len(facts.nodes), 'node')}, {_counted(len(facts.pods), 'pod')}{unread}"


def _to_look_at(drafted: Draft) -> Iterator[str]:
    """What the cluster itself speaks against, each once."""
    found = Counter(drafted.contradictions)
    if found:
        yield "what contradicts the draft or is wrong in the cluster:"
        yield from (f"  {text}" for text in found)


def _counted(number: int, what: str) -> str:
    if number == 1:
        return f"1 {what}"
    return f"{number} {what}es" if what.endswith("s") else f"{number} {what}s"

"""Which cluster a name means: a clusters file's entry, a kubeconfig context, one that the run makes, or a snapshot."""

import difflib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from conformance.clusters.errors import ClusterError
from conformance.clusters.namedfile import ClustersFile, Entry
from conformance.kube.effects import Effect, Mode
from conformance.kube.errors import KubeconfigError
from conformance.kube.kubeconfig import IN_CLUSTER, contexts, server_of, why_missing
from conformance.verdict import EvidenceKind

EMBEDDED = "embedded"
SNAPSHOT = "snapshot"
CONTAINER = "container"
KIND = "kind"
K3S = "k3s"
FILE_VARIABLE = "GPU_CONFORMANCE_CLUSTERS"
_PORTS = {"http": 80, "https": 443}
USUAL_FILES = ("clusters.yaml", "~/.config/gpu-conformance/clusters.yaml")


class ClusterTarget(msgspec.Struct, frozen=True):
    """A cluster that has been named, and what may be done to it. Nothing has been contacted yet.

    ``context`` is None for clusters that runs start and snapshots; ``kubeconfig`` None means the usual places.
    ``mode`` is the one to run in: what was asked for, or the cluster's own. ``evidence`` None leaves the kind of
    evidence to what the cluster shows. ``given_name`` is what follows the colon of
    ``container:NAME``, ``kind:NAME`` and ``k3s:NAME``.
    """

    kind: Literal["embedded", "container", "kind", "k3s", "context", "snapshot"]
    name: str
    mode: Mode
    context: str | None = None
    kubeconfig: Path | None = None
    protected: bool = False
    reference: Path | None = None
    registry: str | None = None
    pull_secret: str | None = None
    chart: str | None = None
    tolerations: tuple[dict[str, Any], ...] = ()
    evidence: EvidenceKind | None = None
    snapshot: Path | None = None
    embedded_name: str | None = None
    given_name: str | None = None


def resolve(
    name: str,
    *,
    clusters_file: Path | None = None,
    kubeconfig: Path | None = None,
    mode: Mode | None = None,
) -> ClusterTarget:
    """Find the cluster called ``name`` and settle the mode of the run.

    ``clusters_file``, ``kubeconfig`` and ``mode`` are what the user asked for, None for nothing. Raises ClusterError
    for a name that nothing has, a clusters file with mistakes (all of them), a mode that the cluster does not allow,
    and a snapshot that is not there.
    """
    kind, _, rest = name.partition(":")
    if kind == EMBEDDED and (rest or name == EMBEDDED):
        return ClusterTarget(
            kind="embedded",
            name=name,
            mode=mode or Mode.FULL,
            evidence=EvidenceKind.SIMULATED,
            embedded_name=rest or None,
        )
    if kind == CONTAINER and (rest or name == CONTAINER):
        return ClusterTarget(kind="container", name=name, mode=mode or Mode.FULL, given_name=rest or None)
    if kind == KIND and (rest or name == KIND):
        return ClusterTarget(kind="kind", name=name, mode=mode or Mode.FULL, given_name=rest or None)
    if kind == K3S and (rest or name == K3S):
        _refuse_context(name, kubeconfig)
        return ClusterTarget(kind="k3s", name=name, mode=mode or Mode.FULL, given_name=rest or None)
    if kind == SNAPSHOT and rest:
        return _snapshot(name, Path(rest).expanduser(), mode)
    known = _clusters_file(clusters_file)
    target = _from_entry(name, known, kubeconfig) or _from_context(name, known, kubeconfig)
    if target is None:
        raise ClusterError(_no_such_cluster(name, known, kubeconfig))
    if _is_protected(target, known, kubeconfig):
        target = msgspec.structs.replace(target, protected=True, mode=Mode.AUDIT)
    return _settled(target, mode, known)


def as_somebodys(
    target: ClusterTarget, kubeconfig: Path, asked: Mode | None, clusters_file: Path | None = None
) -> ClusterTarget:
    """The target as one that a run has found and not made: audited unless asked otherwise, and held to its mark.

    Raises ClusterError for a mode that its mark in the clusters file does not allow.
    """
    known = _clusters_file(clusters_file)
    found = msgspec.structs.replace(target, mode=Mode.AUDIT, kubeconfig=kubeconfig)
    if _is_protected(found, known, kubeconfig):
        found = msgspec.structs.replace(found, protected=True)
    return _settled(found, asked, known)


def _snapshot(name: str, file: Path, mode: Mode | None) -> ClusterTarget:
    if not file.is_file():
        raise ClusterError(
            f"There is no snapshot {file}. Take one with: gpu-conformance snapshot --cluster NAME {file}"
        )
    if mode is not None and mode.limit > Effect.READS:
        raise ClusterError(f"A snapshot can only be audited, so mode {mode} is not possible for {name}.")
    return ClusterTarget(
        kind="snapshot", name=name, mode=Mode.AUDIT, protected=True, evidence=EvidenceKind.STATIC, snapshot=file
    )


def _from_entry(name: str, known: ClustersFile | None, kubeconfig: Path | None) -> ClusterTarget | None:
    entry = known.entries.get(name) if known else None
    if known is None or entry is None:
        return None
    return ClusterTarget(
        kind="context",
        name=name,
        mode=entry.mode,
        context=entry.context or name,
        kubeconfig=_kubeconfig_of(entry, known, kubeconfig),
        protected=entry.protected,
        reference=known.reference_of(entry),
        registry=entry.registry,
        pull_secret=entry.pull_secret,
        chart=known.chart_of(entry),
        tolerations=entry.plain_tolerations(),
        evidence=entry.evidence,
    )


def _from_context(name: str, known: ClustersFile | None, kubeconfig: Path | None) -> ClusterTarget | None:
    if name not in _contexts(kubeconfig) and not _is_this_pods(name):
        return None
    return ClusterTarget(kind="context", name=name, mode=Mode.AUDIT, context=name, kubeconfig=kubeconfig)


def _settled(target: ClusterTarget, asked: Mode | None, known: ClustersFile | None) -> ClusterTarget:
    """Put the target in the mode asked for, if it may be in that."""
    if asked is None:
        return target
    if target.protected and asked.limit > Effect.READS:
        where = f" in {known.shown}" if known else ""
        raise ClusterError(
            f"Cluster {target.name} is marked protected{where}: it can only be audited, so mode {asked} is refused. "
            "Whoever answers for the cluster can take the mark away; no option does."
        )
    return msgspec.structs.replace(target, mode=asked)


def _is_protected(target: ClusterTarget, known: ClustersFile | None, kubeconfig: Path | None) -> bool:
    """Whether the target, or another name for the same server, is marked protected."""
    if target.protected or known is None:
        return target.protected
    mine = _identity(target.context, target.kubeconfig)
    return any(
        mine == _identity(entry.context or name, _kubeconfig_of(entry, known, kubeconfig))
        for name, entry in known.entries.items()
        if entry.protected
    )


def _identity(context: str | None, kubeconfig: Path | None) -> str:
    """Tell what two ways to one cluster share: the server's address, or the context where none is known."""
    try:
        server = urlsplit(server_of(kubeconfig, context) or "")
        port = server.port or _PORTS.get(server.scheme)
    except (KubeconfigError, ValueError):
        return f"context {context}"
    return f"{server.hostname}:{port}{server.path}" if server.hostname else f"context {context}"


def _kubeconfig_of(entry: Entry, known: ClustersFile, kubeconfig: Path | None) -> Path | None:
    return known.beside(entry.kubeconfig) or kubeconfig


def _clusters_file(asked: Path | None) -> ClustersFile | None:
    """Read the first clusters file there is; one asked for by option or environment has to be there."""
    wanted = asked or (Path(variable) if (variable := os.environ.get(FILE_VARIABLE)) else None)
    if wanted is not None:
        if not wanted.expanduser().is_file():
            origin = "" if asked else f" (from the environment variable {FILE_VARIABLE})"
            raise ClusterError(
                f"There is no clusters file {wanted}{origin}. docs/clusters-file.md says what goes into one."
            )
        return ClustersFile.load(wanted.expanduser(), shown=str(wanted))
    for usual in USUAL_FILES:
        if (file := Path(usual).expanduser()).is_file():
            return ClustersFile.load(file, shown=usual)
    return None


def _contexts(kubeconfig: Path | None) -> list[str]:
    try:
        return contexts(kubeconfig)
    except KubeconfigError as error:
        raise ClusterError(str(error)) from error


def _refuse_context(name: str, kubeconfig: Path | None) -> None:
    """Raise ClusterError where a kind of clusters is also the name of a context, which somebody might mean."""
    with suppress(KubeconfigError):  # of one that cannot be read nothing is needed
        if name in contexts(kubeconfig):
            raise ClusterError(
                f"The kubeconfig has a context {name}, and --cluster {name} starts a cluster in a container. For the "
                f"context give it another name in a clusters file (lab: {{context: {name}}}) and say --cluster lab; "
                f"for a container say --cluster {name}:NAME."
            )


def _is_this_pods(name: str) -> bool:
    return name == IN_CLUSTER and "KUBERNETES_SERVICE_HOST" in os.environ


def _no_such_cluster(name: str, known: ClustersFile | None, kubeconfig: Path | None) -> str:
    entries, found = list(known.entries) if known else [], _contexts(kubeconfig)
    if known:
        file = f"The clusters file {known.shown} has: {_listed(entries)}"
    else:
        file = f"There is no clusters file ({' or '.join(USUAL_FILES)})"
    close = difflib.get_close_matches(
        name, [*entries, *found, EMBEDDED, CONTAINER, KIND, K3S, f"{SNAPSHOT}:FILE"], n=1, cutoff=0.5
    )
    hint = f" Did you mean {close[0]}?" if close else " The cluster called embedded needs neither."
    if missing := why_missing(kubeconfig):
        return f"No cluster named {name!r}. {file}. {missing}{hint}"
    which = f"the kubeconfig {kubeconfig}" if kubeconfig else "the kubeconfig"
    return f"No cluster named {name!r}. {file}; {which} has contexts: {_listed(found)}.{hint}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"

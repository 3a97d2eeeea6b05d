"""Access to a cluster for the commands that run no suites."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import conformance
from conformance.clusters.named import SNAPSHOT
from conformance.deploy.installing import Installer
from conformance.facts import Facts, read, snapshot
from conformance.kube.client import Client
from conformance.kube.effects import Effect, Mode
from conformance.kube.guard import Guard
from conformance.kube.timeouts import Timeouts
from conformance.options import OPTIONS, Setting, Settings
from conformance.progress import SilentProgress
from conformance.session.cluster import OpenCluster, open_cluster


@contextmanager
def reading_access(cluster: str, clusters_file: Path | None, kubeconfig: Path | None) -> Iterator[Client]:
    """A client of ``cluster`` that can only read."""
    with _access(cluster, clusters_file, kubeconfig, Effect.READS) as (client, _):
        yield client


def facts_of(cluster: str, clusters_file: Path | None, kubeconfig: Path | None) -> Facts:
    """The facts of a cluster, which is only read, or of a snapshot of one."""
    kind, _, file = cluster.partition(":")
    if kind == SNAPSHOT:
        return snapshot.load(file)
    with reading_access(cluster, clusters_file, kubeconfig) as client:
        return read(client)


@contextmanager
def full_access(
    cluster: str, clusters_file: Path | None, kubeconfig: Path | None
) -> Iterator[tuple[Client, Installer | None]]:
    """A client of ``cluster`` for cleaning up, and who takes GPU stacks away there.

    What they remove carries a run's label or is in its record, wherever it is.
    """
    with _access(cluster, clusters_file, kubeconfig, Effect.DISRUPTIVE) as access:
        yield access


@contextmanager
def opened_cluster(
    cluster: str, clusters_file: Path | None, kubeconfig: Path | None, mode: Mode | None = None
) -> Iterator[OpenCluster]:
    """The cluster of that name as a run would get it, in ``mode`` where one is given."""
    chosen = {"cluster": cluster, "clusters_file": clusters_file, "kubeconfig": kubeconfig, "mode": mode}
    if cluster.partition(":")[0] in ("container", "k3s") or cluster == "kind":
        raise ValueError("a cluster in containers ends with its run; name one that stays: --cluster kind:NAME")
    if cluster.startswith("kind:"):
        from conformance.clusters.docker.kind import require_existing

        require_existing(cluster.partition(":")[2])  # a run would make it
    if cluster == "embedded":
        raise ValueError("an embedded cluster of a run ends with it; name a kept one: --cluster embedded:NAME")
    names = (option.ini.removeprefix("gpu_") for option in OPTIONS)
    settings = Settings({name: Setting(str(chosen[name]) if chosen.get(name) else None, "option") for name in names})
    with open_cluster(settings, SilentProgress()) as opened:
        yield opened


@contextmanager
def _access(
    cluster: str, clusters_file: Path | None, kubeconfig: Path | None, limit: Effect
) -> Iterator[tuple[Client, Installer | None]]:
    with opened_cluster(cluster, clusters_file, kubeconfig) as opened:
        if opened.connection is None:
            raise ValueError(f"{cluster} is a snapshot: there is no cluster behind it")
        agent = f"gpu-conformance/{conformance.__version__}"
        yield Client(opened.connection, Guard(limit, None), Timeouts(), agent), opened.installer

"""The cluster of a run, wherever it comes from, behind one small record."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from conformance.clusters import named
from conformance.clusters.errors import ClusterError
from conformance.deploy.installing import Installer
from conformance.kube.connection import Connection
from conformance.kube.effects import Mode
from conformance.kube.kubeconfig import IN_CLUSTER, connect
from conformance.lab.images import Images
from conformance.options import Settings
from conformance.progress import Progress
from conformance.reference import load
from conformance.reference.simulated_plugin import is_simulated
from conformance.verdict import EvidenceKind

_LAST_PORT = 65535


@dataclass(frozen=True)
class OpenCluster:
    """What a run needs to know of its cluster. ``connection`` is None for a snapshot.

    ``deploys`` says that the reference set-up is deployed without being asked for; ``ephemeral`` that the cluster is
    the run's own and ends with it. ``installer`` puts a GPU stack on it.
    """

    name: str
    kind: str
    mode: Mode
    connection: Connection | None = None
    snapshot: Path | None = None
    reference: Path | None = None
    evidence: EvidenceKind | None = None
    images: Images = field(default_factory=Images)
    tolerations: tuple[dict[str, Any], ...] = ()
    deploys: bool = False
    ephemeral: bool = False
    kubeconfig: Path | None = None
    installer: Installer | None = None

    def handed_down(self) -> dict[str, str]:
        """What an xdist worker needs to join this cluster."""
        return {"kubeconfig": str(self.kubeconfig or ""), "kind": self.kind}


@contextmanager
def open_cluster(
    settings: Settings, progress: Progress, handed_down: dict[str, str] | None = None
) -> Iterator[OpenCluster]:
    """Resolve ``--cluster``, connect (an embedded one is started first), and let go at the end."""
    asked = settings.value("mode")
    target = named.resolve(
        settings.value("cluster"),
        clusters_file=_path(settings.value("clusters_file")),
        kubeconfig=_path(settings.value("kubeconfig")),
        mode=Mode(asked) if asked else None,
    )
    _refuse_real_nodes(settings, target)
    if target.kind == "snapshot":
        yield OpenCluster(target.name, target.kind, Mode.AUDIT, snapshot=target.snapshot, reference=target.reference)
    elif target.kind in _MAKERS:
        made = _MAKERS[target.kind](target, settings, progress) if handed_down is None else _joined(target, handed_down)
        with made as cluster:
            yield cluster
    else:
        with connect(target.kubeconfig, target.context) as connection:
            yield OpenCluster(
                target.name,
                target.kind,
                target.mode,
                connection,
                reference=target.reference,
                evidence=target.evidence,
                images=Images(target.registry, target.pull_secret),
                tolerations=target.tolerations,
                kubeconfig=target.kubeconfig,
                installer=_helm(target, settings),
            )


def _helm(target: named.ClusterTarget, settings: Settings) -> Installer:
    from conformance.deploy.helm.charts import Helm, HelmInstaller

    # Inside a pod helm finds the cluster as every client does.
    context = None if target.context == IN_CLUSTER else target.context
    return HelmInstaller(
        Helm(target.kubeconfig, context),
        charts=settings.value("chart") or target.chart,
        registry=target.registry,
        pull_secret=target.pull_secret,
    )


@contextmanager
def _embedded(target: named.ClusterTarget, settings: Settings, progress: Progress) -> Iterator[OpenCluster]:
    from conformance.clusters import embedded
    from conformance.clusters.embedded.simulated_installer import SimulatedInstaller

    kept = target.embedded_name
    with (
        embedded.attach(kept) if kept else embedded.start(_spec(settings), progress) as cluster,
        cluster.connection() as connection,
    ):
        yield OpenCluster(
            target.name,
            "embedded",
            target.mode,
            connection,
            deploys=not kept or target.mode is Mode.FULL,
            ephemeral=not kept,
            kubeconfig=cluster.kubeconfig,
            installer=SimulatedInstaller(),
        )


@contextmanager
def _container(target: named.ClusterTarget, settings: Settings, progress: Progress) -> Iterator[OpenCluster]:
    from conformance.clusters.docker.control_plane import ControlPlaneSpec, running
    from conformance.clusters.embedded.simulated_installer import SimulatedInstaller

    chosen = {
        "version": settings.value("kubernetes"),
        "topology": settings.value("topology"),
        "image": settings.value("cluster_image"),
        "name": target.given_name,
        "port": _port(settings),
        "assets": _path(settings.value("assets")),
    }
    spec = ControlPlaneSpec(**{name: value for name, value in chosen.items() if value})
    with running(spec, progress) as made, connect(made.kubeconfig, None) as connection:
        yield OpenCluster(
            target.name,
            "container",
            target.mode,
            connection,
            deploys=True,
            ephemeral=True,
            kubeconfig=made.kubeconfig,
            installer=SimulatedInstaller(),
        )


@contextmanager
def _kind(target: named.ClusterTarget, settings: Settings, progress: Progress) -> Iterator[OpenCluster]:
    from conformance.clusters.docker.kind import KindSpec, running

    chosen = {
        "name": target.given_name,
        "version": settings.value("kubernetes"),
        "topology": settings.value("topology"),
        "image": settings.value("cluster_image"),
        "registry": settings.value("cluster_registry"),
        "assets": _path(settings.value("assets")),
        "simulated_plugin": _declares_simulated_plugin(settings),
    }
    with running(KindSpec(**{name: value for name, value in chosen.items() if value}), progress) as made:
        asked = settings.value("mode")
        if not made.ours:
            files = _path(settings.value("clusters_file"))
            target = named.as_somebodys(target, made.kubeconfig, Mode(asked) if asked else None, files)
        target = msgspec.structs.replace(
            target, kubeconfig=made.kubeconfig, registry=settings.value("cluster_registry")
        )
        with connect(made.kubeconfig, None) as connection:
            yield OpenCluster(
                target.name,
                "kind",
                target.mode,
                connection,
                # Their GPUs are a number in their status; of a cluster that was there the nodes tell.
                evidence=EvidenceKind.SIMULATED if made.ours else None,
                images=Images(target.registry),
                ephemeral=made.ours,
                kubeconfig=made.kubeconfig,
                installer=_helm(target, settings),
            )


@contextmanager
def _k3s(target: named.ClusterTarget, settings: Settings, progress: Progress) -> Iterator[OpenCluster]:
    from conformance.clusters.docker.k3s import K3sSpec, running

    registry = settings.value("cluster_registry")
    chosen = {
        "name": target.given_name,
        "version": settings.value("kubernetes"),
        "image": settings.value("cluster_image"),
        "registry": registry,
        "simulated_plugin": _declares_simulated_plugin(settings),
    }
    with running(K3sSpec(**{name: value for name, value in chosen.items() if value}), progress) as made:
        target = msgspec.structs.replace(target, kubeconfig=made.kubeconfig, registry=registry)
        with connect(made.kubeconfig, None) as connection:
            yield OpenCluster(
                target.name,
                "k3s",
                target.mode,
                connection,
                images=Images(registry),
                ephemeral=True,
                kubeconfig=made.kubeconfig,
                installer=_helm(target, settings),
            )


def _declares_simulated_plugin(settings: Settings) -> bool:
    """Whether the set-up that is to be deployed brings the GPUs itself. Raises as loading the set-up does."""
    chosen = settings.value("reference")
    return bool(chosen and settings.value("deploy")) and is_simulated(load(Path(chosen)))


@contextmanager
def _joined(target: named.ClusterTarget, handed_down: dict[str, str]) -> Iterator[OpenCluster]:
    """The cluster that an xdist controller has made, for one of its workers."""
    kubeconfig = Path(handed_down["kubeconfig"])
    with connect(kubeconfig, None) as connection:
        yield OpenCluster(target.name, handed_down["kind"], target.mode, connection, kubeconfig=kubeconfig)


_MAKERS = {"embedded": _embedded, "container": _container, "kind": _kind, "k3s": _k3s}
"""How the kinds of clusters are had that a run starts itself."""


def _port(settings: Settings) -> int:
    text = str(settings.value("cluster_port") or "0")
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise ClusterError(f"--gpu-cluster-port is {text!r}: give the number of a port, such as 6443")
    return int(text)


def _spec(settings: Settings) -> Any:
    from conformance.clusters.embedded import EmbeddedSpec

    chosen = {
        "version": settings.value("kubernetes"),
        "topology": settings.value("topology"),
        "assets": _path(settings.value("assets")),
        "real_nodes": _real_nodes(settings),
        "real_gpus": _real_nodes(settings) > 0,
    }
    return EmbeddedSpec(**{name: value for name, value in chosen.items() if value})


def _real_nodes(settings: Settings) -> int:
    text = str(settings.value("real_nodes") or "0")
    if not text.isdecimal():
        raise ClusterError(f"--gpu-real-nodes is {text!r}: give a number of nodes, such as 1")
    return int(text)


def _refuse_real_nodes(settings: Settings, target: named.ClusterTarget) -> None:
    """Raise ClusterError where real nodes are asked for and no cluster is started that could have them."""
    if not _real_nodes(settings) or (target.kind == "embedded" and not target.embedded_name):
        return
    if target.kind in ("container", "kind", "k3s"):
        raise ClusterError("--gpu-real-nodes is for --cluster embedded: not for one in containers")
    how = f"gpu-conformance cluster up {target.embedded_name or 'NAME'} --real-nodes {_real_nodes(settings)}"
    raise ClusterError(
        f"--gpu-real-nodes is for a cluster that the run starts (--cluster embedded), and {target.name} is there "
        f"already. An embedded cluster that stays gets them when it is started: {how}"
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None

"""``--cluster kind``: a cluster of node containers made for the run, or one that is there and stays."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conformance.clusters import inotify
from conformance.clusters.embedded.binaries.failures import BinariesError
from conformance.clusters.embedded.topologies import load

from .daemon import reached
from .errors import ContainerClusterError
from .folders import own_folder
from .images import MADE_HERE, has, load_archive, named_image
from .kind_config import LABEL, cluster_config
from .kind_fleet import give_gpus, workers_of
from .kind_network import VARIABLE, own_network, removal, remove_network
from .local_providers import LocalCluster, LocalSpec, delete_command, program_of
from .reaping import reaping
from .usable import client_of, wait_usable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.progress import Progress

NODE_LABEL = "io.x-k8s.kind.cluster"
# What kind 0.33.0 makes by default, as its source pins it (pkg/apis/config/defaults/image.go).
REGISTRY = "docker.io"
DEFAULT_IMAGE = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
_START_WITHIN = 300.0  # seconds
_TAKEN = "already exist for a cluster with the name"
_REMEDY = "Name one that Docker has, or have one made: --gpu-cluster-image made-here (root on Linux)"


@dataclass(frozen=True)
class KindSpec:
    """A kind cluster. ``name`` None makes one up; a cluster of a given name that is there is used and stays.

    ``image`` is the node image, None kind's own, pinned, with ``registry`` in place of its registry; ``made-here`` is
    the one of kind_node_image. ``topology`` says which workers there are, and how many GPUs they say that they have;
    with ``simulated_plugin`` they say none, and have the image of a device plugin that may be deployed to them.
    """

    name: str | None = None
    version: str = "1.36"
    topology: str | Path = "single"
    image: str | None = None
    registry: str | None = None
    program: Path | None = None
    assets: Path | None = None
    simulated_plugin: bool = False
    timeout: float = _START_WITHIN


@dataclass(frozen=True)
class KindCluster:
    """A kind cluster that runs. ``ours`` says that this run made it, and deletes it; ``made_here`` so of its image."""

    name: str
    kubeconfig: Path
    ours: bool
    made_here: bool = False


@contextlib.contextmanager
def running(spec: KindSpec, progress: Progress) -> Iterator[KindCluster]:
    """The cluster of that name, or a new one, which is gone when the block ends and soon after should we be killed.

    Raises ContainerClusterError: no daemon, no or an old kind, no image, a cluster that does not come up.
    """
    with reached() as client, own_folder() as folder:
        program = _program(spec, progress)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        if spec.name and _nodes_of(client, spec.name):
            kubeconfig.write_text(_kubeconfig_of(program, spec.name), encoding="utf-8")
            yield KindCluster(spec.name, kubeconfig, ours=False)
            return
        topology = load(spec.topology)
        workers = workers_of(topology)
        image = _image(client, spec, progress)
        made_here = _is_made_here(client, image)
        name = spec.name or f"gpu-conformance-{secrets.token_hex(4)}"
        config = folder / "kind.json"
        config.write_text(json.dumps(cluster_config(name, image, workers, made_here=made_here)), encoding="utf-8")
        progress.step(f"Making the kind cluster {name}")
        network = own_network()
        variables = ((VARIABLE, network),) if network else ()
        local = LocalSpec("kind", name, spec.version, program, kubeconfig, config, variables=variables)
        with _made(client, local, workers + 1, network) as cluster:
            if spec.simulated_plugin:
                _load_plugin(client, cluster, progress)
            with client_of(kubeconfig) as api:
                wait_usable(api, workers + 1, progress, what="the kind cluster", timeout=spec.timeout)
                give_gpus(api, topology, by_plugin=spec.simulated_plugin)
            yield KindCluster(name, kubeconfig, ours=True, made_here=made_here)


def require_existing(name: str) -> None:
    """Raise ContainerClusterError, which names those that there are, unless there is a kind cluster of this name."""
    with reached() as client:
        if _nodes_of(client, name):
            return
        nodes = client.containers.list(all=True, ignore_removed=True, filters={"label": NODE_LABEL})
        known = ", ".join(sorted({str(node.labels[NODE_LABEL]) for node in nodes})) or "none"
    raise ContainerClusterError(
        f"there is no kind cluster named {name}; there are: {known}. 'kind create cluster --name {name}' makes it"
    )


@contextlib.contextmanager
def _made(client: Any, spec: LocalSpec, nodes: int, network: str) -> Iterator[LocalCluster]:
    """A new cluster of so many nodes, in a network of its own, for the time of a block."""
    with reaping(removal(network, delete_command(spec))) as reaper:
        cluster = LocalCluster(spec, reaper)
        try:
            cluster.create()
        except ContainerClusterError as error:
            if _TAKEN in str(error):
                reaper.done()  # somebody else made it a moment ago
                raise ContainerClusterError(
                    f"a kind cluster named {spec.name} has just been made by somebody else: run this again to use it"
                ) from error
            # kind takes away what it could not complete, and the reaper whatever it left.
            raise _with_shortage(error, nodes) from error
        try:
            yield cluster
        finally:
            cluster.delete()
            if network:
                remove_network(client, network)
            reaper.done()


def _with_shortage(error: ContainerClusterError, nodes: int) -> ContainerClusterError:
    """The error and, where this machine has too few inotify instances for it, that. A daemon may be elsewhere."""
    if told := inotify.shortage(nodes * inotify.KIND_NODE):
        return ContainerClusterError(f"{error}\n{told}. If Docker runs on this machine: {inotify.REMEDY}")
    return error


def _program(spec: KindSpec, progress: Progress) -> Path:
    """The kind on PATH, or else the pinned one."""
    from conformance.clusters.embedded.binaries import resolve

    why = ""
    if spec.program is None:
        try:
            return program_of("kind")
        except ContainerClusterError as error:
            why = str(error)
    try:
        pinned = spec.program or resolve(spec.version, ["kind"], assets=spec.assets, progress=progress)["kind"]
    except BinariesError as error:
        raise ContainerClusterError(f"no program kind that is new enough is on PATH ({why}), and: {error}") from error
    return program_of("kind", pinned)


def _image(client: Any, spec: KindSpec, progress: Progress) -> str:
    if spec.image == MADE_HERE:
        from . import kind_node_image

        made = kind_node_image.obtain(spec.version, assets=spec.assets, cache=None, progress=progress)
        if not has(client, made.name):
            load_archive(client, made.name, made.archive, progress)
        return made.name
    return named_image(client, spec.image or default_image(spec.registry), progress, _REMEDY)


def default_image(registry: str | None = None) -> str:
    """Kind's own node image, pinned by its digest, with another registry (or one with a path) in place of its own."""
    return f"{(registry or REGISTRY).rstrip('/')}/{DEFAULT_IMAGE}"


def _load_plugin(client: Any, cluster: LocalCluster, progress: Progress) -> None:
    """Bring the image of the simulated device plugin to the nodes. Raises ContainerClusterError."""
    from . import simulated_plugin_image

    image = simulated_plugin_image.spec()
    content = simulated_plugin_image.content_of(image)
    there = client.images.get(image.name).labels or {} if has(client, image.name) else {}
    if there.get(simulated_plugin_image.DIGEST) != content:
        progress.step(f"Making the image {image.name}")
        load_archive(client, image.name, simulated_plugin_image.archive(image), progress)
    progress.step(f"Loading {image.name} into the nodes")
    cluster.load(image.name)


def _is_made_here(client: Any, image: str) -> bool:
    labels = client.images.get(image).labels or {}
    return bool(labels.get(LABEL) == "kind-node")


def _nodes_of(client: Any, name: str) -> list[Any]:
    return list(client.containers.list(all=True, ignore_removed=True, filters={"label": f"{NODE_LABEL}={name}"}))


def _kubeconfig_of(program: Path, name: str) -> str:
    command = [str(program), "get", "kubeconfig", "--name", name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if ran.returncode:
        raise ContainerClusterError(f"{' '.join(command)} ended with {ran.returncode}: {ran.stderr.strip()}")
    return ran.stdout

"""How real nodes join an embedded cluster that starts: what they are made of, and the wait until they can be used."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from conformance.clusters.embedded import fleet
from conformance.clusters.embedded.errors import EmbeddedError, tail
from conformance.lab.images import IMAGES

from . import images
from .nodes import Parts, folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from conformance.clusters.embedded.cluster import EmbeddedCluster
    from conformance.clusters.embedded.spec import EmbeddedSpec
    from conformance.kube.client import Client
    from conformance.progress import Progress

    from .placing import Place
    from .preflight import Tools

KUBELET = "kubelet"
ROOM = 256 << 20
"""Bytes of the state folder that a real node takes: its images, packed and unpacked, logs, and what its pods write."""

_PAUSE = 0.05
# Which image of the lab each of ours stands in for.
_STANDS_FOR = {images.PAUSE: "pause", images.PROBE: "python"}


class NodeNotReady(EmbeddedError):
    """A real node did not become ready in time; the text shows the end of its logs."""

    def __init__(self, name: str, folder: Path, timeout: float) -> None:
        logs = [f"{log.name} ends with:\n{tail(log)}" for log in sorted(folder.glob("*.log"))]
        super().__init__("\n".join([f"node {name} did not become ready within {timeout:.0f} s", *logs]))


def parts(
    places: Sequence[Place], tools: Tools, spec: EmbeddedSpec, binaries: Mapping[str, Path], progress: Progress
) -> Parts:
    """What the real nodes of a cluster are made of. Nothing is started for it. Raises ImageError, LibraryError."""
    from conformance.clusters.embedded.binaries.cache import cache_root

    progress.step("Making the container images of the real nodes")
    cache = cache_root(spec.cache, os.environ)
    archive = images.archive(cache / "images", lab_names())
    library = driver_library(cache / "libraries") if spec.real_gpus else None
    return Parts(tools, binaries[KUBELET], archive, tuple(places), library)


def driver_library(cache: Path) -> Path | None:
    """The stand-in of the driver's libraries; None on a machine without a C compiler. Raises EmbeddedError."""
    from conformance.deviceplugin.library import LibraryError, compile_library

    try:
        return compile_library(cache)
    except LibraryError as error:
        raise EmbeddedError(str(error)) from None


def lab_names() -> dict[str, tuple[str, ...]]:
    """Under which names kubelets ask for our images: as the lab's pods name those that ours stand in for.

    A reference with tag and digest is looked for by its digest alone.
    """
    return {own: (_by_digest(IMAGES[known].under(None)),) for own, known in _STANDS_FOR.items()}


def wait_joined(cluster: EmbeddedCluster, places: Sequence[Place], progress: Progress, *, timeout: float) -> None:
    """Wait until the real nodes take pods and offer the GPUs for which no stack has to be deployed.

    Raises NodeNotReady, or ComponentDied when one of them ended.
    """
    deadline = time.monotonic() + timeout
    with cluster.client() as client:
        while missing := _not_joined(client, places):
            cluster.check()
            progress.step("Waiting for the real nodes", len(places) - len(missing), len(places))
            if time.monotonic() > deadline:
                name = min(missing)
                raise NodeNotReady(name, folder_of(cluster.layout, name), timeout)
            time.sleep(_PAUSE)


def _not_joined(client: Client, places: Sequence[Place]) -> set[str]:
    usable = fleet.usable(client, hasten=True)
    return {place.name for place in places if place.name not in usable or not _offers_its_gpus(client, place)}


def _offers_its_gpus(client: Client, place: Place) -> bool:
    if not place.offers:
        return True
    allocatable = client.get(f"/api/v1/nodes/{place.name}")["status"].get("allocatable") or {}
    return str(allocatable.get(place.offers, "0")) != "0"


def _by_digest(reference: str) -> str:
    name, _, digest = reference.partition("@")
    return f"{name.rpartition(':')[0]}@{digest}"

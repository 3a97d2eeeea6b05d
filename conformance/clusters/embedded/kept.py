"""Clusters that stay up between commands: bring one up, find it, use it, take it down."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from . import state
from .boot import start
from .cluster import EmbeddedCluster, read_card
from .errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.progress import Progress

    from .spec import EmbeddedSpec

_DOWN_PATIENCE = 20.0


def cluster_up(name: str, spec: EmbeddedSpec, progress: Progress | None = None) -> EmbeddedCluster:
    """Start a cluster that outlives this process and all that it is part of, such as a terminal.

    If it cannot be completed, nothing is left. Raises StateError for a bad name and for one that is up already.
    """
    state.check_name(name)
    cluster = start(spec, progress, kept=name)
    processes = cluster.processes
    if processes is None:
        raise EmbeddedError(f"cluster {name} has no processes of ours to leave running")
    try:
        cluster.write_card(processes.warden.pid)
        processes.detach()
    except BaseException:
        cluster.close()
        raise
    cluster.processes = None
    return cluster


def cluster_down(name: str, *, root: Path | None = None) -> None:
    """Stop a kept cluster and remove its state. Raises EmbeddedError when none of that name is up, or it stays."""
    folder = _folder(name, root)
    warden = _warden(folder, name)
    with contextlib.suppress(ProcessLookupError):
        os.kill(warden, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_PATIENCE
    while folder.exists():
        with contextlib.suppress(ChildProcessError):  # it is our child only if we brought the cluster up
            os.waitpid(warden, os.WNOHANG)
        if not state.is_owned(folder):  # the warden was killed before it could clean up
            state.remove_abandoned(folder.parent)
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"cluster {name} is still there after {_DOWN_PATIENCE:.0f} s: see {folder / 'warden.log'}"
            )
        time.sleep(0.02)


def cluster_list(*, root: Path | None = None) -> list[EmbeddedCluster]:
    """The kept clusters that are up, by name; one that is just starting is not there yet."""
    clusters = []
    for name, folder in sorted(state.kept_folders(root).items()):
        with contextlib.suppress(OSError):
            clusters.append(EmbeddedCluster.from_card(folder, name))
    return clusters


def attach(name: str, *, root: Path | None = None) -> EmbeddedCluster:
    """A kept cluster, to be used; closing it leaves it running. Raises EmbeddedError when none of that name is up."""
    folder = _folder(name, root)
    try:
        return EmbeddedCluster.from_card(folder, name)
    except OSError:
        raise EmbeddedError(f"cluster {name} is still starting: try again in a moment") from None


def _folder(name: str, root: Path | None) -> Path:
    folders = state.kept_folders(root)
    if name not in folders:
        up = f"up are: {', '.join(sorted(folders))}" if folders else "none is up"
        raise EmbeddedError(f"no embedded cluster named {name!r}; {up}. Start it: gpu-conformance cluster up {name}")
    return folders[name]


def _warden(folder: Path, name: str) -> int:
    try:
        return int(read_card(folder)["warden"])
    except OSError:
        raise EmbeddedError(f"cluster {name} is still starting: end the command that starts it instead") from None

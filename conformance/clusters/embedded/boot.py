"""Starting an embedded cluster: seed, state folder, processes side by side, waiting, fleet."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from . import files, real, seeds, state
from .cluster import EmbeddedCluster, client_of
from .components import BINARIES, Components, Layout, Ports
from .control_plane import trust
from .errors import ComponentDied
from .ports import reserved
from .processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from conformance.progress import Progress

    from .components import Component
    from .spec import EmbeddedSpec

_TRIES = 3  # with other ports, when somebody took one between our choice and the bind


def start(spec: EmbeddedSpec, progress: Progress | None = None, *, kept: str | None = None) -> EmbeddedCluster:
    """Start a control plane with its simulated fleet and return it when pods can be created.

    ``kept`` is the name of a cluster that will stay up (see kept.py). The caller closes the result; should the caller
    die, the processes end and the state folder goes all the same. Raises EmbeddedError: a process that ended with the
    end of its log, a timeout, no room for state, a machine that cannot run real nodes; BinariesError when the programs
    cannot be had; TopologyError.
    """
    from conformance.progress import SilentProgress

    from .binaries import resolve

    progress = progress or SilentProgress()
    # Before minutes go into building a kubelet that could not run here.
    places = real.places(spec)
    tools = real.required(spec.assets, gpus=spec.real_gpus, nodes=len(places)) if places else None
    wanted = BINARIES if tools is None else (*BINARIES, real.KUBELET)
    binaries = resolve(spec.version, wanted, assets=spec.assets, cache=spec.cache, progress=progress)
    parts = None if tools is None else real.parts(places, tools, spec, binaries, progress)
    deadline = time.monotonic() + spec.timeout
    seed = seeds.obtain(spec, binaries, progress, deadline=deadline)
    progress.step("Starting the control plane")
    cluster = _retrying_ports(lambda: _started(spec, binaries, seed, parts, progress, kept=kept, deadline=deadline))
    try:
        _wait_for_fleet(cluster, spec, progress, besides=[place.name for place in places])
        if parts is not None:
            real.wait_joined(cluster, parts.places, progress, timeout=spec.timeout)
        if spec.simulator and cluster.processes is not None:
            # Last, so that it takes no time from what a start waits for; it reads what has happened before it.
            cluster.processes.start(Components(binaries, cluster.layout, spec).simulator())
        cluster.check()
    except BaseException:
        cluster.close()
        raise
    return cluster


def _started(
    spec: EmbeddedSpec,
    binaries: Mapping[str, Path],
    seed: seeds.Seed,
    parts: real.Parts | None,
    progress: Progress,
    *,
    kept: str | None,
    deadline: float,
) -> EmbeddedCluster:
    folder = state.make(kept=kept, root=spec.state_dir, room=spec.real_nodes * real.ROOM)
    with reserved(Ports.COUNT) as ports:
        chosen = Ports(*ports)
        layout = Layout(folder.path, replace(chosen, apiserver=spec.port or chosen.apiserver))
        components = Components(binaries, layout, spec)
        try:
            seed.sow(layout)
            files.write(components)
            nodes = [] if parts is None else list(real.prepared(layout, parts))
            processes = Processes(folder)
        except BaseException:
            folder.remove()
            raise
        try:
            version = _come_up(processes, components, nodes, progress, deadline)
        except BaseException:
            processes.end()
            raise
    return EmbeddedCluster(layout, version, str(spec.topology or "none"), kept, processes)


def _come_up(
    processes: Processes,
    components: Components,
    nodes: Sequence[Component],
    progress: Progress,
    deadline: float,
) -> str:
    """Start everything in the order that loses no time; returns the version that the API server says.

    The others start when the API server has its port. Earlier they would be refused and try again after a second or
    more; now their first request waits for its first answer, and their own start-up has overlapped with its.
    """
    apiserver = components.apiserver()
    processes.start(components.etcd())
    processes.start(apiserver)
    processes.wait_bound(apiserver, deadline=deadline)
    others = [components.scheduler(), components.controller_manager(), components.kwok(), *nodes]
    for component in others:
        processes.start(component)
    context = trust(components.layout)
    import conformance.kube.client  # noqa: F401 (takes 0.2 s, which pass unnoticed while the API server starts)

    processes.wait_ready([apiserver], context, deadline=deadline)
    version = _populate(components, progress)
    processes.wait_ready(others, context, deadline=deadline)
    return version


def _retrying_ports(attempt: Callable[[], EmbeddedCluster]) -> EmbeddedCluster:
    for _ in range(_TRIES - 1):
        try:
            return attempt()
        except ComponentDied as died:
            if not died.port_was_taken:
                raise
    return attempt()


def _populate(components: Components, progress: Progress) -> str:
    """Create the nodes while controllers, scheduler and KWOK still start."""
    from .fleet import create
    from .topologies import load

    with client_of(components.layout) as client:
        version = str(client.get("/version")["gitVersion"])
        if components.spec.topology is not None:
            instead = real.instead(components.spec, kubelet=version)
            create(client, load(components.spec.topology), progress, kubelet=version, instead=instead)
    return version


def _wait_for_fleet(
    cluster: EmbeddedCluster, spec: EmbeddedSpec, progress: Progress, *, besides: Sequence[str]
) -> None:
    from .fleet import wait_usable
    from .topologies import load

    if spec.topology is not None:
        with cluster.client() as client:
            wait_usable(client, load(spec.topology), progress, timeout=spec.timeout, besides=besides)

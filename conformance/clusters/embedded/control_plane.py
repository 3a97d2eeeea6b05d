"""A control plane from nothing: what a seed is made of, and how the administrator speaks to its processes."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

from . import files, pki, state
from .components import Components, Layout, Ports
from .ports import reserved
from .processes import Processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from .spec import EmbeddedSpec


@contextlib.contextmanager
def started_bare(
    spec: EmbeddedSpec, binaries: Mapping[str, Path], *, deadline: float
) -> Iterator[tuple[Layout, Processes]]:
    """A control plane from nothing, without scheduler and KWOK: what a seed is made of."""
    folder = state.make(root=spec.state_dir)
    with reserved(Ports.COUNT) as ports:
        layout = Layout(folder.path, Ports(*ports))
        components = Components(binaries, layout, spec)
        try:
            pki.write(layout.pki)
            files.write(components)
            processes = Processes(folder)
        except BaseException:
            folder.remove()
            raise
        try:
            processes.start(components.etcd())
            apiserver = components.apiserver(seeded=False)
            processes.start(apiserver)
            processes.wait_bound(apiserver, deadline=deadline)
            processes.start(components.controller_manager())
            processes.wait_ready(list(processes.components.values()), trust(layout), deadline=deadline)
            yield layout, processes
        finally:
            processes.end()


def trust(layout: Layout) -> ssl.SSLContext:
    """How the administrator speaks to the processes of a cluster, and whom it believes."""
    context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
    context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
    return context

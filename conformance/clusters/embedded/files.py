"""The files that the processes read besides certificates: kubeconfigs, the scheduler's and KWOK's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.simulator.annotations import ADMITTED, PREPARED

from . import pki

if TYPE_CHECKING:
    from .components import Components, Layout

_STAGES = Path(__file__).parent / "stages"

# How many nodes and pods KWOK changes at a time. Its own default of 4 makes a fleet of thousands wait.
_PARALLEL = 16


def write(components: Components) -> None:
    """Write everything below the state folder that the components of a cluster refer to."""
    layout = components.layout
    for identity in pki.IDENTITIES:
        _write(layout.kubeconfig(identity), kubeconfig(layout, identity))
    # JSON is YAML, too, and needs no library to be written.
    _write(layout.folder / "scheduler.yaml", json.dumps(components.scheduler_configuration(), indent=2))
    _write(layout.folder / "kwok.yaml", kwok_configuration(gated=components.spec.simulator))


def kubeconfig(layout: Layout, identity: str) -> str:
    """A kubeconfig with absolute paths to certificates, so that nothing secret is written twice."""
    cluster = {"server": layout.server, "certificate-authority": str(layout.pki / "ca.crt")}
    user = {
        "client-certificate": str(layout.pki / f"{identity}.crt"),
        "client-key": str(layout.pki / f"{identity}.key"),
    }
    name = "gpu-conformance"
    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": identity}}],
        "current-context": name,
    }
    return json.dumps(content, indent=2)


def kwok_configuration(*, gated: bool = True) -> str:
    """KWOK's options and all stages of the folder ``stages``, as one YAML stream.

    ``gated``: pods that ask for devices wait until a simulator has admitted them; without one all start at once.
    """
    options = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": {
            "enableDebuggingHandlers": True,  # logs; commands run nowhere as long as no Exec rule says so
            "podPlayStageParallelism": _PARALLEL,
            "nodePlayStageParallelism": _PARALLEL,
            "nodeLeaseParallelism": _PARALLEL,
        },
    }
    stages = [path.read_text(encoding="utf-8") for path in sorted(_STAGES.glob("*.yaml"))]
    if not gated:
        stages = [_ungated(stage) for stage in stages]
    return "\n---\n".join([json.dumps(options), *stages])


def _ungated(stage: str) -> str:
    """A stage without its conditions on what a simulator does, each of which is one line that names the annotation."""
    lines = stage.splitlines(keepends=True)
    return "".join(line for line in lines if not any(f'"{gate}"' in line for gate in (ADMITTED, PREPARED)))


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")

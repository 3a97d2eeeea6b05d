"""Real nodes as processes of an embedded cluster: what is written for each, and how its keeper is started."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import conformance
from conformance.clusters.embedded import pki, state
from conformance.clusters.embedded.components import Component
from conformance.realnode.orders import AFTERWARDS, INSIDE, Orders

from . import images, settings
from .file_systems import finds_file_system
from .network import Cable, free_cable
from .preflight import SYS_RESOURCE, has_capability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.clusters.embedded.components import Layout

    from .placing import Place
    from .preflight import Tools

SERVICE_ADDRESS, SERVICE_PORT = "10.96.0.1", 443
"""The cluster IP of Service kubernetes: the first address of the service range."""

TAINT = {"key": "gpu-conformance.io/real-node", "value": "true", "effect": "NoSchedule"}
"""Keeps pods away that expect a simulated node, or an image that this machine has not."""

_FOLDER = "real-nodes"
_HOME = Path(conformance.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Parts:
    """What nodes are made of: the machine's programs, the kubelet, the archive of the images that they have.

    ``library`` stands in for the libraries of the driver, where there are GPUs and a C compiler.
    """

    tools: Tools
    kubelet: Path
    archive: Path
    places: tuple[Place, ...] = ()
    library: Path | None = None


def folder_of(layout: Layout, name: str) -> Path:
    """Where a node keeps everything, its logs among them."""
    return layout.folder / _FOLDER / name


def prepared(layout: Layout, parts: Parts) -> Iterator[Component]:
    """Write what each node needs into the state folder, and yield their keepers.

    Raises NoAddress, OSError.
    """
    authority = pki.Authority.load(layout.pki)
    cables: list[Cable] = []
    token = secrets.token_hex(4)
    for number, place in enumerate(parts.places, start=1):
        name = place.name
        cable = free_cable(cables)
        cables.append(cable)
        folder = folder_of(layout, name)
        folder.mkdir(parents=True, mode=0o700)
        cgroup = f"gpu-conformance-{token}-{number}"
        _write_identity(authority, layout, folder, name, cable.node)
        _write_settings(folder, cgroup, cable, place, parts)
        orders = Orders(
            name=name,
            folder=str(folder),
            link=f"gpc{token}{number}",
            host_address=cable.host_address,
            node_address=cable.node_address,
            pods=cable.pods,
            bridge=settings.BRIDGE,
            service_address=SERVICE_ADDRESS,
            service_port=SERVICE_PORT,
            api_port=layout.ports.apiserver,
            cgroup=cgroup,
            covered=list(settings.COVERED),
            kept=_kept(folder, parts),
            tunables=dict(settings.TUNABLES),
            containerd=_containerd(parts),
            containerd_socket=str(settings.SOCKET),
            import_images=_import(parts),
            kubelet=_kubelet(name, cable.node, parts),
            agents=_agents(place, parts),
            processors=place.processors,
            memory_kib=place.memory_kib,
        )
        orders.write()
        with (layout.folder / state.CGROUPS).open("a", encoding="utf-8") as known:
            known.write(f"{cgroup}\n")
        yield _keeper(layout, orders, parts)


def _write_identity(authority: pki.Authority, layout: Layout, folder: Path, name: str, address: str) -> None:
    """The kubelet's certificates, as client (system:node:NAME) and as server, and its kubeconfig."""
    certificates = folder / "pki"
    certificates.mkdir(mode=0o700)
    shutil.copy(layout.pki / "ca.crt", certificates)
    authority.issue_client(certificates, "kubelet", f"system:node:{name}", ("system:nodes",))
    authority.issue_server(certificates, "serving", name, (name,), (address,))
    inside = INSIDE / "pki"
    user = {"client-certificate": str(inside / "kubelet.crt"), "client-key": str(inside / "kubelet.key")}
    server = f"https://{SERVICE_ADDRESS}:{SERVICE_PORT}"
    cluster = {"server": server, "certificate-authority": str(inside / "ca.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "embedded", "cluster": cluster}],
        "users": [{"name": "kubelet", "user": user}],
        "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": "kubelet"}}],
        "current-context": "embedded",
    }
    _write(folder / "kubelet.kubeconfig", json.dumps(content))


def _write_settings(folder: Path, cgroup: str, cable: Cable, place: Place, parts: Parts) -> None:
    lowers = has_capability(SYS_RESOURCE)
    runtime = settings.containerd(parts.tools.cni, images.PAUSE, gpus=place.node is not None, lowers_scores=lowers)
    _write(folder / "containerd.toml", runtime)
    _write(folder / "runc", settings.runtime(parts.tools.programs["runc"], sys.executable))
    (folder / "runc").chmod(0o700)
    _write(folder / "registries" / "_default" / "hosts.toml", settings.registries())
    _write(folder / "cni" / "10-pods.conflist", settings.cni(cable.pods))
    taints = [] if place.node else [TAINT]
    finds = finds_file_system(folder)
    kubelet = settings.kubelet(cgroup, cable.node, taints, place.pods, finds_storage=finds)
    _write(folder / "kubelet.json", kubelet)
    _write(folder / "resolv.conf", "options timeout:1 attempts:1\n")


def _kept(folder: Path, parts: Parts) -> list[str]:
    """What the node needs that may lie below a folder which is covered: its own folder, programs, Python, ourselves."""
    programs = [path.parent for path in parts.tools.programs.values()]
    needed = [folder, parts.kubelet.parent, parts.archive.parent, parts.tools.cni, *programs]
    needed += [parts.library.parent] if parts.library else []
    return list(dict.fromkeys(map(str, [*needed, sys.prefix, sys.base_prefix, _HOME])))


def _containerd(parts: Parts) -> list[str]:
    return [str(parts.tools.programs["containerd"]), "--config", str(INSIDE / "containerd.toml")]


def _import(parts: Parts) -> list[str]:
    ctr = [str(parts.tools.programs["ctr"]), "--address", str(settings.SOCKET), "--namespace", "k8s.io"]
    return [*ctr, "images", "import", str(parts.archive)]


def _kubelet(name: str, address: str, parts: Parts) -> list[str]:
    flags = {
        "config": str(INSIDE / "kubelet.json"),
        "kubeconfig": str(INSIDE / "kubelet.kubeconfig"),
        "root-dir": str(INSIDE / "kubelet"),
        "cert-dir": str(INSIDE / "pki"),
        "hostname-override": name,
        "node-ip": address,
        "v": "1",
    }
    return [str(parts.kubelet), *(f"--{flag}={value}" for flag, value in flags.items())]


def _agents(place: Place, parts: Parts) -> dict[str, list[str]]:
    """What runs beside the kubelet of a node with GPUs."""
    if place.node is None:
        return {}
    options = {
        "node": place.name,
        "kubeconfig": str(INSIDE / "kubelet.kubeconfig"),
        "files": str(INSIDE / "devices"),
        "dra": str(INSIDE / "kubelet"),
        "claims": str(settings.CDI),
        "pod-resources": str(INSIDE / "kubelet" / "pod-resources" / "kubelet.sock"),
        **({"library": str(parts.library)} if parts.library else {}),
        **({"cdi": str(settings.CDI)} if parts.tools.cdi else {}),
    }
    module = [sys.executable, "-P", "-m", "conformance.deviceplugin"]
    plugin = [*module, *(f"--{name}={value}" for name, value in options.items())]
    served = [sys.executable, "-P", "-m", "conformance.realnode.registry", str(parts.archive), images.STAND_IN]
    return {"device-plugin": plugin, "registry": served}


def _keeper(layout: Layout, orders: Orders, parts: Parts) -> Component:
    argv = (sys.executable, "-P", "-m", "conformance.realnode.keeper", orders.folder)
    env = {
        "HOME": orders.folder,
        "TMPDIR": orders.folder,
        "PATH": parts.tools.search_path,
        "PYTHONPATH": str(_HOME),
    }
    return Component(orders.name, argv, env, layout.log(orders.name), afterwards=(*argv, AFTERWARDS))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")

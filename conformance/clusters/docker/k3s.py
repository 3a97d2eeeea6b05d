"""k3s in one container, by testcontainers' K3SContainer, whose description of the container is used and little else.

Worked round, each read in or met with testcontainers 4.15: ports that are published on all addresses of the machine; a
wait that goes on for two minutes beside a container that has ended; a kubeconfig with the address of the Docker bridge
where testcontainers takes itself to be in a container; a reaper that needs an image of its own.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from conformance.clusters.embedded.binaries.versions import DEFAULT_MINOR, release

from . import owned, simulated_plugin_image
from .daemon import first_line, published_port, reached
from .errors import ContainerClusterError
from .folders import own_folder
from .images import MADE_HERE, named_image
from .reaping import reaping
from .usable import client_of, wait_usable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.progress import Progress

LOOPBACK, PORT = "127.0.0.1", 6443
REGISTRY = "docker.io"
OWNER_LABEL = "io.gpu-conformance.k3s"
DIGESTS = {"1.36.3": "sha256:d0f79175794edd9694b4a12bafc5c52ae1977369a2f7cf256264e7bd2dae0be9"}
"""What each image was published as, by its Kubernetes version: as public repositories pin it; not pulled by us."""
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
READY = "Node controller sync successful"
_IMPORTED = "/var/lib/rancher/k3s/agent/images"
# docs.k3s.io, Air-Gap Install: a server imports the archives of images that it finds there when it starts.
_LOOK_EVERY = 0.2
_REMEDY = "Load one into Docker ('docker load') and name it with --gpu-cluster-image, or name one that Docker can pull."


@dataclass(frozen=True)
class K3sSpec:
    """A k3s server. ``version`` is a minor or a whole Kubernetes version; ``image`` None is Rancher's image of it.

    ``registry`` takes the place of its registry. ``name`` None makes one up for the container. ``timeout`` is seconds.
    With ``simulated_plugin`` the node has the image of a device plugin that may be deployed to it.
    """

    version: str = DEFAULT_MINOR
    image: str | None = None
    registry: str | None = None
    name: str | None = None
    simulated_plugin: bool = False
    timeout: float = 180.0


@dataclass(frozen=True)
class K3s:
    """A k3s that runs. ``kubeconfig`` is the administrator's and goes with it."""

    name: str
    kubeconfig: Path
    server: str


@contextlib.contextmanager
def running(spec: K3sSpec, progress: Progress) -> Iterator[K3s]:
    """Start k3s; it is gone when the block ends, and soon after should we be killed.

    Raises ContainerClusterError: no daemon, no image, a name that is taken, a server that does not come up.
    """
    name = spec.name or f"gpu-conformance-k3s-{secrets.token_hex(4)}"
    with reached() as client, own_folder() as folder:
        if spec.image == MADE_HERE:
            raise ContainerClusterError(f"no image of k3s is made here: {_REMEDY}")
        image = named_image(client, spec.image or image_of(release(spec.version), spec.registry), progress, _REMEDY)
        progress.step(f"Starting k3s in the container {name}")
        with _started(client, spec, image, name) as container:
            server = f"https://{LOOPBACK}:{published_port(container, PORT)}"
            kubeconfig = folder / "kubeconfig"
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(_kubeconfig(container, server), encoding="utf-8")
            with client_of(kubeconfig) as api:
                wait_usable(api, 1, progress, what=f"k3s in container {name}", timeout=spec.timeout)
            yield K3s(name, kubeconfig, server)


def image_of(version: str, registry: str | None = None) -> str:
    """Rancher's image of the first k3s of a Kubernetes version, with another registry (or one with a path).

    By its digest where that is known, else by its tag alone.
    """
    tagged = f"{(registry or REGISTRY).rstrip('/')}/rancher/k3s:v{version}-k3s1"
    return f"{tagged}@{DIGESTS[version]}" if version in DIGESTS else tagged


@contextlib.contextmanager
def _started(client: Any, spec: K3sSpec, image: str, name: str) -> Iterator[Any]:
    """The container, ready, and somebody who removes it when we are killed."""
    owner = secrets.token_hex(8)
    with reaping(owned.removal(owner)) as reaper:
        try:
            yield _start(client, spec, image, name, owner)
        finally:
            owned.remove(client, owner)
            reaper.done()


def _start(client: Any, spec: K3sSpec, image: str, name: str, owner: str) -> Any:
    from docker.errors import DockerException
    from testcontainers.core.config import testcontainers_config

    described = _described(image, name, owner, spec)
    asked = testcontainers_config.ryuk_disabled
    testcontainers_config.ryuk_disabled = True
    try:
        described.start()
    except (DockerException, OSError) as error:
        if client.containers.list(all=True, filters={"name": f"^/?{name}$"}) and "already in use" in str(error):
            raise ContainerClusterError(
                f"Docker has a container named {name} already: 'docker ps --all --filter name={name}' shows it. "
                "Choose another name."
            ) from error
        why = str(getattr(error, "explanation", None) or first_line(error))
        raise ContainerClusterError(f"Docker does not start a container of {image}: {why}") from error
    finally:
        testcontainers_config.ryuk_disabled = asked
    return described.get_wrapped_container()


def _described(image: str, name: str, owner: str, spec: K3sSpec) -> Any:
    """The container as testcontainers describes it, on the loopback address and with a wait of our own."""
    from testcontainers.community.k3s import K3SContainer

    class Careful(K3SContainer):
        def _connect(self) -> None:
            _wait_ready(self.get_wrapped_container(), time.monotonic() + spec.timeout)

    described = Careful(image, name=name)
    described.image = image  # without the prefix that testcontainers may be told to put before every name
    described.ports = {f"{PORT}/tcp": (LOOPBACK, None)}  # type: ignore[dict-item]
    if spec.simulated_plugin:
        archive = simulated_plugin_image.archive(simulated_plugin_image.spec())
        described.with_volume_mapping(str(archive), f"{_IMPORTED}/{archive.name}", "ro")
    return described.with_kwargs(privileged=True, labels={OWNER_LABEL: name, owned.LABEL: owner})


def _wait_ready(container: Any, deadline: float) -> None:
    while True:
        said = container.logs().decode(errors="replace")
        container.reload()
        if READY in said:
            return
        if container.status != "running" or time.monotonic() > deadline:
            end = "\n".join(said.splitlines()[-8:])
            raise ContainerClusterError(
                f"k3s in container {container.name} is not up ({container.status}); the end of its log:\n{end}"
            )
        time.sleep(_LOOK_EVERY)


def _kubeconfig(container: Any, server: str) -> str:
    """The kubeconfig out of the container, with the address at which we reach it, for which its certificate is, too."""
    code, output = container.exec_run(["cat", KUBECONFIG])
    if code:
        raise ContainerClusterError(f"container {container.name} has no {KUBECONFIG}: {output.decode()[:200].strip()}")
    content = yaml.safe_load(output)
    content["clusters"][0]["cluster"]["server"] = server
    return json.dumps(content, indent=2)

"""``--cluster container``: the embedded cluster's programs in one Docker container, published on the loopback address.

testcontainers creates the container; what it would need an image of its own for (its reaper) is not used. The container
reads from us: when we end, however that happens, Docker closes its standard input, it ends, and Docker removes it. One
that was created and never started reads nothing; a process of its own removes it when we are killed (reaper.py).
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from . import owned
from .attaching import attached
from .daemon import published_port, reached
from .errors import ContainerClusterError
from .folders import own_folder
from .images import MADE_HERE, has, load_archive, named_image
from .protocol import FAILED, KUBECONFIG_PATH, PORT, READY
from .reaping import reaping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.progress import Progress

LOOPBACK = "127.0.0.1"
OWNER_LABEL = "io.gpu-conformance.cluster"
_LARGE = 200  # nodes; see EmbeddedSpec.small
_START_WITHIN = 120.0  # seconds
_GONE_WITHIN = 30.0
_LOOK_EVERY = 0.1
_CONFLICT = 409  # HTTP
_REMEDY = (
    "Load an archive that ci/images made (docker load --input FILE), or leave --gpu-cluster-image out, so that the "
    "image is made here."
)


@dataclass(frozen=True)
class ControlPlaneSpec:
    """A control plane in a container. ``name`` is the container's, None for one made up; ``port`` 0 for any free one.

    ``image`` None means the one that belongs to this version of the package (see control_plane_image), which is loaded
    into the daemon where it lacks it; one that is named has to be there or to be pulled. ``topology`` names the fleet.
    """

    version: str = "1.36"
    topology: str | Path | None = "guide"
    image: str | None = None
    name: str | None = None
    port: int = 0
    assets: Path | None = None
    timeout: float = _START_WITHIN


@dataclass(frozen=True)
class ControlPlane:
    """A control plane that runs in a container. ``kubeconfig`` is the administrator's and goes with it."""

    name: str
    kubeconfig: Path
    server: str
    image: str


@contextlib.contextmanager
def running(spec: ControlPlaneSpec, progress: Progress) -> Iterator[ControlPlane]:
    """Start the container with its fleet; it is gone when the block ends, and soon after should we be killed.

    Raises ContainerClusterError: no daemon, no image, a name or port that is taken, a control plane that did not start;
    TopologyError; what fleet.populate raises.
    """
    with reached() as client, own_folder() as folder:
        image = _present(client, spec, progress)
        progress.step("Starting the control plane in a container")
        with _container(client, spec, image) as container:
            address = f"https://{LOOPBACK}:{published_port(container, PORT)}"
            kubeconfig = folder / "kubeconfig"
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(_kubeconfig(container, address), encoding="utf-8")
            _populate(kubeconfig, spec, progress)
            yield ControlPlane(str(container.name), kubeconfig, address, image)


def _present(client: Any, spec: ControlPlaneSpec, progress: Progress) -> str:
    """The name of an image that the daemon has."""
    if spec.image and spec.image != MADE_HERE:
        return named_image(client, spec.image, progress, _REMEDY)
    from . import control_plane_image

    progress.step("Looking for the image of the control plane")
    image = control_plane_image.spec(spec.version, assets=spec.assets, cache=None, progress=progress)
    if not has(client, image.name):
        load_archive(client, image.name, control_plane_image.archive(image), progress)
    return image.name


@contextlib.contextmanager
def _container(client: Any, spec: ControlPlaneSpec, image: str) -> Iterator[Any]:
    """The container, ready; with somebody who reads what it needs to know of our end."""
    name = spec.name or f"gpu-conformance-{secrets.token_hex(4)}"
    owner = secrets.token_hex(8)
    described = _described(spec, image, name, owner)
    # One that we have created and not started reads nothing yet: when we are killed then, somebody else removes it.
    with reaping(owned.removal(owner)) as reaper:
        try:
            with _created(described, name, spec, image) as container, attached(container):
                _wait_ready(container, time.monotonic() + spec.timeout)
                yield container
        finally:
            owned.remove(client, owner)
            reaper.done()


def _described(spec: ControlPlaneSpec, image: str, name: str, owner: str) -> Any:
    """The container as testcontainers takes it."""
    from testcontainers.core.container import DockerContainer

    command = ["--kubernetes", spec.version, *(["--large"] if _is_large(spec) else [])]
    described = DockerContainer(image, name=name)
    described.with_command(command)
    described.image = image  # without the prefix that testcontainers may be told to put before every name
    # Not with_exposed_ports, which publishes on all addresses of the machine.
    described.ports = {f"{PORT}/tcp": (LOOPBACK, spec.port or None)}  # type: ignore[dict-item]
    described.tmpfs = {"/state": "mode=0700"}
    return described.with_kwargs(
        labels={OWNER_LABEL: name, owned.LABEL: owner},
        stdin_open=True,
        auto_remove=True,
        # NET_ADMIN for inside.stay_inside; nothing else that root of a container usually has.
        cap_drop=["ALL"],
        cap_add=["NET_ADMIN"],
        security_opt=["no-new-privileges"],
    )


@contextlib.contextmanager
def _created(described: Any, name: str, spec: ControlPlaneSpec, image: str) -> Iterator[Any]:
    from docker.errors import DockerException
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.exceptions import ContainerStartException

    # Its reaper is a container of an image of its own, which may not be to be had; ours ends without one.
    reaping = testcontainers_config.ryuk_disabled
    testcontainers_config.ryuk_disabled = True
    try:
        described.start()
    except (DockerException, OSError) as error:
        with contextlib.suppress(ContainerStartException):  # there is none of ours, as where its name is taken
            _remove(described.get_wrapped_container())
        raise ContainerClusterError(_why_not_created(error, name, spec, image)) from error
    finally:
        testcontainers_config.ryuk_disabled = reaping
    container = described.get_wrapped_container()
    try:
        yield container
    finally:
        _remove(container)


def _remove(container: Any) -> None:
    """Remove the container, unless Docker has done it, and wait until it is gone."""
    from docker.errors import APIError, NotFound

    deadline = time.monotonic() + _GONE_WITHIN
    while time.monotonic() < deadline:
        try:
            container.remove(force=True, v=True)
        except NotFound:
            return
        except APIError as error:  # it is being removed already, which takes a moment
            if error.status_code != _CONFLICT:
                raise
            time.sleep(_LOOK_EVERY)
    raise ContainerClusterError(f"container {container.name} is still there: docker rm --force {container.name}")


def _is_name_taken(error: BaseException) -> bool:
    return getattr(error, "status_code", None) == _CONFLICT and "name" in str(error)


def _why_not_created(error: BaseException, name: str, spec: ControlPlaneSpec, image: str) -> str:
    text = str(getattr(error, "explanation", None) or error)
    if _is_name_taken(error):
        return (
            f"Docker has a container named {name} already, and it is not of this run: 'docker ps --all --filter "
            f"name={name}' shows it. Choose another name, or leave it out: --cluster container"
        )
    if spec.port and ("port is already allocated" in text or "address already in use" in text):
        return (
            f"port {spec.port} of {LOOPBACK} is taken already: 'ss -ltnp sport = :{spec.port}' shows by whom. Choose "
            "another with --gpu-cluster-port, or leave it out for one that is free."
        )
    return f"Docker does not start a container of {image}: {text}"


def _wait_ready(container: Any, deadline: float) -> None:
    """Wait for the line in which the container says how its start went."""
    from docker.errors import NotFound

    while True:
        try:
            said = container.logs(stdout=True, stderr=False).decode(errors="replace").splitlines()
            container.reload()
        except NotFound:
            raise ContainerClusterError(f"container {container.name} ended before its control plane was up") from None
        if READY in said:
            return
        if failed := [line for line in said if line.startswith(f"{FAILED} ")]:
            why = json.loads(failed[-1].removeprefix(f"{FAILED} "))
            raise ContainerClusterError(f"the control plane in container {container.name} did not start: {why}")
        if container.status != "running" or time.monotonic() > deadline:
            end = "\n".join(container.logs().decode(errors="replace").splitlines()[-8:])
            raise ContainerClusterError(
                f"the control plane in container {container.name} is not up ({container.status}); the end of its "
                f"log:\n{end}"
            )
        time.sleep(_LOOK_EVERY)


def _kubeconfig(container: Any, address: str) -> str:
    """The kubeconfig out of the container, with the address at which we reach it."""
    chunks, _ = container.get_archive(str(KUBECONFIG_PATH))
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        file = tar.extractfile(KUBECONFIG_PATH.name)
        content = yaml.safe_load(file.read() if file is not None else b"")
    content["clusters"][0]["cluster"]["server"] = address
    return json.dumps(content, indent=2)


def _populate(kubeconfig: Path, spec: ControlPlaneSpec, progress: Progress) -> None:
    from conformance.clusters.embedded.fleet import populate
    from conformance.clusters.embedded.topologies import load
    from conformance.kube.client import Client
    from conformance.kube.effects import Effect
    from conformance.kube.guard import Guard
    from conformance.kube.kubeconfig import connect

    if spec.topology is None:
        return
    with connect(kubeconfig, None) as connection:
        client = Client(connection, Guard(Effect.DISRUPTIVE, None))
        version = str(client.get("/version")["gitVersion"])
        populate(client, load(spec.topology), progress, kubelet=version, timeout=spec.timeout)


def _is_large(spec: ControlPlaneSpec) -> bool:
    from conformance.clusters.embedded.topologies import load

    return spec.topology is not None and load(spec.topology).size > _LARGE

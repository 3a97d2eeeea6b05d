"""The Docker daemon, found as testcontainers and Docker's own command find it, or one message why there is none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import ContainerClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCAL_SCHEMES = ("unix", "npipe", "http+docker", "http+unix")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_EXTRA = "pip install 'gpu-conformance[containers]'"


@contextmanager
def reached() -> Iterator[Any]:
    """A client (docker.DockerClient) of a daemon that answers; closed when the block ends.

    Raises ContainerClusterError where testcontainers is not installed, no daemon answers, or it is on another machine:
    containers publish their ports on the loopback address of the daemon's machine only.
    """
    try:
        from docker.errors import DockerException
        from testcontainers.core.docker_client import DockerClient, get_docker_host
    except ImportError as error:
        raise ContainerClusterError(f"clusters in containers need more packages ({error}): {_EXTRA}") from error
    address = get_docker_host()
    try:
        client = DockerClient().client
        client.ping()
    except (DockerException, OSError, ValueError) as error:
        shown = address or "the usual place (DOCKER_HOST is not set)"
        raise ContainerClusterError(
            f"no Docker daemon answers at {shown}: {first_line(error)}. Start Docker, or set DOCKER_HOST to where it "
            "is; 'docker info' shows whether it answers. --cluster embedded needs no Docker."
        ) from error
    try:
        refuse_remote(client.api.base_url)
        yield client
    finally:
        client.close()


def refuse_remote(base_url: str) -> None:
    """Raise ContainerClusterError for the address of a daemon on another machine."""
    parts = urlsplit(base_url)
    if parts.scheme in _LOCAL_SCHEMES or parts.hostname in _LOCAL_HOSTS:
        return
    raise ContainerClusterError(
        f"the Docker daemon is on another machine ({base_url}), where containers publish their ports on the loopback "
        "address only. Run this on that machine, or use a daemon of this one."
    )


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def published_port(container: Any, port: int) -> int:
    """The port of the loopback address at which a container's port is reached.

    Raises ContainerClusterError where Docker published none.
    """
    bound = container.ports.get(f"{port}/tcp") or []
    if not bound:
        raise ContainerClusterError(f"Docker published no port of container {container.name}")
    return int(bound[0]["HostPort"])

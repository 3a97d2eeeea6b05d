"""Images in the daemon: whether one is there, bringing one in from an archive or a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ContainerClusterError

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.progress import Progress


MADE_HERE = "made-here"
"""What stands for an image that is made on this machine."""


def has(client: Any, image: str) -> bool:
    """Whether the daemon has an image of this name."""
    from docker.errors import ImageNotFound

    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def load_archive(client: Any, image: str, archive: Path, progress: Progress) -> None:
    """Bring the image of an archive into the daemon. Raises ContainerClusterError."""
    from docker.errors import DockerException

    progress.step(f"Loading {image} into Docker")
    try:
        with archive.open("rb") as file:
            client.images.load(file)
    except (DockerException, OSError) as error:
        size = archive.stat().st_size >> 20
        raise ContainerClusterError(
            f"Docker does not load the image {image} of {archive}: {error}. It needs {2 * size} MiB on Docker's disk."
        ) from error


def named_image(client: Any, image: str, progress: Progress, remedy: str) -> str:
    """Make sure of an image that somebody named, pulling it if it must be. Raises ContainerClusterError."""
    from docker.errors import DockerException

    if not has(client, image):
        progress.step(f"Pulling {image}")
        try:
            client.images.pull(image)
        except DockerException as error:
            raise ContainerClusterError(f"Docker has no image {image} and cannot pull it: {error}. {remedy}") from error
    return image

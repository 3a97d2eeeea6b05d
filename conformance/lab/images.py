"""The one list of container images that a run can pull, and where they come from on a cluster without the internet."""

import msgspec

__all__ = ["IMAGES", "Image", "Images"]


class Image(msgspec.Struct, frozen=True):
    """One image, pinned: where it is published, its tag for people and its digest for machines."""

    registry: str
    repository: str
    tag: str
    digest: str
    used_for: str

    def under(self, prefix: str | None) -> str:
        """The reference to pull, with ``prefix`` (a registry, or one with a path) in place of the registry."""
        return f"{prefix.rstrip('/') if prefix else self.registry}/{self.repository}:{self.tag}@{self.digest}"


IMAGES = {
    "pause": Image(
        registry="registry.k8s.io",
        repository="pause",
        tag="3.10",
        # The multi-architecture index that Kubernetes 1.31 and later name as their sandbox image.
        digest="sha256:ee6521f290b2168b6e0935a181d4cff9be1ac3f505666ef0e3c98fae8199917a",
        used_for="pods that hold a place or a GPU and do nothing",
    ),
    "python": Image(
        registry="docker.io",
        repository="library/python",
        tag="3.12.12-slim-bookworm",
        # The multi-architecture index, as several public repositories pin it for amd64 and arm64 under this very tag;
        # not pulled by us. glibc, so that the driver's libraries and nvidia-smi, which the container toolkit puts in,
        # can run.
        digest="sha256:593bd06efe90efa80dc4eee3948be7c0fde4134606dd40d8dd8dbcade98e669c",
        used_for="pods that look at their GPUs and compute on them, or take time to end",
    ),
}


class Images(msgspec.Struct, frozen=True):
    """Where a named cluster pulls its images.

    ``registry`` replaces the registry of every image. ``pull_secret`` is ``namespace/name`` of an existing Secret
    that the lab copies into each of its namespaces. ``replacements`` name another image altogether, by key.
    """

    registry: str | None = None
    pull_secret: str | None = None
    replacements: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Raise ValueError for a pull secret that names no namespace, and for an image that nobody uses."""
        if self.pull_secret is not None and self.pull_secret.count("/") != 1:
            raise ValueError(f"pull secret {self.pull_secret!r} is not NAMESPACE/NAME of an existing Secret")
        unknown = set(self.replacements) - set(IMAGES)
        if unknown:
            raise ValueError(f"no image is called {', '.join(sorted(unknown))}; there are: {', '.join(IMAGES)}")

    def reference(self, name: str) -> str:
        """The reference to pull for an image of the list. Raises KeyError for a name that the list lacks."""
        return self.replacements.get(name) or IMAGES[name].under(self.registry)

    def all(self) -> list[str]:
        """Every reference that a run may pull, for whoever mirrors them."""
        return [self.reference(name) for name in IMAGES]

"""What can go wrong with clusters in containers, in words for the user."""

from conformance.clusters.errors import ClusterError


class ContainerClusterError(ClusterError):
    """A cluster in containers cannot be had. The text says what is wrong, where, and what to do next."""

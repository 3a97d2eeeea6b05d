"""The one parent of what can go wrong before there is a cluster to talk to."""


class ClusterError(Exception):
    """A cluster cannot be named, started or reached. The text says what is wrong, where, and what to do next."""

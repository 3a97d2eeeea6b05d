"""The command that removes what a run left, as every message names it."""

__all__ = ["SOME_CLUSTER", "clean_command"]

SOME_CLUSTER = "NAME"
"""Stands for the name of the cluster where a message is made that does not know it."""


def clean_command(run_id: str, cluster: str = SOME_CLUSTER, *, force: bool = False) -> str:
    """The command for one run; with ``force`` also when the run seems alive."""
    return f"gpu-conformance clean --cluster {cluster} {run_id}{' --force' if force else ''}"

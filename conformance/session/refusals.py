"""Errors that end a run before it begins, as usage errors: one message, exit code 4, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conformance.clusters.errors import ClusterError
from conformance.facts.snapshot import SnapshotError
from conformance.kube.errors import KubeError
from conformance.reference import ReferenceError
from conformance.session.waivers import WaiverError
from conformance.verdict import Inconclusive

# What a user can fix. The texts say what is wrong, where, and what to do next.
USER_ERRORS = (
    ClusterError,
    KubeError,
    ReferenceError,
    SnapshotError,
    WaiverError,
    Inconclusive,
    ValueError,
    FileNotFoundError,
)


@contextmanager
def refused() -> Iterator[None]:
    """Turn what a user can fix into pytest.UsageError; everything else stays the bug that it is."""
    try:
        yield
    except USER_ERRORS as error:
        raise pytest.UsageError(f"gpu-conformance: {error}") from error

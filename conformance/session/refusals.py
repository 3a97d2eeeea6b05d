"""Errors that end a run before it begins, as usage errors: one message, exit code 4, no traceback."""

import errno
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

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PLACES = (
    "GPU_CONFORMANCE_CACHE says where programs, images and seeds are kept, TMPDIR where files for the time of a run "
    "are, --gpu-report where reports go"
)


class Refusal(ClusterError):
    """What a user can fix about the machine, in words."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn a disk that is full or read-only into a Refusal; every other error of the system stays what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in _FULL:
            raise Refusal(f"the disk is full{place}: free some space, or use another disk. {_PLACES}") from error
        if error.errno == errno.EROFS:
            raise Refusal(f"a folder that has to be written is on a read-only disk{place}. {_PLACES}") from error
        raise


@contextmanager
def refused() -> Iterator[None]:
    """Turn what a user can fix into pytest.UsageError; everything else stays the bug that it is."""
    try:
        with explained():
            yield
    except USER_ERRORS as error:
        raise pytest.UsageError(f"gpu-conformance: {error}") from error

"""What a manifest can tell the simulated kubelets. The stages of the folder ``stages`` read these.

On pods they say what the containers do. The simulator sets some of them itself and cannot import us, so they are
defined there, each with its meaning.
"""

from conformance.simulator.annotations import (
    BACKOFF_SECONDS,
    EXIT_CODE,
    HELD,
    NOT_READY,
    RUN_SECONDS,
    STOP_SECONDS,
    WAITING_REASON,
)

__all__ = [
    "BACKOFF_SECONDS",
    "EXIT_CODE",
    "HELD",
    "NOT_READY",
    "RUN_SECONDS",
    "STOP_SECONDS",
    "UNREACHABLE",
    "WAITING_REASON",
]

UNREACHABLE = "unreachable"
"""The message in NOT_READY by which a node falls silent."""

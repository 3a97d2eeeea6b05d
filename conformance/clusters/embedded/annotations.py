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
    "SIMULATED_ANNOTATION",
    "SIMULATED_VALUE",
    "STOP_SECONDS",
    "UNREACHABLE",
    "WAITING_REASON",
]

# Whose nodes and pods KWOK plays: those that say so, so that real kubelets beside them are left alone.
SIMULATED_ANNOTATION = "kwok.x-k8s.io/node"
SIMULATED_VALUE = "fake"

UNREACHABLE = "unreachable"
"""The message in NOT_READY by which a node falls silent."""

"""What an embedded cluster should be: version, fleet, and how its control plane differs from the defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from conformance.simulator.settings import check_parts

from .topologies import load

DEFAULT_VERSION = "1.36"

# The slowest start seen on two busy cores took 35 seconds (kubernetes/kubernetes#137743); the usual one takes 3 to 4.
DEFAULT_TIMEOUT = 90.0
TIMEOUT_VARIABLE = "GPU_CONFORMANCE_START_TIMEOUT"

# Up to this many nodes the controller-manager looks at each of them every second; more would cost a core.
_SMALL_FLEET = 200


def start_timeout() -> float:
    """Seconds that a start may take: ``GPU_CONFORMANCE_START_TIMEOUT``, else 90.

    Raises ValueError when the variable holds something else than a time.
    """
    given = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(given or DEFAULT_TIMEOUT)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{TIMEOUT_VARIABLE} is {given!r}: give a number of seconds, such as 180")
    return seconds


@dataclass(frozen=True)
class EmbeddedSpec:
    """An embedded cluster to start.

    ``version`` is a minor (``1.36``) or a full version (``1.36.3``). ``topology`` names a simulated fleet (see
    topologies.load) or is None for no nodes at all. ``scheduler_config`` overlays the KubeSchedulerConfiguration, the
    ``*_flags`` overlay single flags (``{"default-not-ready-toleration-seconds": "5"}``); ``feature_gates`` go to
    apiserver, controller-manager and scheduler. ``assets`` is a folder that holds the binaries, ``cache`` where built
    binaries and seeds are kept, ``state_dir`` where the state folder is made (default: a RAM disk).
    ``timeout`` bounds the start, in seconds (default: start_timeout()). Without ``simulator`` nobody plays the GPU
    stack: pods get no devices and start without them, and what a stack would do on its nodes does not happen.
    ``without_parts`` are parts of the simulator (simulator/settings.py, PARTS) that somebody else plays.
    ``real_nodes`` is how many nodes have a kubelet and a container runtime (see real/): beside the simulated ones, or
    with ``real_gpus`` in the places of nodes of the topology that have GPUs.
    ``port`` is where the API server listens, 0 for any port that is free.
    """

    version: str = DEFAULT_VERSION
    topology: str | Path | None = "guide"
    state_dir: Path | None = None
    assets: Path | None = None
    cache: Path | None = None
    timeout: float = field(default_factory=start_timeout)
    scheduler_config: Mapping[str, Any] | None = None
    apiserver_flags: Mapping[str, str] = field(default_factory=dict)
    controller_manager_flags: Mapping[str, str] = field(default_factory=dict)
    scheduler_flags: Mapping[str, str] = field(default_factory=dict)
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    runtime_config: tuple[str, ...] = ()
    simulator: bool = True
    without_parts: tuple[str, ...] = ()
    real_nodes: int = 0
    real_gpus: bool = False
    port: int = 0

    def __post_init__(self) -> None:
        check_parts(self.without_parts)
        if self.without_parts and not self.simulator:
            raise ValueError("without_parts names parts of the simulator, and there is to be no simulator")

    @property
    def minor(self) -> str:
        """The minor version, such as ``1.36``."""
        return ".".join(self.version.removeprefix("v").split(".")[:2])

    @cached_property
    def small(self) -> bool:
        """Whether the fleet is small enough to be watched closely."""
        return self.topology is None or load(self.topology).size <= _SMALL_FLEET

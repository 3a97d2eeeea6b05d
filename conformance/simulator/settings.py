"""How the simulator is configured when it starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PARTS = (
    "kubelet",
    "nfd",
    "operator",
    "validator",
    "upgrade",
    "plugin",
    "gfd",
    "mig",
    "mps",
    "dra",
    "metrics",
    "workloads",
)
"""What the simulator plays, one name for each actor of the roster."""


def check_parts(names: Iterable[str]) -> tuple[str, ...]:
    """The names of parts, as they are. Raises ValueError for one that does not exist."""
    given = tuple(names)
    if unknown := [name for name in given if name not in PARTS]:
        raise ValueError(f"the simulator has no part {', '.join(unknown)}: it has {', '.join(PARTS)}")
    return given


@dataclass(frozen=True)
class Settings:
    """Where a simulator works.

    ``logs`` is the folder for what containers print, one folder of ours below which nobody else writes. ``ready`` is
    a file that is there from the moment on at which the whole cluster is known; None for none. ``without`` are the
    PARTS that somebody else plays.
    """

    logs: Path
    ready: Path | None = None
    without: tuple[str, ...] = ()

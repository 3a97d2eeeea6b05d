"""How the simulator is configured when it starts."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where a simulator works.

    ``logs`` is the folder for what containers print, one folder of ours below which nobody else writes. ``ready`` is
    a file that is there from the moment on at which the whole cluster is known; None for none.
    """

    logs: Path
    ready: Path | None = None

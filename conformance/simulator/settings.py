"""What the simulator is told when it starts."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where a simulator works.

    ``logs`` is the folder for what containers print, one folder of ours below which nobody else writes.
    ``server_port`` is the loopback port on which it says whether it is ready; 0 for none.
    """

    logs: Path
    server_port: int = 0

"""What can go wrong with an embedded cluster, in words for the person who asked for it."""

from collections.abc import Sequence
from pathlib import Path

from conformance.clusters.errors import ClusterError

_TAIL = 12


class EmbeddedError(ClusterError):
    """An embedded cluster cannot be had."""


class ComponentDied(EmbeddedError):
    """A process ended that should run; the message shows the end of its log."""

    def __init__(self, name: str, why: str, log: Path) -> None:
        self.name = name
        self.log_tail = tail(log)
        super().__init__(f"{name} ended ({why}); its log ends with:\n{self.log_tail}")

    @property
    def port_was_taken(self) -> bool:
        """Whether somebody else had taken the port, so that another try with other ports may work."""
        return "address already in use" in self.log_tail.lower()


class StartTimeout(EmbeddedError):
    """Some process did not get ready in time; the message shows the end of their logs."""

    def __init__(self, waiting: Sequence[tuple[str, str, Path]]) -> None:
        stories = [f"{name}: {seen}; its log ends with:\n{tail(log)}" for name, seen, log in waiting]
        remedy = "on a busy machine give it more time: GPU_CONFORMANCE_START_TIMEOUT=180"
        super().__init__("\n".join(["the embedded cluster did not get ready in time", *stories, remedy]))


def tail(log: Path, lines: int = _TAIL) -> str:
    """The last lines of a log, indented; says so when there is nothing."""
    try:
        text = log.read_text(errors="replace").rstrip().splitlines()
    except OSError:
        text = []
    return "\n".join(f"  {line[:400]}" for line in text[-lines:]) or "  (empty)"

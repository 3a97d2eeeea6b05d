"""A Markdown text that fits the summary of a CI step: what comes first has room, what has none is counted.

GitHub takes 1 MiB for a step, and nothing of a summary that is larger:
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from collections.abc import Iterable

LIMIT = 1_000_000
"""Bytes of UTF-8: 1 MiB, less what other commands of the same step may say."""
_NEARLY_ALL = 990_000


class Fitting:
    """What was written, and how much room is left. ``elsewhere`` is where everything stands."""

    def __init__(self, elsewhere: str) -> None:
        self._elsewhere = elsewhere
        self._parts: list[str] = []
        self._size = 0
        self._left_out: list[str] = []

    def add(self, part: str) -> None:
        """Write a part that is short for every report."""
        if part:
            self._parts.append(part)
            self._size += len(part.encode()) + len("\n\n")

    def add_list(
        self, members: Iterable[str], name: str, *, upto: int = _NEARLY_ALL, apart: str = "\n\n", head: str = ""
    ) -> None:
        """Write as many members as there is room for before ``upto`` bytes of the whole, and count the others.

        ``head`` comes before the first; nothing is written where no member is.
        """
        fitting, left = [head] if head else [], 0
        size = self._size + len(head.encode())
        for member in members:
            size += len(member.encode()) + len(apart)
            if left or size > upto:
                left += 1
            else:
                fitting.append(member)
        self.add(apart.join(fitting) if fitting != [head] else "")
        if left:
            self._left_out.append(f"{left:,} {name}{'s' * (left > 1)}")

    def end(self, last: str) -> None:
        """Say what was left out, and the last words."""
        if self._left_out:
            self.add(f"**Left out for want of room:** {', '.join(self._left_out)}; {self._elsewhere} has everything.")
        self.add(last)

    @property
    def whole(self) -> str:
        """The text."""
        return "\n\n".join(self._parts) + "\n"

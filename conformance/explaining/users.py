"""Who uses up a quota or a limit: the largest by name, the others by their number."""

from collections.abc import Sequence

MOST_USERS = 3
"""How many are named."""


def and_others(largest: Sequence[str], every: int) -> str:
    """The largest users, at most MOST_USERS of them, and how many of ``every`` are not among them."""
    left = every - len(largest)
    return ", ".join(largest) + (f" and {left} others" if left else "")

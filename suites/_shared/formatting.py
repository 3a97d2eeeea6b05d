"""How findings format lists and labels."""

from collections.abc import Mapping, Sequence

from conformance.verdict import Judge


def join_limited(members: Sequence[str], *, apart: str = ", ", most: int = 4) -> str:
    """The first few members and how many more there are; empty without members."""
    more = f"{apart}{len(members) - most} more" if len(members) > most else ""
    return apart.join(members[:most]) + more


def reasons_not_judged(judge: Judge) -> str:
    """Which subjects could not be judged, and why, for a requirement that could judge none."""
    return join_limited([str(each) for each in judge.unseen], apart="; ")


def pairs(labels: Mapping[str, str | None]) -> str:
    """Labels as ``key=value``; an absent one as ``no key``."""
    return ", ".join(f"no {key}" if value is None else f"{key}={value}" for key, value in labels.items())

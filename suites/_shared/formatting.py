"""How findings format lists and labels."""

from collections.abc import Mapping

from conformance.verdict import join_limited as join_limited


def pairs(labels: Mapping[str, str | None]) -> str:
    """Labels as ``key=value``; an absent one as ``no key``."""
    return ", ".join(f"no {key}" if value is None else f"{key}={value}" for key, value in labels.items())

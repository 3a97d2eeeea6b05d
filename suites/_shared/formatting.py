"""How findings word what they list."""

from collections.abc import Mapping

from conformance.verdict import join_limited as join_limited


def pairs(labels: Mapping[str, str | None]) -> str:
    """Labels as ``key=value``; one that is not there as ``no key``."""
    return ", ".join(f"no {key}" if value is None else f"{key}={value}" for key, value in labels.items())

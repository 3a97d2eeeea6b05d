"""What somebody wrote into an object of which no schema says that it has the right shape."""

from typing import Any


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    """The members of a list that are mappings; none of anything that is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []

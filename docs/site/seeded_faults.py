"""The seeded faults of fixtures/faults, read once for all pages."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "faults"


@cache
def faults() -> tuple[dict[str, Any], ...]:
    """Every fault, in the order of their files."""
    files = sorted(FOLDER.glob("*.yaml"))
    return tuple(yaml.load(file.read_text(), _LOADER) for file in files)  # noqa: S506 - both are safe


def noticed_by(requirement: str) -> list[dict[str, Any]]:
    """The faults that make a requirement fail."""
    return [fault for fault in faults() if requirement in fault.get("fails", ())]

"""The seeded faults of fixtures/faults, read once for all pages."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "faults"


@cache
def faults() -> tuple[dict[str, Any], ...]:
    """Every fault, in the order of their files."""
    return tuple(yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml")))


def noticed_by(requirement: str) -> list[dict[str, Any]]:
    """The faults that make a requirement fail."""
    return [fault for fault in faults() if requirement in fault.get("fails", ())]

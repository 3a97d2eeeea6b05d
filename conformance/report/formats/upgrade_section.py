"""What a report says of an upgrade, as formats with room for members of one's own hold it."""

from typing import Any

import msgspec

from conformance.report.model import Report, Upgrade


def section(report: Report) -> dict[str, Any]:
    """``{"upgrade": ...}`` as in report.json, the forecast as its sum; empty where no upgrade was asked about."""
    if not isinstance(report.upgrade, Upgrade):
        return {}
    told = msgspec.to_builtins(msgspec.structs.replace(report.upgrade, capacity=None))
    capacity = report.upgrade.capacity
    return {"upgrade": {**told, "capacity": str(capacity) if capacity is not None else ""}}

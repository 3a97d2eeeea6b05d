"""The JSON Schema of report.json, made from the report model so that the two cannot differ."""

from typing import Any

import msgspec

from conformance.report.model import Report

FILE = "reports/report.schema.json"


def json_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) as an object."""
    (reference,), definitions = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpu-conformance report",
        **reference,
        "$defs": definitions,
    }


def text() -> str:
    """The schema as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode() + "\n"

"""The JSON Schemas of reports, comparisons and explanations of pods, made from their models: the two cannot differ."""

from collections.abc import Mapping
from typing import Any

import msgspec

from conformance.explaining import Explanations
from conformance.report.comparing.changes import Difference
from conformance.report.comparing.clusters import Fleet
from conformance.report.comparing.trend import Trend
from conformance.report.model import Report

FILE = "reports/report.schema.json"

SCHEMAS: Mapping[str, tuple[str, type[msgspec.Struct]]] = {
    FILE: ("gpu-conformance report", Report),
    "reports/diff.schema.json": ("gpu-conformance difference of two reports", Difference),
    "reports/fleet.schema.json": ("gpu-conformance fleet of clusters", Fleet),
    "reports/trend.schema.json": ("gpu-conformance trend of a cluster", Trend),
    "reports/explain-pod.schema.json": ("gpu-conformance explanations of pods", Explanations),
}
"""Each schema's file with its title and the model that it describes."""


def json_schema(file: str = FILE) -> dict[str, Any]:
    """A schema (JSON Schema 2020-12) as an object."""
    title, model = SCHEMAS[file]
    (reference,), definitions = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **reference,
        "$defs": definitions,
    }


def text(file: str = FILE) -> str:
    """A schema as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(json_schema(file)), indent=2).decode() + "\n"

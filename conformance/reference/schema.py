"""The JSON Schema of a reference set-up, for editors and for pipelines that check a set-up before it is used."""

import json
from typing import Any

import msgspec

from conformance.reference.model import Reference

_ID = "urn:gpu-conformance:reference"


def json_schema() -> dict[str, Any]:
    """The schema of one file of a set-up: a file may hold any part of it, so no top-level key is required.

    What it cannot say (names that must exist elsewhere, one default class) ``loading.load`` checks.
    """
    schema = msgspec.json.schema(Reference)
    definitions = schema["$defs"]
    whole = definitions.pop("Reference")
    del whole["required"]
    # What loading turns into the one form that the model has: a path into the object, a number into an amount.
    path = {"type": "string", "minLength": 1}
    definitions["Workload"]["properties"]["manifest"]["anyOf"].insert(0, path)
    pod = definitions["TestPod"]["properties"]["manifest"]
    pod["anyOf"] = [path, {"type": pod.pop("type")}]
    definitions["Quota"]["properties"]["hard"]["additionalProperties"]["type"] = ["string", "integer"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": _ID, **whole, "$defs": definitions}


def json_schema_text() -> str:
    """The schema as it is kept in reports/reference.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"

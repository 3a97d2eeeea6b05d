"""The JSON Schema agrees with what loading accepts, and the shipped copy with the model."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from conformance.reference.schema import json_schema, json_schema_text
from conformance.shipped import shipped

FILES = [file for name in ("reference", "guide") for file in sorted(shipped(f"fixtures/{name}").glob("*.yaml"))]


def validate(part: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(part)


def test_the_shipped_schema_is_the_one_of_the_model() -> None:
    assert shipped("reports/reference.schema.json").read_text(encoding="utf-8") == json_schema_text(), (
        "write conformance.reference.schema.json_schema_text() to reports/reference.schema.json"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_shipped_file_is_valid(file: Path) -> None:
    validate(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "part",
    [
        {"pool": []},
        {"pools": [{"name": "x", "selector": {}}]},
        {"pools": [{"name": "x", "selector": {"a": "b"}, "taints": [{"key": "k", "effect": "Never"}]}]},
        {"priority_classes": [{"name": "x", "value": 2_000_000_000}]},
        {"workloads": [{"role": "r", "kind": "Job", "namespace": "n", "name": "x", "manifest": 4}]},
    ],
)
def test_what_loading_refuses_the_schema_refuses(part: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(part)


def _keys(schema: dict[str, Any], node: dict[str, Any], place: str = "") -> Iterator[str]:
    """Every key below a part of the schema, such as ``pools[].gpu.count``."""
    for choice in node.get("anyOf", [node]):
        if "$ref" in choice:
            yield from _keys(schema, schema["$defs"][choice["$ref"].rpartition("/")[2]], place)
        elif "items" in choice:
            yield from _keys(schema, choice["items"], f"{place}[]")
        for key, member in choice.get("properties", {}).items():
            at = f"{place}.{key}".removeprefix(".")
            yield at
            yield from _keys(schema, member, at)


def _explained() -> Iterator[str]:
    """The keys in the first columns of the tables of docs/reference.md, below the place that their heading names."""
    place = ""
    for line in (Path(__file__).parents[2] / "docs/reference.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            place = "".join(re.findall(r"`(.+)`", line))
        elif line.startswith("| `"):
            yield from (f"{place}.{key}".removeprefix(".") for key in re.findall(r"`(\w+)`", line.split("|")[1]))


def test_every_key_of_the_schema_is_explained_in_the_documentation() -> None:
    schema = json_schema()
    # may_not has the keys of may.
    keys = {key for key in _keys(schema, schema) if ".may_not[]" not in key}
    explained = set(_explained())

    assert not keys - explained, "docs/reference.md says nothing of these keys"
    assert not explained - keys, "docs/reference.md explains keys that there are not"


def test_a_quota_may_hold_numbers() -> None:
    validate({"teams": [{"namespace": "n", "quotas": [{"name": "q", "hard": {"requests.nvidia.com/gpu": 8}}]}]})

"""The Tekton pipeline, read by the schema that Tekton publishes: it knows every field, and its type."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import iri_grammar
import pytest
from shipped_ci import PIPELINES, documents

SCHEMA = Path(__file__).parent / "schemas" / "tekton-v1.swagger.json"
# A parameter's value is a text, a list or an object (param_types.go: ParamValue.UnmarshalJSON); the schema has its
# fields in Go. What refers to a task or pipeline has the fields of a resolver as well: it embeds them
# (taskref_types.go, pipelineref_types.go).
ANYTHING = ("v1.ParamValue",)
EMBEDDING = ("v1.TaskRef", "v1.PipelineRef")


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind, in which no object has fields that it does not name; types of Kubernetes stay open."""
    text = SCHEMA.read_text(encoding="utf-8")
    definitions = json.loads(text)["definitions"]
    for name in EMBEDDING:
        definitions[name]["properties"] |= definitions["v1.ResolverRef"]["properties"]
    for each in definitions.values():
        if "properties" in each:
            each.setdefault("additionalProperties", False)
    others: dict[str, Any] = {
        name: {} for name in re.findall(r'"#/definitions/([^"]+)"', text) if name not in definitions
    }
    others |= {name: {} for name in ANYTHING}
    return {"$ref": f"#/definitions/v1.{kind}", "definitions": {**definitions, **others}}


def problems(written: dict[str, Any]) -> list[str]:
    iri_grammar.stand_in()
    from jsonschema import Draft4Validator

    return [error.message for error in Draft4Validator(schema_of(written["kind"])).iter_errors(written)]


FILES = {path.relative_to(PIPELINES).as_posix(): path for path in sorted((PIPELINES / "tekton").rglob("*.yaml"))}
WRITTEN = {
    f"{name}-{number}": each
    for name, path in FILES.items()
    for number, each in enumerate(documents(path.read_text()))
    if each.get("apiVersion") == "tekton.dev/v1"
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_tekton_knows_every_field(written: dict[str, Any]) -> None:
    assert problems(written) == []


def test_a_field_that_tekton_does_not_know_or_of_another_type_is_found() -> None:
    (task,) = (each for each in WRITTEN.values() if each["kind"] == "Task")
    misspelt, mistyped = copy.deepcopy(task), copy.deepcopy(task)
    misspelt["spec"]["steps"][0]["scripts"] = "true"
    mistyped["spec"]["results"] = "status"

    assert "'scripts' was unexpected" in problems(misspelt)[0]
    assert problems(mistyped)

"""What ``explain-pod --json`` prints obeys its schema, and the schema notices what is not as it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from manifests import node, pod
from waiting_pods import explained, situations

from conformance.cli import main
from conformance.explaining import Explanations
from conformance.facts.snapshot import Snapshot, save
from conformance.shipped import shipped

SCHEMA = json.loads(shipped("reports/explain-pod.schema.json").read_text())

# ``jsonschema.validate`` would check the schema again for each document.
VALIDATOR = jsonschema.validators.validator_for(SCHEMA)
VALIDATOR.check_schema(SCHEMA)
validate = VALIDATOR(SCHEMA).validate


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command's output about a pod that no node takes."""
    objects = [each | {"apiVersion": "v1"} for each in (node("a100-1"), pod("train", 16))]
    save(Snapshot.of(objects), tmp_path / "s.json.gz")
    assert main(["explain-pod", "--cluster", f"snapshot:{tmp_path / 's.json.gz'}", "team/train", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_output_obeys_its_schema_and_says_its_version(printed: Any) -> None:
    validate(printed)

    assert (printed["apiVersion"], printed["kind"]) == ("gpu-conformance.io/v1alpha1", "PodExplanations")
    assert printed["asked"] == "team/train"
    assert printed["explanations"][0]["nearest"] == "a100-1"


def test_every_situation_of_the_documentation_obeys_the_schema() -> None:
    for name, situation in situations().items():
        written = json.loads(msgspec.json.encode(Explanations("staging", name, (explained(situation),))))
        validate(written)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(apiVersion="gpu-conformance.io/v9"),
        lambda told: told.update(kind="ConformanceReport"),
        lambda told: told.pop("explanations"),
        lambda told: told["explanations"][0].pop("cause"),
        lambda told: told["explanations"][0].update(stage="lost"),
        lambda told: told["explanations"][0].update(missing="a GPU"),
        lambda told: told["explanations"][0]["groups"][0].pop("nodes"),
    ],
    ids=["version", "kind", "no explanations", "no cause", "stage", "missing as text", "group without nodes"],
)
def test_the_schema_refuses_what_is_not_as_it_says(printed: Any, change: Callable[[Any], object]) -> None:
    change(printed)

    with pytest.raises(jsonschema.ValidationError):
        validate(printed)

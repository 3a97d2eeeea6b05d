"""CTRF: valid by the published schema, every status said truly, and a cluster's text is text only."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from made_reports import hostile_report, made_report, with_status
from trees import shape, strings

from conformance.report.formats import FORMATS
from conformance.report.model import Cause, Report
from conformance.verdict import EvidenceKind, Status


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    published = Path(__file__).parent / "schemas" / "ctrf-0.0.json"
    return jsonschema.Draft7Validator(
        json.loads(published.read_text(encoding="utf-8")), format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER
    )


def ctrf_of(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FORMATS["ctrf"].render(report))
    return found


def by_requirement(report: Report) -> dict[str, dict[str, Any]]:
    return {each["name"].split(" ")[0]: each for each in ctrf_of(report)["results"]["tests"]}


@pytest.mark.parametrize(
    "report",
    [made_report(), hostile_report(), made_report(broken_nodes=0), made_report(evidence=EvidenceKind.SIMULATED)],
    ids=["ordinary", "hostile", "sound", "simulated"],
)
def test_the_report_obeys_the_published_schema(report: Report, schema: jsonschema.Draft7Validator) -> None:
    assert not list(schema.iter_errors(ctrf_of(report)))


def test_the_schema_notices_a_status_that_is_none(schema: jsonschema.Draft7Validator) -> None:
    found = ctrf_of(made_report())
    found["results"]["tests"][0]["status"] = "error"

    assert list(schema.iter_errors(found))


def test_every_requirement_is_a_test_with_its_status_in_both_words() -> None:
    told = {name: (each["status"], each["rawStatus"]) for name, each in by_requirement(made_report()).items()}

    assert told == {
        "POOL-01": ("other", "error"), "POOL-02": ("failed", "failed"), "POOL-03": ("passed", "passed"),
        "DRA-01": ("pending", "waiting"), "DRA-02": ("pending", "waiting"), "OBS-01": ("skipped", "waived"),
        "OBS-02": ("skipped", "not-run"),
    }  # fmt: skip


@pytest.mark.parametrize("status", Status)
def test_only_what_passed_is_passed_and_only_what_failed_is_failed(status: Status) -> None:
    told = by_requirement(with_status(made_report(), "POOL-03", status))["POOL-03"]["status"]

    assert (told == "passed") == (status is Status.PASSED)
    assert (told == "failed") == (status is Status.FAILED)


def test_the_summary_counts_the_tests() -> None:
    summary = ctrf_of(made_report())["results"]["summary"]

    assert {name: summary[name] for name in ("tests", "passed", "failed", "skipped", "pending", "other")} == {
        "tests": 7, "passed": 1, "failed": 1, "skipped": 2, "pending": 2, "other": 1
    }  # fmt: skip
    assert (summary["start"], summary["stop"], summary["suites"]) == (1795500000000, 1795500070000, 3)
    assert summary["extra"]["exitCode"] == 1


def test_a_failure_tells_its_cause_and_what_to_do() -> None:
    failed = by_requirement(made_report())["POOL-02"]

    assert failed["message"].endswith("Every GPU node has the labels of its pool: the node group lacks the label")
    assert "kubectl label node gpu-0 gpu-pool=h100" in failed["trace"]
    assert failed["suite"] == ["prod-gpu", "pools"]
    assert "message" not in by_requirement(made_report())["POOL-03"]


def test_a_cause_that_no_requirement_tells_is_a_test_of_its_own(schema: jsonschema.Draft7Validator) -> None:
    report = msgspec.structs.replace(made_report(), causes=(Cause("", "", "pods may not be read", ("WORK-10",)),))
    first = ctrf_of(report)["results"]["tests"][0]

    assert (first["name"], first["status"]) == ("Cause: pods may not be read", "other")
    assert first["message"] == "1 requirement waits for it: WORK-10"
    assert not list(schema.iter_errors(ctrf_of(report)))


def test_a_test_keeps_its_id_from_run_to_run() -> None:
    def ids(report: Report) -> list[str]:
        return [each["id"] for each in ctrf_of(report)["results"]["tests"]]

    assert ids(made_report()) == ids(made_report(broken_nodes=0, run="another"))
    assert len(set(ids(made_report()))) == 7
    assert ctrf_of(made_report())["reportId"] != ctrf_of(made_report(run="another"))["reportId"]


def test_simulated_evidence_is_said_of_the_run_and_of_every_test() -> None:
    results = ctrf_of(made_report(evidence=EvidenceKind.SIMULATED))["results"]

    assert results["environment"]["extra"]["warning"].startswith("SIMULATED EVIDENCE")
    assert all("simulated" in each["tags"] for each in results["tests"])
    assert "warning" not in ctrf_of(made_report())["results"]["environment"]["extra"]


def test_a_hostile_cluster_adds_no_member_and_nothing_hidden() -> None:
    hostile = ctrf_of(hostile_report())

    assert shape(hostile) == shape(ctrf_of(made_report()))
    assert not [each for text in strings(hostile) for each in text if not each.isprintable() and each != "\n"]
    for test in hostile["results"]["tests"]:
        assert not {test["name"][0], test.get("message", "a")[0]} & set("=+-@<[|`#*")

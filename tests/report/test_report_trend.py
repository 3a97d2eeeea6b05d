"""The runs of a cluster over time: each run's end, each requirement's history, and what flaps first."""

import json
from pathlib import Path

import pytest
from made_reports import hostile_report
from msgspec.structs import replace
from runs import Night, broken, node, verdict
from schemas import validate

from conformance.cli import main
from conformance.report.comparing.trend import Trend, of_cluster, trend_of
from conformance.report.emitters import write_json
from conformance.report.model import Report
from conformance.report.reading import ReportError
from conformance.verdict import Status


def night(day: int, flaps: bool, *, moved: str = "gpu-1", **changed: str) -> Report:
    """POOL-01 holds, POOL-02 fails or not, POOL-03 fails on one node or another, DRA-01 is never judged."""
    return Night(day, **changed)(
        verdict("POOL-01"),
        verdict("POOL-02", broken(node("gpu-1")) if flaps else ()),
        verdict("POOL-03", broken(node(moved))),
        verdict("DRA-01", Status.ERROR, reason="Forbidden"),
    )


def four() -> list[Report]:
    return [
        night(day, flaps, moved=moved)
        for day, flaps, moved in ((1, True, "gpu-1"), (2, False, "gpu-2"), (3, True, "gpu-1"), (4, False, "gpu-1"))
    ]


def test_requirements_that_flap_come_first_then_what_fails_and_what_was_never_judged() -> None:
    trend = trend_of(four())

    assert [(each.requirement, each.history, each.changes) for each in trend.requirements] == [
        ("POOL-02", "F.F.", 3),
        ("POOL-03", "FFFF", 0),
        ("DRA-01", "EEEE", 0),
        ("POOL-01", "....", 0),
    ]
    assert trend.requirements[0].since == "2026-11-04T01:00:00+00:00"
    assert trend.requirements[1].since == "2026-11-01T01:00:00+00:00"


def test_subjects_flap_under_a_requirement_that_always_fails() -> None:
    subjects = trend_of(four()).subjects

    assert [(each.requirement, each.subject, each.history) for each in subjects] == [
        ("POOL-02", "node gpu-1", "F.F."),
        ("POOL-03", "node gpu-1", "F.FF"),
        ("POOL-03", "node gpu-2", ".F.."),
    ]


def test_each_run_has_its_end_its_counts_and_what_makes_it_hard_to_compare() -> None:
    trend = trend_of([*four(), night(5, False, mode="full")])

    assert [point.exit_code for point in trend.runs] == [1, 1, 1, 1, 1]
    assert trend.runs[0].counts == {"failed": 2, "error": 1, "passed": 1}
    assert (trend.runs[0].broken, trend.runs[1].broken) == (2, 1)
    assert (trend.runs[3].mode, trend.runs[4].mode) == ("audit", "full")


def test_runs_that_do_not_know_a_requirement_leave_a_gap_in_its_history() -> None:
    trend = trend_of([Night(1)(verdict("POOL-01")), Night(2)(verdict("POOL-02")), Night(3)(verdict("POOL-01"))])

    assert {each.requirement: (each.history, each.status) for each in trend.requirements} == {
        "POOL-01": (". .", "passed"),
        "POOL-02": (" . ", "absent"),
    }


def test_reports_of_several_clusters_are_no_trend_until_one_is_chosen() -> None:
    reports = [night(1, False, cluster="eu"), night(2, False, cluster="us")]

    with pytest.raises(ReportError, match="several clusters"):
        of_cluster(reports, None)
    with pytest.raises(ReportError, match="there is no report of asia; there are those of eu, us"):
        of_cluster(reports, "asia")
    assert [report.cluster.name for report in of_cluster(reports, "us")] == ["us"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for report in four():
        (tmp_path / report.run.id).mkdir()
        write_json(report, tmp_path / report.run.id)
    return tmp_path


def trend_in(text: str) -> Trend:
    found = json.loads(text)
    validate(found, "reports/trend.schema.json")
    return found


def test_the_command_tells_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "trend", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "flapping:\n  POOL-02   F.F.  passed since 2026-11-04 01:00" in told
    assert "subjects that came and went:" in told
    assert "1 other requirements ended the same in every run" in told

    assert main(["report", "trend", str(folder), "--json", "--last", "2"]) == 0
    assert [run["run"] for run in trend_in(capsys.readouterr().out)["runs"]] == ["run-prod-gpu-3", "run-prod-gpu-4"]


def test_a_report_that_cannot_be_read_hides_no_other_and_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cut").mkdir()
    (folder / "cut" / "report.json").write_text('{"run": {"id": "47')
    (folder / "other.json").write_text('{"kind": "Pod"}')

    assert main(["report", "trend", str(folder), "--json"]) == 1

    told = capsys.readouterr()
    assert len(trend_in(told.out)["runs"]) == 4
    assert len(trend_in(told.out)["leftOut"]) == 2
    assert "is no JSON, or only a part of it" in told.err
    assert "is no report of gpu-conformance" in told.err


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("nowhere", [], "is no folder"),
        ("empty", [], "has no report.json in it or below it"),
        ("bad", [], "has no report that can be read"),
        (".", ["--last", "0"], "give a number of runs"),
        (".", ["--to", "pdf"], "there is no such format here; there are text, json"),
        (".", ["--cluster", "staging"], "there is no report of staging"),
    ],
)
def test_the_command_refuses_with_one_sentence(
    folder: Path, name: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    (folder / "bad").mkdir()
    if name == "bad":
        (folder / "bad" / "report.json").write_text("")

    assert main(["report", "trend", str(folder / name), *arguments]) == 4

    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("to", ["text", "html"])
def test_hostile_names_of_a_trend_reach_no_terminal(
    tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        report = hostile_report()
        run = replace(report.run, id=f"{number}", started=f"2026-11-0{number + 1}T00:00:00")
        write_json(replace(report, run=run), tmp_path / str(number))

    assert main(["report", "trend", str(tmp_path), "--to", to]) == 0
    assert "\x1b" not in capsys.readouterr().out

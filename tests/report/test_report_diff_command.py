"""``gpu-conformance report diff``: what it reads, how it ends, and what it prints."""

import json
from pathlib import Path

import pytest
from made_reports import hostile_report, made_report
from runs import Night, broken, node, verdict
from schemas import validate

from conformance.cli import main
from conformance.report.emitters import write_json
from conformance.report.model import Report

FORMER = Path(__file__).parent / "former"


def written(folder: Path, report: Report) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(report, folder)
    return str(folder)


@pytest.fixture
def nights(tmp_path: Path) -> list[str]:
    """Three nights on which gpu-1 is broken, whole and broken again."""
    return [
        written(tmp_path / "nightly" / str(day), Night(day)(verdict("POOL-02", found)))
        for day, found in enumerate([broken(node("gpu-1")), (), broken(node("gpu-1"))], 1)
    ]


def test_a_difference_is_told_in_lines_and_fails_a_job_only_when_asked(
    nights: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "diff", *nights[1:]]) == 0
    told = capsys.readouterr()
    assert "findings: 1 new, 0 fixed, 0 known" in told.out
    assert "remedy   mend gpu-1" in told.out
    assert told.err == ""

    assert main(["report", "diff", *nights[1:], "--fail-on", "unjudged,new"]) == 1
    assert "fails on new: 1 new finding, 1 newly failed requirement" in capsys.readouterr().err

    assert main(["report", "diff", *nights[:2], "--fail-on", "new"]) == 0


def test_json_obeys_its_schema_and_nothing_else_is_printed(
    nights: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "diff", *nights, "--json", "--fail-on", "flapping"]) == 1

    found = json.loads(capsys.readouterr().out)
    validate(found, "reports/diff.schema.json")
    assert found["counts"]["flapping"] == 1
    assert found["findings"][0]["change"] == "new"
    assert [run["run"] for run in found["old"]] == ["run-prod-gpu-1", "run-prod-gpu-2"]


def test_of_a_folder_of_runs_those_count_that_are_of_the_cluster_and_from_before(
    nights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "nightly" / "other", Night(1, cluster="staging")(verdict("POOL-02")))
    (tmp_path / "nightly" / "cut").mkdir()
    (tmp_path / "nightly" / "cut" / "report.json").write_text('{"run": {"id": "47')

    assert main(["report", "diff", str(tmp_path / "nightly"), nights[1], "--json"]) == 0

    told = capsys.readouterr()
    assert [run["run"] for run in json.loads(told.out)["old"]] == ["run-prod-gpu-1"]
    assert "not read" in told.err
    assert "cut/report.json is no JSON, or only a part of it" in told.err


def test_a_folder_without_a_former_run_of_the_cluster_is_refused(
    nights: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = written(tmp_path / "new", Night(9, cluster="staging")(verdict("POOL-02")))

    assert main(["report", "diff", str(tmp_path / "nightly"), new]) == 4
    assert "has no report of staging from before" in capsys.readouterr().err


def test_a_report_of_a_former_version_is_compared_with_one_of_today(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(FORMER / "v1.json"), str(FORMER / "v1alpha1-before-causes.json")]

    assert main(["report", "diff", *arguments, "--json"]) == 0

    counts = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["new"], counts["fixed"]) == (0, 0)
    assert counts["known"] > 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ('{"run": {"id": "4711', "is no JSON, or only a part of it"),
        ('{"kind": "Pod"}', "is no report of gpu-conformance"),
        ('{"kind": "ConformanceReport", "apiVersion": "gpu-conformance.io/v9"}', "is of version gpu-conformance.io/v9"),
        (None, "does not exist"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_report_is_one_error(
    nights: list[str], tmp_path: Path, content: str | None, said: str, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    arguments = [str(bad), nights[0]] if place == 0 else [nights[0], str(bad)]

    assert main(["report", "diff", *arguments]) == 4

    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


@pytest.mark.parametrize("arguments", [["--fail-on", "worse"], ["--to", "pdf"]])
def test_what_there_is_not_is_refused_with_what_there_is(
    nights: list[str], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "diff", *nights, *arguments]) == 4
    assert "there are" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["text", "html"])
def test_hostile_names_reach_no_terminal(to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old", made_report(broken_nodes=3, run="older"))
    new = written(tmp_path / "new", hostile_report())

    assert main(["report", "diff", old, new, "--to", to]) == 0

    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert to != "text" or not any(line.startswith("# x") for line in told.splitlines())


def test_showing_a_hostile_report_sends_the_terminal_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "show", written(tmp_path, hostile_report())]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_on_a_terminal_lines_fit_and_piped_ones_are_whole(
    nights: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["report", "diff", *nights]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) > 40

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["report", "diff", *nights]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40

"""The report of a run that was killed: everything that its stream holds, and no pass for what was not finished."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from made_reports import hostile_report
from runs import Night, broken, node, verdict

from conformance.catalog import DISRUPTIVE, MUST, READS, Requirement
from conformance.cli import main
from conformance.report.emitters import EventStream
from conformance.report.model import API_VERSION, EXIT_INCOMPLETE, Report, Verdict
from conformance.report.reading import ReportError, read
from conformance.report.recovery import recovered
from conformance.report.stream import read_stream
from conformance.sources import SOURCES
from conformance.verdict import Status

FORMER = Path(__file__).parent / "former"
IDS = ("POOL-01", "POOL-02", "POOL-03", "POOL-04")


def catalogue() -> list[Requirement]:
    ids = (*IDS, "POOL-05", "DRA-01")
    return [
        Requirement(
            id, f"Title of {id}", MUST, "dra" if id == "DRA-01" else "pools", READS, (SOURCES["guide-1"],), "Mend."
        )
        for id in ids
    ]


def written(file: Path, verdicts: Iterable[Verdict], *, mode: str = "audit", ended: bool = False) -> Path:
    """A stream in which each verdict was closed, and POOL-01 to POOL-04 were selected."""
    facts = Night(1)(verdict("POOL-01"))
    with EventStream(file) as stream:
        stream.write(
            "run-started", apiVersion=API_VERSION, run="abcd", cluster="prod-gpu", mode=mode, version="0.1.0",
            reference="h100-fleet", settings={},
        )  # fmt: skip
        stream.write("facts-read", nodes=3, cluster=facts.cluster, fleet=facts.fleet)
        selected = [{"requirement": id, "title": id, "level": "MUST", "profile": "pools", "feature": "core",
                     "effect": "reads"} for id in IDS]  # fmt: skip
        stream.write("requirements-selected", requirements=selected)
        for each in verdicts:
            stream.write("requirement-started", requirement=each.requirement)
            stream.write("requirement-finished", verdict=each)
            stream.write("requirement-closed", requirement=each.requirement)
        if ended:
            stream.write("run-finished", outcome="every requirement that was evaluated holds", exitCode=0)
    return file


def made(file: Path) -> Report:
    return recovered(read_stream(file), catalogue)


def statuses(report: Report) -> dict[str, str]:
    return {each.requirement: str(each.status) for each in report.requirements}


def without_last(file: Path, lines: int) -> Path:
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join(kept[: len(kept) - lines]))
    return file


def test_a_killed_run_has_what_it_had_judged_and_says_what_is_missing(tmp_path: Path) -> None:
    report = made(written(tmp_path / "events.ndjson", [verdict("POOL-01"), verdict("POOL-02", broken(node("gpu-1")))]))

    assert statuses(report) == {
        "POOL-01": "passed", "POOL-02": "failed", "POOL-03": "not-run", "POOL-04": "not-run", "POOL-05": "not-run"
    }  # fmt: skip
    assert [each.reason for each in report.requirements[2:]] == [
        "the run was killed before its turn", "the run was killed before its turn", "left out by the selection"
    ]  # fmt: skip
    assert (report.exit_code, report.outcome) == (1, "the run was killed: until then 1 requirement failed")
    assert report.cluster == Night(1)(verdict("POOL-01")).cluster
    assert report.notes[0].startswith("the run was killed after 20")
    assert report.notes[0].endswith(": 2 requirements have a verdict; 2 had not begun")


def test_a_killed_run_is_never_green(tmp_path: Path) -> None:
    report = made(written(tmp_path / "events.ndjson", map(verdict, IDS)))

    assert set(statuses(report).values()) == {"passed", "not-run"}
    assert report.exit_code == EXIT_INCOMPLETE
    assert "was killed" in report.outcome


@pytest.mark.parametrize("lines", [1, 2])
def test_what_was_under_way_has_not_passed(tmp_path: Path, lines: int) -> None:
    """1: the verdict was there, and what it made not put back; 2: it had only begun."""
    file = written(tmp_path / "events.ndjson", [verdict("POOL-01"), verdict("POOL-02", effect=DISRUPTIVE)], mode="full")

    report = made(without_last(file, lines))

    assert statuses(report)["POOL-01"] == "passed"
    assert statuses(report)["POOL-02"] == "error"
    assert "under way was POOL-02" in report.notes[0]
    assert report.notes[1].endswith("gpu-conformance clean --cluster prod-gpu abcd")


def test_what_failed_before_the_run_was_killed_has_failed(tmp_path: Path) -> None:
    file = written(tmp_path / "events.ndjson", [verdict("POOL-01", broken(node("gpu-1")))])

    assert statuses(made(without_last(file, 1)))["POOL-01"] == "failed"


def test_a_worse_verdict_of_the_cleaning_up_stands(tmp_path: Path) -> None:
    verdicts = [verdict("POOL-01"), verdict("POOL-01", Status.ERROR, reason="could not be put back")]

    assert statuses(made(written(tmp_path / "events.ndjson", verdicts)))["POOL-01"] == "error"


def test_a_run_that_came_to_its_end_is_told_as_it_told_itself(tmp_path: Path) -> None:
    report = made(written(tmp_path / "events.ndjson", map(verdict, IDS), ended=True))

    assert (report.exit_code, report.outcome) == (0, "every requirement that was evaluated holds")
    assert statuses(report) == dict.fromkeys(IDS, "passed")


@pytest.mark.parametrize("file", [FORMER / "v1.ndjson", FORMER / "v1alpha1-before-causes.ndjson"])
def test_a_stream_of_a_former_version_is_read(file: Path) -> None:
    stream, report = read_stream(file), read(file.with_suffix(".json"))

    found = recovered(stream, catalogue)

    assert statuses(found) == statuses(report)
    assert found.requirements == report.requirements
    assert (found.outcome, found.exit_code) == (report.outcome, report.exit_code)


def test_of_a_former_version_the_last_verdict_of_a_killed_run_has_not_passed(tmp_path: Path) -> None:
    events = [
        {"event": "run-started", "time": "2026-11-24T06:00:00.123+00:00", "run": "a", "cluster": "c", "mode": "full"},
        *({"event": "requirement-finished", "time": "2026-11-24T06:00:01.123+00:00",
           "verdict": msgspec.to_builtins(verdict(id))} for id in IDS[:2]),
    ]  # fmt: skip
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(map(json.dumps, events)) + "\n")

    report = made(file)

    assert {id: statuses(report)[id] for id in IDS} == {
        "POOL-01": "passed", "POOL-02": "error", "POOL-03": "not-run", "POOL-04": "not-run"
    }  # fmt: skip
    assert report.run.finished == "2026-11-24T06:00:01+00:00"
    assert "does not say" in report.notes[0]


def test_wherever_a_stream_is_cut_off_nothing_passes_that_was_not_closed(tmp_path: Path) -> None:
    whole = written(tmp_path / "events.ndjson", map(verdict, IDS)).read_bytes()
    begun = whole.index(b"\n")
    for at in range(begun, len(whole), 37):
        (tmp_path / "cut.ndjson").write_bytes(whole[:at])
        told = made(tmp_path / "cut.ndjson")
        closed = whole[:at].count(b'"requirement-closed"')
        passed = [each for each in told.requirements if each.status is Status.PASSED]
        assert len(passed) <= closed
        assert told.exit_code != 0


def test_a_last_line_that_was_cut_off_or_filled_with_zeros_is_said(tmp_path: Path) -> None:
    file = written(tmp_path / "events.ndjson", [verdict("POOL-01")])
    whole = file.read_bytes()

    file.write_bytes(whole + b'{"event": "requirement-fin' + "é".encode()[:1] + b"\0" * 100)

    assert made(file).notes[0].endswith("; the last line of its stream was cut off")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: its run ended before it had begun"),
        (b"\0\0\0", "is empty"),
        (b'{"event": "run-star', "does not begin with the start of a run"),
        (b'{"event": "facts-read"}\n', "does not begin with the start of a run"),
        (b'{"kind": "Pod"}\n{"kind": "Pod"}\n', "line 1 is no event"),
        (b'[1]\n{"kind": "Pod"}\n', "line 1 is no event"),
        (b'{"event": "run-st\n{"event": "facts-read"}\n', "is damaged: line 1 is no JSON, and it is not the last one"),
        (b"\xff\xfe\n\xff\n", "is damaged: line 1"),
        (
            b'{"event": "run-started", "time": "t", "run": "a", "cluster": "b", "mode": "audit", '
            b'"apiVersion": "gpu-conformance.io/v9"}\n',
            "is of version gpu-conformance.io/v9; this gpu-conformance reads gpu-conformance.io/v1alpha1",
        ),
        (
            b'{"event": "run-started", "time": "t", "run": "a", "cluster": "b", "mode": "audit"}\n'
            b'{"event": "requirement-finished", "time": "t", "verdict": {"findings": [4]}}\n',
            "has a verdict that is damaged",
        ),
        (
            b'{"event": "run-started", "time": "t", "run": "a", "cluster": "b", "mode": "audit"}\n'
            b'{"event": "facts-read", "time": "t", "cluster": 4}\n',
            "is damaged",
        ),
        (None, "does not exist"),
    ],
)
def test_what_is_no_stream_is_one_error(
    tmp_path: Path, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.ndjson"
    if content is not None:
        file.write_bytes(content)

    assert main(["report", "recover", str(file)]) == 4

    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "report.json").exists()


def test_the_command_writes_a_report_that_is_read_and_never_over_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "events.ndjson", [verdict("POOL-01")])

    assert main(["report", "recover", str(tmp_path)]) == 0
    assert "note: the run was killed after" in capsys.readouterr().out
    assert statuses(read(tmp_path))["POOL-01"] == "passed"

    assert main(["report", "recover", str(tmp_path)]) == 4
    assert "is there already" in capsys.readouterr().err
    assert main(["report", "recover", str(tmp_path), "-o", str(tmp_path / "new" / "report.json")]) == 0


def test_a_hostile_stream_sends_the_terminal_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = hostile_report()
    with EventStream(tmp_path / "events.ndjson") as stream:
        stream.write("run-started", run="a\x1b[2J", cluster=report.cluster.name, mode="full\x1b[2J")
        for each in report.requirements:
            stream.write("requirement-finished", verdict=each)

    assert main(["report", "recover", str(tmp_path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_own_requirements_that_the_catalogue_does_not_have_are_told_from_the_stream(tmp_path: Path) -> None:
    file = written(tmp_path / "events.ndjson", [verdict("POOL-01")])
    (told,) = [each for each in _events(file) if each["event"] == "requirements-selected"]
    told["requirements"].append(
        {
            "requirement": "OWN-01",
            "title": "Ours",
            "level": "MUST",
            "profile": "own",
            "feature": "core",
            "effect": "reads",
        }
    )
    file.write_text("\n".join(json.dumps(told if each["event"] == told["event"] else each) for each in _events(file)))

    ours = next(each for each in made(file).requirements if each.requirement == "OWN-01")

    assert (ours.title, ours.status, ours.profile) == ("Ours", Status.NOT_RUN, "own")


def _events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_damaged_catalogue_entry_is_one_error(tmp_path: Path) -> None:
    file = written(tmp_path / "events.ndjson", [])
    file.write_text(file.read_text().replace('"effect":"reads"', '"effect":"nonsense"').replace("POOL-0", "OWN-0"))

    with pytest.raises(ReportError, match="is damaged"):
        made(file)

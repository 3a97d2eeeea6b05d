"""Reports are read back, and what is none is refused with one sentence; commands turn reports into other formats."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_reports import hostile_report, made_report

from conformance.cli import main
from conformance.report.emitters import STREAM_NAME, write_json
from conformance.report.formats import FORMATS
from conformance.report.reading import ReportError, read
from conformance.verdict import EvidenceKind


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    report = made_report()
    path = write_json(report, tmp_path)

    assert read(path) == report
    assert read(tmp_path) == report


def test_a_report_of_a_version_without_timeline_and_occupancy_is_read(tmp_path: Path) -> None:
    path = write_json(made_report(), tmp_path)
    told = json.loads(path.read_text())
    for verdict in told["requirements"]:
        del verdict["timeline"], verdict["stepsLeft"]
    for pool in told["fleet"]:
        del pool["requested"]
    path.write_text(json.dumps(told))

    assert [each.timeline for each in read(path).requirements] == [()] * 7
    assert [each.requested for each in read(path).fleet] == [None, None]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty: the run ended before it was written"),
        ('{"run": {"id": "4711', "is no JSON, or only a part of it"),
        ('{"kind": "Pod"}', "is no report of gpu-conformance"),
        ('["no", "object"]', "is no report of gpu-conformance"),
        (
            '{"kind": "ConformanceReport", "apiVersion": "gpu-conformance.io/v9"}',
            "is of version gpu-conformance.io/v9; this gpu-conformance reads gpu-conformance.io/v1alpha1",
        ),
        ('{"kind": "ConformanceReport", "apiVersion": "gpu-conformance.io/v1alpha1"}', "is damaged: .*`run`"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(content)

    with pytest.raises(ReportError, match=told):
        read(file)


def test_a_report_that_a_killed_run_never_wrote_is_told_with_what_is_left_of_it(tmp_path: Path) -> None:
    (tmp_path / STREAM_NAME).write_text("")

    with pytest.raises(ReportError, match=r"report.json does not exist; .*events.ndjson holds what its run had found"):
        read(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_the_same_for_the_same_report(name: str) -> None:
    def rendered() -> object:
        return FORMATS[name].render(made_report(evidence=EvidenceKind.HARDWARE))

    assert rendered() == rendered()


def test_a_report_is_converted_beside_itself_or_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(made_report(), tmp_path)

    assert main(["report", "convert", str(tmp_path), "--to", "badge"]) == 0
    assert ElementTree.parse(tmp_path / "badge.svg").getroot().tag.endswith("svg")
    capsys.readouterr()

    assert main(["report", "convert", str(tmp_path / "report.json"), "--to", "line", "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("prod-gpu: 1 requirement failed")

    assert main(["report", "convert", str(tmp_path), "--to", "pdf"]) == 4
    assert "there is no such format; there are junit" in capsys.readouterr().err


def test_showing_a_report_tells_each_failure_with_its_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(made_report(), tmp_path)

    assert main(["report", "show", str(tmp_path)]) == 0

    told = capsys.readouterr().out
    assert "FAILED POOL-02" in told
    assert "kubectl label node" in told


def test_names_of_the_cluster_cannot_act_in_one_line_or_a_badge() -> None:
    report = hostile_report()

    line = FORMATS["line"].render(report)
    assert len(line.splitlines()) == 1
    assert not {"\x1b", "<", "*", "@", "["} & set(line)
    assert "<script" not in FORMATS["badge"].render(report)


def test_a_report_stays_json_that_other_programs_read(tmp_path: Path) -> None:
    found = json.loads(write_json(hostile_report(), tmp_path).read_text())

    assert found["cluster"]["name"] == hostile_report().cluster.name

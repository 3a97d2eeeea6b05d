"""A run writes its report in further formats when it is told to, and names every file that it wrote."""

import pytest

from conformance.facts.snapshot import Snapshot, save


@pytest.fixture
def empty(tmp_path):
    save(Snapshot.of([]), tmp_path / "empty.json.gz")
    return ["--cluster", "snapshot:empty.json.gz", "--gpu-requirement", "POOL-01"]


def test_a_run_writes_the_formats_that_it_is_told_to(conform, empty, tmp_path):
    outcome = conform(*empty, "--gpu-report-formats", "html,junit", "--gpu-report-formats", "badge")

    folder = tmp_path / "gpu-conformance-report"
    wanted = {"report.json", "junit.xml", "events.ndjson", "report.html", "badge.svg"}
    assert {each.name for each in folder.iterdir()} == wanted, outcome.output
    assert "POOL-01" in (folder / "report.html").read_text()
    assert "[[ATTACHMENT|" in (folder / "junit.xml").read_text()
    assert "gpu-conformance-report/report.html, gpu-conformance-report/badge.svg" in outcome.output


def test_a_run_that_is_told_nothing_writes_what_every_run_writes(conform, empty, tmp_path):
    conform(*empty)

    written = {each.name for each in (tmp_path / "gpu-conformance-report").iterdir()}
    assert written == {"report.json", "junit.xml", "events.ndjson"}

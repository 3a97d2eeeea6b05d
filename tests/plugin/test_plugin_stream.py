"""The stream of a run tells enough to make its report from it, however far the run came."""

import json

import pytest

from conformance.facts.snapshot import Snapshot, save
from conformance.report.reading import read
from conformance.report.recovery import recovered
from conformance.report.stream import read_stream
from conformance.session import catalogue


@pytest.fixture
def run(conform, tmp_path):
    """The folder of a run that audited an empty cluster."""
    save(Snapshot.of([]), tmp_path / "empty.json.gz")
    conform("--cluster", "snapshot:empty.json.gz", "--gpu-requirement", "POOL-01,POOL-02")
    return tmp_path / "gpu-conformance-report"


def test_a_run_that_came_to_its_end_is_recovered_as_it_reported_itself(run):
    report = read(run)

    again = recovered(read_stream(run), catalogue.requirements)

    assert again.requirements == report.requirements
    assert (again.causes, again.profiles, again.fleet) == (report.causes, report.profiles, report.fleet)
    assert (again.outcome, again.exit_code, again.reference) == (report.outcome, report.exit_code, report.reference)
    assert (again.cluster, again.run.settings, again.run.id) == (report.cluster, report.run.settings, report.run.id)


def test_a_run_that_was_killed_names_what_was_selected_and_had_not_begun(run, tmp_path):
    lines = (run / "events.ndjson").read_text().splitlines(keepends=True)
    until = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "requirement-closed")
    (tmp_path / "cut.ndjson").write_text("".join(lines[: until + 1]) + '{"event":"requi')

    told = recovered(read_stream(tmp_path / "cut.ndjson"), catalogue.requirements)

    reasons = {each.requirement: each.reason for each in told.requirements}
    assert reasons["POOL-02"] == "the run was killed before its turn"
    assert reasons["POOL-03"] == "left out by the selection"
    assert told.exit_code == 10 or told.exit_code == 1
    assert told.notes[0].endswith("1 had not begun; the last line of its stream was cut off")

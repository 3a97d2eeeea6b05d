"""The sample reports are what the program makes, apart from times and ids; ci/samples --check says it of all."""

import json

import pytest
import samples
from samples import (
    DIFF,
    ON_CLUSTERS,
    SAMPLES,
    SECOND,
    differing,
    differing_pages,
    make_nights,
    without_times_and_ids,
)
from whole_runs import whole_run

from conformance.report.reading import read
from conformance.verdict import EvidenceKind


@whole_run
def test_nights_that_are_audited_anew_say_what_the_kept_reports_say(tmp_path):
    make_nights(tmp_path)

    assert differing(tmp_path) == []


def test_pages_are_those_that_the_kept_reports_give(tmp_path):
    assert differing_pages(tmp_path) == [], "make them anew with ci/samples --only pages"


def test_a_sample_that_would_be_another_one_is_named(tmp_path):
    report = json.loads((SAMPLES / SECOND / "report.json").read_text())
    (tmp_path / SECOND).mkdir()
    made = tmp_path / SECOND / "report.json"
    made.write_text(json.dumps(report))
    assert differing(tmp_path) == []

    report["requirements"][0]["title"] = "Something else"
    made.write_text(json.dumps(report))
    assert differing(tmp_path) == [made.relative_to(tmp_path)]


def test_the_nights_show_what_is_new_what_was_fixed_and_what_is_known():
    counts = json.loads((SAMPLES / DIFF / "difference.json").read_text())["counts"]

    assert min(counts["new"], counts["fixed"], counts["known"]) > 0
    assert read(SAMPLES / SECOND).baseline.counts == counts
    assert read(SAMPLES / SECOND).cluster.nodes == 1001


@pytest.mark.parametrize("name", [name for name in ON_CLUSTERS if (SAMPLES / name).exists()])
def test_runs_on_embedded_clusters_are_marked_as_simulated(name):
    report = read(SAMPLES / name)

    assert report.cluster.evidence is EvidenceKind.SIMULATED
    assert "SIMULATED EVIDENCE" in (SAMPLES / name / "report.html").read_text()
    assert report.exit_code == (0 if name == "embedded" else 1)


def test_samples_are_small_and_hold_nothing_of_the_machine_that_made_them():
    files = [file for file in SAMPLES.rglob("*") if file.is_file()]

    assert sum(file.stat().st_size for file in files) < 3_000_000
    assert not any(str(samples.CHECKOUT) in file.read_text() or "/tmp/" in file.read_text() for file in files)


def test_runs_on_clusters_are_alike_that_come_to_the_same_verdicts(tmp_path):
    report = json.loads((SAMPLES / "guide" / "report.json").read_text())
    (tmp_path / "guide").mkdir()
    made = tmp_path / "guide" / "report.json"
    report["requirements"][0]["findings"] = []
    made.write_text(json.dumps(report))
    assert differing(tmp_path) == []

    report["requirements"][0]["judged"] += 1
    made.write_text(json.dumps(report))
    assert differing(tmp_path) == [made.relative_to(tmp_path)]


def test_times_durations_and_ids_of_runs_are_all_that_may_differ():
    text = json.dumps(
        {"run": {"id": "abcdefgh", "started": "2026-11-24T06:00:00+00:00"}, "duration": 0.25, "x": "abcdefgh"}
    )

    assert without_times_and_ids(text) == '{"run": {"id": "RUN", "started": "TIME"}, "duration": 0, "x": "RUN"}'
    assert without_times_and_ids(text) != without_times_and_ids(text.replace('"x"', '"y"'))

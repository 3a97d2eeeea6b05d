"""The sample reports are what the program makes, apart from times and ids; ci/samples --check says it of all."""

import json
import re

import pytest
import samples
from samples import DIFF, FIRST, ON_CLUSTERS, SAMPLES, SECOND, make_difference, make_night, without_times_and_ids

from conformance.report.comparing.objects import broken_in
from conformance.report.reading import read
from conformance.verdict import EvidenceKind


def told(report):
    """How each requirement ended, and what was broken by which cause."""
    return {
        verdict.requirement: (str(verdict.status), {(each.name, each.cause) for each in broken_in(verdict)})
        for verdict in report.requirements
    }


def test_a_night_that_is_audited_anew_says_what_the_kept_report_says(tmp_path):
    make_night(SECOND, tmp_path, SAMPLES / FIRST / "report.json")

    assert told(read(tmp_path)) == told(read(SAMPLES / SECOND))


@pytest.fixture(scope="module")
def difference(tmp_path_factory):
    """The difference of the kept reports, made anew."""
    folder = tmp_path_factory.mktemp("samples")
    for night in (FIRST, SECOND):
        (folder / night).symlink_to(SAMPLES / night)
    make_difference(folder)
    return folder / DIFF


@pytest.mark.parametrize("file", ["difference.json", "difference.txt", "difference.html"])
def test_what_changed_between_the_nights_is_what_the_kept_reports_say(difference, file):
    def without_style(text):
        return re.sub("<style>.*?</style>|<meta http-equiv[^>]*>", "", text, flags=re.DOTALL)

    assert without_style((difference / file).read_text()) == without_style((SAMPLES / DIFF / file).read_text())


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


def test_times_durations_and_ids_of_runs_are_all_that_may_differ():
    text = json.dumps(
        {"run": {"id": "abcdefgh", "started": "2026-11-24T06:00:00+00:00"}, "duration": 0.25, "x": "abcdefgh"}
    )

    assert without_times_and_ids(text) == '{"run": {"id": "RUN", "started": "TIME"}, "duration": 0, "x": "RUN"}'
    assert without_times_and_ids(text) != without_times_and_ids(text.replace('"x"', '"y"'))

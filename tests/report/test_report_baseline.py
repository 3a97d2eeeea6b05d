"""A run with a baseline marks in every format what is new; without one nothing changes."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from runs import Night, broken, node, verdict
from schemas import validate

from conformance.report.comparing.baseline import Baseline
from conformance.report.emitters import write_json
from conformance.report.formats import FORMATS
from conformance.report.model import Report, Verdict
from conformance.report.reading import ReportError, read
from conformance.report.story import details, story
from conformance.session import summary
from conformance.verdict import EvidenceKind, Status

OLD = Night(1)(
    verdict("POOL-01"),
    verdict("POOL-02", broken(node("gpu-1"), node("gpu-9"))),
    verdict("POOL-03", broken(node("gpu-1"))),
    verdict("POOL-04", broken(node("gpu-1"))),
)


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return Baseline.load(write_json(OLD, tmp_path))


@pytest.fixture
def report(baseline: Baseline) -> Report:
    """POOL-01 newly fails, POOL-02 has two new subjects, POOL-03 holds again, POOL-04 is as it was."""
    verdicts = [
        verdict("POOL-01", broken(node("gpu-5"))),
        verdict("POOL-02", broken(node("gpu-1"), node("gpu-2"), node("gpu-3"))),
        verdict("POOL-03"),
        verdict("POOL-04", broken(node("gpu-1"))),
    ]
    return baseline.compared(Night(2)(*map(baseline.marked, verdicts)))


def of(report: Report, requirement: str) -> Verdict:
    return next(each for each in report.requirements if each.requirement == requirement)


def test_each_subject_is_marked_and_each_verdict_says_what_changed(report: Report) -> None:
    (group,) = of(report, "POOL-02").causes

    assert [(each.name, each.new) for each in group.subjects] == [("gpu-1", False), ("gpu-2", True), ("gpu-3", True)]
    assert group.new == 2
    assert {each.requirement: each.since for each in report.requirements} == {
        "POOL-01": "newly failed; 1 new",
        "POOL-02": "2 new, 1 known, 1 fixed (node gpu-9)",
        "POOL-03": "holds again; 1 fixed (node gpu-1)",
        "POOL-04": "1 known",
    }
    assert report.baseline is not None
    assert {change: count for change, count in report.baseline.counts.items() if count} == {
        "new": 3, "fixed": 2, "known": 2
    }  # fmt: skip


def test_a_verdict_tells_which_subjects_are_new(report: Report) -> None:
    assert "2 of 3 since the baseline: node gpu-2, node gpu-3" in story(of(report, "POOL-02"))
    assert "new                    since the baseline" in story(of(report, "POOL-01"))
    assert "  new " not in story(of(report, "POOL-04"))
    assert "1 known" in story(of(report, "POOL-04"))


def test_marks_survive_being_written_and_read_and_obey_the_schema(report: Report, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    path = write_json(report, tmp_path / "new")

    assert read(path) == report
    validate(json.loads(path.read_text()), "reports/report.schema.json")


@pytest.mark.parametrize("name", ["html", "markdown", "line", "badge", "openmetrics", "junit", "sarif", "ctrf"])
def test_every_format_tells_what_is_new(report: Report, name: str) -> None:
    told = str(FORMATS[name].render(report))

    words = {
        "html": "Since the baseline of 2026-11-01 01:00",
        "markdown": "ince the baseline of 2026-11-01 01:00",
        "line": "; since the baseline 3 new, 2 fixed, 2 known",
        "badge": "3 failed, 3 new",
        "openmetrics": 'gpu_conformance_baseline_findings{cluster="prod-gpu",change="new"} 3',
        "junit": "2 of 3 since the baseline: node gpu-2, node gpu-3",
        "sarif": '"baselineState": "updated"',
        "ctrf": "2 of 3 since the baseline",
    }
    assert words[name] in told
    assert words[name] not in str(FORMATS[name].render(replace(report, baseline=None, requirements=OLD.requirements)))


def test_the_list_of_requirements_tells_what_became_of_each(report: Report) -> None:
    assert "POOL-03, since the baseline: holds again; 1 fixed" in "".join(
        str(FORMATS["markdown"].render(report)).replace(" MUST Title of POOL-03", "").replace("`", "")
    )
    assert '<span class="pill failed">2 new</span>' in str(FORMATS["html"].render(report))


def test_junit_tells_what_was_fixed_in_the_case_that_holds_again(report: Report) -> None:
    cases = {
        case.get("name"): case for case in ElementTree.fromstring(str(FORMATS["junit"].render(report))).iter("testcase")
    }

    assert "holds again; 1 fixed (node gpu-1)" in cases["POOL-03 Title of POOL-03"].findtext("system-out", "")


def test_the_summary_begins_with_what_is_new_and_marks_it(report: Report) -> None:
    lines = [line.text for line in summary.lines(report, [], width=100)]

    assert "since the baseline of 2026-11-01 01:00 (run run-prod-gpu-1): findings: 3 new, 2 fixed, 2 known" in lines
    assert next(line for line in lines if line.startswith("  POOL")) == (
        "  POOL-02  2 NEW node gpu-1 and 2 more: the label of the pool is missing"
    )
    assert "  POOL-04  node gpu-1: the label of the pool is missing" in lines


def test_a_waived_finding_may_be_new_and_counts_as_covered(baseline: Baseline) -> None:
    waived = baseline.marked(verdict("POOL-01", broken(node("gpu-7")), status=Status.WAIVED, reason="until 2027"))

    assert waived.since == "its waiver changed; 1 new"


def test_without_a_baseline_nothing_is_marked() -> None:
    (group,) = of(OLD, "POOL-03").causes

    assert group.new is None
    assert "baseline" not in details(of(OLD, "POOL-03"))


def test_a_baseline_of_another_cluster_is_refused_with_both_names(baseline: Baseline) -> None:
    baseline.require_cluster("prod-gpu")
    with pytest.raises(ReportError, match=r"is of the cluster prod-gpu, and this run is on staging; give a report of"):
        baseline.require_cluster("staging")


def test_a_snapshot_may_have_any_name_where_it_shares_nodes_with_the_baseline(baseline: Baseline) -> None:
    baseline.require_nodes("snapshot:tuesday.json.gz", ["gpu-1", "cpu-1"])
    with pytest.raises(ReportError, match="is of the cluster prod-gpu"):
        baseline.require_nodes("snapshot:tuesday.json.gz", ["cpu-1"])


def test_a_baseline_of_a_former_version_is_read() -> None:
    former = Baseline.load(Path(__file__).parent / "former" / "v1.json")

    found = former.marked(verdict("POOL-03", broken(node("gpu-0"), cause=_CAUSE), evidence=EvidenceKind.STATIC))

    assert found.since == "1 known, 1 fixed (node gpu-1)"


_CAUSE = "nvidia.com/gpu=present:NoSchedule and dedicated=gpu:NoSchedule is not on the node"

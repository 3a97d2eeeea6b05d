"""Metrics: both parsers of Prometheus read them, names and labels stay, and no cluster can write a line of its own."""

from pathlib import Path

import msgspec
import pytest
from made_reports import HOSTILE, hostile_report, made_report, since_baseline, with_status
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families as older_text_of

from conformance.report.formats import FORMATS
from conformance.report.formats.openmetrics import PREFIX, families
from conformance.report.model import Report
from conformance.report.visible import visible
from conformance.verdict import EvidenceKind, Status

LABELS = {
    "stage",
    "cluster", "requirement", "profile", "level", "status", "verdict", "result",
    "mode", "evidence", "reference", "version", "server_version", "change", "turn",
}  # fmt: skip


def read(report: Report) -> dict[str, Metric]:
    return {each.name.removeprefix(PREFIX): each for each in openmetrics_of(FORMATS["openmetrics"].render(report))}


def values(metric: Metric, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in metric.samples}


def test_the_parser_reads_verdict_counts_and_findings() -> None:
    found = read(made_report())

    assert values(found["run_verdict"], "verdict") == {"passed": 0, "failed": 1, "incomplete": 0}
    assert [sample.value for sample in found["run_exit_code"].samples] == [1]
    assert values(found["requirement_broken_subjects"], "requirement")["POOL-02"] == 7
    assert values(found["requirement_judged_subjects"], "requirement")["POOL-02"] == 8
    assert values(found["requirement_findings"], "requirement")["POOL-02"] == 1
    assert values(found["requirement_failed"], "requirement") == {
        each.requirement: float(each.requirement == "POOL-02") for each in made_report().requirements
    }
    counts = {
        (s.labels["profile"], s.labels["level"], s.labels["status"]): s.value for s in found["requirements"].samples
    }
    assert counts["pools", "MUST", "failed"] == 1
    assert counts["dra", "MUST", "failed"] == 0
    assert sum(counts.values()) == 7


def test_when_the_run_was_is_a_metric_so_that_its_age_can_be_asked() -> None:
    found = read(made_report())

    assert [sample.value for sample in found["run_started_timestamp_seconds"].samples] == [1795500000]
    assert [sample.value for sample in found["run_finished_timestamp_seconds"].samples] == [1795500070]
    assert [sample.value for sample in found["run_duration_seconds"].samples] == [70]
    assert all(sample.timestamp is None for metric in found.values() for sample in metric.samples)


def test_a_report_with_no_times_has_all_other_metrics() -> None:
    report = made_report()
    untimed = msgspec.structs.replace(report, run=msgspec.structs.replace(report.run, started="", finished="soon"))

    assert set(read(report)) - set(read(untimed)) == {
        "run_started_timestamp_seconds", "run_finished_timestamp_seconds", "run_duration_seconds"
    }  # fmt: skip


def test_every_metric_has_a_type_a_help_and_the_unit_of_its_name() -> None:
    for name, metric in read(made_report()).items():
        assert metric.type == "gauge"
        assert metric.documentation
        assert metric.unit == ("seconds" if name.endswith("_seconds") else "")


@pytest.mark.parametrize("report", [made_report(), hostile_report()], ids=["ordinary", "hostile"])
def test_pushgateway_and_textfile_collector_read_the_same(report: Report) -> None:
    text = FORMATS["openmetrics"].render(report)

    def told(metrics: list[Metric]) -> list[tuple[str, dict[str, str], float]]:
        return [(s.name, s.labels, s.value) for metric in metrics for s in metric.samples]

    assert told(list(older_text_of(text))) == told(list(openmetrics_of(text)))


def test_a_hostile_cluster_adds_no_line_and_keeps_its_name() -> None:
    ordinary, hostile = (FORMATS["openmetrics"].render(each) for each in (made_report(), hostile_report()))

    assert hostile.count("\n") == ordinary.count("\n")
    assert list(read(hostile_report())) == list(read(made_report()))
    assert not [each for each in hostile if not each.isprintable() and each != "\n"]
    (info,) = read(hostile_report())["run_info"].samples
    assert info.labels["cluster"] == visible("prod-gpu" + HOSTILE)


def test_what_is_new_since_the_baseline_has_metrics_which_no_cluster_can_write_into() -> None:
    ordinary, hostile = (since_baseline(each) for each in (made_report(), hostile_report()))
    found = read(ordinary)

    assert set(found) - set(read(made_report())) == {
        "baseline_started_timestamp_seconds", "baseline_findings", "baseline_requirements", "requirement_new_subjects"
    }  # fmt: skip
    assert values(found["baseline_findings"], "change")["new"] == 4
    texts = [FORMATS["openmetrics"].render(each) for each in (ordinary, hostile)]
    assert texts[0].count("\n") == texts[1].count("\n")
    assert list(read(hostile)) == list(found)


def test_series_do_not_grow_with_the_cluster() -> None:
    small, large = (FORMATS["openmetrics"].render(made_report(broken_nodes=number)) for number in (1, 5000))

    assert small.count("\n") == large.count("\n")
    assert "gpu-0" not in large
    every = families(since_baseline(made_report()))
    assert {name for family in every for labels, _ in family.samples for name in labels} == LABELS


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(Status.PASSED, "passed"), (Status.ERROR, "incomplete"), (Status.FAILED, "failed")],
)
def test_the_verdict_is_that_of_the_exit_code(status: Status, verdict: str) -> None:
    report = made_report(evidence=EvidenceKind.HARDWARE)
    for each in report.requirements:
        report = with_status(report, each.requirement, Status.PASSED)

    found = values(read(with_status(report, "POOL-01", status))["run_verdict"], "verdict")

    assert [name for name, value in found.items() if value] == [verdict]


def test_the_page_about_reports_has_every_metric_with_its_labels() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")

    for family in families(since_baseline(made_report())):
        labels = ", ".join(f"`{name}`" for name in family.samples[0][0])
        assert f"| `{PREFIX}{family.name}` | {labels} |" in docs

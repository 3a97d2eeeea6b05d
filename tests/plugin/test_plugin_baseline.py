"""A run with --gpu-baseline marks what is new; one that cannot be used ends the run before it begins."""

import json

import pytest

from conformance.facts.snapshot import Snapshot, save

USAGE = 4


def node(name):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"eks.amazonaws.com/nodegroup": "t4-inference"}},
        "status": {
            "capacity": {"nvidia.com/gpu": "4"},
            "allocatable": {"nvidia.com/gpu": "4"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.35.1"},
        },
    }


def options(snapshot, report):
    chosen = ["--gpu-requirement", "POOL-03", "--gpu-reference=corrected-guide", f"--gpu-report={report}"]
    return ["--cluster", f"snapshot:{snapshot}", *chosen]


@pytest.fixture
def monday(conform, tmp_path):
    """The report of a run that found two nodes without taints."""
    save(Snapshot.of([node("gpu-1"), node("gpu-2")]), tmp_path / "monday.json.gz")
    conform(*options("monday.json.gz", "monday"))
    return tmp_path / "monday" / "report.json"


def test_what_is_new_is_marked_on_the_terminal_and_in_the_reports(conform, monday, tmp_path):
    save(Snapshot.of([node("gpu-2"), node("gpu-3")]), tmp_path / "tuesday.json.gz")

    outcome = conform(*options("tuesday.json.gz", "tuesday"), f"--gpu-baseline={monday}", "--gpu-report-formats=html")

    assert outcome.exit_code == 1
    assert "1 of 2 since the baseline: node gpu-3" in outcome.output
    assert "findings: 1 new, 0 fixed, 1 gone, 1 known" in " ".join(outcome.output.split())
    told = json.loads((tmp_path / "tuesday" / "report.json").read_text())
    assert told["baseline"]["counts"]["new"] == 1
    verdict = next(each for each in told["requirements"] if each["requirement"] == "POOL-03")
    assert [each.get("new", False) for each in verdict["findings"][0]["subjects"]] == [False, True]
    assert "ince the baseline" in (tmp_path / "tuesday" / "report.html").read_text()
    assert "1 of 2 since the baseline" in (tmp_path / "tuesday" / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ('{"run": {"id": "47', "is no JSON, or only a part of it"),
        ('{"kind": "Pod"}', "is no report of gpu-conformance"),
        ('{"kind": "ConformanceReport", "apiVersion": "gpu-conformance.io/v9"}', "is of version gpu-conformance.io/v9"),
        ('{"kind": "ConformanceReport", "apiVersion": "gpu-conformance.io/v1alpha1"}', "is damaged"),
    ],
)
def test_a_baseline_that_cannot_be_read_is_one_usage_error(conform, tmp_path, content, said):
    save(Snapshot.of([node("gpu-1")]), tmp_path / "a.json.gz")
    if content is not None:
        (tmp_path / "last.json").write_text(content)

    outcome = conform(*options("a.json.gz", "a"), "--gpu-baseline=last.json")

    assert outcome.exit_code == USAGE
    assert "--gpu-baseline: last.json" in outcome.output
    assert said in outcome.output
    assert "Traceback" not in outcome.output
    assert not (tmp_path / "a").exists()


def test_a_baseline_of_another_cluster_is_one_usage_error(conform, monday, tmp_path):
    save(Snapshot.of([node("other-1")]), tmp_path / "other.json.gz")

    outcome = conform(*options("other.json.gz", "other"), f"--gpu-baseline={monday}")

    assert outcome.exit_code == USAGE
    assert "is of the cluster snapshot:monday.json.gz, and this run is on snapshot:other.json.gz" in outcome.output
    assert "Traceback" not in outcome.output

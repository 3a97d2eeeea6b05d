"""With --gpu-explain-pods a report says why GPU pods wait or fail; without, nothing is read or said of it."""

import json

import pytest

from conformance.facts.snapshot import Snapshot, save

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "train-0", "namespace": "ml", "creationTimestamp": "2026-11-01T10:00:00Z"},
    "spec": {
        "nodeSelector": {"gpu-type": "a1OO"},
        "containers": [{"name": "a", "image": "a", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
    },
    "status": {"phase": "Pending"},
}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "gpu-1", "labels": {"gpu-type": "a100"}},
    "status": {"allocatable": {"nvidia.com/gpu": "4", "pods": "110"}, "capacity": {"nvidia.com/gpu": "4"}},
}
WORDS = "it wants gpu-type=a1OO, nodes have a100"


@pytest.fixture
def audit(conform, tmp_path):
    """Audit a cluster with one pod that waits, with these options."""

    def of(*options):
        save(Snapshot.of([NODE, POD]), tmp_path / "a.json.gz")
        return conform("--cluster=snapshot:a.json.gz", "--gpu-requirement=POOL-07", *options)

    return of


def test_a_run_that_is_not_asked_explains_no_pods(audit, tmp_path):
    audit()

    assert "waitingPods" not in json.loads((tmp_path / "gpu-conformance-report" / "report.json").read_text())


def test_reports_say_why_pods_wait(audit, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # on a terminal of 80 columns the line is cut before these words
    outcome = audit("--gpu-explain-pods", "--gpu-report-formats=html,markdown,openmetrics")

    folder = tmp_path / "gpu-conformance-report"
    (group,) = json.loads((folder / "report.json").read_text())["waitingPods"]["groups"]
    assert (group["owner"]["name"], group["stage"], group["pods"]) == ("train-0", "unschedulable", 1)
    assert WORDS in group["cause"]
    assert WORDS in outcome.output
    page, metrics = (folder / "report.html").read_text(), (folder / "metrics.prom").read_text()
    assert "GPU pods that wait or fail" in page
    assert WORDS in page
    assert "gpu-type=a1OO, nodes have a100" in (folder / "summary.md").read_text()
    assert 'gpu_conformance_waiting_pods{cluster="snapshot:a.json.gz",stage="unschedulable"} 1' in metrics


def test_names_of_nodes_are_replaced_in_it_too(audit, tmp_path):
    audit("--gpu-explain-pods", "--gpu-redact", "--gpu-report-formats=html")

    for file in ("report.json", "report.html"):
        assert "gpu-1" not in (tmp_path / "gpu-conformance-report" / file).read_text()

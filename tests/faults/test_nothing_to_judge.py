"""No requirement passes when there is nothing to judge or reading is forbidden."""

import pytest
from kubeconfigs import context_of

from conformance.facts import snapshot
from conformance.facts.kinds import KINDS
from conformance.lab import clean

NOTHING_DECLARED = "name: nothing\ndescription: A set-up that declares nothing.\n"


@pytest.fixture
def nothing_declared(tmp_path):
    file = tmp_path / "nothing.yaml"
    file.write_text(NOTHING_DECLARED)
    return file


def test_an_empty_cluster_held_to_nothing_passes_nothing(conform, tmp_path, nothing_declared):
    file = tmp_path / "empty.json.gz"
    snapshot.save(snapshot.Snapshot.of([]), file)

    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-reference", str(nothing_declared))

    assert outcome.ids("passed") == set(), outcome.output
    assert outcome.ids("failed") == set(), outcome.output
    assert outcome.exit_code == 10


def test_an_empty_cluster_held_to_the_reference_passes_nothing(conform, tmp_path):
    file = tmp_path / "empty.json.gz"
    snapshot.save(snapshot.Snapshot.of([]), file)

    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-reference", "corrected-guide")

    assert outcome.ids("passed") == set(), outcome.output
    assert outcome.exit_code == 1


def test_a_cluster_that_nobody_may_read_passes_nothing_and_fails_nothing(conform, tmp_path):
    file = tmp_path / "forbidden.json.gz"
    forbidden = {kind.plural: "Forbidden" for kind in KINDS.values()}
    snapshot.save(snapshot.Snapshot.of([], unreadable=forbidden), file)

    outcome = conform("--cluster", f"snapshot:{file}", "--gpu-reference", "corrected-guide")

    assert outcome.ids("passed") == set(), outcome.output
    assert outcome.ids("failed") == set(), outcome.output
    assert outcome.ids("error") == set(), outcome.output
    assert outcome.ids("waiting"), outcome.output
    assert outcome.exit_code == 10


@pytest.mark.cluster
def test_scenarios_held_to_nothing_pass_nothing(cluster, conform, nothing_declared):
    outcome = conform(
        "--cluster", context_of(cluster.kubeconfig), "--gpu-kubeconfig", str(cluster.kubeconfig),
        "--gpu-mode", "full", "--gpu-reference", str(nothing_declared),
    )  # fmt: skip

    assert outcome.ids("passed") == set(), outcome.output
    assert outcome.ids("failed") == set(), outcome.output
    assert outcome.ids("not-applicable"), outcome.output
    assert outcome.exit_code == 10


@pytest.mark.cluster
def test_somebody_without_rights_gets_errors_and_no_passes(cluster, somebody, conform):
    # They may announce a run, and do nothing else.
    powerless = somebody(
        "powerless",
        [
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "patch", "delete"]},
            {"apiGroups": ["", "coordination.k8s.io"], "resources": ["configmaps", "leases"], "verbs": ["*"]},
        ],
    )

    outcome = conform(
        "--cluster", "powerless", "--gpu-kubeconfig", str(powerless), "--gpu-mode", "full",
        "--gpu-reference", "corrected-guide", "--gpu-timeout", "retry=1",
    )  # fmt: skip

    assert outcome.report, outcome.output
    cleaned = clean(cluster.client, outcome.report["run"]["id"], force=True)
    assert outcome.ids("passed") == set(), outcome.output
    assert outcome.ids("failed") == set(), outcome.output
    assert "could not be put back" in outcome.output, "they may not even look for what they left"
    assert outcome.exit_code == 1
    assert cleaned.runs == (outcome.report["run"]["id"],)
    assert not cleaned.left

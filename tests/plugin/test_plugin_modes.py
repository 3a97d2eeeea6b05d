import json

import pytest
from kubeconfigs import context_of

from conformance.session.rights import audit_role

pytestmark = pytest.mark.cluster


def on(cluster, *more):
    return [
        "--cluster", context_of(cluster.kubeconfig), "--gpu-kubeconfig", str(cluster.kubeconfig),
        "--gpu-reference", "corrected-guide", *more,
    ]  # fmt: skip


def test_a_bare_context_is_only_audited(cluster, conform):
    outcome = conform(*on(cluster))

    assert outcome.report["run"]["mode"] == "audit"
    assert {"PRIO-03", "QUOTA-05", "SCHED-01"} <= outcome.ids("not-run")
    assert "mode audit goes up to reads" in outcome.verdict("PRIO-03")["reason"]


def test_verify_runs_what_stays_within_its_own_objects_and_leaves_the_rest(cluster, conform):
    outcome = conform(*on(cluster, "--gpu-mode", "verify", "--gpu-profile", "quota"))

    assert {"QUOTA-05", "QUOTA-08"} <= outcome.ids("passed"), outcome.output


def test_a_run_on_simulated_nodes_is_simulated_whoever_serves_them(cluster, conform):
    outcome = conform(*on(cluster, "--gpu-requirement", "POOL-01"))

    assert outcome.report["cluster"]["evidence"] == "simulated"


def test_the_stream_and_both_files_agree(cluster, conform, tmp_path):
    outcome = conform(*on(cluster, "--gpu-profile", "pools"))

    stream = (tmp_path / "gpu-conformance-report" / "events.ndjson").read_text()
    events = [json.loads(line) for line in stream.splitlines()]
    streamed = {
        e["verdict"]["requirement"]: e["verdict"]["status"] for e in events if e["event"] == "requirement-finished"
    }
    assert streamed == outcome.statuses
    assert events[-1]["event"] == "run-finished"


def test_the_rights_that_the_command_prints_are_all_that_an_audit_needs(somebody, conform):
    auditor = somebody("auditor", audit_role()["rules"])

    outcome = conform("--cluster", "auditor", "--gpu-kubeconfig", str(auditor), "--gpu-reference", "corrected-guide")

    assert outcome.report["cluster"]["unreadable"] == {}
    assert "Forbidden" not in outcome.output
    assert "TEN-05" not in outcome.ids("error")

"""A cluster without a set-up of its own is judged by what does not depend on anybody's names, and says so."""

import pytest

from conformance.facts.snapshot import Snapshot, save

SAID = "no set-up of your own: held to the shipped set-up corrected-guide"


def node(name):
    amounts = {"cpu": "8", "memory": "32Gi", "pods": "110", "nvidia.com/gpu": "4"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"pool": "ours"}},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pod(name, **spec):
    containers = [{"name": "main", "image": "registry.example/app:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ours"},
        "spec": {"nodeName": "gpu-1", "containers": containers, **spec},
        "status": {"phase": "Running"},
    }


@pytest.fixture
def ours(tmp_path):
    everywhere = [{"operator": "Exists"}]
    save(Snapshot.of([node("gpu-1"), pod("trainer"), pod("agent", tolerations=everywhere)]), tmp_path / "ours.json.gz")
    return ["--cluster", "snapshot:ours.json.gz"]


def test_what_depends_on_a_declaration_waits_for_that_one_reason(conform, ours):
    outcome = conform(*ours)

    (cause,) = (each for each in outcome.report["causes"] if not each["requirement"])
    assert cause["cause"].startswith(SAID)
    assert {"POOL-01", "POOL-04", "TEN-01", "QUOTA-01", "PRIO-01", "OPER-01"} <= set(cause["waiting"])
    assert outcome.ids("error") == set(), outcome.output


def test_what_depends_on_none_is_judged(conform, ours):
    outcome = conform(*ours)

    assert outcome.ids("failed") == {"SCHED-17"}, outcome.output
    assert "WORK-10" in outcome.ids("passed")


def test_header_and_summary_say_how_to_get_one(conform, ours):
    header, _, summary = conform(*ours).output.partition("GPU conformance =")

    for part in (header, summary):
        told = " ".join(part.split())
        assert SAID in told
        assert "`gpu-conformance init --cluster snapshot:ours.json.gz` writes one of yours" in told


def test_the_shipped_set_up_judges_all_where_it_is_named(conform, ours):
    outcome = conform(*ours, "--gpu-reference", "corrected-guide")

    assert SAID not in outcome.output
    assert "POOL-01" in outcome.ids("failed"), outcome.output

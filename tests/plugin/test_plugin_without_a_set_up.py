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


@pytest.fixture
def operated(tmp_path):
    """A cluster whose operator says that it is not ready, and one of whose operands crashes."""
    yesterday = "2026-01-01T00:00:00Z"
    place = {"namespace": "gpu-operator", "creationTimestamp": yesterday}
    image = {"spec": {"containers": [{"name": "gpu-operator", "image": "nvcr.io/nvidia/gpu-operator:v26.7.0"}]}}
    error = {"type": "Error", "status": "True", "reason": "OperandNotReady", "lastTransitionTime": yesterday}
    crashing = {
        "name": "nvidia-device-plugin",
        "restartCount": 40,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
    }
    name = "nvidia-device-plugin-daemonset"
    objects = [
        node("gpu-1"),
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "clusterpolicies.nvidia.com"},
            "spec": {"group": "nvidia.com", "names": {"kind": "ClusterPolicy", "plural": "clusterpolicies"}},
        },
        {
            "apiVersion": "nvidia.com/v1",
            "kind": "ClusterPolicy",
            "metadata": {"name": "cluster-policy", "creationTimestamp": yesterday},
            "spec": {"operator": {}},
            "status": {"state": "notReady", "conditions": [error | {"message": "device plugin is not ready"}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "gpu-operator", **place},
            "spec": {"replicas": 1, "template": image},
            "status": {"replicas": 1, "availableReplicas": 1, "updatedReplicas": 1},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {
                "name": name,
                **place,
                "ownerReferences": [{"kind": "ClusterPolicy", "name": "cluster-policy", "controller": True}],
            },
            "spec": {"template": {"spec": {"containers": [{"name": "nvidia-device-plugin", "image": "plugin:1"}]}}},
            "status": {"desiredNumberScheduled": 1, "currentNumberScheduled": 1},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-x",
                **place,
                "ownerReferences": [{"kind": "DaemonSet", "name": name, "controller": True}],
            },
            "spec": {"nodeName": "gpu-1", "containers": [{"name": "nvidia-device-plugin", "image": "plugin:1"}]},
            "status": {"phase": "Running", "startTime": yesterday, "containerStatuses": [crashing]},
        },
    ]
    save(Snapshot.of(objects), tmp_path / "operated.json.gz")
    return ["--cluster", "snapshot:operated.json.gz", "--gpu-profile", "operator"]


def test_what_an_operator_says_of_itself_is_judged_whoever_declared_it(conform, operated):
    outcome = conform(*operated)

    assert outcome.ids("failed") == {"OPER-02", "OPER-05"}, outcome.output
    assert "device plugin is not ready" in outcome.told("OPER-02")
    assert "CrashLoopBackOff" in outcome.told("OPER-05")
    assert "OPER-06" in outcome.ids("passed")
    assert "OPER-01" in outcome.ids("waiting")


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

"""NVIDIADriver objects: which one selects a node, and what their status tells."""

import pytest
from operated_cluster import LONG_AGO, NOW, Cluster, made
from operator_chapters import A_NODE, COVERAGE, FULL, RECONCILED, VERSION, WORKLOADS

from conformance.upgrading.policy import driver_object_of, driver_objects_selecting

OTHER_NODE = "a100-training-1"
GROUP = "eks.amazonaws.com/nodegroup"


@pytest.fixture
def several(cluster):
    """A cluster whose drivers NVIDIADrivers define."""
    cluster.policy()["spec"]["driver"]["useNvidiaDriverCRD"] = True
    return cluster


def add(cluster: Cluster, name: str, selector: dict[str, str] | None = None, reason: str = "", **spec: object) -> None:
    since = LONG_AGO
    conditions = [{"type": "Error", "status": "True", "reason": reason, "message": "m", "lastTransitionTime": since}]
    status = {"state": "notReady", "conditions": conditions} if reason else {"state": "ready"}
    spec = {"version": "580.95.05", **({"nodeSelector": selector} if selector else {}), **spec}
    cluster.objects.append(made("nvidia.com/v1alpha1", "NVIDIADriver", name, spec=spec, status=status))


def names(cluster: Cluster, node: str) -> list[str]:
    facts = cluster.facts()
    return [each.name for each in driver_objects_selecting(facts.node(node), facts)]


def test_the_default_is_for_nodes_that_no_other_selects(several):
    add(several, "rest", default=True)
    add(several, "inference", {GROUP: "t4-inference"})

    assert names(several, A_NODE) == ["inference"]
    assert names(several, OTHER_NODE) == ["rest"]
    assert names(several, "cpu-1") == []


def test_the_label_of_the_operator_decides_before_the_selector(several):
    add(several, "one", {GROUP: "t4-inference"})
    add(several, "two", {GROUP: "a100-training"})
    several.label(A_NODE, {"nvidia.com/gpu-operator.driver.owner": "two"})
    facts = several.facts()

    assert driver_object_of(facts.node(A_NODE), facts).name == "two"


def test_two_that_select_one_node_are_named_with_it(several):
    add(several, "all", reason="ConflictingNodeSelector")
    add(several, "inference", {GROUP: "t4-inference"}, reason="ConflictingNodeSelector")

    broken = several.verdict(RECONCILED).broken

    assert "NVIDIA driver all and NVIDIA driver inference both select node t4-inference" in broken["NVIDIA driver all"]
    assert "NVIDIA driver inference" in broken
    assert "delete it, or set spec.default" in broken["NVIDIA driver inference"]


def test_a_conflict_that_is_over_needs_the_operator_to_look_again(several):
    add(several, "inference", {GROUP: "t4-inference"}, reason="ConflictingNodeSelector")

    assert "kubectl rollout restart deployment" in several.verdict(RECONCILED).broken["NVIDIA driver inference"]


def test_a_driver_that_is_just_being_deployed_is_passed_over(several):
    add(several, "inference", {GROUP: "t4-inference"}, reason="DriverNotReady")
    assert "NVIDIA driver inference" in several.verdict(RECONCILED).broken

    error = several.get("NVIDIADriver", "inference")["status"]["conditions"][0]
    error["lastTransitionTime"] = NOW.isoformat()

    outcome = several.verdict(RECONCILED)
    assert not outcome.broken
    assert [str(each.subject) for each in outcome.judge.unseen] == ["NVIDIA driver inference"]


def test_a_missing_driver_is_traced_to_the_conflict(several):
    add(several, "inference", {GROUP: "t4-inference"}, reason="ConflictingNodeSelector")
    several.objects = [
        each for each in several.objects if not each["metadata"]["name"].startswith("nvidia-driver-daemonset")
    ]

    told = several.verdict(WORKLOADS).broken["driver"]
    assert "ConflictingNodeSelector" in told
    assert "Follow OPER-02." in told
    assert "ConflictingNodeSelector" in several.verdict(COVERAGE).broken[f"node {A_NODE}"]


def test_another_driver_is_explained_by_the_object_that_selects_the_node(several):
    add(several, "inference", {GROUP: "t4-inference"}, version="570.172.08")
    add(several, "training", {GROUP: "a100-training"}, version="580.95.05")
    several.label(A_NODE, {FULL: "570.172.08"})
    several.label(OTHER_NODE, {FULL: "570.172.08"})

    broken = several.verdict(VERSION).broken

    assert "configured to install driver 570.172.08 by NVIDIA driver inference" in broken[f"node {A_NODE}"]
    assert "configured to install" not in broken[f"node {OTHER_NODE}"]

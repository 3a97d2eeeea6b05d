"""What time will settle is not judged, and only while somebody is there who settles it."""

from datetime import datetime, timedelta

import pytest
from operated_cluster import JUST_NOW, LONG_AGO, NOW, Cluster, Object, unready
from operator_chapters import A_NODE, COVERAGE, FULL, RECONCILED, STATE, STUCK, SWITCHED_OFF, VERSION, not_ready

from suites._shared.grace import has_managed_driver, is_changing, is_left_behind
from suites._shared.upgrade_states import UNDER_WAY as STATES
from suites.pools.test_pools import test_every_gpu_node_advertises_its_gpus as advertises
from suites.pools.test_pools import test_every_gpu_node_is_ready_and_schedulable as is_schedulable
from suites.pools.test_pools import test_nodes_of_one_pool_are_alike as alike

UNDER_WAY = "validation-required"
PAUSED = ("container-toolkit", "device-plugin", "dcgm-exporter", "gpu-feature-discovery", "operator-validator")
IMAGE_DRIVER = {"nvidia.com/gpu.deploy.driver": "pre-installed"}


def being_replaced(cluster: Cluster, since: str, *, reason: str = "") -> Object:
    """The driver pod of a node of which the driver manager runs, or waits to run again for a reason."""
    driver = cluster.pod("nvidia-driver-daemonset", A_NODE)
    unready(driver, init="k8s-driver-manager", reason=reason or "PodInitializing", restarts=22 if reason else 0)
    driver["metadata"]["creationTimestamp"] = driver["status"]["startTime"] = since
    cluster.label(A_NODE, {f"nvidia.com/gpu.deploy.{each}": "paused-for-driver-upgrade" for each in PAUSED})
    for name in ("nvidia-container-toolkit-daemonset", "nvidia-device-plugin-daemonset"):
        cluster.remove(cluster.pod(name, A_NODE))
    cluster.node(A_NODE)["status"]["allocatable"]["nvidia.com/gpu"] = "0"
    return driver


def without_managed_driver(cluster: Cluster) -> None:
    cluster.policy()["spec"]["driver"] = {"enabled": False}


def seen(cluster: Cluster, **more: object):
    facts = cluster.facts(**more)
    node = facts.node(A_NODE)
    return is_changing(node, facts), is_left_behind(node, facts)


def test_an_upgrade_is_under_way_where_the_operator_manages_the_driver(cluster):
    assert seen(cluster) == ("", False)

    cluster.label(A_NODE, {STATE: UNDER_WAY})

    assert seen(cluster) == (f"a driver upgrade is under way ({UNDER_WAY})", False)


def cordoned(cluster: Cluster, since: datetime, annotations: dict[str, str], name: str = A_NODE) -> None:
    """A node of a pool that somebody updates: cordoned since then, not Ready, and with another kernel."""
    node = cluster.node(name)
    added = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": since.isoformat()}
    node["metadata"]["annotations"] = annotations
    node["spec"] |= {"unschedulable": True, "taints": [*node["spec"]["taints"], added]}
    node["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    for each in cluster.objects:
        if each["kind"] == "Node":
            each["status"]["nodeInfo"] = {"kernelVersion": "6.8.0-100-generic" if each is node else "6.8.0-85-generic"}


@pytest.mark.parametrize(
    "annotations",
    [
        {"machineconfiguration.openshift.io/state": "Working"},
        {"flatcar-linux-update.v1.flatcar-linux.net/reboot-in-progress": "true"},
        {"weave.works/kured-reboot-in-progress": "2026-09-20T11:50:00Z"},
    ],
    ids=["openshift", "flatcar", "kured"],
)
def test_a_node_whose_system_is_updated_comes_back(cluster, annotations):
    cordoned(cluster, NOW - timedelta(minutes=20), annotations)

    for requirement in (alike, is_schedulable):
        verdict = cluster.verdict(requirement)
        assert not verdict.broken
        assert "updat" in str(verdict.judge.unseen)


@pytest.mark.parametrize(
    ("minutes", "state"), [(90, "Working"), (20, "Degraded"), (20, "Done")], ids=["too long", "degraded", "by hand"]
)
def test_an_update_that_hangs_or_is_none_is_no_excuse(cluster, minutes, state):
    cordoned(cluster, NOW - timedelta(minutes=minutes), {"machineconfiguration.openshift.io/state": state})

    assert f"node {A_NODE}" in cluster.verdict(alike).broken
    assert f"node {A_NODE}" in cluster.verdict(is_schedulable).broken


def test_an_update_of_a_node_without_gpus_is_no_excuse_for_the_operator(cluster):
    not_ready(cluster, LONG_AGO)
    cordoned(cluster, NOW - timedelta(minutes=20), {"machineconfiguration.openshift.io/state": "Working"}, "cpu-1")

    assert cluster.verdict(RECONCILED).broken

    cordoned(cluster, NOW - timedelta(minutes=20), {"machineconfiguration.openshift.io/state": "Working"})
    assert "the Machine Config Operator is updating its system" in str(cluster.verdict(RECONCILED).ended)


def test_a_driver_pod_that_is_replaced_without_an_upgrade_pauses_the_operands(cluster):
    """NVIDIA/k8s-driver-manager does so whenever a driver pod starts; a label of an upgrade need not be there."""
    pod = being_replaced(cluster, JUST_NOW)

    assert seen(cluster)[0] == f"pod gpu-operator/{pod['metadata']['name']} is about to load the driver anew"
    for requirement in (COVERAGE, SWITCHED_OFF, advertises):
        assert f"node {A_NODE}" not in cluster.verdict(requirement).broken


def test_a_driver_manager_that_does_not_end_is_the_cause_and_not_the_labels(cluster):
    """NVIDIA/gpu-operator issue 2166: the driver is in use. Labels that are set by hand would be paused again."""
    being_replaced(cluster, LONG_AGO, reason="CrashLoopBackOff")

    assert "k8s-driver-manager: CrashLoopBackOff" in cluster.verdict(COVERAGE).broken[f"node {A_NODE}"]
    switched = cluster.verdict(SWITCHED_OFF)
    assert not switched.broken
    assert "the driver does not work (OPER-13)" in str(switched.judge.unseen)
    offered = next(each for each in cluster.verdict(advertises).judge.broken if A_NODE in str(each.subject))
    assert "k8s-driver-manager" in offered.cause
    cluster.node(A_NODE)["spec"]["unschedulable"] = True
    assert cluster.verdict(is_schedulable).judge.broken[0].remedy.startswith("Follow OPER-13")
    assert "OPER-12" not in offered.remedy


@pytest.mark.parametrize("state", [UNDER_WAY, "upgrade-required", "upgrade-failed"])
def test_a_label_of_an_upgrade_that_nobody_makes_is_left_behind(cluster, state):
    cluster.label(A_NODE, {STATE: state})
    without_managed_driver(cluster)

    assert seen(cluster) == ("", True)


def test_a_driver_of_the_node_image_is_not_upgraded(cluster):
    cluster.label(A_NODE, {STATE: UNDER_WAY, **IMAGE_DRIVER})

    assert seen(cluster) == ("", True)


def test_a_label_of_an_upgrade_that_is_done_harms_nobody(cluster):
    cluster.label(A_NODE, {STATE: "upgrade-done"})
    without_managed_driver(cluster)

    assert seen(cluster) == ("", False)


def test_who_manages_the_driver_is_not_guessed_where_the_policy_could_not_be_read(cluster):
    cluster.label(A_NODE, {STATE: UNDER_WAY})
    facts = cluster.facts(unreadable={"ClusterPolicy": "Forbidden: no"})

    assert has_managed_driver(facts.node(A_NODE), facts)
    assert is_changing(facts.node(A_NODE), facts)


def test_a_layout_is_changed_only_where_somebody_changes_it(cluster):
    cluster.label("a100-training-1", {"nvidia.com/mig.config.state": "pending"})
    facts = cluster.facts()
    assert "MIG layout is being changed" in is_changing(facts.node("a100-training-1"), facts)

    cluster.policy()["spec"]["migManager"] = {"enabled": False}
    for each in [each for each in cluster.objects if "mig-manager" in each["metadata"]["name"]]:
        cluster.remove(each)
    facts = cluster.facts()

    assert is_changing(facts.node("a100-training-1"), facts) == ""


def test_drivers_of_a_pool_may_differ_while_they_are_upgraded(cluster):
    cluster.label(A_NODE, {FULL: "575.57.08"})
    assert f"node {A_NODE}" in cluster.verdict(alike).broken

    cluster.label(A_NODE, {STATE: "pod-restart-required"})
    assert not cluster.verdict(alike).broken


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("requirement", [advertises, is_schedulable], ids=["POOL-04", "POOL-10"])
def test_the_node_at_hand_of_a_rolling_upgrade_is_cordoned_and_offers_nothing(cluster, requirement, state):
    node = cluster.node(A_NODE)
    node["spec"]["unschedulable"] = True
    node["status"]["allocatable"]["nvidia.com/gpu"] = "0"
    for operand in ("nvidia-device-plugin-daemonset", "nvidia-driver-daemonset"):
        cluster.remove(cluster.pod(operand, A_NODE))
    assert f"node {A_NODE}" in cluster.verdict(requirement).broken

    cluster.label(A_NODE, {STATE: state})
    outcome = cluster.verdict(requirement)

    assert f"node {A_NODE}" not in outcome.broken
    assert f"node {A_NODE}: a driver upgrade is under way ({state})" in map(str, outcome.judge.unseen)


def test_a_node_that_an_upgrade_left_cordoned_is_the_operators_to_uncordon(cluster):
    cluster.node(A_NODE)["spec"]["unschedulable"] = True
    cordoned = cluster.verdict(is_schedulable).judge.broken[0]
    assert f"kubectl uncordon {A_NODE}" in cordoned.remedy

    cluster.label(A_NODE, {STATE: "upgrade-failed"})
    assert "uncordon" not in cluster.verdict(is_schedulable).judge.broken[0].remedy.replace(
        "the operator uncordons", ""
    )


def test_the_broken_operands_of_a_node_with_a_stale_label_are_named_and_so_is_the_label(cluster):
    cluster.label(A_NODE, {STATE: UNDER_WAY, **IMAGE_DRIVER})
    cluster.remove(cluster.pod("nvidia-container-toolkit-daemonset", A_NODE))

    assert f"node {A_NODE}" in cluster.verdict(COVERAGE).broken
    assert "nobody upgrades this node" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]
    assert cluster.verdict(VERSION).passed
    assert not cluster.verdict(VERSION).judge.unseen

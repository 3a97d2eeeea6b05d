"""Nodes that are Ready and not cordoned and take no pods all the same, and nodes that are on their way out."""

from datetime import timedelta

import msgspec
import pytest
from operated_cluster import JUST_NOW, LONG_AGO, NOW, Cluster
from operator_chapters import A_NODE

from conformance.verdict import Inconclusive
from suites.pools.test_pools import test_every_gpu_node_is_ready_and_schedulable as takes_pods

PRESSURE = "node.kubernetes.io/disk-pressure"


def taint(cluster: Cluster, key: str, added: str | None = None, effect: str = "NoSchedule") -> None:
    when = {"timeAdded": added} if added else {}
    cluster.node(A_NODE)["spec"].setdefault("taints", []).append({"key": key, "effect": effect, **when})


def broken(cluster: Cluster):
    return {str(each.subject): each for each in cluster.verdict(takes_pods).judge.broken}


def passed_over(cluster: Cluster) -> list[str]:
    return [str(each) for each in cluster.verdict(takes_pods).judge.unseen]


@pytest.mark.parametrize(
    ("key", "lifted_by"),
    [
        (PRESSURE, "the kubelet takes the taint off"),
        ("node.cilium.io/agent-not-ready", "whoever put node.cilium.io/agent-not-ready"),
        ("node.cloudprovider.kubernetes.io/uninitialized", "cloud controller manager"),
        ("karpenter.sh/unregistered", "NodeClaim"),
    ],
)
def test_a_taint_that_ought_to_have_gone_keeps_new_pods_away(cluster, key, lifted_by):
    taint(cluster, key)

    found = broken(cluster)[f"node {A_NODE}"]

    assert key in found.cause
    assert lifted_by in found.remedy
    assert "Do not take it off by hand" in found.remedy


def test_pressure_that_began_just_now_may_pass(cluster):
    taint(cluster, PRESSURE, JUST_NOW)
    assert not broken(cluster)

    cluster.node(A_NODE)["spec"]["taints"][-1]["timeAdded"] = LONG_AGO
    assert "since 2026-03-01" in broken(cluster)[f"node {A_NODE}"].cause


def test_an_agent_may_not_be_ready_yet_on_a_new_node(cluster):
    taint(cluster, "ebs.csi.aws.com/agent-not-ready")
    cluster.node(A_NODE)["metadata"]["creationTimestamp"] = JUST_NOW

    assert not broken(cluster)


def test_a_soft_taint_keeps_nobody_away(cluster):
    taint(cluster, PRESSURE, LONG_AGO, effect="PreferNoSchedule")

    assert not broken(cluster)


def test_out_of_service_is_the_one_taint_that_people_take_off(cluster):
    taint(cluster, "node.kubernetes.io/out-of-service", LONG_AGO, effect="NoExecute")

    assert f"kubectl taint node {A_NODE} node.kubernetes.io/out-of-service-" in broken(cluster)[f"node {A_NODE}"].remedy


def test_nobody_is_told_to_put_a_node_that_is_down_back_into_service(cluster):
    taint(cluster, "node.kubernetes.io/out-of-service", LONG_AGO, effect="NoExecute")
    cluster.node(A_NODE)["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]

    found = broken(cluster)[f"node {A_NODE}"]

    assert "not Ready" in found.actual
    assert "kubectl taint" not in found.remedy


@pytest.mark.parametrize("key", ["karpenter.sh/disrupted", "aws-node-termination-handler/spot-itn"])
def test_a_node_that_is_about_to_go_is_not_judged_and_nobody_is_told_to_uncordon_it(cluster, key):
    taint(cluster, key)
    cluster.node(A_NODE)["spec"]["unschedulable"] = True

    assert not broken(cluster)
    assert passed_over(cluster) == [f"node {A_NODE}: it is about to be removed ({key}:NoSchedule)"]


def test_a_node_that_is_being_deleted_goes_soon_or_is_held(cluster):
    cluster.node(A_NODE)["metadata"]["deletionTimestamp"] = JUST_NOW
    assert passed_over(cluster) == [f"node {A_NODE}: it is being deleted"]

    cluster.node(A_NODE)["metadata"]["deletionTimestamp"] = (NOW - timedelta(hours=7)).isoformat()
    held = broken(cluster)[f"node {A_NODE}"]
    assert "a finalizer keeps it" in held.cause
    assert "leaves the machine behind" in held.remedy


def test_a_node_waits_for_its_pods_as_long_as_they_may_take(cluster):
    cluster.node(A_NODE)["metadata"]["deletionTimestamp"] = (NOW - timedelta(minutes=50)).isoformat()
    assert "a finalizer keeps it" in broken(cluster)[f"node {A_NODE}"].cause

    # A trainer that saves a checkpoint.
    cluster.pod("nvidia-dcgm-exporter", A_NODE)["spec"]["terminationGracePeriodSeconds"] = 3600
    assert passed_over(cluster) == [f"node {A_NODE}: it is being deleted"]


@pytest.mark.parametrize("key", ["karpenter.sh/disrupted", "aws-node-termination-handler/spot-itn"])
def test_a_taint_without_a_time_is_as_old_as_its_writers_last_change_of_the_node(cluster, key):
    taint(cluster, key)
    fields = {"f:spec": {"f:taints": {}}}
    cluster.node(A_NODE)["metadata"]["managedFields"] = [
        {"manager": "kubelet", "time": JUST_NOW, "fieldsV1": {"f:status": {}, "f:spec": {"f:providerID": {}}}},
        {"manager": "karpenter", "time": LONG_AGO, "fieldsV1": fields},
    ]

    assert "since 2026-03-01" in broken(cluster)[f"node {A_NODE}"].cause


def test_a_node_whose_kernel_hangs_is_broken_though_it_is_ready(cluster):
    cluster.node(A_NODE)["status"]["conditions"].append({"type": "KernelDeadlock", "status": "True"})

    assert "KernelDeadlock=True" in broken(cluster)[f"node {A_NODE}"].cause


def condition(cluster: Cluster, node: str, kind: str, status: str) -> None:
    cluster.node(node)["status"]["conditions"].append({"type": kind, "status": status})


def test_a_condition_of_unknown_meaning_is_neither_passed_nor_failed(cluster):
    condition(cluster, A_NODE, "GPUPassiveHealthCheck", "True")

    ended = cluster.verdict(takes_pods)

    assert isinstance(ended.ended, Inconclusive)
    assert f"GPUPassiveHealthCheck=True of node {A_NODE}" in str(ended.ended)
    assert "platform.healthy_conditions" in str(ended.ended)
    assert not ended.judge.broken


def test_what_the_fleet_agrees_on_is_well_and_what_its_owners_declare_decides(cluster):
    for node in cluster.facts().nodes:
        condition(cluster, node.name, "GPUPassiveHealthCheck", "True")
    ended = cluster.verdict(takes_pods)
    assert ended.ended is None
    assert not ended.judge.broken

    platform = msgspec.structs.replace(
        cluster.reference.platform, healthy_conditions={"GPUPassiveHealthCheck": "False"}
    )
    cluster.reference = msgspec.structs.replace(cluster.reference, platform=platform)
    assert "GPUPassiveHealthCheck=True" in broken(cluster)[f"node {A_NODE}"].cause


@pytest.mark.parametrize(
    ("key", "value", "added", "overdue"),
    [
        ("ToBeDeletedByClusterAutoscaler", str(int((NOW - timedelta(minutes=5)).timestamp())), None, False),
        ("ToBeDeletedByClusterAutoscaler", str(int((NOW - timedelta(days=3)).timestamp())), None, True),
        ("karpenter.sh/disrupted", "", LONG_AGO, True),
        # Without a time nobody knows, and nothing is said.
        ("karpenter.sh/disrupted", "", None, False),
    ],
)
def test_a_node_that_was_to_be_removed_long_ago_and_is_there_is_told(cluster, key, value, added, overdue):
    taint(cluster, key, added)
    cluster.node(A_NODE)["spec"]["taints"][-1]["value"] = value

    found = broken(cluster)

    assert bool(found) is overdue
    if overdue:
        assert key in found[f"node {A_NODE}"].cause
        assert "since" in found[f"node {A_NODE}"].cause
        assert "which was to be removed" in found[f"node {A_NODE}"].remedy
    else:
        assert any(f"node {A_NODE}" in each for each in passed_over(cluster))


def test_a_readiness_rule_that_is_not_met_keeps_its_taint(cluster):
    taint(cluster, "readiness.k8s.io/nvidia.com/gpu-not-ready", LONG_AGO)

    assert "NodeReadinessRule" in broken(cluster)[f"node {A_NODE}"].remedy


HYPERPOD = "sagemaker.amazonaws.com/node-health-status"


@pytest.mark.parametrize(
    ("value", "command"),
    [
        ("UnschedulablePendingReplacement", "batch-replace-cluster-nodes"),
        ("UnschedulablePendingReboot", "batch-reboot-cluster-nodes"),
    ],
)
def test_a_node_that_failed_the_health_checks_of_hyperpod_is_broken(cluster, value, command):
    cluster.node(A_NODE)["metadata"]["labels"][HYPERPOD] = value
    taint(cluster, HYPERPOD)

    found = broken(cluster)[f"node {A_NODE}"]

    assert f"{HYPERPOD}={value}" in found.actual
    assert "failed the health checks of HyperPod" in found.cause
    assert command in found.remedy
    assert "Do not set the label to Schedulable by hand" in found.remedy


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("PASS", ""),
        ("WARN", ""),
        ("EVICT", "failed the deep diagnostics"),
        ("ERR", "failed a health check of Autopilot"),
    ],
)
def test_a_node_whose_gpus_failed_the_checks_of_autopilot_is_broken(cluster, value, says):
    cluster.node(A_NODE)["metadata"]["labels"]["autopilot.ibm.com/gpuhealth"] = value

    found = broken(cluster)

    assert [says in each.cause for each in found.values()] == [True] * bool(says)


def test_a_deep_health_check_of_hyperpod_takes_hours_and_not_days(cluster):
    cluster.node(A_NODE)["metadata"]["labels"][HYPERPOD] = "Unschedulable"
    taint(cluster, HYPERPOD, (NOW - timedelta(hours=3)).isoformat())
    assert passed_over(cluster) == [f"node {A_NODE}: HyperPod runs deep health checks on it ({HYPERPOD}=Unschedulable)"]

    cluster.node(A_NODE)["spec"]["taints"][-1]["timeAdded"] = LONG_AGO
    assert "since 2026-03-01" in broken(cluster)[f"node {A_NODE}"].cause


def test_a_node_that_passed_the_health_checks_of_hyperpod_is_judged_like_any_other(cluster):
    cluster.node(A_NODE)["metadata"]["labels"][HYPERPOD] = "Schedulable"

    assert not broken(cluster)
    assert not passed_over(cluster)


def test_a_maintenance_ends_with_its_object_and_not_by_uncordoning(cluster):
    taint(cluster, "medik8s.io/drain", LONG_AGO)
    cluster.node(A_NODE)["spec"]["unschedulable"] = True

    assert "Delete the NodeMaintenance" in broken(cluster)[f"node {A_NODE}"].remedy


STARTUP = "wait-for-node-ready"


def registered(cluster: Cluster, **labels: str) -> None:
    given = {f"karpenter.sh/{key}": value for key, value in {"registered": "true", **labels}.items()}
    cluster.node(A_NODE)["metadata"]["labels"] |= given


def test_a_startup_taint_that_nobody_takes_off_keeps_karpenter_from_initializing_a_node(cluster):
    registered(cluster)
    taint(cluster, STARTUP)

    found = broken(cluster)[f"node {A_NODE}"]

    assert f"{STARTUP}:NoSchedule keeps new pods away: Karpenter has not initialized the node" in found.cause
    assert f"whoever is to take {STARTUP} off" in found.remedy


def test_a_node_that_is_initialized_or_new_may_have_such_a_taint(cluster):
    registered(cluster, initialized="true")
    taint(cluster, STARTUP)
    assert not broken(cluster)

    registered(cluster, initialized="false")
    cluster.node(A_NODE)["metadata"]["creationTimestamp"] = JUST_NOW
    assert not broken(cluster)


def test_the_taints_of_the_pool_are_no_startup_taints(cluster):
    registered(cluster)

    assert not broken(cluster)

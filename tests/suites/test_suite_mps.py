"""MPS on a sound cluster, and on clusters that are broken in one place."""

import msgspec
import pytest
from operated_cluster import JUST_NOW, unready
from sharing_cluster import CONFIGS, SharingCluster, sharing_config

from conformance.verdict import Inconclusive
from suites.sharing import test_mps as chapter

READ = [
    chapter.test_mps_configurations_mean_what_is_declared,
    chapter.test_every_mps_node_is_reached_by_its_configuration,
    chapter.test_mps_nodes_enable_neither_mig_nor_time_slicing,
    chapter.test_the_control_daemon_runs_on_every_mps_node,
    chapter.test_the_plugin_has_read_the_current_mps_configuration,
    chapter.test_every_mps_node_offers_its_replicas,
    chapter.test_gpu_feature_discovery_labels_mps,
]
CONFIGURATION, CHAIN, EXCLUSIONS, DAEMON, FRESH, OFFERS, LABELS = READ
DAEMONS = "nvidia-device-plugin-mps-control-daemon"


@pytest.fixture
def cluster(reference):
    return SharingCluster(reference)


@pytest.mark.parametrize("requirement", READ, ids=lambda each: each.__name__)
def test_a_sound_cluster_passes(requirement, cluster):
    outcome = cluster.verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)
    assert not outcome.judge.unseen


def test_time_slicing_of_a_pool_declared_for_mps_is_reported(cluster):
    cluster.edit(CONFIGS, "mps", sharing_config("timeSlicing", 4, renameByDefault=True))

    assert "it shares by time-slicing" in str(cluster.verdict(CONFIGURATION).broken)


def test_a_strategy_that_the_operator_sets_for_all_nodes_excludes_mps(cluster):
    cluster.policy()["spec"]["mig"] = {"strategy": "mixed"}

    outcome = cluster.verdict(EXCLUSIONS)

    assert set(outcome.broken) == {"node l4-mps-1", "node l4-mps-2"}
    assert "as cluster policy cluster-policy sets it" in outcome.broken["node l4-mps-1"]


def test_single_excludes_nothing(cluster):
    cluster.policy()["spec"]["mig"] = {"strategy": "single"}

    assert cluster.verdict(EXCLUSIONS).passed


def test_a_set_up_that_declares_mixed_for_all_nodes_contradicts_itself(cluster, reference):
    mixed = msgspec.structs.replace(reference, stack=msgspec.structs.replace(reference.stack, mig_strategy="mixed"))

    assert "the set-up declares the MIG strategy mixed" in str(cluster.verdict(EXCLUSIONS, mixed).broken)


def test_mixed_in_the_configuration_itself_is_reported_here_and_not_as_a_misspelling(cluster):
    cluster.edit(CONFIGS, "mps", "flags: {migStrategy: mixed}\n" + sharing_config("mps", 4, renameByDefault=True))

    assert "flags.migStrategy" in str(cluster.verdict(EXCLUSIONS).broken)
    assert not cluster.verdict(CONFIGURATION).broken


def test_mig_devices_on_the_node_exclude_mps(cluster):
    for counted in ("capacity", "allocatable"):
        cluster.node("l4-mps-1")["status"][counted]["nvidia.com/mig-1g.10gb"] = "7"

    assert set(cluster.verdict(EXCLUSIONS).broken) == {"node l4-mps-1"}


@pytest.mark.parametrize(
    ("replicas", "major", "minor", "ok"),
    [(16, "7", "0", True), (17, "7", "0", False), (48, "7", "5", True), (48, "8", "9", True), (49, "8", "9", False)],
)
def test_a_server_takes_so_many_clients(replicas, major, minor, ok, cluster):
    cluster.edit(CONFIGS, "mps", sharing_config("mps", replicas, renameByDefault=True))
    compute = {"nvidia.com/gpu.compute.major": major, "nvidia.com/gpu.compute.minor": minor}
    for node in ("l4-mps-1", "l4-mps-2"):
        cluster.label(node, compute)

    assert cluster.verdict(EXCLUSIONS).passed is ok


def test_a_capability_that_is_not_known_is_not_guessed(cluster):
    cluster.edit(CONFIGS, "mps", sharing_config("mps", 20, renameByDefault=True))

    outcome = cluster.verdict(EXCLUSIONS)

    assert isinstance(outcome.ended, Inconclusive)
    assert not outcome.broken


def test_a_missing_daemon_is_traced_to_the_label(cluster):
    cluster.remove(cluster.pod(DAEMONS, "l4-mps-1"))
    cluster.label("l4-mps-1", {"nvidia.com/mps.capable": "false"})

    assert "nvidia.com/mps.capable is false" in cluster.verdict(DAEMON).broken["node l4-mps-1"]


def test_a_missing_daemon_is_traced_to_a_taint(cluster):
    cluster.remove(cluster.pod(DAEMONS, "l4-mps-1"))
    cluster.node("l4-mps-1")["spec"]["taints"].append({"key": "team", "value": "a", "effect": "NoSchedule"})

    assert "taint team=a:NoSchedule is not tolerated" in cluster.verdict(DAEMON).broken["node l4-mps-1"]


def test_a_missing_daemon_is_traced_to_the_daemonset_that_is_not_there(cluster):
    cluster.remove(cluster.daemonset(DAEMONS))
    for node in ("l4-mps-1", "l4-mps-2"):
        cluster.remove(cluster.pod(DAEMONS, node))

    assert "no DaemonSet" in cluster.verdict(DAEMON).broken["node l4-mps-1"]


def test_a_daemon_that_is_not_ready_says_what_it_waits_for(cluster):
    unready(cluster.pod(DAEMONS, "l4-mps-2"), reason="CrashLoopBackOff")

    assert "CrashLoopBackOff" in cluster.verdict(DAEMON).broken["node l4-mps-2"]


def test_a_daemon_that_cannot_be_there_yet_is_not_missed(cluster):
    cluster.remove(cluster.pod(DAEMONS, "l4-mps-1"))
    cluster.node("l4-mps-1")["metadata"]["creationTimestamp"] = JUST_NOW
    cluster.label("l4-mps-1", {"nvidia.com/mps.capable": None})
    unready(cluster.pod(DAEMONS, "l4-mps-2"))
    cluster.pod(DAEMONS, "l4-mps-2")["metadata"]["creationTimestamp"] = JUST_NOW
    outcome = cluster.verdict(DAEMON)

    assert isinstance(outcome.ended, Inconclusive)
    assert not outcome.broken
    assert "no label nvidia.com/mps.capable yet" in str(outcome.judge.unseen[0])
    assert "is starting" in str(outcome.judge.unseen[1])


def test_a_daemon_on_a_node_that_is_not_ready_is_not_missed(cluster):
    cluster.remove(cluster.pod(DAEMONS, "l4-mps-1"))
    cluster.node("l4-mps-1")["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]

    outcome = cluster.verdict(DAEMON)

    assert outcome.passed
    assert [str(each) for each in outcome.judge.unseen] == ["node l4-mps-1: the node is not Ready"]


@pytest.mark.parametrize("capable", ["true", "false"])
def test_a_daemon_is_missed_on_a_new_node_that_feature_discovery_has_labelled(capable, cluster):
    cluster.remove(cluster.pod(DAEMONS, "l4-mps-1"))
    cluster.node("l4-mps-1")["metadata"]["creationTimestamp"] = JUST_NOW
    cluster.label("l4-mps-1", {"nvidia.com/mps.capable": capable})

    assert set(cluster.verdict(DAEMON).broken) == {"node l4-mps-1"}


def test_gpus_offered_whole_are_no_replicas(cluster):
    cluster.offer("l4-mps-1", gpu=4)

    assert set(cluster.verdict(OFFERS).broken) == {"node l4-mps-1"}


def test_labels_of_the_other_strategy_are_a_fault(cluster):
    cluster.label("l4-mps-1", {"nvidia.com/gpu.sharing-strategy": "time-slicing"})

    assert set(cluster.verdict(LABELS).broken) == {"node l4-mps-1"}


def with_another_configuration(reference, content):
    """The set-up with a second MPS configuration, for other nodes, that is the default."""
    configs = {**reference.stack.plugin_configs.configs, "of-others": content}
    plugin_configs = msgspec.structs.replace(reference.stack.plugin_configs, configs=configs, default="of-others")
    return msgspec.structs.replace(
        reference, stack=msgspec.structs.replace(reference.stack, plugin_configs=plugin_configs)
    )


def test_a_node_that_lost_its_label_gets_the_configuration_of_others(reference):
    two = {"version": "v1", "sharing": {"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 2}]}}}
    cluster = SharingCluster(with_another_configuration(reference, two))
    cluster.policy()["spec"]["devicePlugin"]["config"]["default"] = "of-others"
    cluster.label("l4-mps-1", {"nvidia.com/device-plugin.config": None})

    broken = cluster.verdict(CHAIN).broken
    assert set(broken) == {"node l4-mps-1"}
    assert "chooses the key of-others" in broken["node l4-mps-1"]
    assert cluster.verdict(CONFIGURATION).passed


def test_a_configuration_of_others_that_shares_in_the_same_way_does_as_well(reference):
    same = reference.stack.plugin_configs.configs["mps"]
    cluster = SharingCluster(with_another_configuration(reference, same))
    cluster.policy()["spec"]["devicePlugin"]["config"]["default"] = "of-others"
    cluster.label("l4-mps-1", {"nvidia.com/device-plugin.config": None})

    assert cluster.verdict(CHAIN).passed

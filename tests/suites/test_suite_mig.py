"""MIG on sound clusters of several kinds, and on clusters that are broken in one place."""

import msgspec
import pytest
from operated_cluster import JUST_NOW
from sharing_cluster import LAYOUTS, SharingCluster, config_map, mig_config, plain_plugin

from conformance.reference import Reference
from conformance.reference.model import Pool
from conformance.verdict import Inconclusive, NotApplicable, UnknownAccelerator, Unsupported
from suites.mig import test_mig as chapter

READ = [
    chapter.test_every_layout_can_exist,
    chapter.test_layouts_are_written_as_declared,
    chapter.test_every_mig_node_is_reached_by_its_layout,
    chapter.test_the_mig_manager_reports_success,
    chapter.test_every_mig_node_has_the_declared_strategy,
    chapter.test_every_mig_node_offers_its_devices,
    chapter.test_gpu_feature_discovery_counts_the_devices,
    chapter.test_the_strategy_can_offer_what_the_layout_makes,
    chapter.test_whoever_asks_for_mig_devices_asks_for_what_is_offered,
    chapter.test_layouts_are_changed_on_empty_nodes,
]
POSSIBLE, CONFIGURATION, CHAIN, STATE, STRATEGY, OFFERS, LABELS, FITTING, ASKING, EMPTY = READ
NODE = "node a100-mig-1"
SEVEN = [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.5gb": 7}}]


@pytest.fixture
def cluster(reference):
    return SharingCluster(reference)


def divided(reference: Reference, layout: str, strategy: str = "mixed", **more: object) -> Reference:
    """The set-up with another layout and strategy, the MPS pool left out; ``gpu`` and ``layouts`` change those."""

    def changed(pool: Pool) -> Pool:
        if pool.name != "a100-mig":
            return pool
        gpu = msgspec.structs.replace(pool.gpu, **more.get("gpu", {}))
        return msgspec.structs.replace(pool, labels={**pool.labels, "nvidia.com/mig.config": layout}, gpu=gpu)

    found = more.get("layouts")
    layouts = found and msgspec.structs.replace(reference.stack.mig_layouts, layouts=found)
    stack = msgspec.structs.replace(reference.stack, mig_strategy=strategy, mig_layouts=layouts)
    pools = tuple(changed(pool) for pool in reference.pools if pool.name != "l4-mps")
    return msgspec.structs.replace(reference, pools=pools, stack=stack)


@pytest.mark.parametrize("requirement", READ, ids=lambda each: each.__name__)
def test_a_sound_cluster_passes(requirement, cluster):
    outcome = cluster.verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)
    assert not outcome.judge.unseen


@pytest.mark.parametrize("requirement", READ, ids=lambda each: each.__name__)
def test_a_set_up_without_layouts_is_not_judged(requirement, cluster, reference):
    without = tuple(pool for pool in reference.pools if not pool.mig_layout)

    assert isinstance(
        cluster.verdict(requirement, msgspec.structs.replace(reference, pools=without)).ended, NotApplicable
    )


@pytest.mark.parametrize(
    ("layout", "strategy"),
    [("all-1g.5gb", "single"), ("all-balanced", "mixed"), ("all-1g.5gb.me", "mixed"), ("all-disabled", "single"),
     ("all-disabled", "mixed"), ("all-disabled", "none")],
)  # fmt: skip
@pytest.mark.parametrize(
    "requirement", [each for each in READ if each is not CONFIGURATION], ids=lambda each: each.__name__
)
def test_layouts_that_come_with_the_mig_manager_are_right_as_they_are(requirement, layout, strategy, reference):
    outcome = SharingCluster(divided(reference, layout, strategy)).verdict(requirement)

    assert not outcome.broken, outcome.broken
    assert outcome.passed or (requirement is LABELS and layout == "all-disabled"), outcome.ended


@pytest.mark.parametrize("requirement", [CONFIGURATION, LABELS, OFFERS], ids=lambda each: each.__name__)
def test_with_the_strategy_none_and_layouts_of_the_manager_there_is_little_to_judge(requirement, reference):
    outcome = SharingCluster(divided(reference, "all-1g.5gb", "none")).verdict(requirement)

    assert not outcome.broken, outcome.broken
    assert outcome.passed or isinstance(outcome.ended, NotApplicable)


# --- MIG-01 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "says"),
    [
        ({"2g.10gb": 4}, "What fits of it: 2g.10gb x3, with room for"),
        ({"3g.20gb": 2, "1g.5gb": 1}, "3g.20gb"),
        ({"1g.10gb": 8}, "at most 4 of 1g.10gb"),
        ({"1g.6gb": 4}, "has no profile 1g.6gb"),
    ],
)
def test_an_impossible_layout_is_reported_with_the_nearest_that_fits(devices, says, reference):
    layouts = {"ours": [{"devices": [1], "mig-enabled": True, "mig-devices": devices}]}
    impossible = divided(reference, "ours", layouts=layouts)

    outcome = SharingCluster(impossible).verdict(POSSIBLE)

    assert set(outcome.broken) == {"pool a100-mig, GPU 1"}
    assert says in outcome.broken["pool a100-mig, GPU 1"]


@pytest.mark.parametrize("profile", ["2c.1g.10gb", "1g.5gb+ME", "1g.5gb+me,gfx", "1g.5gb+me2"])
def test_a_profile_that_no_model_can_have_is_reported_and_stops_nothing(profile, reference):
    layouts = {"ours": [{"devices": "all", "mig-enabled": True, "mig-devices": {profile: 1}}]}
    ill_written = SharingCluster(divided(reference, "ours", layouts=layouts))

    outcomes = {requirement: ill_written.verdict(requirement) for requirement in READ}

    (broken,) = outcomes[POSSIBLE].broken.values()
    assert f"'{profile}' is no MIG profile" in broken


def test_an_impossible_layout_on_the_cluster_is_reported_before_it_is_applied(cluster):
    four = [{"devices": [4], "mig-enabled": True, "mig-devices": {"2g.10gb": 4}}]
    cluster.edit(LAYOUTS, "config.yaml", mig_config({"inference-and-training": four}))

    assert "pool a100-mig, GPU 4" in cluster.verdict(POSSIBLE).broken


def test_a_model_without_mig_holds_no_layout(reference):
    t4 = divided(reference, "ours", layouts={"ours": SEVEN}, gpu={"product": "Tesla-T4", "memory_mib": 15360})

    assert "T4 has no MIG" in str(SharingCluster(t4).verdict(POSSIBLE).broken)


def test_a_model_that_nobody_knows_is_unknown_and_not_failed(reference):
    new = divided(reference, "ours", layouts={"ours": SEVEN}, gpu={"product": "NVIDIA-Z1000"})

    outcome = SharingCluster(new).verdict(POSSIBLE)

    assert isinstance(outcome.ended, UnknownAccelerator)
    assert not outcome.broken


def test_a_layout_that_nobody_declared_cannot_be_judged(reference):
    outcome = SharingCluster(divided(reference, "theirs")).verdict(POSSIBLE)

    assert isinstance(outcome.ended, Inconclusive)
    assert "declare it under stack.mig_layouts" in str(outcome.ended)


def test_a_device_filter_that_cannot_be_decided_is_not_guessed(reference):
    layouts = {"ours": [{**SEVEN[0], "device-filter": "0x20B010DE"}]}

    for requirement in (POSSIBLE, FITTING):
        outcome = SharingCluster(divided(reference, "ours", layouts=layouts)).verdict(requirement)
        assert isinstance(outcome.ended, Inconclusive), requirement
        assert not outcome.broken


# --- MIG-02 and MIG-03 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("version: v1\nmig-configs: {x: [{devices: all, mig-enable: true}]}", "did you mean mig-enabled?"),
        ("version: v2\nmig-configs: {x: [{devices: all, mig-enabled: false}]}", "version"),
        ("version: [", "is not YAML"),
        (mig_config({"inference-and-training": SEVEN}), "GPU 4: 1g.5gb x7"),
    ],
)
def test_a_configuration_that_is_invalid_or_another_is_reported(content, says, cluster):
    cluster.edit(LAYOUTS, "config.yaml", content)

    reported = [finding.cause + finding.actual for finding in cluster.verdict(CONFIGURATION).judge.broken]
    assert says in str(reported)


def test_another_layout_beside_the_declared_one_is_not_judged(cluster):
    found = cluster.reference.stack.mig_layouts.layouts["inference-and-training"]
    theirs = [{"devices": "all", "mig-enabled": False}]
    cluster.edit(LAYOUTS, "config.yaml", mig_config({"inference-and-training": list(found), "theirs": theirs}))

    assert cluster.verdict(CONFIGURATION).passed
    assert cluster.verdict(POSSIBLE).passed


def test_a_key_that_the_manager_does_not_read_breaks_the_chain(cluster):
    content = cluster.get("ConfigMap", LAYOUTS)["data"]["config.yaml"]
    cluster.edit(LAYOUTS, "config.yaml", None)
    cluster.edit(LAYOUTS, "mig.yaml", content)

    assert "has no key config.yaml" in cluster.verdict(CHAIN).broken[NODE]


def test_a_config_map_that_nobody_names_is_reported(cluster):
    cluster.policy()["spec"]["migManager"]["config"] = {"default": "all-disabled"}

    assert "used by nobody" in cluster.verdict(CHAIN).broken[NODE]


def test_a_node_that_is_not_mig_capable_gets_no_manager(cluster):
    cluster.label("a100-mig-1", {"nvidia.com/mig.capable": "false"})

    assert "no MIG manager runs on the node" in cluster.verdict(CHAIN).broken[NODE]


def discovery_failure(cluster):
    """Let a node be one without labels of GPU Feature Discovery."""
    gone = dict.fromkeys(("nvidia.com/mig.capable", "nvidia.com/gpu.product", "nvidia.com/mig.config.state"))
    cluster.label("a100-mig-1", gone)


@pytest.mark.parametrize("requirement", [CHAIN, STATE], ids=lambda each: each.__name__)
def test_a_node_that_joined_just_now_waits_for_its_labels(requirement, cluster):
    discovery_failure(cluster)
    assert set(cluster.verdict(requirement).broken) == {NODE}

    cluster.node("a100-mig-1")["metadata"]["creationTimestamp"] = JUST_NOW
    outcome = cluster.verdict(requirement)

    assert outcome.passed
    assert [str(each.subject) for each in outcome.judge.unseen] == [NODE]
    assert "it joined just now" in outcome.judge.unseen[0].why


@pytest.mark.parametrize("requirement", [CHAIN, STATE], ids=lambda each: each.__name__)
def test_a_node_that_is_not_ready_is_not_asked_for_its_labels(requirement, cluster):
    discovery_failure(cluster)
    cluster.node("a100-mig-1")["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]

    outcome = cluster.verdict(requirement)

    assert outcome.passed
    assert [str(each) for each in outcome.judge.unseen] == [f"{NODE}: the node is not Ready"]


@pytest.mark.parametrize("requirement", [CHAIN, STATE], ids=lambda each: each.__name__)
def test_where_every_node_is_new_nothing_is_known_yet(requirement, cluster):
    discovery_failure(cluster)
    cluster.node("a100-mig-1")["metadata"]["creationTimestamp"] = JUST_NOW
    cluster.remove(cluster.node("a100-mig-2"))

    assert isinstance(cluster.verdict(requirement).ended, Inconclusive)


@pytest.mark.parametrize(
    ("label", "value", "requirement"),
    [
        ("nvidia.com/mig.config", "inference-7", CHAIN),
        ("nvidia.com/mig.capable", "false", CHAIN),
        *(("nvidia.com/mig.config.state", state, STATE) for state in ("failed", "pending", "rebooting")),
    ],
)
def test_what_is_wrong_on_a_new_node_is_reported(label, value, requirement, cluster):
    cluster.node("a100-mig-1")["metadata"]["creationTimestamp"] = JUST_NOW
    cluster.label("a100-mig-1", {label: value})

    assert set(cluster.verdict(requirement).broken) == {NODE}


def test_a_node_that_is_away_to_reboot_is_not_judged_and_one_that_failed_is(cluster):
    cluster.node("a100-mig-1")["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    cluster.label("a100-mig-1", {"nvidia.com/mig.config.state": "rebooting"})
    assert [str(each) for each in cluster.verdict(STATE).judge.unseen] == [f"{NODE}: the node is not Ready"]

    cluster.label("a100-mig-1", {"nvidia.com/mig.config.state": "failed"})
    assert set(cluster.verdict(STATE).broken) == {NODE}


def test_configurations_that_the_manager_generates_for_each_node_are_read(reference):
    cluster = SharingCluster(divided(reference, "all-1g.5gb", "single"))
    for name in ("a100-mig-1", "a100-mig-2"):
        cluster.objects.append(config_map(f"{name}-mig-config", mig_config({"all-1g.5gb": SEVEN}), "config.yaml"))
    assert cluster.verdict(CHAIN).passed

    cluster.edit("a100-mig-2-mig-config", "config.yaml", mig_config({"all-disabled": SEVEN}))

    assert set(cluster.verdict(CHAIN).broken) == {"node a100-mig-2"}


def test_gpus_that_their_owners_divide_themselves_want_no_manager(cluster, reference):
    own = msgspec.structs.replace(reference, stack=msgspec.structs.replace(reference.stack, mig_manager=False))

    for requirement in (CHAIN, STATE):
        assert isinstance(cluster.verdict(requirement, own).ended, NotApplicable)
    assert cluster.verdict(OFFERS, own).passed


def test_without_a_cluster_policy_there_is_no_manager_to_judge(cluster):
    plain_plugin(cluster)

    for requirement in (CHAIN, STATE):
        assert isinstance(cluster.verdict(requirement).ended, Unsupported)


# --- MIG-04, MIG-11 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["failed", "pending", "rebooting", None])
def test_any_state_but_success_is_reported(state, cluster):
    cluster.label("a100-mig-1", {"nvidia.com/mig.config.state": state})

    assert set(cluster.verdict(STATE).broken) == {NODE}


def test_a_failure_is_traced_to_the_pods_that_hold_the_gpus(cluster):
    cluster.label("a100-mig-1", {"nvidia.com/mig.config.state": "failed"})
    cluster.hold("a100-mig-1", "ml-training", "nvidia.com/mig-1g.5gb")

    assert "pod ml-training/holder hold its GPUs" in cluster.verdict(STATE).broken[NODE]
    assert set(cluster.verdict(EMPTY).broken) == {NODE}


@pytest.mark.parametrize("state", ["failed", "pending"])
def test_where_there_is_no_such_layout_nobody_is_asked_to_let_go_of_the_gpus(state, cluster):
    cluster.edit(LAYOUTS, "config.yaml", mig_config({"theirs": [{"devices": "all", "mig-enabled": False}]}))
    cluster.label("a100-mig-1", {"nvidia.com/mig.config.state": state})
    cluster.hold("a100-mig-1", "ml-training", "nvidia.com/mig-1g.5gb")

    told = cluster.verdict(STATE).broken[NODE]
    assert "inference-and-training" in told
    assert "holder" not in told


def test_a_failure_is_traced_to_a_layout_that_cannot_exist(reference):
    layouts = {"ours": [{"devices": "all", "mig-enabled": True, "mig-devices": {"2g.10gb": 4}}]}
    cluster = SharingCluster(divided(reference, "ours", layouts=layouts))
    cluster.label("a100-mig-1", {"nvidia.com/mig.config.state": "failed"})

    assert "holds at most 3 of 2g.10gb" in cluster.verdict(STATE).broken[NODE]


def test_pods_on_a_node_that_is_not_being_changed_are_fine(cluster):
    cluster.hold("a100-mig-1", "ml-training", "nvidia.com/mig-1g.5gb")

    assert cluster.verdict(EMPTY).passed


# --- MIG-05 to MIG-08 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", ["single", None])
def test_another_strategy_than_the_declared_one_is_reported(found, cluster):
    cluster.label("a100-mig-1", {"nvidia.com/mig.strategy": found})

    assert set(cluster.verdict(STRATEGY).broken) == {NODE}


def test_who_sets_another_strategy_is_named(cluster):
    cluster.policy()["spec"]["mig"] = {"strategy": "single"}
    cluster.label("a100-mig-1", {"nvidia.com/mig.strategy": "single"})

    assert "cluster policy cluster-policy sets mig.strategy to single" in cluster.verdict(STRATEGY).broken[NODE]


def test_devices_under_another_name_are_reported(cluster):
    cluster.offer("a100-mig-1", gpu=44)

    assert "offered as nvidia.com/gpu" in cluster.verdict(OFFERS).broken[NODE]


def test_an_unhealthy_device_says_nothing_about_the_layout(cluster):
    cluster.node("a100-mig-1")["status"]["allocatable"]["nvidia.com/mig-1g.5gb"] = "25"

    assert cluster.verdict(OFFERS).passed


def test_a_gpu_that_fell_off_the_bus_says_nothing_about_the_layout(cluster):
    cluster.offer("a100-mig-1", mig__1g_5gb=25, mig__2g_10gb=12)
    cluster.label("a100-mig-1", {"nvidia.com/gpu.count": "7", "nvidia.com/mig-1g.5gb.count": "25"})

    for requirement in (OFFERS, LABELS):
        outcome = cluster.verdict(requirement)
        assert not outcome.broken
        assert outcome.passed, "the other node is judged"
        assert [str(each) for each in outcome.judge.unseen] == [f"{NODE}: GPUs are missing (POOL-04)"]


def test_a_node_whose_layout_failed_is_reported_once(cluster):
    cluster.label("a100-mig-1", {"nvidia.com/mig.config.state": "failed"})
    cluster.offer("a100-mig-1", gpu=8)

    for requirement in (OFFERS, LABELS):
        outcome = cluster.verdict(requirement)
        assert outcome.passed
        assert [str(each) for each in outcome.judge.unseen] == [
            f"{NODE}: the MIG manager has not reported success (MIG-04)"
        ]


def test_a_node_that_offers_no_device_is_named(cluster):
    cluster.offer("a100-mig-1")

    assert cluster.verdict(OFFERS).passed
    assert [str(each) for each in cluster.verdict(OFFERS).judge.unseen] == [f"{NODE}: it offers no GPU (POOL-04)"]


@pytest.mark.parametrize("requirement", [STRATEGY, LABELS], ids=lambda each: each.__name__)
def test_a_node_without_labels_of_feature_discovery_is_named(requirement, cluster):
    cluster.label("a100-mig-1", {"nvidia.com/gpu.product": None})

    outcome = cluster.verdict(requirement)

    assert outcome.passed
    assert [str(each) for each in outcome.judge.unseen] == [f"{NODE}: no label nvidia.com/gpu.product"]


def test_labels_that_count_other_devices_are_reported(cluster):
    cluster.label("a100-mig-1", {"nvidia.com/mig-3g.20gb.count": "2"})

    assert "nvidia.com/mig-3g.20gb.count=2" in cluster.verdict(LABELS).broken[NODE]


@pytest.mark.parametrize("layout", ["all-balanced", "half"])
def test_single_offers_nothing_of_a_node_that_is_not_uniform(layout, reference):
    layouts = {"half": [{"devices": [0, 1, 2, 3], "mig-enabled": True, "mig-devices": {"1g.5gb": 7}}]}
    uneven = divided(reference, layout, "single", layouts=layouts)

    assert set(SharingCluster(uneven).verdict(FITTING).broken) == {"pool a100-mig"}


def test_single_on_the_cluster_is_reported_where_mixed_was_declared(cluster):
    cluster.policy()["spec"]["mig"] = {"strategy": "single"}

    assert "cluster policy cluster-policy has the strategy single" in cluster.verdict(FITTING).broken["pool a100-mig"]


# --- MIG-09 ------------------------------------------------------------------------------------------------------


def quota(name: str, hard: dict[str, str]) -> dict[str, object]:
    metadata = {"name": name, "namespace": "ml-training"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def test_a_quota_and_a_pod_for_a_name_that_nobody_offers_are_reported(cluster):
    cluster.objects.append(quota("small", {"requests.nvidia.com/mig-3g.20gb": "4"}))
    cluster.hold("", "ml-training", "nvidia.com/mig-7g.40gb")

    outcome = cluster.verdict(ASKING)

    assert set(outcome.broken) == {
        "quota ml-training/small, nvidia.com/mig-3g.20gb",
        "pod ml-training/holder, nvidia.com/mig-7g.40gb",
    }


def test_a_quota_of_none_and_a_name_that_is_offered_are_fine(cluster):
    cluster.objects.append(
        quota("small", {"requests.nvidia.com/mig-3g.20gb": "0", "requests.nvidia.com/mig-1g.5gb": "4"})
    )
    cluster.hold("", "ml-training", "nvidia.com/mig-2g.10gb")

    assert cluster.verdict(ASKING).passed


def test_with_single_devices_go_by_the_name_of_gpus(reference):
    cluster = SharingCluster(divided(reference, "all-1g.5gb", "single"))
    cluster.hold("", "ml-training", "nvidia.com/mig-1g.5gb")

    assert "the MIG strategy is single" in str(cluster.verdict(ASKING).broken)


def test_equal_pods_of_one_owner_are_one_finding(cluster):
    for number in range(3):
        cluster.hold("", "ml-training", "nvidia.com/mig-7g.40gb", f"job-{number}")
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "job", "controller": True}
        cluster.objects[-1]["metadata"]["ownerReferences"] = [owner]

    assert list(cluster.verdict(ASKING).broken) == ["pods of job ml-training/job, nvidia.com/mig-7g.40gb"]


def test_a_name_that_only_the_cluster_offers_keeps_nobody_waiting(cluster):
    for counted in ("capacity", "allocatable"):
        cluster.node("h100-training-1")["status"][counted]["nvidia.com/mig-1g.10gb"] = "7"
    cluster.hold("", "ml-training", "nvidia.com/mig-1g.10gb")

    assert cluster.verdict(ASKING).passed

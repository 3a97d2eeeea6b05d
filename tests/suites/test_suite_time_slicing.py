"""Time-slicing on sound clusters of several kinds, and on clusters that are broken in one place."""

import msgspec
import pytest
from sharing_cluster import CONFIGS, SharingCluster, plain_plugin, sharing_config

from conformance.reference import Reference
from conformance.reference.model import Pool
from conformance.verdict import Inconclusive, NotApplicable, Unsupported, Waits
from suites.sharing import test_time_slicing as chapter

READ = [
    chapter.test_time_slicing_configurations_mean_what_is_declared,
    chapter.test_every_sliced_node_is_reached_by_its_configuration,
    chapter.test_the_plugin_has_read_the_current_configuration,
    chapter.test_every_sliced_node_offers_its_replicas,
    chapter.test_gpu_feature_discovery_labels_time_slicing,
    chapter.test_undeclared_gpus_are_not_shared,
    chapter.test_replicas_of_one_node_belong_to_one_namespace,
    chapter.test_replicas_cannot_be_taken_for_fractions,
]
CONFIGURATION, CHAIN, FRESH, OFFERS, LABELS, UNSHARED, NAMESPACES, FRACTIONS = READ
LATER = "2026-09-01T00:00:00Z"


@pytest.fixture
def cluster(reference):
    return SharingCluster(reference)


def sliced(reference: Reference, labels: dict[str, str] | None = None, **gpu: object) -> Reference:
    """The set-up with other settings of its time-sliced pool."""

    def changed(pool: Pool) -> Pool:
        if pool.name != "t4-shared":
            return pool
        kept = {key: value for key, value in pool.labels.items() if not key.startswith("nvidia.com/")}
        new = pool.labels if labels is None else {**kept, **labels}
        return msgspec.structs.replace(pool, labels=new, gpu=msgspec.structs.replace(pool.gpu, **gpu))

    return msgspec.structs.replace(reference, pools=tuple(changed(pool) for pool in reference.pools))


def configured(reference: Reference, default: str, **configs: object) -> Reference:
    """The set-up with other configurations of the device plugin."""
    found = msgspec.structs.replace(reference.stack.plugin_configs, default=default, configs=configs)
    return msgspec.structs.replace(reference, stack=msgspec.structs.replace(reference.stack, plugin_configs=found))


def slicing(replicas: int = 4, **switches: object) -> dict[str, object]:
    section = {**switches, "resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}
    return {"version": "v1", "sharing": {"timeSlicing": section}}


@pytest.mark.parametrize("requirement", READ, ids=lambda each: each.__name__)
def test_a_sound_cluster_passes(requirement, cluster):
    outcome = cluster.verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)
    assert not outcome.judge.unseen


@pytest.mark.parametrize("requirement", READ, ids=lambda each: each.__name__)
def test_a_set_up_without_shared_pools_is_not_judged(requirement, cluster, reference):
    pools = tuple(pool for pool in reference.pools if pool.gpu and pool.gpu.shared_by)
    alone = tuple(pool for pool in reference.pools if pool not in pools)
    kept = pools if requirement is UNSHARED else alone

    outcome = cluster.verdict(requirement, msgspec.structs.replace(reference, pools=kept))

    if requirement is UNSHARED:
        assert not outcome.subjects
    else:
        assert isinstance(outcome.ended, NotApplicable)


@pytest.mark.parametrize("requirement", READ[:5], ids=lambda each: each.__name__)
def test_replicas_that_keep_the_name_of_gpus_are_right_where_they_are_declared_so(requirement, reference):
    plain = sliced(
        configured(reference, "", only=slicing()),
        {"nvidia.com/device-plugin.config": "only"},
        resource="nvidia.com/gpu",
    )

    outcome = SharingCluster(plain).verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)


@pytest.mark.parametrize("requirement", READ[:5], ids=lambda each: each.__name__)
def test_a_default_reaches_nodes_without_label(requirement, reference):
    by_default = sliced(configured(reference, "every", every=slicing(renameByDefault=True)), {})

    outcome = SharingCluster(by_default).verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)


@pytest.mark.parametrize("fallbacks", ["named,single", "single"])
@pytest.mark.parametrize("requirement", READ[:4], ids=lambda each: each.__name__)
def test_the_plugins_own_chart_falls_back_to_the_only_key(requirement, fallbacks, reference):
    only = sliced(configured(reference, "", mine=slicing(renameByDefault=True)), {})
    cluster = SharingCluster(only)
    plain_plugin(cluster, fallbacks=fallbacks)

    outcome = cluster.verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)


def test_the_plugins_own_chart_without_any_choice_breaks(reference):
    two = sliced(configured(reference, "", one=slicing(renameByDefault=True), two={"version": "v1"}), {})
    cluster = SharingCluster(two)
    plain_plugin(cluster)

    assert "no fallback helps" in cluster.verdict(CHAIN).broken["node t4-shared-1"]


def test_a_plugin_whose_arguments_decide_cannot_be_judged(cluster):
    daemonset = plain_plugin(cluster)
    daemonset["spec"]["template"]["spec"]["initContainers"] = []
    daemonset["spec"]["template"]["spec"]["volumes"] = []

    outcome = cluster.verdict(CHAIN)

    assert isinstance(outcome.ended, Inconclusive)
    assert not outcome.broken


def test_a_cluster_without_device_plugin_cannot_be_judged(cluster):
    plain_plugin(cluster)
    cluster.remove(cluster.daemonset("nvidia-device-plugin"))

    assert isinstance(cluster.verdict(CHAIN).ended, Inconclusive)
    assert cluster.verdict(OFFERS).passed, "what nodes offer can be seen all the same"


def test_config_maps_that_may_not_be_read_leave_the_chain_unjudged(cluster):
    outcome = cluster.verdict(CHAIN, unreadable={"ConfigMap": "Forbidden"})

    assert isinstance(outcome.ended, Inconclusive)
    assert not outcome.broken


# --- TS-01 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("version: v2\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}", "version"),
        ("version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 1}]}}", "replicas"),
        ("version: v1\nsharing: {timeSlicing: {resources: []}}", "sharing.timeSlicing.resources is empty"),
        ("version: v1\nflags: {renameByDefault: true}\n", "it belongs under sharing.timeSlicing"),
        ("version: [", "is not YAML"),
        ("", "is empty"),
        (sharing_config("timeSlicing", 2, renameByDefault=True), "it makes 2 replicas"),
        (sharing_config("timeSlicing", 4), "it offers them as nvidia.com/gpu"),
        (sharing_config("mps", 4, renameByDefault=True), "it shares by mps"),
    ],
)
def test_a_configuration_that_differs_from_the_declared_one_is_reported_with_its_path(content, says, cluster):
    cluster.edit(CONFIGS, "time-sliced", content)

    outcome = cluster.verdict(CONFIGURATION)

    assert says in str(outcome.broken), outcome.broken
    assert "key time-sliced" in str(outcome.broken)


def test_a_key_that_may_be_of_a_later_plugin_is_no_fault(cluster):
    content = sharing_config("timeSlicing", 4, renameByDefault=True) + "quotas: {}\n"
    cluster.edit(CONFIGS, "time-sliced", content)

    assert cluster.verdict(CONFIGURATION).passed


def test_a_declared_configuration_is_judged_before_any_cluster_has_it(cluster, reference):
    broken = configured(
        reference,
        "unshared",
        unshared={"version": "v1"},
        **{"time-sliced": {"version": "v1", "flags": {"renameByDefault": True}}},
    )

    outcome = cluster.verdict(CONFIGURATION, broken)

    assert "configuration time-sliced of the set-up, for pool t4-shared" in outcome.broken


# --- TS-02 -------------------------------------------------------------------------------------------------------


def test_a_missing_default_is_reported_where_no_label_chooses(reference):
    unlabelled = sliced(configured(reference, "", any=slicing(renameByDefault=True)), {})

    outcome = SharingCluster(unlabelled).verdict(CHAIN)

    assert set(outcome.broken) == {"node t4-shared-1", "node t4-shared-2"}
    assert "devicePlugin.config.default is empty" in outcome.broken["node t4-shared-1"]


def test_a_config_map_in_another_namespace_counts_as_missing(cluster):
    cluster.get("ConfigMap", CONFIGS)["metadata"]["namespace"] = "nvidia-dra-driver-gpu"

    assert "in namespace nvidia-dra-driver-gpu" in cluster.verdict(CHAIN).broken["node t4-shared-1"]


def test_a_label_that_names_no_key_is_reported_of_its_node_only(cluster):
    cluster.label("t4-shared-2", {"nvidia.com/device-plugin.config": "sliced"})

    outcome = cluster.verdict(CHAIN)

    assert set(outcome.broken) == {"node t4-shared-2"}
    assert "names the key sliced" in outcome.broken["node t4-shared-2"]


def test_an_invalid_configuration_is_no_missing_reference(cluster):
    cluster.edit(CONFIGS, "time-sliced", "version: v2")

    assert cluster.verdict(CHAIN).passed


# --- TS-03 -------------------------------------------------------------------------------------------------------


def test_a_plugin_older_than_a_change_that_shows_is_stale(cluster):
    cluster.edit(CONFIGS, "time-sliced", sharing_config("timeSlicing", 8, renameByDefault=True), LATER)

    assert set(cluster.verdict(FRESH).broken) == {"node t4-shared-1", "node t4-shared-2"}


def test_a_plugin_older_than_the_change_of_another_key_is_fine(cluster):
    cluster.edit(CONFIGS, "for-l40s", sharing_config("timeSlicing", 16), LATER)

    assert cluster.verdict(FRESH).passed


def test_a_plugin_that_was_restarted_in_its_pod_has_read_the_change(cluster):
    cluster.edit(CONFIGS, "time-sliced", sharing_config("timeSlicing", 8, renameByDefault=True), LATER)
    for node in ("t4-shared-1", "t4-shared-2"):
        (status,) = cluster.pod("nvidia-device-plugin-daemonset", node)["status"]["containerStatuses"]
        status["state"] = {"running": {"startedAt": "2026-09-02T00:00:00Z"}}

    assert cluster.verdict(FRESH).passed


def test_a_node_that_runs_no_plugin_is_named(cluster):
    cluster.remove(cluster.pod("nvidia-device-plugin-daemonset", "t4-shared-1"))

    outcome = cluster.verdict(FRESH)

    assert outcome.passed
    assert [str(each) for each in outcome.judge.unseen] == [
        "node t4-shared-1: it has no pod of the device plugin (OPER-13)"
    ]


def test_where_no_node_runs_the_plugin_it_is_the_plugin_that_is_missing(cluster):
    for node in ("t4-shared-1", "t4-shared-2"):
        cluster.remove(cluster.pod("nvidia-device-plugin-daemonset", node))

    ended = cluster.verdict(FRESH).ended
    assert isinstance(ended, Waits)
    assert ended.requirement == "OPER-13"


def test_a_node_that_no_configuration_reaches_is_named(cluster):
    cluster.label("t4-shared-1", {"nvidia.com/device-plugin.config": "misspelled"})

    assert [str(each) for each in cluster.verdict(FRESH).judge.unseen] == [
        "node t4-shared-1: it gets no configuration (TS-02)"
    ]


# --- TS-04 and TS-05 ---------------------------------------------------------------------------------------------


def test_gpus_offered_whole_are_no_replicas(cluster):
    cluster.offer("t4-shared-1", gpu=2)

    assert "offered as nvidia.com/gpu" in cluster.verdict(OFFERS).broken["node t4-shared-1"]


def test_an_unhealthy_gpu_says_nothing_about_sharing(cluster):
    cluster.node("t4-shared-1")["status"]["allocatable"] = {"nvidia.com/gpu.shared": "4"}

    assert cluster.verdict(OFFERS).passed


def test_a_gpu_that_fell_off_the_bus_says_nothing_about_sharing(cluster):
    cluster.offer("t4-shared-1", gpu_shared=4)
    cluster.label("t4-shared-1", {"nvidia.com/gpu.count": "1"})

    assert cluster.verdict(OFFERS).passed


def test_half_of_the_replicas_without_a_missing_gpu_are_a_fault(cluster):
    cluster.offer("t4-shared-1", gpu_shared=4)

    assert set(cluster.verdict(OFFERS).broken) == {"node t4-shared-1"}


def test_a_cordoned_node_is_judged_like_any_other(cluster):
    cluster.node("t4-shared-1")["spec"]["unschedulable"] = True

    assert cluster.verdict(OFFERS).passed
    assert cluster.verdict(CHAIN).passed


def test_nodes_that_offer_nothing_are_reported_elsewhere(cluster):
    for node in ("t4-shared-1", "t4-shared-2"):
        cluster.offer(node)

    assert isinstance(cluster.verdict(OFFERS).ended, Inconclusive)


def test_one_node_that_offers_nothing_is_named(cluster):
    cluster.offer("t4-shared-1")

    outcome = cluster.verdict(OFFERS)

    assert outcome.passed
    assert [str(each) for each in outcome.judge.unseen] == ["node t4-shared-1: it offers no GPU (POOL-04)"]


def test_one_node_without_labels_is_named(cluster):
    cluster.label("t4-shared-1", {"nvidia.com/gpu.product": None})

    outcome = cluster.verdict(LABELS)

    assert outcome.passed
    assert [str(each) for each in outcome.judge.unseen] == ["node t4-shared-1: no label nvidia.com/gpu.product"]


def test_without_feature_discovery_there_are_no_labels_to_judge(cluster):
    for node in ("t4-shared-1", "t4-shared-2"):
        cluster.label(node, {"nvidia.com/gpu.product": None})

    assert isinstance(cluster.verdict(LABELS).ended, Unsupported)


@pytest.mark.parametrize(
    "labels",
    [
        {"nvidia.com/gpu.replicas": "1"},
        {"nvidia.com/gpu.replicas": None},
        {"nvidia.com/gpu.sharing-strategy": "none"},
        {"nvidia.com/gpu.product": "Tesla-T4-SHARED"},
    ],
)
def test_labels_of_another_configuration_are_a_fault(labels, cluster):
    cluster.label("t4-shared-1", labels)

    assert set(cluster.verdict(LABELS).broken) == {"node t4-shared-1"}


def test_feature_discovery_before_the_label_of_the_strategy_is_right(cluster):
    cluster.label("t4-shared-1", {"nvidia.com/gpu.sharing-strategy": None})

    assert cluster.verdict(LABELS).passed


# --- TS-06, TS-09, TS-10 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        {"nvidia.com/gpu.replicas": "2"},
        {"nvidia.com/gpu.product": "Tesla-T4-SHARED"},
        {"nvidia.com/gpu.sharing-strategy": "mps"},
        {"nvidia.com/mig-1g.5gb.replicas": "4"},
    ],
)
def test_every_sign_of_undeclared_sharing_is_reported(labels, cluster):
    cluster.label("t4-notebook-1", labels)

    assert set(cluster.verdict(UNSHARED).broken) == {"node t4-notebook-1"}


def test_a_resource_called_shared_is_such_a_sign(cluster):
    cluster.offer("t4-notebook-1", gpu_shared=4)

    assert set(cluster.verdict(UNSHARED).broken) == {"node t4-notebook-1"}


def test_a_default_that_shares_is_reported_before_any_plugin_reads_it(cluster):
    cluster.policy()["spec"]["devicePlugin"]["config"]["default"] = "time-sliced"

    assert "key time-sliced, chosen by default" in cluster.verdict(UNSHARED).broken["node t4-inference-1"]


def test_a_gpu_with_mig_on_has_no_replicas_and_is_not_shared(cluster):
    assert cluster.node("a100-mig-1")["metadata"]["labels"]["nvidia.com/gpu.replicas"] == "0"
    assert "node a100-mig-1" in cluster.verdict(UNSHARED).subjects


def test_two_namespaces_on_one_sliced_node_are_reported(cluster):
    cluster.hold("t4-shared-1", "ml-serving", "nvidia.com/gpu.shared", "a")
    cluster.hold("t4-shared-1", "ml-notebook", "nvidia.com/gpu.shared", "b")
    cluster.hold("t4-shared-2", "ml-notebook", "nvidia.com/gpu.shared", "c")

    outcome = cluster.verdict(NAMESPACES)

    assert set(outcome.broken) == {"node t4-shared-1"}
    assert "ml-notebook, ml-serving" in outcome.broken["node t4-shared-1"]


def test_the_stacks_own_pods_are_no_second_tenant(cluster):
    cluster.hold("t4-shared-1", "ml-serving", "nvidia.com/gpu.shared", "a")
    cluster.hold("t4-shared-1", "gpu-operator", "nvidia.com/gpu.shared", "validator")

    assert cluster.verdict(NAMESPACES).passed


@pytest.mark.parametrize("switch", ["renameByDefault", "failRequestsGreaterThanOne"])
def test_one_of_the_two_switches_is_enough(switch, reference):
    name = "nvidia.com/gpu.shared" if switch == "renameByDefault" else "nvidia.com/gpu"
    one = sliced(
        configured(reference, "", one=slicing(**{switch: True})),
        {"nvidia.com/device-plugin.config": "one"},
        resource=name,
    )

    assert SharingCluster(one).verdict(FRACTIONS).passed


def test_neither_of_them_lets_replicas_pass_for_gpus(reference):
    none = sliced(
        configured(reference, "", none=slicing()),
        {"nvidia.com/device-plugin.config": "none"},
        resource="nvidia.com/gpu",
    )

    assert SharingCluster(none).verdict(FRACTIONS).broken


# --- Time-slicing of MIG devices ---------------------------------------------------------------------------------


def sliced_mig(reference: Reference, count: int = 2, **replicas: int) -> Reference:
    """The set-up with the MIG pool time-sliced alone, each profile by so many replicas; an underscore for a dot."""
    entries = [{"name": f"nvidia.com/mig-{name[1:].replace('_', '.')}", "replicas": n} for name, n in replicas.items()]
    content = {
        "version": "v1",
        "flags": {"migStrategy": "mixed"},
        "sharing": {"timeSlicing": {"failRequestsGreaterThanOne": True, "resources": entries}},
    }
    found = configured(reference, "fine", fine=content)
    (pool,) = [pool for pool in found.pools if pool.name == "a100-mig"]
    gpu = msgspec.structs.replace(pool.gpu, replicas=count, shared_by="time-slicing")
    kept = {key: value for key, value in pool.labels.items() if key != "nvidia.com/device-plugin.config"}
    return msgspec.structs.replace(found, pools=(msgspec.structs.replace(pool, gpu=gpu, labels=kept),))


@pytest.mark.parametrize("requirement", [CONFIGURATION, CHAIN, FRESH, OFFERS, LABELS, NAMESPACES, FRACTIONS])
@pytest.mark.parametrize("replicas", [{"_1g_5gb": 2, "_2g_10gb": 2}, {"_1g_5gb": 2, "_2g_10gb": 4}, {"_1g_5gb": 2}])
def test_time_sliced_mig_devices_are_right_as_they_are_configured(requirement, replicas, reference):
    outcome = SharingCluster(sliced_mig(reference, **replicas)).verdict(requirement)

    assert outcome.passed, (outcome.ended, outcome.broken)
    assert not outcome.judge.unseen


@pytest.mark.parametrize(("label", "value"), [("replicas", "1"), ("sharing-strategy", "none"), ("product", "A100")])
def test_other_labels_of_shared_mig_devices_are_reported(reference, label, value):
    cluster = SharingCluster(sliced_mig(reference, _1g_5gb=2))
    cluster.label("a100-mig-1", {f"nvidia.com/mig-1g.5gb.{label}": value})

    broken = cluster.verdict(LABELS).broken

    assert list(broken) == ["node a100-mig-1, nvidia.com/mig-1g.5gb"]


def test_namespaces_that_share_a_mig_device_are_reported(reference):
    cluster = SharingCluster(sliced_mig(reference, _1g_5gb=2))
    cluster.hold("a100-mig-1", "team-a", "nvidia.com/mig-1g.5gb", "one")
    cluster.hold("a100-mig-1", "team-b", "nvidia.com/mig-1g.5gb", "other")

    assert list(cluster.verdict(NAMESPACES).broken) == ["node a100-mig-1"]


@pytest.mark.parametrize(
    ("count", "replicas", "says"),
    [
        (3, {"_1g_5gb": 2, "_2g_10gb": 4}, "it makes 2 replicas of each nvidia.com/mig-1g.5gb"),
        (2, {"_3g_20gb": 2}, "it shares no nvidia.com/mig-1g.5gb and no nvidia.com/mig-2g.10gb"),
    ],
)
def test_a_configuration_that_shares_mig_devices_otherwise_is_reported(count, replicas, says, reference):
    outcome = SharingCluster(sliced_mig(reference, count, **replicas)).verdict(CONFIGURATION)

    assert any(says in each for each in outcome.broken.values())


def test_mig_devices_that_are_offered_once_each_are_reported(reference):
    cluster = SharingCluster(sliced_mig(reference, _1g_5gb=2, _2g_10gb=2))
    cluster.offer("a100-mig-1", mig__1g_5gb=32, mig__2g_10gb=12)

    assert "node a100-mig-1" in cluster.verdict(OFFERS).broken

"""The operator profile: its pods, their namespaces, and the versions of its programs."""

import pytest
from operated_cluster import JUST_NOW, OPERATOR, Cluster, made, unready
from operator_chapters import BREAKING, CLASSES, ESCAPES, NAMESPACES, SETTINGS, STABLE, other

from conformance.verdict import Inconclusive, NotApplicable


def operator_pod(cluster, **status):
    replicas = made(
        "apps/v1", "ReplicaSet", "gpu-operator-1", OPERATOR,
        owners=[{"apiVersion": "apps/v1", "kind": "Deployment", "name": OPERATOR, "controller": True}],
    )  # fmt: skip
    pod = made(
        "v1", "Pod", "gpu-operator-1-x", OPERATOR,
        owners=[{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "gpu-operator-1", "controller": True}],
        spec={"nodeName": "cpu-1", "containers": [{"name": OPERATOR}]},
        status={"phase": "Running", "containerStatuses": [{"name": OPERATOR} | status]},
    )  # fmt: skip
    cluster.objects += [replicas, pod]
    return pod


def test_an_operator_that_runs_out_of_memory_is_reported_how_much_it_needs(cluster):
    operator_pod(
        cluster,
        restartCount=4,
        state={"running": {"startedAt": "2026-09-20T11:50:00Z"}},
        lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    )

    broken = cluster.verdict(STABLE).broken["pod gpu-operator/gpu-operator-1-x"]

    assert "OOMKilled" in broken
    assert "1400Mi" in broken
    assert "Raise operator.resources.limits.memory" in broken


def test_an_operator_of_olm_gets_its_memory_by_its_subscription(cluster):
    operator_pod(
        cluster,
        restartCount=4,
        state={"running": {"startedAt": "2026-09-20T11:50:00Z"}},
        lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    )
    cluster.get("Deployment", OPERATOR)["metadata"]["labels"] = {"olm.owner.kind": "ClusterServiceVersion"}

    broken = cluster.verdict(STABLE).broken["pod gpu-operator/gpu-operator-1-x"]

    assert "Raise spec.config.resources.limits.memory of the operator's Subscription" in broken
    assert "1400Mi" in broken


def test_restarts_of_long_ago_are_no_unrest(cluster):
    operator_pod(
        cluster,
        restartCount=40,
        state={"running": {"startedAt": "2026-09-01T00:00:00Z"}},
        lastState={"terminated": {"reason": "OOMKilled"}},
    )

    assert cluster.verdict(STABLE).passed


@pytest.mark.parametrize(
    ("since", "rests"), [("2026-09-20T11:55:00Z", False), ("2026-09-20T11:30:00Z", True)], ids=["again", "since"]
)
def test_restarts_of_an_installation_are_forgiven_once_the_container_runs(cluster, since, rests):
    pod = operator_pod(cluster, restartCount=5, state={"running": {"startedAt": since}})
    pod["metadata"]["creationTimestamp"] = "2026-09-20T11:10:00Z"

    assert cluster.verdict(STABLE).passed is rests


def test_only_the_first_crashing_pod_of_a_node_is_named(cluster):
    for owner in ("nvidia-driver-daemonset", "nvidia-operator-validator"):
        unready(cluster.pod(owner, "t4-inference-1"), reason="CrashLoopBackOff", restarts=9)

    assert list(cluster.verdict(STABLE).broken) == ["pod gpu-operator/nvidia-driver-daemonset-t4-inference-1"]


def test_a_level_of_pod_security_that_refuses_operands_is_found_before_they_are_refused(cluster):
    cluster.get("Namespace", OPERATOR)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"

    assert "which baseline refuses" in cluster.verdict(NAMESPACES).broken["namespace gpu-operator"]


def test_no_level_of_its_own_is_the_cluster_s_business(cluster):
    cluster.get("Namespace", OPERATOR)["metadata"]["labels"] = {}

    assert cluster.verdict(NAMESPACES).passed


def starved(cluster):
    status = cluster.daemonset("nvidia-dcgm-exporter")["status"]
    status |= {"currentNumberScheduled": 0, "numberAvailable": 0}


def test_a_quota_that_the_critical_class_needs_is_missed_by_what_is_not_created(cluster):
    starved(cluster)

    broken = cluster.verdict(NAMESPACES).broken["daemonset gpu-operator/nvidia-dcgm-exporter"]

    assert "system-node-critical" in broken
    assert "scopeSelector" in broken


def test_a_class_that_some_pods_were_admitted_with_does_not_keep_the_others_away(cluster):
    status = cluster.daemonset("nvidia-dcgm-exporter")["status"]
    status |= {"currentNumberScheduled": status["desiredNumberScheduled"] - 1}

    broken = cluster.verdict(NAMESPACES).broken["daemonset gpu-operator/nvidia-dcgm-exporter"]

    assert "an admission policy or webhook" in broken
    assert "scopeSelector" not in broken


def test_a_quota_that_is_used_up_is_named(cluster):
    starved(cluster)
    critical = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
    cluster.objects.append(
        made(
            "v1", "ResourceQuota", "operands", OPERATOR,
            spec={"hard": {"pods": "100"}, "scopeSelector": {"matchExpressions": [critical]}},
            status={"used": {"pods": "100"}},
        )
    )  # fmt: skip

    assert (
        "quota gpu-operator/operands"
        in cluster.verdict(NAMESPACES).broken["daemonset gpu-operator/nvidia-dcgm-exporter"]
    )


CRITICAL = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
OTHER = {"scopeName": "PriorityClass", "operator": "In", "values": ["batch"]}


@pytest.mark.parametrize(
    ("spec", "used", "refuses"),
    [
        ({"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [CRITICAL]}}, "40", True),
        ({"hard": {"pods": "40"}}, "40", True),
        ({"hard": {"pods": "41"}}, "40", False),
        ({"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [OTHER]}}, "0", False),
        ({"hard": {"pods": "0"}, "scopes": ["Terminating"]}, "0", False),
    ],
)
def test_a_quota_that_would_refuse_the_next_pod_is_found_before_it_does(cluster, spec, used, refuses):
    cluster.objects.append(made("v1", "ResourceQuota", "few", OPERATOR, spec=spec, status={"used": {"pods": used}}))

    broken = cluster.verdict(NAMESPACES).broken

    assert list(broken) == (["quota gpu-operator/few"] if refuses else [])


def test_pods_that_are_just_being_made_are_not_missed(cluster):
    starved(cluster)
    cluster.daemonset("nvidia-dcgm-exporter")["metadata"]["creationTimestamp"] = JUST_NOW

    assert cluster.verdict(NAMESPACES).passed


def test_a_runtime_class_that_is_named_and_gone_is_found(cluster):
    cluster.remove(cluster.get("RuntimeClass", "nvidia"))

    assert list(cluster.verdict(CLASSES).broken) == ["runtime class nvidia"]


def toolkit_image(cluster, image):
    containers = cluster.daemonset("nvidia-container-toolkit-daemonset")["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = image


@pytest.mark.parametrize(
    ("tag", "says"),
    [("v1.17.7-ubuntu20.04", "CVE-2025-23266"), ("v1.16.1-ubi8", "CVE-2024-0132"), ("1.17.3", "CVE-2025-23359")],
)
def test_a_toolkit_below_the_floor_is_found(cluster, tag, says):
    toolkit_image(cluster, f"mirror.example:5000/nvidia/container-toolkit:{tag}")

    (broken,) = cluster.verdict(ESCAPES).broken.values()

    assert says in broken


@pytest.mark.parametrize("tag", ["v1.17.8", "v1.20.0-ubuntu22.04", "v1.17.10"])
def test_a_toolkit_at_the_floor_or_above_passes(cluster, tag):
    toolkit_image(cluster, f"nvcr.io/nvidia/k8s/container-toolkit:{tag}")

    assert cluster.verdict(ESCAPES).passed


def test_a_digest_has_no_version_and_the_operator_version_is_used(cluster):
    toolkit_image(cluster, "nvcr.io/nvidia/k8s/container-toolkit@sha256:abc")
    assert cluster.verdict(ESCAPES).subjects == ["deployment gpu-operator/gpu-operator, gpu-operator"]

    containers = cluster.get("Deployment", OPERATOR)["spec"]["template"]["spec"]["containers"]
    containers[0]["image"] = "nvcr.io/nvidia/gpu-operator@sha256:abc"
    assert isinstance(cluster.verdict(ESCAPES).ended, Inconclusive)

    cluster.get("Deployment", OPERATOR)["metadata"]["labels"]["olm.owner"] = "gpu-operator-certified.v25.3.0"
    assert cluster.verdict(ESCAPES).broken


def operator_image(cluster, image):
    cluster.get("Deployment", OPERATOR)["spec"]["template"]["spec"]["containers"][0]["image"] = image


@pytest.mark.parametrize("tag", ["v26.7.0", "v24.9.2"])
def test_the_operator_does_not_answer_for_a_toolkit_that_it_does_not_bring(reference, tag):
    cluster = Cluster(other(reference, toolkit=False))
    cluster.remove(cluster.daemonset("nvidia-container-toolkit-daemonset"))
    operator_image(cluster, f"nvcr.io/nvidia/gpu-operator:{tag}")

    outcome = cluster.verdict(ESCAPES)

    assert isinstance(outcome.ended, NotApplicable)
    assert "node image" in str(outcome.ended)


def test_a_toolkit_that_is_switched_off_by_hand_is_judged_as_long_as_it_runs(cluster):
    cluster.policy()["spec"]["toolkit"]["enabled"] = False
    assert cluster.verdict(ESCAPES).subjects == [
        "daemonset gpu-operator/nvidia-container-toolkit-daemonset, container-toolkit"
    ]

    cluster.remove(cluster.daemonset("nvidia-container-toolkit-daemonset"))
    assert isinstance(cluster.verdict(ESCAPES).ended, Inconclusive)


UNPRIVILEGED = "ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED"
MOUNTS = "ACCEPT_NVIDIA_VISIBLE_DEVICES_AS_VOLUME_MOUNTS"
STRATEGY = "DEVICE_LIST_STRATEGY"


def with_settings(cluster, *, cdi=True, plugin=None, toolkit=None):
    """The cluster with variables of device plugin and toolkit, and with or without CDI."""
    spec = cluster.policy()["spec"]
    spec["cdi"] = {"enabled": cdi}
    for block, values in (("devicePlugin", plugin), ("toolkit", toolkit)):
        spec[block]["env"] = [{"name": name, "value": value} for name, value in (values or {}).items()]
    return cluster


@pytest.mark.parametrize(
    ("image", "breaks"),
    [("gpu-operator:v25.3.4", False), ("gpu-operator:v25.10.0", True), ("gpu-operator@sha256:abc", True)],
)
def test_where_nothing_is_said_of_cdi_the_operator_s_version_decides(cluster, image, breaks):
    spec = with_settings(cluster, plugin={STRATEGY: "volume-mounts"}, toolkit={MOUNTS: "true"}).policy()["spec"]
    operator_image(cluster, f"nvcr.io/nvidia/{image}")
    del spec["cdi"]
    assert bool(cluster.verdict(BREAKING).broken) == breaks

    spec["cdi"] = {"enabled": True}
    assert cluster.verdict(BREAKING).broken


@pytest.mark.parametrize("strategy", ["volume-mounts", "envvar"])
def test_a_device_plugin_that_names_no_cdi_device_breaks_pods_under_cdi(cluster, strategy):
    with_settings(cluster, plugin={STRATEGY: strategy}, toolkit={UNPRIVILEGED: "false", MOUNTS: "true"})

    assert "unresolvable CDI devices" in str(cluster.verdict(BREAKING).broken)


@pytest.mark.parametrize("strategy", ["", "cdi-cri", "envvar, cdi-annotations, cdi-cri"])
def test_what_keeps_the_variable_out_breaks_nothing_under_cdi(cluster, strategy):
    # Which is what the requirements on isolation advise.
    plugin = {STRATEGY: strategy} if strategy else {}
    with_settings(cluster, plugin=plugin, toolkit={UNPRIVILEGED: "false", MOUNTS: "true"})

    assert cluster.verdict(BREAKING).passed


@pytest.mark.parametrize(
    ("plugin", "toolkit", "helps"),
    [
        ({}, {UNPRIVILEGED: "false"}, f"Set {STRATEGY}=volume-mounts"),
        ({}, {UNPRIVILEGED: "false", MOUNTS: "true"}, f"Set {STRATEGY}=volume-mounts"),
        ({STRATEGY: "volume-mounts"}, {}, f"Set {MOUNTS}=true"),
        ({STRATEGY: "volume-mounts"}, {UNPRIVILEGED: "false"}, f"Set {MOUNTS}=true"),
    ],
)
def test_without_cdi_the_toolkit_has_to_take_what_the_plugin_gives(cluster, plugin, toolkit, helps):
    with_settings(cluster, cdi=False, plugin=plugin, toolkit=toolkit)

    (finding,) = (each for each in cluster.verdict(BREAKING).judge.findings if not each.ok)
    assert "unprivileged pods that request a GPU get none" in finding.cause
    assert helps in finding.remedy

    cluster.policy()["spec"]["toolkit"]["enabled"] = False
    assert cluster.verdict(BREAKING).passed


@pytest.mark.parametrize(
    ("plugin", "toolkit"),
    [
        ({}, {}),
        ({STRATEGY: "volume-mounts"}, {UNPRIVILEGED: "false", MOUNTS: "true"}),
        ({STRATEGY: "envvar,volume-mounts"}, {}),
        ({STRATEGY: "cdi-annotations"}, {UNPRIVILEGED: "false"}),
        ({"PASS_DEVICE_SPECS": "true"}, {}),
    ],
)
def test_what_agrees_without_cdi_is_sound(cluster, plugin, toolkit):
    with_settings(cluster, cdi=False, plugin=plugin, toolkit=toolkit)

    assert cluster.verdict(BREAKING).passed


HIDDEN_ENV = [{"name": "CONTAINERD_SOCKET", "value": "(hidden)"}]


@pytest.mark.parametrize(
    ("configured", "compared"),
    [
        (HIDDEN_ENV, False),
        ([*HIDDEN_ENV, {"name": "RUNTIME", "value": "(hidden)"}], True),
        ([{"name": "CONTAINERD_CONFIG", "value": "(hidden)"}], True),
    ],
)
def test_what_a_snapshot_leaves_out_is_not_held_against_its_owners(reference, configured, compared):
    env = [{"name": "CONTAINERD_SOCKET", "value": "/run/k3s/containerd/containerd.sock"}]
    cluster = Cluster(other(reference, values={"toolkit": {"env": env}}))
    assert cluster.verdict(SETTINGS).passed

    cluster.policy()["spec"]["toolkit"]["env"] = configured
    outcome = cluster.verdict(SETTINGS)

    assert bool(outcome.broken) == compared
    assert bool(outcome.judge.unseen) != compared


def test_a_setting_is_told_without_the_credentials_in_it(reference):
    proxy = [{"name": "HTTPS_PROXY", "value": "http://u:hunter2@proxy"}]
    sockets = [{"name": "CONTAINERD_SOCKET", "value": "/run/k3s/containerd/containerd.sock"}]
    cluster = Cluster(other(reference, values={"driver": {"env": proxy}, "toolkit": {"env": sockets}}))
    spec = cluster.policy()["spec"]
    spec["driver"]["env"] = [*proxy, {"name": "NGC_API_KEY", "value": "nvapi-hunter2"}]
    spec["toolkit"]["env"] = [{"name": "CONTAINERD_SOCKET", "value": "/run/containerd/containerd.sock"}]

    told = str(cluster.verdict(SETTINGS).judge.broken)

    assert "NGC_API_KEY" in told
    assert "hunter2" not in told
    assert "/run/containerd/containerd.sock" in told


def test_an_operator_that_finds_a_driver_on_every_node_may_be_left_to_install_them(reference):
    cluster = Cluster(other(reference, driver_managed=False))
    cluster.policy()["spec"]["driver"]["enabled"] = True
    assert "driver.enabled" in str(cluster.verdict(SETTINGS).broken)

    for node in (each for each in cluster.objects if each["kind"] == "Node"):
        node["metadata"]["labels"]["nvidia.com/gpu.deploy.driver"] = "pre-installed"
    assert cluster.verdict(SETTINGS).passed


def test_a_plugin_that_passes_no_device_files_is_found_where_cdi_does_not_name_them(cluster):
    with_settings(cluster, cdi=False, plugin={"PASS_DEVICE_SPECS": "false"})
    assert "NVML: Unknown Error" in str(cluster.verdict(BREAKING).broken)

    with_settings(cluster, cdi=True, plugin={"PASS_DEVICE_SPECS": "false"})
    assert cluster.verdict(BREAKING).passed


def test_the_toolkit_that_overwrites_containerd_s_imports_is_found(cluster):
    toolkit_image(cluster, "nvcr.io/nvidia/k8s/container-toolkit:v1.18.0-ubuntu20.04")

    assert "imports" in str(cluster.verdict(BREAKING).broken)

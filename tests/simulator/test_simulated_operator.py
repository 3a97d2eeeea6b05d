"""The simulated operator on a real control plane: taints and labels decide what runs, as they do for the real one.

Expected values are NVIDIA's: gpu-operator v26.7.0, and the failures that are known from the field (F numbers).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operated import (
    DAEMON_SETS,
    DEPLOY,
    GPU_TAINT,
    NAMESPACE,
    NODES,
    PODS,
    POLICIES,
    POLICY,
    Operated,
    is_ready,
    operated,
    stuck_in,
    tolerations,
)
from patience import PATIENCE

from conformance.kube.waits import holds, wait_for

pytestmark = pytest.mark.cluster

PCI = "feature.node.kubernetes.io/pci-10de.present"
EVERYWHERE = {
    "nvidia-driver-daemonset",
    "nvidia-container-toolkit-daemonset",
    "nvidia-operator-validator",
    "nvidia-device-plugin-daemonset",
    "nvidia-dcgm-exporter",
    "gpu-feature-discovery",
    "nvidia-mig-manager",
}
DEDICATED = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operated(tmp_path_factory.mktemp("fleet"), gpu_nodes=2) as cluster:
        _everything_is_deployed(cluster)
        yield cluster


LEFT_CHANGED = pytest.StashKey[bool]()


@pytest.fixture
def gpus(request: pytest.FixtureRequest, shared: Operated) -> Iterator[Operated]:
    """The cluster with everything deployed; whoever changes it sees to it that this is so again."""
    if request.node.parent.stash.get(LEFT_CHANGED, False):
        pytest.fail("an earlier test has left the cluster changed; waiting for it once more would tell nothing new")
    yield shared
    request.node.parent.stash[LEFT_CHANGED] = True
    _everything_is_deployed(shared)
    request.node.parent.stash[LEFT_CHANGED] = False


def _everything_is_deployed(cluster: Operated) -> None:
    """It says "ready" before the nodes have the labels that further operands wait for."""
    cluster.says("ready", "Reconciled")
    wait_for(
        cluster.desired,
        lambda found: {name for name, count in found.items() if count == 2} == EVERYWHERE,
        what="every operand is on both nodes",
        timeout=180,
    )
    cluster.says("ready", "Reconciled")


def test_every_operand_runs_on_every_gpu_node_and_nowhere_else(gpus: Operated) -> None:
    # Off by default: DCGM and the status exporter. MPS waits for a node that is capable of it.
    assert gpus.desired() == dict.fromkeys(EVERYWHERE, 2) | {"nvidia-device-plugin-mps-control-daemon": 0}
    for app in EVERYWHERE:
        assert {pod["spec"]["nodeName"] for pod in gpus.pods(app)} == {"a100-1", "a100-2"}
    assert gpus.node("a100-1")["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert not any("nvidia.com/" in label for label in gpus.labels("cpu-1"))
    assert gpus.client.get("/apis/node.k8s.io/v1/runtimeclasses/nvidia")["handler"] == "nvidia"


def test_node_feature_discovery_labels_every_node_and_finds_gpus_on_some(gpus: Operated) -> None:
    prefix = "feature.node.kubernetes.io/"
    for node in ("a100-1", "cpu-1"):
        labels = gpus.labels(node)
        assert labels[f"{prefix}kernel-version.full"] == gpus.node(node)["status"]["nodeInfo"]["kernelVersion"]
        assert labels[f"{prefix}system-os_release.ID"] == "ubuntu"
        assert labels[f"{prefix}system-os_release.VERSION_ID"] == "24.04"
        assert labels.get(PCI) == ("true" if node == "a100-1" else None)


def test_each_validator_pod_has_had_cuda_tried_out_once(gpus: Operated) -> None:
    for node in ("a100-1", "a100-2"):
        (tried,) = gpus.pods("nvidia-cuda-validator", node)
        assert tried["status"]["phase"] == "Succeeded"
        assert tried["metadata"]["name"].startswith("nvidia-cuda-validator-")
        (validator,) = gpus.pods("nvidia-operator-validator", node)
        ended = [each["state"]["terminated"]["exitCode"] for each in validator["status"]["initContainerStatuses"]]
        assert ended == [0, 0, 0, 0]
    # WITH_WORKLOAD is false by default: the plugin is not tried out with a pod.
    assert gpus.pods("nvidia-device-plugin-validator") == []


def test_a_second_policy_is_ignored(gpus: Operated) -> None:
    second = {**gpus.client.get(POLICY), "metadata": {"name": "another"}, "status": {}}
    second["spec"] = {**second["spec"], "gfd": {"enabled": False}}
    gpus.client.create(POLICIES, second)

    # That it is ignored stands nowhere in the cluster: its status stays empty.
    told = holds(
        lambda: gpus.status(f"{POLICIES}/another"), lambda found: found == ("", ""), window=2, what="no status"
    )
    assert told is None
    assert gpus.daemon_set("gpu-feature-discovery") is not None

    gpus.client.delete(f"{POLICIES}/another")


def test_a_disabled_component_goes_and_comes_back(gpus: Operated) -> None:
    gpus.ask(dcgmExporter={"enabled": False}, dcgm={"enabled": True})
    wait_for(
        gpus.desired, lambda found: "nvidia-dcgm-exporter" not in found, what="the exporter goes", timeout=PATIENCE
    )
    gpus.says("ready", "Reconciled")
    assert gpus.desired()["nvidia-dcgm"] == 2
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    wait_for(
        lambda: {each["metadata"]["name"] for each in gpus.client.list(accounts)},
        lambda found: "nvidia-dcgm-exporter" not in found and "nvidia-dcgm" in found,
        what="the exporter's account goes, too",
        timeout=PATIENCE,
    )

    gpus.ask(dcgmExporter={"enabled": True}, dcgm={"enabled": False})

    wait_for(gpus.desired, lambda found: "nvidia-dcgm" not in found, what="DCGM goes", timeout=PATIENCE)


def test_a_paused_operand_stays_away_from_a_node_that_is_ready_for_it(gpus: Operated) -> None:  # F7
    gpus.label("a100-1", **{f"{DEPLOY}gpu-feature-discovery": "paused-for-driver-upgrade"})
    gpus.gone("gpu-feature-discovery", "a100-1")

    gpus.says("ready", "Reconciled")  # it wants one pod less, and has those that it wants
    assert gpus.labels("a100-1")[f"{DEPLOY}gpu-feature-discovery"] == "paused-for-driver-upgrade"

    gpus.label("a100-1", **{f"{DEPLOY}gpu-feature-discovery": "true"})
    gpus.pod("gpu-feature-discovery", "a100-1", is_ready, "is back")


def test_a_deploy_label_that_is_removed_stays_away_until_something_else_has_the_node_labelled(gpus: Operated) -> None:
    gpus.label("a100-1", **{f"{DEPLOY}gpu-feature-discovery": None})
    gpus.gone("gpu-feature-discovery", "a100-1")
    gpus.label("a100-1", poke="1")
    gpus.says("ready", "Reconciled")
    assert f"{DEPLOY}gpu-feature-discovery" not in gpus.labels("a100-1")

    gpus.label("a100-1", **{"nvidia.com/gpu.present": "false"})  # one that the operator watches
    gpus.pod("gpu-feature-discovery", "a100-1", is_ready, "is back")


def test_a_runtime_class_that_is_deleted_stays_away_until_something_is_asked_for(gpus: Operated) -> None:
    classes = "/apis/node.k8s.io/v1/runtimeclasses"
    gpus.client.delete(f"{classes}/nvidia")
    gpus.label("a100-1", poke="2")
    gpus.says("ready", "Reconciled")
    assert "nvidia" not in {each["metadata"]["name"] for each in gpus.client.get(classes)["items"]}

    gpus.ask(psa={"enabled": True})

    wait_for(
        lambda: {each["metadata"]["name"] for each in gpus.client.get(classes)["items"]},
        lambda names: "nvidia" in names,
        what="the runtime class is back",
        timeout=PATIENCE,
    )
    gpus.ask(psa={"enabled": False})


def test_operands_false_takes_a_node_out(gpus: Operated) -> None:
    gpus.label("a100-1", **{f"{DEPLOY}operands": "false"})
    for app in EVERYWHERE:
        gpus.gone(app, "a100-1")
    # What is offered goes with the device plugin; whether the kubelet drops the resource or says 0 is its own matter.
    assert {label for label in gpus.labels("a100-1") if label.startswith(DEPLOY)} <= {
        f"{DEPLOY}operands",
        f"{DEPLOY}nvsm",
    }

    gpus.label("a100-1", **{f"{DEPLOY}operands": None})
    gpus.pod("nvidia-operator-validator", "a100-1", is_ready, "is back")


def test_a_node_for_virtual_machines_has_their_operands_and_no_others(gpus: Operated) -> None:
    node, workload = "a100-1", "nvidia.com/gpu.workload.config"
    gpus.label(node, **{workload: "vm-passthrough"})
    gpus.ask(sandboxWorkloads={"enabled": True})
    theirs = {"nvidia-sandbox-validator", "nvidia-vfio-manager", "nvidia-sandbox-device-plugin-daemonset"}
    try:
        wait_for(
            gpus.desired,
            lambda found: (
                {name for name, count in found.items() if count == 1} == EVERYWHERE | theirs
                and found["nvidia-vgpu-device-manager"] == 0
            ),
            what="each kind of operand is on its node",
            timeout=180,
        )
        gpus.says("ready", "Reconciled")
        gpus.pod("nvidia-sandbox-validator", node, is_ready, "is ready")
    finally:
        gpus.ask(sandboxWorkloads={"enabled": False})
        gpus.label(node, **{workload: None})
    wait_for(gpus.desired, lambda found: not theirs & found.keys(), what="they are gone", timeout=PATIENCE)


def test_a_taint_that_nobody_tolerates_leaves_operands_wanting_no_pods_and_the_policy_ready(
    gpus: Operated,
) -> None:  # F3
    for node in ("a100-1", "a100-2"):
        gpus.client.patch(f"{NODES}/{node}", {"spec": {"taints": [DEDICATED]}})
    # A taint does not send away what runs, and the DaemonSet controller looks again only when a pod has gone.
    for app in EVERYWHERE:
        gpus.restart(app, "")

    wait_for(gpus.desired, lambda found: not any(found.values()), what="no operand wants a pod", timeout=PATIENCE)
    gpus.says("ready", "Reconciled")
    assert holds(gpus.status, lambda found: found[0] == "ready", window=1.0, what="it stays ready") is None

    gpus.ask(daemonsets={"tolerations": [{"key": "dedicated", "operator": "Exists"}]})
    wait_for(
        gpus.desired, lambda found: found["gpu-feature-discovery"] == 2, what="they are tolerated", timeout=PATIENCE
    )
    assert "nvidia.com/gpu" not in tolerations(gpus.client.get(f"{DAEMON_SETS}/gpu-feature-discovery"))  # F4

    gpus.ask(daemonsets={"tolerations": [GPU_TAINT]})
    for node in ("a100-1", "a100-2"):
        gpus.client.patch(f"{NODES}/{node}", {"spec": {"taints": None}})


def test_without_an_operator_nothing_is_done(gpus: Operated) -> None:  # F33
    deployment = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/gpu-operator"
    gpus.client.patch(deployment, {"spec": {"replicas": 0}})
    gpus.gone("gpu-operator", "")

    gpus.ask(gfd={"enabled": False})
    seen = holds(
        lambda: gpus.daemon_set("gpu-feature-discovery"), lambda found: found is not None, window=1.5, what="it stays"
    )
    assert seen is None

    gpus.client.patch(deployment, {"spec": {"replicas": 1}})
    wait_for(lambda: gpus.daemon_set("gpu-feature-discovery"), lambda found: found is None, what="it goes", timeout=180)
    gpus.ask(gfd={"enabled": True})


def test_what_cannot_be_deployed_is_said_in_the_condition(gpus: Operated) -> None:
    def message() -> str:
        conditions = gpus.client.get(POLICY)["status"]["conditions"]
        return str(next(each["message"] for each in conditions if each["type"] == "Error"))

    gpus.ask(daemonsets={"tolerations": [{"key": "dedicated", "operator": "Sometimes"}]})
    gpus.says("notReady", "ReconcileFailed")
    assert "Sometimes" in message()
    gpus.ask(daemonsets={"tolerations": [GPU_TAINT]}, cdi={"enabled": False, "nriPluginEnabled": True})
    wait_for(message, lambda text: "nriPluginEnabled" in text, what="the other reason is said", timeout=PATIENCE)
    assert gpus.status() == ("notReady", "ReconcileFailed")

    gpus.ask(cdi={"enabled": True, "nriPluginEnabled": False})


def test_both_operator_resources_keep_each_other_from_being_ready(gpus: Operated) -> None:
    clusters = "/apis/nvidia.com/v1alpha1/gpuclusters"
    spec = {"draDriver": {}}
    gpus.client.create(clusters, {"metadata": {"name": "gpu-cluster"}, "spec": spec, **_of("v1alpha1", "GPUCluster")})

    gpus.says("notReady", "ReconcileFailed")
    gpus.says("notReady", "PrerequisiteNotMet", f"{clusters}/gpu-cluster")

    gpus.client.delete(f"{clusters}/gpu-cluster")


def test_when_the_pci_label_vanishes_the_stack_of_a_node_does_too(gpus: Operated) -> None:  # F6
    workers = f"{DAEMON_SETS}/gpu-operator-node-feature-discovery-worker"
    gpus.client.patch(workers, {"spec": {"template": {"spec": {"nodeSelector": {"no": "where"}}}}})
    wait_for(
        lambda: gpus.client.get(workers)["status"]["desiredNumberScheduled"],
        lambda n: n == 0,
        what="none",
        timeout=PATIENCE,
    )
    for pod in gpus.client.list(PODS, label_selector="role=worker"):
        gpus.client.delete(f"{PODS}/{pod['metadata']['name']}", grace_seconds=0)
    wait_for(
        lambda: gpus.client.list(PODS, label_selector="role=worker"),
        lambda pods: not pods,
        what="no worker",
        timeout=PATIENCE,
    )
    assert gpus.labels("a100-1")[PCI] == "true"  # labels outlive their workers

    gpus.label("a100-1", **{PCI: None})
    gpus.gone("nvidia-driver-daemonset", "a100-1")
    assert gpus.labels("a100-1")["nvidia.com/gpu.present"] == "false"
    annotations = gpus.node("a100-1")["metadata"]["annotations"]
    assert annotations["nvidia.com/gpu-driver-upgrade-enabled"] == "true"  # nobody takes it away

    gpus.client.patch(workers, {"spec": {"template": {"spec": {"nodeSelector": None}}}})
    gpus.pod("nvidia-operator-validator", "a100-1", is_ready, "is back", timeout=90)


def test_a_driver_that_fails_stops_everything_behind_it_on_its_node(gpus: Operated) -> None:  # F13
    gpus.hardware("a100-1", broken={"driver-fails": True})
    crashes = stuck_in("nvidia-driver-ctr", "CrashLoopBackOff")

    crashed = gpus.restarts_into("nvidia-driver-daemonset", "a100-1", crashes, "crashes")

    for app in (
        "nvidia-operator-validator",
        "nvidia-device-plugin-daemonset",
        "nvidia-container-toolkit-daemonset",
    ):
        gpus.restart(app, "a100-1")
    assert crashed["status"]["phase"] == "Running"
    gpus.pod("nvidia-container-toolkit-daemonset", "a100-1", stuck_in("driver-validation"), "waits for the driver")
    gpus.pod("nvidia-operator-validator", "a100-1", stuck_in("driver-validation"), "waits for the driver")
    gpus.pod("nvidia-device-plugin-daemonset", "a100-1", stuck_in("toolkit-validation"), "waits for the toolkit")
    gpus.says("notReady", "OperandNotReady")
    assert is_ready(gpus.pods("nvidia-device-plugin-daemonset", "a100-2")[0])

    gpus.hardware("a100-1", broken={})


def test_a_runtime_that_knows_no_gpus_keeps_pods_of_its_class_from_being_created(gpus: Operated) -> None:  # F17
    gpus.hardware("a100-1", broken={"runtime-not-configured": True})
    waits = stuck_in("nvidia-dcgm-exporter", "ContainerCreating")

    gpus.restarts_into("nvidia-dcgm-exporter", "a100-1", waits, "waits")

    assert is_ready(gpus.pods("nvidia-container-toolkit-daemonset", "a100-1")[0])

    gpus.hardware("a100-1", broken={})


def test_cuda_that_cannot_start_fails_the_validation_and_nothing_else(gpus: Operated) -> None:  # F31
    gpus.hardware("a100-1", broken={"fabric-manager": True})
    fails = stuck_in("cuda-validation", "CrashLoopBackOff")

    gpus.restarts_into("nvidia-operator-validator", "a100-1", fails, "fails")

    gpus.pod("nvidia-cuda-validator", "a100-1", stuck_in("cuda-validation", "CrashLoopBackOff"), "fails")
    assert is_ready(gpus.pods("nvidia-device-plugin-daemonset", "a100-1")[0])
    gpus.says("notReady", "OperandNotReady")

    gpus.hardware("a100-1", broken={})


def test_a_plugin_that_offers_nothing_fails_its_validation(gpus: Operated) -> None:  # F25
    gpus.hardware("a100-1", broken={"plugin-blind": True})
    wait_for(
        lambda: gpus.node("a100-1")["status"]["capacity"].get("nvidia.com/gpu", "0"),
        lambda count: count == "0",
        what="a100-1 offers no GPUs",
        timeout=PATIENCE,
    )
    gpus.restart("nvidia-operator-validator", "a100-1")

    gpus.pod("nvidia-operator-validator", "a100-1", stuck_in("plugin-validation"), "waits")

    gpus.hardware("a100-1", broken={})


def test_a_driver_of_the_node_image_makes_the_operators_driver_give_way(gpus: Operated) -> None:
    gpus.hardware("a100-1", driver="580.95.05")
    gpus.restart("nvidia-driver-daemonset", "a100-1")

    # Before that it is gone for a moment only: its DaemonSet makes the next one, whose init container finds the driver.
    wait_for(
        lambda: gpus.labels("a100-1")[f"{DEPLOY}driver"],
        lambda found: found == "pre-installed",
        what="the node says that its driver is pre-installed",
        timeout=PATIENCE,
    )
    gpus.gone("nvidia-driver-daemonset", "a100-1")
    gpus.says("ready", "Reconciled")

    gpus.hardware("a100-1", driver="")
    gpus.label("a100-1", **{f"{DEPLOY}driver": "true"})
    gpus.pod("nvidia-driver-daemonset", "a100-1", is_ready, "is back")


def test_the_plugin_is_tried_out_with_a_pod_when_that_is_asked_for(gpus: Operated) -> None:
    gpus.ask(validator={"plugin": {"env": [{"name": "WITH_WORKLOAD", "value": "true"}]}})
    for node in ("a100-1", "a100-2"):
        gpus.pod(
            "nvidia-device-plugin-validator", node, lambda pod: pod["status"].get("phase") == "Succeeded", "succeeds"
        )

    gpus.says("ready", "Reconciled")
    gpus.ask(validator={"plugin": {"env": []}})


def test_a_namespace_that_admits_no_privileged_pods_has_no_operands(gpus: Operated) -> None:  # F9
    enforce = "pod-security.kubernetes.io/enforce"
    gpus.client.patch(f"/api/v1/namespaces/{NAMESPACE}", {"metadata": {"labels": {enforce: "baseline"}}})
    gpus.restart("nvidia-dcgm-exporter", "")

    gpus.gone("nvidia-dcgm-exporter", "")
    gpus.says("notReady", "OperandNotReady")

    gpus.client.patch(f"/api/v1/namespaces/{NAMESPACE}", {"metadata": {"labels": {enforce: "privileged"}}})
    # The DaemonSet controller tries again after pauses that have grown meanwhile; a change makes it look at once.
    gpus.ask(dcgmExporter={"annotations": {"again": "now"}})


def test_a_quota_on_critical_pods_keeps_operands_away(gpus: Operated) -> None:  # F8
    terms = [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]
    quota = {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": terms}}
    quotas = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "critical"}, "spec": quota}
    gpus.client.create(quotas, body)
    wait_for(
        lambda: gpus.client.get(f"{quotas}/critical")["status"],
        lambda it: "used" in it,
        what="it counts",
        timeout=PATIENCE,
    )
    gpus.restart("gpu-feature-discovery", "")

    gpus.gone("gpu-feature-discovery", "")
    gpus.says("notReady", "OperandNotReady")

    gpus.client.delete(f"{quotas}/critical")
    gpus.ask(gfd={"env": [{"name": "AGAIN", "value": "now"}]})


def test_an_edit_by_hand_stays_until_something_else_is_asked_for(gpus: Operated) -> None:
    edit = {"spec": {"template": {"metadata": {"annotations": {"edited": "yes"}}}}}
    gpus.client.patch(f"{DAEMON_SETS}/gpu-feature-discovery", edit)

    def edited() -> bool:
        found: dict[str, Any] = gpus.client.get(f"{DAEMON_SETS}/gpu-feature-discovery")
        return "edited" in found["spec"]["template"]["metadata"]["annotations"]

    assert holds(edited, bool, window=1.0, what="the edit stays") is None


def _of(version: str, kind: str) -> dict[str, str]:
    return {"apiVersion": f"nvidia.com/{version}", "kind": kind}


def test_another_operator_can_play_the_part_of_the_simulated_one(tmp_path: Path) -> None:
    with operated(tmp_path, gpu_nodes=1, without_parts=("operator", "upgrade")) as cluster:
        wait_for(lambda: cluster.labels("a100-1"), lambda labels: PCI in labels, what="NFD has labelled", timeout=60)

        # Nobody follows the ClusterPolicy, and a node agent does as ever what an operator of somebody else asks for.
        assert "nvidia.com/gpu.present" not in cluster.labels("a100-1")
        assert cluster.desired() == {}
        assert cluster.status() == ("", "")

"""Drivers: versions, upgrades that are stuck, and what would make one fail."""

import copy
from datetime import timedelta

import msgspec
import pytest
from operated_cluster import JUST_NOW, LONG_AGO, NOW, Cluster, made, unready
from operator_chapters import (
    A_NODE,
    DEFECTS,
    EVERY,
    FULL,
    MAINTAINED,
    OBSTACLES,
    RECONCILED,
    SKIP,
    STATE,
    STUCK,
    SWITCHED_OFF,
    VERSION,
    not_ready,
    other,
    tolerations,
    with_pool,
)

from conformance.verdict import Inconclusive, NotApplicable, Unsupported


def test_another_driver_is_found_and_the_label_that_kept_it_named(cluster):
    cluster.label(A_NODE, {FULL: "570.172.08", SKIP: "true"})

    broken = cluster.verdict(VERSION).broken

    assert list(broken) == [f"node {A_NODE}"]
    assert SKIP in broken[f"node {A_NODE}"]


def test_a_driver_of_the_node_image_is_not_to_be_upgraded_by_the_operator(cluster):
    # NVIDIA/gpu-operator issue 525: with AKS's own driver on the node the declared version is ignored.
    cluster.label(A_NODE, {FULL: "570.172.08", "nvidia.com/gpu.deploy.driver": "pre-installed"})
    cluster.objects.remove(cluster.pod("nvidia-driver-daemonset", A_NODE))

    [found] = cluster.verdict(VERSION).judge.broken

    assert "its driver is that of the node image" in found.cause
    assert "which it never replaces" in found.remedy
    assert "driver_managed: false" in found.remedy


def test_a_pool_may_declare_a_driver_of_its_own(cluster, reference):
    gpu = msgspec.structs.replace(reference.pool("h100-training").gpu, driver="570.172.08")
    for node in ("h100-training-1", "h100-training-2"):
        cluster.label(node, {FULL: "570.172.08"})

    assert cluster.verdict(VERSION, with_pool(reference, "h100-training", gpu=gpu)).passed


def test_a_driver_without_label_is_not_another_driver(cluster):
    cluster.label(A_NODE, {FULL: None})
    assert cluster.verdict(VERSION).passed

    for each in cluster.objects:
        if each["kind"] == "Node":
            each["metadata"]["labels"].pop(FULL, None)
    assert isinstance(cluster.verdict(VERSION).ended, Inconclusive)


EACH_OF_VERSIONS = pytest.mark.parametrize(
    "requirement", [VERSION, MAINTAINED, DEFECTS], ids=["version", "maintained", "defects"]
)


@EACH_OF_VERSIONS
def test_a_node_without_driver_label_is_reported_as_not_judged(cluster, requirement):
    assert not cluster.verdict(requirement).judge.unseen

    cluster.label(A_NODE, {FULL: None})
    outcome = cluster.verdict(requirement)

    assert outcome.passed
    assert [str(each) for each in outcome.judge.unseen] == [f"node {A_NODE}: no label {FULL}"]


@EACH_OF_VERSIONS
def test_without_driver_label_the_resource_slice_has_the_driver(cluster, requirement):
    device = {"name": "gpu-0", "attributes": {"driverVersion": {"version": "535.183.1"}}}
    spec = {"driver": "gpu.nvidia.com", "nodeName": A_NODE, "pool": {"name": A_NODE}, "devices": [device]}
    published = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": spec}
    cluster.label(A_NODE, {FULL: None})
    cluster.objects.append(published)

    outcome = cluster.verdict(requirement)

    assert not outcome.judge.unseen
    assert list(outcome.broken) == ([] if requirement is DEFECTS else [f"node {A_NODE}"])


@pytest.mark.parametrize("requirement", [MAINTAINED, DEFECTS], ids=["maintained", "defects"])
def test_a_label_without_version_is_reported_as_not_judged(cluster, requirement):
    cluster.label(A_NODE, {FULL: "latest"})

    assert "is latest, which is no driver version" in str(cluster.verdict(requirement).judge.unseen[0])


@pytest.mark.parametrize("requirement", [MAINTAINED, DEFECTS], ids=["maintained", "defects"])
def test_a_driver_that_discovery_cannot_tell_on_any_node_is_no_error(cluster, requirement):
    nodes = [each for each in cluster.objects if each["kind"] == "Node"]
    for each in nodes:
        each["metadata"]["labels"][FULL] = "unknown.unknown.unknown"

    ended = cluster.verdict(requirement).ended

    assert isinstance(ended, Unsupported)
    assert "Tegra" in str(ended)


@pytest.mark.parametrize("requirement", [MAINTAINED, DEFECTS], ids=["maintained", "defects"])
def test_a_node_without_any_label_of_discovery_is_told_elsewhere(cluster, requirement):
    cluster.label(A_NODE, {FULL: None, "nvidia.com/gpu.product": None})

    assert "(POOL-06)" in str(cluster.verdict(requirement).judge.unseen[0])


def test_an_unknown_branch_is_reported_as_not_judged(cluster):
    cluster.label(A_NODE, {FULL: "999.10.01"})

    outcome = cluster.verdict(MAINTAINED)

    assert outcome.passed
    assert [str(each.subject) for each in outcome.judge.unseen] == [f"node {A_NODE}"]


@EACH_OF_VERSIONS
def test_without_driver_labels_nothing_is_judged_for_the_right_reason(cluster, reference, requirement):
    for each in cluster.objects:
        if each["kind"] == "Node":
            each["metadata"]["labels"].pop(FULL, None)

    ended = cluster.verdict(requirement).ended
    assert isinstance(ended, Inconclusive)
    assert f"no label {FULL}" in str(ended)
    discovery_failure = cluster.verdict(requirement, other(reference, gpu_feature_discovery=False)).ended
    assert isinstance(discovery_failure, Unsupported)


def test_where_all_nodes_are_being_upgraded_or_unlabelled_the_upgrade_is_the_reason(cluster):
    for index, each in enumerate(each for each in cluster.objects if each["kind"] == "Node"):
        labels = each["metadata"]["labels"]
        labels[STATE] = "upgrade-done" if index % 2 else "drain-required"
        if index % 2:
            labels.pop(FULL, None)

    ended = cluster.verdict(VERSION).ended

    assert isinstance(ended, Inconclusive)
    assert "its driver is being upgraded" in str(ended)


def test_a_branch_at_its_end_of_life_is_found_and_an_unknown_one_is_not_judged(cluster):
    cluster.label(A_NODE, {FULL: "535.183.01"})
    assert "end of life" in cluster.verdict(MAINTAINED).broken[f"node {A_NODE}"]

    cluster.label(A_NODE, {FULL: "999.10.01"})
    assert cluster.verdict(MAINTAINED).passed


def test_a_defect_counts_only_where_the_pool_meets_it(cluster, reference):
    for node in ("a100-mig-1", "a100-training-1"):
        cluster.label(node, {FULL: "570.133.20"})
    layouts = msgspec.structs.replace(
        reference.stack.mig_layouts, layouts={"inference-and-training": ({"devices": [0], "mig-enabled": True,
        "mig-devices": {"1g.5gb": 7}},)})  # fmt: skip

    assert cluster.verdict(DEFECTS).passed, "all GPUs of the pool have MIG, or none"
    assert list(cluster.verdict(DEFECTS, other(reference, mig_layouts=layouts)).broken) == ["node a100-mig-1"]


def test_a_failed_upgrade_is_found_and_one_under_way_is_not(cluster):
    cluster.label(A_NODE, {STATE: "pod-deletion-required"})
    assert cluster.verdict(STUCK).passed

    cluster.label(A_NODE, {STATE: "upgrade-failed"})
    assert "failed" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def test_an_upgrade_that_cordoned_nodes_block_is_reported_with_their_number(cluster, reference):
    cluster.label(A_NODE, {STATE: "upgrade-required"})
    assert cluster.verdict(STUCK).passed, "it starts with the next reconciliation of the operator"

    for node in ("a100-training-1", "a100-training-2", "h100-training-1", "t4-shared-1"):
        cluster.node(node)["spec"]["unschedulable"] = True
    broken = cluster.verdict(STUCK).broken
    assert list(broken) == [f"node {A_NODE}"]
    assert "4 of 16 nodes are cordoned" in broken[f"node {A_NODE}"]
    assert "maxUnavailable allows 4" in broken[f"node {A_NODE}"]


def upgraded_but_for(cluster, node, *, updated=None):
    """Let all nodes have the new driver of their DaemonSet but one, which waits for it."""
    pods = [each for each in cluster.objects if each["metadata"]["name"].startswith("nvidia-driver-daemonset-")]
    for pod in pods:
        cluster.label(pod["spec"]["nodeName"], {STATE: "upgrade-done"})
    cluster.label(node, {STATE: "upgrade-required"})
    status = cluster.daemonset("nvidia-driver-daemonset")["status"]
    status["updatedNumberScheduled"] = len(pods) - 1 if updated is None else updated
    return pods


def test_nodes_that_wait_although_nothing_holds_them_up_are_found(cluster):
    upgraded_but_for(cluster, A_NODE)

    broken = cluster.verdict(STUCK).broken

    assert list(broken) == [f"node {A_NODE}"]
    assert "its present driver on 15 of 16 nodes, its newest pod is of 2026-03-01 00:00" in broken[f"node {A_NODE}"]


def test_an_upgrade_that_has_come_to_the_next_node_or_has_just_begun_goes_on(cluster):
    pods = upgraded_but_for(cluster, A_NODE)
    cluster.label("a100-training-1", {STATE: "pod-restart-required"})
    assert f"node {A_NODE}" not in cluster.verdict(STUCK).broken, "another node is being upgraded"

    cluster.label("a100-training-1", {STATE: "upgrade-done"})
    pods[0]["metadata"]["creationTimestamp"] = JUST_NOW
    assert cluster.verdict(STUCK).passed, "the node before it was done just now"


def test_pods_of_an_earlier_driver_say_nothing_of_this_upgrade(cluster):
    upgraded_but_for(cluster, A_NODE, updated=0)

    assert cluster.verdict(STUCK).passed, "the DaemonSet may have been changed a moment ago"


def test_a_node_that_failed_holds_up_the_others(cluster):
    cluster.label("a100-training-1", {STATE: "upgrade-failed"})
    cluster.label(A_NODE, {STATE: "upgrade-required"})

    assert "maxParallelUpgrades" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def test_a_wait_for_jobs_without_end_is_found_and_one_with_a_limit_is_not(cluster):
    wait = cluster.policy()["spec"]["driver"]["upgradePolicy"]["waitForCompletion"]
    wait["podSelector"] = "job=training"
    cluster.label(A_NODE, {STATE: "wait-for-jobs-required"})
    assert "job=training" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]

    wait["timeoutSeconds"] = 3600
    assert cluster.verdict(STUCK).passed


def test_a_label_that_leaves_a_node_out_is_found_unless_the_owners_declare_it(cluster, reference):
    cluster.label(A_NODE, {STATE: "upgrade-required", SKIP: "true"})
    assert SKIP in cluster.verdict(STUCK).broken[f"node {A_NODE}"]

    pool = reference.pool("t4-inference")
    assert cluster.verdict(STUCK, with_pool(reference, "t4-inference", labels={**pool.labels, SKIP: "true"})).passed


def test_an_upgrade_is_stuck_when_the_new_driver_has_long_been_ready(cluster):
    cluster.label(A_NODE, {STATE: "validation-required"})

    assert "has long been Ready" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def without_driver_pod(cluster, state="pod-restart-required"):
    """Let the node be past its emptying, and its driver pod be gone."""
    cluster.label(A_NODE, {STATE: state})
    cluster.remove(cluster.pod("nvidia-driver-daemonset", A_NODE))


@pytest.mark.parametrize("state", ["pod-restart-required", "validation-required", "uncordon-required"])
def test_a_driver_pod_that_a_new_taint_keeps_from_coming_back_is_found(cluster, state):
    without_driver_pod(cluster, state)
    tolerations(cluster, "nvidia-driver-daemonset", [])

    broken = cluster.verdict(STUCK).broken

    assert list(broken) == [f"node {A_NODE}"]
    assert "not tolerated by daemonset gpu-operator/nvidia-driver-daemonset" in broken[f"node {A_NODE}"]
    assert "daemonsets.tolerations" in broken[f"node {A_NODE}"]


def test_a_driver_pod_that_a_label_keeps_from_coming_back_is_found(cluster):
    without_driver_pod(cluster)
    cluster.label(A_NODE, {"nvidia.com/gpu.deploy.driver": "paused-for-driver-upgrade"})

    assert "gpu.deploy.driver=paused-for-driver-upgrade" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def test_a_driver_pod_whose_daemonset_is_gone_is_found(cluster):
    without_driver_pod(cluster)
    cluster.remove(cluster.daemonset("nvidia-driver-daemonset"))

    assert "no workload of the driver exists" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def test_a_driver_pod_that_may_still_come_is_not_missed(cluster):
    without_driver_pod(cluster)
    cluster.daemonset("nvidia-driver-daemonset")["metadata"]["creationTimestamp"] = JUST_NOW

    assert cluster.verdict(STUCK).passed


def going(pod, due):
    """Let a pod be Terminating, due to be gone at some time."""
    pod["metadata"]["deletionTimestamp"] = due.isoformat()
    return pod


def test_an_old_driver_pod_that_is_going_is_awaited_and_one_that_does_not_go_is_found(cluster):
    cluster.label(A_NODE, {STATE: "pod-restart-required"})
    pod = going(cluster.pod("nvidia-driver-daemonset", A_NODE), NOW + timedelta(seconds=20))
    assert cluster.verdict(STUCK).passed
    going(pod, NOW - timedelta(minutes=3))
    assert cluster.verdict(STUCK).passed, "it unloads its modules"

    going(pod, NOW - timedelta(hours=2))
    assert "Terminating, due since 2026-09-20 10:00 UTC" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def test_the_new_driver_pod_counts_where_the_old_one_is_still_going(cluster):
    cluster.label(A_NODE, {STATE: "validation-required"})
    old = cluster.pod("nvidia-driver-daemonset", A_NODE)
    new = copy.deepcopy(old)
    new["metadata"] |= {"name": "nvidia-driver-daemonset-new", "creationTimestamp": LONG_AGO}
    unready(new, reason="CrashLoopBackOff")
    going(old, NOW + timedelta(seconds=20))
    cluster.objects.append(new)

    assert "nvidia-driver-daemonset-new has not become Ready" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def workload_pod(node=A_NODE, owner="ReplicaSet", gpus=True, name="trainer", **spec):
    owners = [{"apiVersion": "apps/v1", "kind": owner, "name": f"{name}-1", "controller": True}] if owner else []
    container = {"name": name, "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}} if gpus else {}}
    container |= spec.pop("container", {})
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return made(
        "v1", "Pod", f"{name}-x", "ml-training", owners=owners,
        spec={"nodeName": node, "containers": [container], **spec}, status=status,
    )  # fmt: skip


SHM = {"volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}]}
DEVICES = {"volumes": [{"name": "dev", "hostPath": {"path": "/dev"}}]}


EACH_WAY_TO_EMPTY = pytest.mark.parametrize(
    ("state", "block"), [("pod-deletion-required", "podDeletion"), ("drain-required", "drain")]
)


@EACH_WAY_TO_EMPTY
def test_an_emptying_without_end_is_found_and_one_with_a_limit_is_not(cluster, state, block):
    settings = cluster.policy()["spec"]["driver"]["upgradePolicy"][block]
    settings |= {"enable": True, "timeoutSeconds": 0}
    cluster.label(A_NODE, {STATE: state})
    cluster.objects.append(workload_pod())
    broken = cluster.verdict(STUCK).broken[f"node {A_NODE}"]
    assert "waits without end for pod ml-training/trainer-x" in broken
    assert f"{block}.timeoutSeconds is 0" in broken

    settings["timeoutSeconds"] = 300
    assert cluster.verdict(STUCK).passed
    del settings["timeoutSeconds"]
    assert cluster.verdict(STUCK).passed, "the default is 300"


@EACH_WAY_TO_EMPTY
def test_an_emptying_without_end_goes_on_while_the_last_pods_are_going(cluster, state, block):
    cluster.policy()["spec"]["driver"]["upgradePolicy"][block] |= {"enable": True, "timeoutSeconds": 0}
    cluster.label(A_NODE, {STATE: state})
    assert cluster.verdict(STUCK).passed, "no pod is left that has to be removed"

    pod = going(workload_pod(), NOW + timedelta(seconds=20))
    cluster.objects.append(pod)
    assert cluster.verdict(STUCK).passed

    going(pod, NOW - timedelta(hours=2))
    assert "trainer-x" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]


def test_a_drain_without_end_does_not_wait_for_pods_that_it_leaves(cluster):
    drain = cluster.policy()["spec"]["driver"]["upgradePolicy"]["drain"]
    drain |= {"enable": True, "timeoutSeconds": 0}
    cluster.label(A_NODE, {STATE: "drain-required"})
    skipped = workload_pod(gpus=False)
    skipped["metadata"]["labels"] = {"nvidia.com/gpu-driver-upgrade-drain.skip": "true"}
    cluster.objects += [skipped, workload_pod(owner="DaemonSet", gpus=False, name="agent")]
    assert cluster.verdict(STUCK).passed

    del skipped["metadata"]["labels"]
    assert "trainer-x" in cluster.verdict(STUCK).broken[f"node {A_NODE}"]
    drain["podSelector"] = "app=other"
    assert cluster.verdict(STUCK).passed, "the selector of the drain is not evaluated"


EMPTY_LABELS = ("nvsm", "sandbox-validator", "sandbox-device-plugin", "vgpu-device-manager", "dra-validator")


def test_the_empty_labels_that_the_driver_manager_writes_switch_nothing_off(cluster):
    cluster.label(A_NODE, {f"nvidia.com/gpu.deploy.{each}": "" for each in EMPTY_LABELS})
    assert cluster.verdict(SWITCHED_OFF).passed

    cluster.label(A_NODE, {"nvidia.com/gpu.deploy.device-plugin": ""})
    broken = cluster.verdict(SWITCHED_OFF).broken[f"node {A_NODE}"]
    assert "gpu.deploy.device-plugin" in broken
    assert "nvsm" not in broken


@pytest.mark.parametrize(
    ("pod", "forbid", "says"),
    [
        (workload_pod(**SHM), "deleteEmptyDir", "podDeletion.deleteEmptyDir"),
        (workload_pod(owner=""), "force", "podDeletion.force"),
        (workload_pod(gpus=False, **DEVICES), "", "mounts /dev"),
        (workload_pod(gpus=False, container={"securityContext": {"privileged": True}}), "", "privileged"),
        (
            workload_pod(gpus=False, initContainers=[{"name": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]),
            "",
            "init container",
        ),
        (
            workload_pod(
                gpus=False,
                runtimeClassName="nvidia",
                container={"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]},
            ),
            "",
            "runtimeClassName nvidia",
        ),
    ],
    ids=["empty-dir", "bare", "dev", "privileged", "init", "runtime-class"],
)
def test_a_pod_in_the_way_of_an_upgrade_is_found(cluster, pod, forbid, says):
    if forbid:
        cluster.policy()["spec"]["driver"]["upgradePolicy"]["podDeletion"][forbid] = False
    cluster.objects.append(copy.deepcopy(pod))

    broken = cluster.verdict(OBSTACLES).broken

    assert list(broken) == ["pod ml-training/trainer-x"]
    assert says in broken["pod ml-training/trainer-x"]


def test_draining_takes_what_deleting_may_not(cluster):
    policy = cluster.policy()["spec"]["driver"]["upgradePolicy"]
    policy["podDeletion"]["deleteEmptyDir"] = False
    cluster.objects.append(workload_pod(**SHM))
    assert cluster.verdict(OBSTACLES).broken

    policy["drain"] = {"enable": True, "deleteEmptyDir": True}
    assert cluster.verdict(OBSTACLES).passed


def test_what_runs_on_every_node_holds_no_gpu(cluster):
    for node in (A_NODE, "cpu-1"):
        pod = workload_pod(node, owner="DaemonSet", gpus=False, name="csi", **DEVICES)
        pod["metadata"]["name"] += node
        cluster.objects.append(pod)
    daemonset = made("apps/v1", "DaemonSet", "csi-1", "ml-training", spec={"template": {"spec": {"containers": []}}})
    cluster.objects.append(daemonset)
    assert cluster.verdict(OBSTACLES).passed

    cluster.remove(cluster.get("Pod", "csi-xcpu-1"))
    assert "nodeSelector" in str(cluster.verdict(OBSTACLES).broken)


PRIVILEGED = {"securityContext": {"privileged": True}}


def agents(cluster, namespace, nodes=(A_NODE,), **container):
    """A DaemonSet with a pod on each of some nodes."""
    cluster.objects.append(
        made("apps/v1", "DaemonSet", "agent-1", namespace, spec={"template": {"spec": {"containers": []}}})
    )
    for node in nodes:
        pod = workload_pod(node, owner="DaemonSet", gpus=False, name="agent", container=container)
        pod["metadata"] |= {"name": f"agent-{node}", "namespace": namespace}
        cluster.objects.append(pod)
    return cluster.verdict(OBSTACLES)


def test_a_privileged_daemonset_of_a_team_may_hold_gpus_unseen(cluster):
    broken = agents(cluster, "ml-training", **PRIVILEGED).broken[f"pod ml-training/agent-{A_NODE}"]

    assert "it is privileged" in broken
    assert "it stays, because pods of a DaemonSet are neither deleted nor drained" in broken
    assert f"the old driver of {A_NODE} cannot be unloaded" in broken


def test_a_privileged_daemonset_of_nobody_known_is_named_and_not_judged(cluster):
    verdict = agents(cluster, "storage", **PRIVILEGED)

    assert verdict.passed
    [unseen] = verdict.judge.unseen
    assert "it is privileged" in unseen.why
    assert "no read tells" in unseen.why


@pytest.mark.parametrize(
    ("namespace", "nodes"),
    [
        ("ml-training", (A_NODE, "cpu-1")),
        ("cilium", (A_NODE,)),
        ("nvidia-network-operator", (A_NODE,)),
        ("kube-system", (A_NODE,)),
    ],
    ids=["on every node", "of a network", "of NVIDIA's network drivers", "of Kubernetes"],
)
def test_agents_that_have_to_be_privileged_hold_no_gpu(cluster, namespace, nodes):
    verdict = agents(cluster, namespace, nodes, **PRIVILEGED)

    assert verdict.passed
    assert not verdict.judge.unseen


@pytest.mark.parametrize("namespace", ["ml-training", "kube-system", "gpu-operator"])
@pytest.mark.parametrize(
    "container", [{"name": "mps-control-daemon-ctr"}, {"image": "registry.example/nvidia-mps-server:1"}], ids=str
)
def test_an_mps_daemon_holds_gpus_wherever_it_is_from(cluster, namespace, container):
    assert "is an MPS daemon" in str(agents(cluster, namespace, **container).broken)


def test_an_mps_daemon_that_goes_with_the_operands_is_in_nobodys_way(cluster):
    pod = workload_pod(owner="DaemonSet", gpus=False, name="mps", container={"name": "mps-control-daemon-ctr"})
    pod["spec"]["nodeSelector"] = {"nvidia.com/gpu.deploy.device-plugin": "true", "nvidia.com/mps.capable": "true"}
    cluster.objects.append(pod)
    assert cluster.verdict(OBSTACLES).passed

    del pod["spec"]["nodeSelector"]["nvidia.com/gpu.deploy.device-plugin"]
    assert cluster.verdict(OBSTACLES).broken


@pytest.mark.parametrize(
    ("containers", "named"),
    [(["compute-domains"], False), (["compute-domains", "gpus"], True)],
    ids=["without GPUs", "with GPUs"],
)
def test_the_dra_plugin_holds_gpus_only_where_it_gives_them_out(cluster, containers, named):
    pod = workload_pod(owner="DaemonSet", gpus=False, name="plugin")
    pod["metadata"]["namespace"] = "nvidia-dra-driver-gpu"
    pod["metadata"]["ownerReferences"][0]["name"] = "nvidia-dra-driver-gpu-kubelet-plugin"
    pod["spec"]["containers"] = [{"name": each, "image": "x", **PRIVILEGED} for each in containers]
    cluster.objects.append(pod)

    verdict = cluster.verdict(OBSTACLES)

    assert bool(verdict.broken or verdict.judge.unseen) is named


def test_an_older_operator_does_not_know_the_label_of_clients(cluster):
    pod = workload_pod(owner="DaemonSet", gpus=False, name="watch", **DEVICES)
    pod["spec"]["nodeSelector"] = {"nvidia.com/gpu.deploy.client": "true"}
    cluster.objects.append(pod)
    assert cluster.verdict(OBSTACLES).passed

    operator = cluster.get("Deployment", "gpu-operator")["spec"]["template"]["spec"]["containers"][0]
    operator["image"] = "nvcr.io/nvidia/gpu-operator:v26.3.3"
    assert "NODE_LABEL_FOR_GPU_POD_EVICTION" in str(cluster.verdict(OBSTACLES).broken)


def test_a_plugin_of_dra_that_the_driver_manager_does_not_know_is_found(cluster):
    pod = workload_pod(owner="DaemonSet", gpus=False, name="dra-driver-kubelet-plugin", container={"name": "gpus"})
    pod["spec"]["nodeSelector"] = {"nvidia.com/dra-kubelet-plugin": "true"}
    cluster.objects.append(pod)
    assert "the driver manager does not know" in str(cluster.verdict(OBSTACLES).broken)

    told = [{"name": "NODE_LABEL_FOR_GPU_POD_EVICTION", "value": "nvidia.com/dra-kubelet-plugin"}]
    cluster.policy()["spec"]["driver"].setdefault("manager", {})["env"] = told
    assert cluster.verdict(OBSTACLES).passed


@pytest.mark.parametrize("admin", [True, False])
def test_a_claim_for_admin_access_is_no_use_that_the_operator_knows(cluster, admin):
    pod = workload_pod(gpus=False, resourceClaims=[{"name": "gpu", "resourceClaimName": "watched"}])
    result = {"driver": "gpu.nvidia.com", "pool": A_NODE, "device": "gpu-0", "request": "gpu", "adminAccess": admin}
    claim = made(
        "resource.k8s.io/v1", "ResourceClaim", "watched", "ml-training",
        spec={}, status={"allocation": {"devices": {"results": [result]}}},
    )  # fmt: skip
    cluster.objects += [pod, claim]

    verdict = cluster.verdict(OBSTACLES)

    assert verdict.passed is not admin
    assert ("adminAccess" in str(verdict.broken)) is admin


def test_no_pod_is_an_obstacle_where_the_operator_does_not_manage_the_driver(reference):
    declared = other(reference, driver_managed=False)
    cluster = Cluster(declared)
    cluster.objects.append(workload_pod(owner="", **SHM))

    assert isinstance(cluster.verdict(OBSTACLES).ended, NotApplicable)
    assert isinstance(cluster.verdict(STUCK).ended, NotApplicable)


def test_a_budget_that_never_lets_a_pod_go_is_in_the_way(cluster):
    pod = workload_pod()
    pod["metadata"]["labels"] = {"app": "trainer"}
    cluster.objects += [
        pod,
        made(
            "policy/v1", "PodDisruptionBudget", "all", "ml-training",
            spec={"selector": {"matchLabels": {"app": "trainer"}}, "maxUnavailable": 0},
            status={"disruptionsAllowed": 0, "currentHealthy": 1, "expectedPods": 1},
        ),
    ]  # fmt: skip

    assert "disruption budget ml-training/all" in str(cluster.verdict(OBSTACLES).broken)


def upgrading(cluster):
    """Three nodes in the middle of an upgrade to another driver: one is done, one under way, one waits its turn."""
    cluster.label("a100-training-1", {FULL: "580.95.05", STATE: "upgrade-done"})
    cluster.label("a100-training-2", {FULL: "580.65.06", STATE: "pod-restart-required"})
    cluster.label("a100-training-3", {FULL: "580.65.06", STATE: "upgrade-required"})
    pod = cluster.pod("nvidia-driver-daemonset", "a100-training-2")
    unready(pod)
    pod["metadata"]["creationTimestamp"] = JUST_NOW
    del pod["status"]["startTime"]
    status = cluster.daemonset("nvidia-dcgm-exporter")["status"]
    status["currentNumberScheduled"] -= 1


def test_an_upgrade_that_goes_on_fails_nothing(cluster):
    upgrading(cluster)
    not_ready(cluster, "2026-09-20T09:00:00Z")

    for requirement in EVERY:
        outcome = cluster.verdict(requirement)
        assert not outcome.broken, (requirement, outcome.broken)
    assert isinstance(cluster.verdict(RECONCILED).ended, Inconclusive)


def test_nodes_that_wait_while_no_upgrade_goes_on_have_another_driver(cluster):
    cluster.label("a100-training-3", {FULL: "580.65.06", STATE: "upgrade-required"})

    assert "is in state upgrade-required" in cluster.verdict(VERSION).broken["node a100-training-3"]


def test_a_version_that_the_operator_is_configured_to_install_is_the_cause(cluster):
    cluster.policy()["spec"]["driver"]["version"] = "580.65.06"
    cluster.label(A_NODE, {FULL: "580.65.06"})

    assert "is configured to install driver 580.65.06" in cluster.verdict(VERSION).broken[f"node {A_NODE}"]

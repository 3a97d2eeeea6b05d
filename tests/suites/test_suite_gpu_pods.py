"""Pods with GPUs: they are judged whatever creates them, and a pod is as old as its containers."""

import msgspec
import pytest
from operated_cluster import LONG_AGO, made

from conformance.catalog import Owner, requirement_of
from conformance.verdict import NotApplicable, Unsupported
from suites.workloads import test_gpu_pods as chapter

SHARED_MEMORY = chapter.test_pods_with_several_gpus_have_shared_memory
USERS = chapter.test_no_gpu_pod_asks_for_a_user_namespace
OLDER = chapter.test_no_gpu_pod_is_older_than_its_driver
CLASSES = chapter.test_every_named_runtime_class_exists
REFUSED = chapter.test_no_gpu_pod_was_refused
HANGING = chapter.test_no_gpu_pod_hangs_in_terminating
NEEDED = chapter.test_every_gpu_pod_names_the_runtime_class
UNHEALTHY = chapter.test_no_running_pod_holds_an_unhealthy_device

NODE = "t4-inference-1"
BEFORE, AFTER = "2026-04-01T00:00:00Z", "2026-06-01T00:00:00Z"
DRIVER_STARTED = "2026-05-01T00:00:00Z"


def team_pod(name, kind="", owner="", *, gpus=1, status=None, **spec):
    """A pod of the team; ``gpus`` of its one container."""
    asking = {"name": "main", "image": "i", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    owners = [{"apiVersion": "x/v1", "kind": kind, "name": owner, "controller": True}] if kind else []
    whole = {"nodeName": NODE, "containers": [asking], **spec}
    return made("v1", "Pod", name, "team", owners=owners, spec=whole, status={"phase": "Running", **(status or {})})


@pytest.mark.parametrize(
    ("kind", "owner"),
    [("PyTorchJob", "train"), ("RayCluster", "ray"), ("Workflow", "flow"), ("Job", "volcano"), ("ReplicaSet", "r-1")],
)
def test_pods_of_a_controller_that_is_not_read_are_judged_as_one(cluster, kind, owner):
    cluster.objects += [
        team_pod(f"p-{number}", kind, owner, gpus=4, hostUsers=False, runtimeClassName="gone") for number in range(3)
    ]
    subject = f"pods of {kind.lower()} team/{owner}"

    for requirement in (SHARED_MEMORY, USERS, CLASSES):
        outcome = cluster.verdict(requirement)
        assert list(outcome.broken) == [subject]
        assert outcome.subjects.count(subject) == 1


def test_pods_of_one_controller_that_differ_are_judged_apart(cluster):
    cluster.objects += [team_pod("head", "RayCluster", "ray"), team_pod("worker", "RayCluster", "ray", gpus=8)]

    assert list(cluster.verdict(SHARED_MEMORY).broken) == ["pods of raycluster team/ray"]


def test_pods_of_workloads_that_are_read_count_once(cluster):
    template = {"metadata": {}, "spec": team_pod("t", gpus=4)["spec"]}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "served", "controller": True}
    cluster.objects += [
        made("apps/v1", "Deployment", "served", "team", spec={"template": template}),
        made("apps/v1", "ReplicaSet", "served-1", "team", owners=[owner]),
        team_pod("served-1-x", "ReplicaSet", "served-1", gpus=4),
        made("batch/v1", "Job", "night", "team", spec={"template": template}),
        team_pod("night-x", "Job", "night", gpus=4),
    ]

    assert cluster.verdict(SHARED_MEMORY).subjects == ["deployment team/served", "job team/night"]


def test_pods_without_controller_are_judged_by_themselves(cluster):
    mirrored = [team_pod(name, "Node", NODE, gpus=2) for name in ("one", "two")]
    cluster.objects += [*mirrored, team_pod("alone", gpus=2)]

    assert sorted(cluster.verdict(SHARED_MEMORY).broken) == ["pod team/alone", "pod team/one", "pod team/two"]


def test_pods_that_ended_or_are_terminating_are_not_judged(cluster):
    over = {"phase": "Succeeded"}
    cluster.objects.append(team_pod("p", "PyTorchJob", "train", gpus=4, hostUsers=False, status=over))
    leaving = team_pod("q", "Job", "gone", gpus=4, hostUsers=False)
    leaving["metadata"]["deletionTimestamp"] = AFTER
    cluster.objects.append(leaving)

    assert isinstance(cluster.verdict(SHARED_MEMORY).ended, NotApplicable)
    assert isinstance(cluster.verdict(USERS).ended, NotApplicable)


def running(**containers):
    """The statuses of containers that run since a time, or wait."""
    names = {name.replace("_", "-"): since for name, since in containers.items()}
    return [
        {"name": name, "state": {"running": {"startedAt": since}} if since else {"waiting": {"reason": "Crash"}}}
        for name, since in names.items()
    ]


_WAITING = {"ready": False, "restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}


def with_driver(cluster, **containers):
    driver = cluster.pod("nvidia-driver-daemonset", NODE)
    driver["status"] |= {"startTime": LONG_AGO, "containerStatuses": running(**containers)}


def aged(since=LONG_AGO, **containers):
    status = {"startTime": since, **({"containerStatuses": running(**containers)} if containers else {})}
    return team_pod("p", status=status)


def test_a_pod_that_survived_a_restart_of_its_node_has_the_files_of_the_new_driver(cluster):
    with_driver(cluster, nvidia_driver_ctr=DRIVER_STARTED)
    cluster.objects.append(aged(LONG_AGO, main=AFTER))

    assert cluster.verdict(OLDER).passed


def test_a_pod_whose_container_runs_since_before_the_driver_has_the_old_files(cluster):
    with_driver(cluster, nvidia_driver_ctr=DRIVER_STARTED)
    cluster.objects.append(aged(LONG_AGO, main=BEFORE))

    assert list(cluster.verdict(OLDER).broken) == ["pod team/p"]


def test_a_driver_pod_that_cannot_unload_the_driver_has_started_none(cluster):
    """NVIDIA/gpu-operator issue 2166: pods keep the driver in use, and the one that was there goes on."""
    with_driver(cluster, nvidia_driver_ctr="")
    driver = cluster.pod("nvidia-driver-daemonset", NODE)["status"]
    driver |= {"startTime": AFTER, "initContainerStatuses": [{"name": "k8s-driver-manager", **_WAITING}]}
    cluster.objects.append(aged(LONG_AGO, main=BEFORE))

    assert not cluster.verdict(OLDER).broken


def test_what_runs_beside_the_container_with_gpus_has_no_files_of_a_driver(cluster):
    with_driver(cluster, nvidia_driver_ctr=DRIVER_STARTED)
    cluster.objects.append(aged(LONG_AGO, proxy=BEFORE, main=AFTER))

    assert cluster.verdict(OLDER).passed


def test_a_container_that_waits_gets_the_new_files_when_it_starts(cluster):
    with_driver(cluster, nvidia_driver_ctr=DRIVER_STARTED)
    cluster.objects.append(aged(LONG_AGO, main=""))

    assert cluster.verdict(OLDER).passed


def test_a_pod_without_statuses_is_as_old_as_it_says(cluster):
    with_driver(cluster, nvidia_driver_ctr=DRIVER_STARTED)
    cluster.objects.append(aged(BEFORE))

    assert list(cluster.verdict(OLDER).broken) == ["pod team/p"]


@pytest.mark.parametrize("beside", ["nvidia_peermem_ctr", "nvidia_fs_ctr", "openshift_driver_toolkit_ctr"])
def test_what_starts_again_beside_the_driver_is_no_start_of_the_driver(cluster, beside):
    with_driver(cluster, **{"nvidia_driver_ctr": LONG_AGO, beside: DRIVER_STARTED})
    cluster.objects.append(aged(BEFORE, main=BEFORE))

    assert cluster.verdict(OLDER).passed


def test_where_every_node_brings_its_driver_no_pod_starts_one(cluster):
    cluster.objects = [each for each in cluster.objects if not each["metadata"]["name"].startswith("nvidia-driver-")]
    assert str(cluster.verdict(OLDER).ended) == "no driver pod runs in the cluster"

    for name in [each.name for each in cluster.facts().nodes]:
        cluster.label(name, {"nvidia.com/gpu.deploy.driver": "pre-installed"})
    assert isinstance(cluster.verdict(OLDER).ended, NotApplicable)


# --- WORK-16 ---------------------------------------------------------------------------------------------------------


def needing(cluster, name):
    """The cluster under a stack whose GPU pods have to name a RuntimeClass."""
    stack = msgspec.structs.replace(cluster.reference.stack, runtime_class=name)
    cluster.reference = msgspec.structs.replace(cluster.reference, stack=stack)
    return cluster


def test_pods_with_gpus_have_to_name_the_class_that_the_stack_needs(cluster):
    cluster.objects += [
        team_pod("right", runtimeClassName="nvidia"),
        team_pod("wrong", runtimeClassName="runc"),
        team_pod("bare"),
        team_pod("without-gpus", gpus=0),
    ]

    outcome = needing(cluster, "nvidia").verdict(NEEDED)

    assert {"pod team/wrong", "pod team/bare"} <= set(outcome.broken)
    assert "pod team/right" in outcome.subjects
    assert not {"pod team/right", "pod team/without-gpus"} & set(outcome.broken)


def test_no_class_is_asked_for_where_the_stack_needs_none(cluster):
    cluster.objects += [team_pod("bare")]

    ended = cluster.verdict(NEEDED).ended

    assert isinstance(ended, NotApplicable)
    assert "no RuntimeClass" in str(ended)


def test_a_missing_class_that_the_stack_needs_is_to_be_created(cluster):
    """Without it a pod of k3s would start and find no driver: dropping runtimeClassName is no remedy there."""
    cluster.objects += [team_pod("pod", runtimeClassName="special")]

    dropped = cluster.verdict(CLASSES).judge.broken
    created = needing(cluster, "special").verdict(CLASSES).judge.broken

    assert [each.remedy for each in dropped] == [""]
    assert [each.remedy[:27] for each in created] == ["Create RuntimeClass special"]


@pytest.mark.parametrize(
    ("reason", "owner"),
    [
        ("UnexpectedAdmissionError", Owner.PLATFORM),
        ("OutOfnvidia.com/gpu", Owner.PLATFORM),
        ("TopologyAffinityError", Owner.BOTH),
    ],
)
def test_a_pod_that_its_kubelet_refused_is_the_platforms_or_that_of_both(cluster, reason, owner):
    cluster.objects.append(team_pod("train", status={"phase": "Failed", "reason": reason}))

    (finding,) = (each for each in cluster.verdict(REFUSED).judge.findings if not each.ok)

    assert (finding.owner or requirement_of(REFUSED).owner) == owner


def leaving(cluster, *, finalizers=(), **status):
    """What is found of a pod that should have been deleted long ago."""
    there = team_pod("train", status=status)
    there["metadata"] |= {"deletionTimestamp": LONG_AGO, "finalizers": list(finalizers)}
    cluster.objects.append(there)
    (finding,) = (each for each in cluster.verdict(HANGING).judge.findings if not each.ok)
    return finding


def test_a_process_that_hangs_is_one_for_whoever_can_restart_the_node(cluster):
    finding = leaving(cluster)

    assert "has not confirmed" in finding.cause
    # The requirement's own.
    assert finding.remedy == ""


def test_a_finalizer_is_no_reason_to_restart_a_node(cluster):
    finding = leaving(cluster, phase="Failed", finalizers=["batch.kubernetes.io/job-tracking"])

    assert "waits for the finalizer batch.kubernetes.io/job-tracking" in finding.cause
    assert "neither of the node nor of its GPUs" in finding.remedy
    assert "no GPU is held any more" in finding.hidden_because


def test_a_finalizer_of_a_pod_whose_process_hangs_is_not_what_it_waits_for(cluster):
    assert "has not confirmed" in leaving(cluster, finalizers=["kueue.x-k8s.io/managed"]).cause


def test_a_pod_of_a_node_that_does_not_answer_is_the_nodes(cluster):
    conditions = cluster.node(NODE)["status"]["conditions"]
    conditions[:] = [{"type": "Ready", "status": "Unknown"}]

    finding = leaving(cluster)

    assert f"node {NODE} is not Ready" in finding.cause
    assert "Bring the node back" in finding.remedy


def test_a_pod_of_a_node_that_is_gone_is_nobodys_to_wait_for(cluster):
    cluster.remove(cluster.node(NODE))

    finding = leaving(cluster)

    assert "not in the cluster any more" in finding.cause
    assert "Cordon" not in finding.remedy


def reporting(*health, name="nvidia.com/gpu", phase="Running", **more):
    """The status of a pod whose kubelet says how its devices are."""
    devices = [{"resourceID": f"GPU-{at}", "health": each, **more} for at, each in enumerate(health)]
    told = {"name": "main", "allocatedResourcesStatus": [{"name": name, "resources": devices}]}
    return {"phase": phase, "containerStatuses": [told]}


def test_a_pod_that_goes_on_with_an_unhealthy_gpu_is_named_with_the_gpu(cluster):
    cluster.objects += [
        team_pod("sound", status=reporting("Healthy")),
        team_pod("broken", gpus=2, status=reporting("Healthy", "Unhealthy", message="double-bit ECC error")),
        # Without its plugin, as in an upgrade, a kubelet does not know; what has ended holds no device.
        team_pod("unknown", status=reporting("Unknown")),
        team_pod("ended", status=reporting("Unhealthy", phase="Failed")),
        team_pod("network", status=reporting("Unhealthy", name="nvidia.com/rdma_shared")),
        team_pod("silent"),
    ]

    outcome = cluster.verdict(UNHEALTHY)

    assert list(outcome.broken) == ["pod team/broken"]
    assert "nvidia.com/gpu GPU-1: double-bit ECC error" in outcome.broken["pod team/broken"]
    assert outcome.subjects == ["pod team/sound", "pod team/broken", "pod team/unknown"]


def test_a_claimed_gpu_that_is_unhealthy_is_found(cluster):
    claims = [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    pod = team_pod("claiming", gpus=0, resourceClaims=claims, status=reporting("Unhealthy", name="claim:gpu/gpu"))
    cluster.objects.append(pod)

    assert list(cluster.verdict(UNHEALTHY).broken) == ["pod team/claiming"]


def test_where_no_kubelet_says_how_devices_are_nothing_passes(cluster):
    cluster.objects.append(team_pod("silent"))

    assert isinstance(cluster.verdict(UNHEALTHY).ended, Unsupported)

"""What is said of a pod that is not Ready, and what somebody is advised to look at."""

import pytest
from operated_cluster import LONG_AGO, made

from conformance.facts import Facts, Pod
from suites._shared.pod_status import what_to_do, why_not_ready

KERNEL = "5.15.0-100-generic"
PLAIN, PRECOMPILED = "nvcr.io/nvidia/driver:580.95.05-ubuntu22.04", f"nvcr.io/nvidia/driver:535-{KERNEL}-ubuntu22.04"


def pod_in(state: dict[str, object], image: str = PLAIN, **status: object) -> tuple[Pod, Facts]:
    container = {"name": "main", "image": image}
    node = made("v1", "Node", "gpu-2", status={"nodeInfo": {"kernelVersion": KERNEL}})
    states = [{"name": "main", "ready": False, "restartCount": 3, "state": state, **status}]
    pod = made("v1", "Pod", "p", "gpu-operator", spec={"nodeName": "gpu-2", "containers": [container]}, status={
        "phase": "Running", "startTime": LONG_AGO, "containerStatuses": states})  # fmt: skip
    facts = Facts.from_objects([node, pod])
    return facts.pods[0], facts


def waiting(reason: str) -> dict[str, object]:
    return {"waiting": {"reason": reason}}


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull"])
def test_an_image_that_cannot_be_pulled_is_named_and_nobody_reads_a_log(reason):
    pod, facts = pod_in(waiting(reason))

    assert f"{reason} of {PLAIN}" in why_not_ready(pod)
    assert PLAIN in what_to_do(pod, facts)
    assert "logs" not in what_to_do(pod, facts)
    assert "logs" not in what_to_do(pod, facts, ending=pod.statuses[0])


def test_a_container_that_its_memory_limit_kills_needs_a_higher_one_and_nobody_reads_a_log():
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": LONG_AGO}}
    pod, facts = pod_in(waiting("CrashLoopBackOff"), lastState=killed)

    assert "resources.limits.memory of container main" in what_to_do(pod, facts)
    assert "kubectl top pod -n gpu-operator p --containers" in what_to_do(pod, facts)
    assert "logs" not in what_to_do(pod, facts)


def test_a_driver_for_a_kernel_is_told_with_the_kernel():
    pod, facts = pod_in(waiting("ImagePullBackOff"), PRECOMPILED)

    assert f"built for kernel {KERNEL} of node gpu-2" in what_to_do(pod, facts)


@pytest.mark.parametrize("system", ["cos121", "amzn2023", "talosv1.11.0"])
def test_a_system_that_nvidia_has_no_drivers_for_brings_its_own(system):
    pod, facts = pod_in(waiting("ImagePullBackOff"), f"nvcr.io/nvidia/driver:570.148.08-{system}")

    assert "set driver.enabled to false" in what_to_do(pod, facts)


def test_a_pod_of_which_no_container_has_started_has_events_and_no_log():
    # NVIDIA/gpu-operator issue 2463: a hostPath of the driver's pod is not there, and the pod waits for its volumes.
    pod, facts = pod_in(waiting("PodInitializing"))

    assert "kubectl describe pod -n gpu-operator p" in what_to_do(pod, facts)
    assert "logs" not in what_to_do(pod, facts)


def test_a_driver_that_is_in_use_is_told_with_its_users():
    init = {"name": "k8s-driver-manager", "ready": False, "restartCount": 22, "state": waiting("CrashLoopBackOff")}
    containers = [{"name": "nvidia-driver-ctr", "image": PLAIN}]
    driver = made("v1", "Pod", "driver", "gpu-operator", spec={"nodeName": "gpu-2", "containers": containers}, status={
        "phase": "Pending", "initContainerStatuses": [init]})  # fmt: skip
    limits = {"image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}}
    user = made("v1", "Pod", "train", "team", spec={"nodeName": "gpu-2", "containers": [{"name": "main", **limits}]},
        status={"phase": "Running"})  # fmt: skip
    alone, together = Facts.from_objects([driver]), Facts.from_objects([driver, user])

    assert what_to_do(alone.pods[0], alone).endswith("-c k8s-driver-manager --previous")
    told = what_to_do(next(pod for pod in together.pods if pod.name == "driver"), together)
    assert "use GPUs of gpu-2: pod team/train" in told
    assert "when their owners are ready" in told


def test_a_container_that_never_started_has_no_log():
    pod, facts = pod_in(waiting("CreateContainerConfigError"))

    assert "kubectl describe pod -n gpu-operator p" in what_to_do(pod, facts)


def test_a_container_that_crashed_has_the_log_of_its_last_run():
    pod, facts = pod_in(waiting("CrashLoopBackOff"))
    assert what_to_do(pod, facts) == "kubectl logs -n gpu-operator p -c main --previous"

    pod, facts = pod_in({"running": {"startedAt": LONG_AGO}})
    assert "--previous" not in what_to_do(pod, facts)
    assert "-c main --previous" in what_to_do(pod, facts, ending=pod.statuses[0])

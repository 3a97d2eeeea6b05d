"""Pods that request GPUs, from the API server: their status, their mounts, and the CUDA version of their images."""

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from conformance.facts import Container, Facts, Pod, Workload
from conformance.facts.podspec import PodSpec
from conformance.gpu.drivers import CudaVersion
from conformance.gpu.resources import (
    ALIBABA_MEMORY,
    MIG_PREFIX,
    SHARED_GPU,
    is_for_virtual_machines,
    is_of_other_maker,
)
from conformance.reference.expected import gpu_resources
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from suites._shared.gpu_requests import resources_requested

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where a container looks for shared memory, not a file of ours
_ABOVE_SHARED_MEMORY = ("/", "/dev")
_DRIVER_COMPONENT = ("app.kubernetes.io/component", "nvidia-driver")
_DRIVER_APP = ("app", "nvidia-driver-daemonset")
# Beside it run others that may start again by themselves, such as nvidia-peermem-ctr, nvidia-gdrcopy-ctr and
# nvidia-fs-ctr (NVIDIA/gpu-operator: assets/state-driver/0500_daemonset.yaml, manifests/state-driver).
_DRIVER_CONTAINER = "nvidia-driver-ctr"

# nvidia/cuda:12.1.0-base-ubuntu22.04, nvcr.io/nvidia/cuda:13.0.1-devel-ubi9
_CUDA_IMAGE = re.compile(r"(?:^|/)cuda:(?P<version>\d+\.\d+(?:\.\d+)?)")
# pytorch:2.3.0-cuda12.1-cudnn8-runtime, cuda-sample:vectoradd-cuda12.5.0-ubuntu22.04
_CUDA_IN_TAG = re.compile(r":.*cuda-?(?P<version>\d+\.\d+(?:\.\d+)?)")
# torch's short form, cu121 and cu118: the last digit is the minor version.
_SHORT_IN_TAG = re.compile(r":(?:.*[-_.])?cu(?P<major>\d\d)(?P<minor>\d)(?!\d)")


# registry.k8s.io/pause:3.10, mcr.microsoft.com/oss/kubernetes/pause, rancher/mirrored-pause: they only hold a place.
_PAUSE = re.compile(r"(?:^|/)(?:mirrored-)?pause(?:[:@]|$)")


class Holder(NamedTuple):
    """A source of pods with GPUs: the template of a workload, or a pod whose controller is not read."""

    subject: ObjectReference
    spec: PodSpec
    inspect: str

    def __str__(self) -> str:
        return str(self.subject)


# Several requirements ask; a run has one set of facts and one reference.
@lru_cache(maxsize=1)
def pods_with_gpu_resources(facts: Facts, reference: Reference) -> tuple[Pod, ...]:
    """The pods that request GPUs as counted resources, finished ones included, without those of the stack itself."""
    stack = facts.stack_namespaces
    return tuple(pod for pod in facts.pods if pod.namespace not in stack and resources_requested(pod, reference))


def holders(facts: Facts, reference: Reference) -> tuple[Holder, ...]:
    """The workloads whose pods request GPUs, as admission makes them, and such pods of no workload that is read."""
    owners = [each for each in facts.workloads if resources_requested(each.template, reference)]
    made = (_of_workload(owner)._replace(spec=facts.template_of_its_pods(owner)) for owner in owners)
    return (*_of_others(pods_with_gpu_resources(facts, reference), facts), *made)


def everything_with_a_runtime_class(facts: Facts) -> tuple[Holder, ...]:
    """The workloads that name a RuntimeClass, and such pods that belong to no workload that is read."""
    pods = [pod for pod in facts.pods if pod.runtime_class]
    owners = [each for each in facts.workloads if each.template.runtime_class]
    return (*_of_others(pods, facts), *(_of_workload(owner) for owner in owners))


def whole_gpus(spec: PodSpec, reference: Reference) -> int:
    """How many whole GPUs a pod requests: replicas and MIG devices do not communicate over shared memory.

    Nor do those of virtual machines, whose memory is not the pod's. What other makers' libraries do is not judged.
    """
    return sum(count for name, count in resources_requested(spec, reference).items() if _is_whole(name, reference))


def _is_whole(name: str, reference: Reference) -> bool:
    """Whether a resource is whole GPUs of containers; one is not where every pool that declares it shares it."""
    if name in (SHARED_GPU, ALIBABA_MEMORY) or name.startswith(MIG_PREFIX):
        return False
    if is_for_virtual_machines(name) or is_of_other_maker(name):
        return False
    sharing = [bool(pool.gpu.shared_by) for pool in reference.gpu_pools if pool.gpu and pool.gpu.resource == name]
    return not sharing or not all(sharing)


def has_big_shared_memory(spec: PodSpec) -> bool:
    """Whether some container has more than the 64 MiB of /dev/shm that every container gets.

    So it is with ``hostIPC`` (the container gets the /dev/shm of its node), with an emptyDir in memory, any volume at
    /dev/shm, and where a mount above it (``/dev`` of the node) brings a /dev/shm along.
    Source: containerd, CRI: the sandbox of a pod in the node's IPC namespace has the node's /dev/shm.
    """
    if spec.host_ipc:
        return True
    small = {volume.name for volume in spec.volumes if volume.kind == "emptyDir" and volume.medium != "Memory"}
    above = {volume.name for volume in spec.volumes if volume.kind == "hostPath"}
    mounts = [(mount.path.rstrip("/") or "/", mount.volume) for each in spec.containers for mount in each.mounts]
    return any(
        volume not in small if path == SHARED_MEMORY else path in _ABOVE_SHARED_MEMORY and volume in above
        for path, volume in mounts
    )


def driver_starts(facts: Facts) -> dict[str, datetime]:
    """When the driver of each node was last started by a driver pod, by node."""
    starts: dict[str, datetime] = {}
    for pod in facts.pods:
        if pod.node and not pod.finished and _runs_the_driver(pod) and (began := _driver_began(pod)):
            starts[pod.node] = max(began, starts.get(pod.node, began))
    return starts


def devices_injected_at(pod: Pod, reference: Reference) -> datetime | None:
    """When the driver files of a pod were injected; None while no container with GPUs runs.

    A restart of the node leaves ``status.startTime`` of its pods as it was, and gives their containers new files.
    """
    if not pod.statuses:
        return pod.started or pod.created
    requesting = {container.name for container in _requesting(pod, reference)}
    ordinary = [status for status in pod.statuses if not status.init]
    working = [status for status in ordinary if status.name in requesting] or ordinary
    return min((status.running_since for status in working if status.running_since), default=None)


def cuda_of(image: str) -> CudaVersion | None:
    """The CUDA version in an image's name, None when it has none."""
    name = image.partition("@")[0]
    if found := _CUDA_IMAGE.search(name) or _CUDA_IN_TAG.search(name):
        return CudaVersion.parse(found["version"])
    if short := _SHORT_IN_TAG.search(name):
        return CudaVersion(int(short["major"]), int(short["minor"]))
    return None


def images_with_gpus(spec: PodSpec, reference: Reference) -> Iterable[str]:
    """The images of the containers that request GPUs, each once."""
    return dict.fromkeys(container.image for container in _requesting(spec, reference))


def only_holds_a_place(spec: PodSpec, reference: Reference) -> bool:
    """Whether the containers with GPUs do nothing: pods of low priority that keep nodes warm for others."""
    images = [container.image for container in _requesting(spec, reference)]
    return bool(images) and all(_PAUSE.search(image) for image in images)


def only_pauses(spec: PodSpec) -> bool:
    """Whether all containers of a pod do nothing: its init containers have had images pulled, or it holds a place."""
    return bool(spec.containers) and all(_PAUSE.search(container.image) for container in spec.containers)


def _requesting(spec: PodSpec, reference: Reference) -> list[Container]:
    """The containers that request GPUs."""
    names = {*gpu_resources(reference), *spec.gpu_requests()}
    return [each for each in spec.every_container if names & {*each.limits, *each.requests}]


def _of_others(pods: Iterable[Pod], facts: Facts) -> list[Holder]:
    """The lasting pods among these that no workload creates, the equal ones of one controller as one."""
    workloads = {(each.namespace, each.kind, each.name) for each in facts.workloads}
    replica_sets = {
        (each.namespace, "ReplicaSet", each.name)
        for each in facts.replica_sets
        if (each.namespace, each.owner_kind, each.owner_name) in workloads
    }
    controllers = workloads | replica_sets
    lasting = (pod for pod in pods if not pod.finished and not pod.deleting)
    others = (pod for pod in lasting if (pod.namespace, pod.owner_kind, pod.owner_name) not in controllers)
    equal: dict[tuple[object, ...], Pod] = {}
    for pod in others:
        equal.setdefault(_likeness(pod), pod)
    return [_of_pod(pod) for pod in equal.values()]


def _likeness(pod: Pod) -> tuple[object, ...]:
    """The key of equal pods of one controller, one of which is judged; a pod without controller has its own."""
    if not _has_controller(pod):
        return (pod.namespace, pod.name)
    requests = tuple(sorted(pod.requests().items()))
    judged = (requests, has_big_shared_memory(pod), pod.host_users, pod.runtime_class)
    return (pod.namespace, pod.owner_kind, pod.owner_name, *judged)


def _has_controller(pod: Pod) -> bool:
    """Whether a controller creates the pod and may create more of it; static pods have none."""
    return bool(pod.owner_kind) and pod.owner_kind != "Node" and not pod.static


def _of_pod(pod: Pod) -> Holder:
    inspect = f"kubectl get pod -n {pod.namespace} {pod.name} -o yaml"
    return Holder(pod.of_owner if _has_controller(pod) else pod.subject, pod, inspect)


def _of_workload(workload: Workload) -> Holder:
    kind, namespace, name = workload.kind.lower(), workload.namespace, workload.name
    return Holder(workload.subject, workload.template, f"kubectl get {kind} -n {namespace} {name} -o yaml")


def _runs_the_driver(pod: Pod) -> bool:
    labels = pod.labels.items()
    return _DRIVER_COMPONENT in labels or _DRIVER_APP in labels


def _driver_began(pod: Pod) -> datetime | None:
    """When the driver of a pod started; None while the driver manager before it has not unloaded the one before."""
    driver = next((status for status in pod.statuses if status.name == _DRIVER_CONTAINER), None)
    if driver is None:
        return pod.started
    before = any(each.init and each.exit_code != 0 for each in pod.statuses)
    return None if before and not driver.running_since else driver.running_since or pod.started

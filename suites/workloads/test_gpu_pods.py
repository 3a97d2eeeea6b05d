"""Pods with GPUs: whether their manifests can work, and how the running ones fare.

The chapter on workloads starts pods of its own; this one reads those of others. Some are rejected after the scheduler
chose a node, some never end, some use files of a driver that is gone, and some cannot work by what their manifest says.
None of that shows in the state of a node.
"""

from datetime import timedelta

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Pod
from conformance.facts.containers import DeviceHealth
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Judge, NotApplicable, Unsupported
from suites._shared.gpu_holders import (
    Holder,
    devices_injected_at,
    driver_starts,
    everything_with_a_runtime_class,
    has_big_shared_memory,
    holders,
    only_holds_a_place,
    pods_with_gpu_resources,
    whole_gpus,
)
from suites._shared.gpu_requests import gpu_pods, names_gpus
from suites._shared.grace import every_driver_is_pre_installed
from suites._shared.operator_resource import without_stack
from suites._shared.refused_pods import refusal_of
from suites._shared.runtime_classes import create_the_class
from suites.workloads.terminating import why_terminating

# How long after the grace period a kubelet may need to clean up a pod.
_CLEAN_UP = timedelta(minutes=2)


@requirement(
    "WORK-10",
    "No pod with a GPU request was rejected by its kubelet",
    level=MUST,
    sources=[
        "k8s-84869",
        "k8s-97131",
        "k8s-125579",
        "k8s-130145",
        "device-plugin",
        "device-plugin-231",
        "device-plugin-2038",
    ],
    remedy="Delete the failed pod; then fix the cause of the rejection, or the next pod fails as well.",
)
def test_no_gpu_pod_was_refused(facts: Facts, reference: Reference, judge: Judge) -> None:
    pods = _gpu_pods(facts, reference)
    for pod in pods:
        refusal = refusal_of(pod)
        if refusal is not None:
            judge(
                pod,
                ok=False,
                expected="to run where it was scheduled",
                actual=f"{pod.reason} on {pod.node}: {pod.message or 'no message'}",
                cause=refusal.cause,
                hidden_because="the pod is Failed like any program that crashed; a Job just creates the next one",
                remedy=refusal.remedy,
                owner=refusal.owner,
                inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.status}}'",
            )
    _judge_the_others(pods, [pod for pod in pods if not refusal_of(pod)], "to run where it was scheduled", judge)


@requirement(
    "WORK-11",
    "No pod with a GPU request is stuck in Terminating",
    level=MUST,
    sources=["nvidia-docker-1553", "k8s-node-shutdowns", "k8s-pod-lifecycle"],
    remedy="Find the process that does not end on the node; where it waits for a GPU that does not answer, cordon and "
    "restart the node. Deleting by force only hides it, and the device is then allocated twice.",
)
def test_no_gpu_pod_hangs_in_terminating(facts: Facts, reference: Reference, judge: Judge) -> None:
    pods = _gpu_pods(facts, reference)
    hanging = [pod for pod in pods if pod.deletion and facts.taken_at - pod.deletion > _CLEAN_UP]
    late = {id(pod) for pod in hanging}
    for pod in hanging:
        why = why_terminating(pod, facts)
        judge(
            pod,
            ok=False,
            expected="to be deleted when its grace period is over",
            actual=f"Terminating on {pod.node or 'no node'}, due since {pod.deletion:%Y-%m-%d %H:%M} UTC",
            cause=why.cause,
            hidden_because=why.hidden_because,
            remedy=why.remedy,
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.metadata.deletionTimestamp}} "
            "{.metadata.finalizers}'",
        )
    _judge_the_others(pods, [pod for pod in pods if id(pod) not in late], "no pod that hangs in Terminating", judge)


@requirement(
    "WORK-12",
    "Pods with several GPUs mount a volume at /dev/shm for NCCL",
    level=SHOULD,
    owner=Owner.WORKLOAD,
    sources=["nccl-290", "nccl-525", "k8s-28272"],
    remedy="Mount an emptyDir with medium: Memory and a sizeLimit at /dev/shm, counted in the memory limit. A driver "
    "upgrade that deletes pods must then be told deleteEmptyDir, else it stops at them.",
)
def test_pods_with_several_gpus_have_shared_memory(facts: Facts, reference: Reference, judge: Judge) -> None:
    several = [
        each
        for each in holders(facts, reference)
        if whole_gpus(each.spec, reference) > 1 and not only_holds_a_place(each.spec, reference)
    ]
    if not several:
        raise NotApplicable("no pod or workload of the cluster requests several whole GPUs for one pod")
    for each in several:
        enough = has_big_shared_memory(each.spec)
        judge(
            each,
            ok=enough,
            expected="a volume at /dev/shm, such as an emptyDir in memory, or that of the node (hostIPC)",
            actual="a volume or that of the node" if enough else "the 64 MiB that every container gets",
            cause="NCCL exchanges data between processes through /dev/shm, and 64 MiB are too small",
            hidden_because="small models fit; the first larger one fails with 'No space left on device'",
            inspect=each.inspect,
        )


@requirement(
    "WORK-13",
    "No pod with GPUs sets hostUsers to false",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["operator-cdi", "toolkit-648"],
    remedy="Leave hostUsers out of pods that ask for GPUs.",
)
def test_no_gpu_pod_asks_for_a_user_namespace(facts: Facts, reference: Reference, judge: Judge) -> None:
    for each in _holders(facts, reference):
        judge(
            each,
            ok=each.spec.host_users is not False,
            expected="the users of the node (hostUsers absent or true)",
            actual={False: "hostUsers: false", True: "hostUsers: true", None: "hostUsers absent"}[each.spec.host_users],
            cause="the container toolkit cannot inject devices into a user namespace",
            hidden_because="the error message is about a sync socket and names neither GPUs nor users",
            inspect=each.inspect,
        )


@requirement(
    "WORK-14",
    "No pod with GPUs started before the driver that now runs on its node",
    level=SHOULD,
    owner=Owner.WORKLOAD,
    sources=["operator-upgrades", "operator-416"],
    remedy="Restart the pod: it still has the files of the driver that was there before.",
)
def test_no_gpu_pod_is_older_than_its_driver(facts: Facts, reference: Reference, judge: Judge) -> None:
    if reference.stack is None or not reference.stack.driver_managed:
        raise NotApplicable(f"{reference} has drivers that no pod starts, so that their start is unknown")
    starts = driver_starts(facts)
    running = [
        pod for pod in pods_with_gpu_resources(facts, reference) if pod.phase == "Running" and pod.node in starts
    ]
    if not starts and every_driver_is_pre_installed(facts, reference):
        raise NotApplicable("the nodes of all GPU pools bring a driver of their own, which no pod starts")
    if not starts:
        raise without_stack(facts, "no driver pod runs in the cluster", judged_by="OPER-13")
    if not running:
        raise NotApplicable("no pod with GPUs runs on a node whose driver a pod started")
    for pod in running:
        began, driver = devices_injected_at(pod, reference), starts[pod.node]
        judge(
            pod,
            ok=began is None or began >= driver,
            expected=f"started after the driver of {pod.node}, {driver:%Y-%m-%d %H:%M:%S} UTC",
            actual=f"started {began:%Y-%m-%d %H:%M:%S} UTC" if began else "no container with GPUs runs",
            cause=f"the driver of {pod.node} was started anew while the pod was running",
            hidden_because="an idle pod notices nothing until it opens the GPU again",
            inspect=(
                f"kubectl get pods -A -o wide --field-selector spec.nodeName={pod.node} --sort-by=.status.startTime"
            ),
        )


@requirement(
    "WORK-15",
    "Every RuntimeClass that a pod or pod template names exists",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["operator-cdi", "k8s-runtime-class"],
    remedy="Take runtimeClassName out of the pods (with CDI they need none), or create the class.",
)
def test_every_named_runtime_class_exists(facts: Facts, reference: Reference, judge: Judge) -> None:
    there = sorted(each.name for each in facts.runtime_classes)
    named_somewhere = everything_with_a_runtime_class(facts)
    if not named_somewhere:
        raise Unsupported("no pod or workload of the cluster names a RuntimeClass")
    for each in named_somewhere:
        judge(
            each,
            ok=each.spec.runtime_class in there,
            expected=f"runtime class {each.spec.runtime_class}",
            actual=there or "no runtime class at all",
            remedy=create_the_class(reference, each.spec.runtime_class),
            cause=f"there is no runtime class {each.spec.runtime_class}: the API server refuses its pods",
            hidden_because=(
                "running pods keep running; the operator's NRI plugin deletes the class, and no new pod is created"
            ),
            inspect="kubectl get runtimeclasses",
        )


@requirement(
    "WORK-16",
    "Every pod and pod template with GPUs names the RuntimeClass that the stack needs",
    level=MUST,
    owner=Owner.WORKLOAD,
    sources=["k3s-runtimes", "k8s-runtime-class"],
    remedy="Set runtimeClassName in the pod template to the class that stack.runtime_class declares.",
)
def test_every_gpu_pod_names_the_runtime_class(facts: Facts, reference: Reference, judge: Judge) -> None:
    needed = reference.stack.runtime_class if reference.stack is not None else ""
    if not needed:
        raise NotApplicable(f"{reference} declares no RuntimeClass that pods with GPUs have to name")
    for each in _holders(facts, reference):
        judge(
            each,
            ok=each.spec.runtime_class == needed,
            expected=f"runtimeClassName {needed}",
            actual=each.spec.runtime_class or "no runtimeClassName",
            cause="the default runtime of the node puts neither driver nor devices into the container",
            hidden_because="the pod is scheduled, starts and holds its GPU; only the program finds no driver",
            inspect=each.inspect,
        )


@requirement(
    "WORK-17",
    "No running pod with a GPU request holds a device that its kubelet reports as Unhealthy",
    level=MUST,
    sources=["kep-4680", "device-plugin-519", "device-plugin"],
    remedy="Cordon the node and look for the XID in its kernel log; let the pod end or start it on another node; then "
    "reset the GPU or restart the node. Restarting the device plugin alone hides the fault.",
)
def test_no_running_pod_holds_an_unhealthy_device(facts: Facts, reference: Reference, judge: Judge) -> None:
    pods = [pod for pod in gpu_pods(facts, reference) if pod.namespace not in facts.stack_namespaces]
    if not pods:
        raise NotApplicable("no pod of the cluster requests GPUs")
    judge.without_subjects(
        Unsupported("no kubelet reports the health of devices in the pod status (ResourceHealthStatus, on from 1.36)")
    )
    for pod in pods:
        devices = [] if pod.finished else _devices(pod, reference)
        unhealthy = [each for each in devices if each.health == "Unhealthy"]
        if not devices:
            continue
        judge(
            pod,
            ok=not unhealthy,
            expected="no Unhealthy device",
            actual=[f"{each.resource} {each.device}: {each.message or each.health}" for each in unhealthy] or "none",
            cause=f"the device became Unhealthy on {pod.node} while the pod had it" if unhealthy else "",
            hidden_because="the pod stays Running; an Unhealthy device is only kept from new pods" if unhealthy else "",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} "
            "-o jsonpath='{.status.containerStatuses[*].allocatedResourcesStatus}'",
        )


def _devices(pod: Pod, reference: Reference) -> list[DeviceHealth]:
    """The GPUs, and all devices of claims, of which the kubelet says how they are."""
    every = [each for status in pod.statuses for each in status.devices]
    return [each for each in every if each.resource.startswith("claim:") or names_gpus(each.resource, reference)]


def _gpu_pods(facts: Facts, reference: Reference) -> tuple[Pod, ...]:
    pods = pods_with_gpu_resources(facts, reference)
    if not pods:
        raise NotApplicable("no pod of the cluster requests GPUs")
    return pods


def _holders(facts: Facts, reference: Reference) -> tuple[Holder, ...]:
    found = holders(facts, reference)
    if not found:
        raise NotApplicable("no pod or workload of the cluster requests GPUs")
    return found


def _judge_the_others(pods: tuple[Pod, ...], good: list[Pod], expected: str, judge: Judge) -> None:
    """One passing finding for all the other pods."""
    if good:
        which = ObjectReference.many("Pod", f"{len(good)} of {len(pods)} pods with GPUs")
        judge(which, ok=True, expected=expected, actual=expected)

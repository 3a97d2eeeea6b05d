"""Pods with GPUs: whether their manifests and images can work, and how the running ones fare.

The chapter on workloads starts pods of its own; this one reads those of others. Some are rejected after the scheduler
chose a node, some never end, some use files of a driver that is gone, and some cannot work by what their manifest or
their image says. None of that shows in the state of a node.
"""

from datetime import timedelta
from typing import Any

from conformance.catalog import MUST, SHOULD, Owner, requirement
from conformance.facts import Facts, Pod
from conformance.facts.containers import DeviceHealth
from conformance.facts.podspec import PodSpec
from conformance.gpu.drivers import (
    Compatibility,
    CudaVersion,
    DriverVersion,
    Forward,
    ForwardCompatibility,
    Runs,
    forward_compatibility,
    is_data_center,
    runs,
)
from conformance.reference.expected import driver_of
from conformance.reference.model import Pool, Reference, TestPod
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported, format_value
from suites._shared.declared_workloads import declared_in, lacking
from suites._shared.formatting import join_limited
from suites._shared.gpu_holders import (
    Holder,
    cuda_of,
    devices_injected_at,
    driver_starts,
    everything_with_a_runtime_class,
    has_big_shared_memory,
    holders,
    images_with_gpus,
    only_holds_a_place,
    pods_with_gpu_resources,
    whole_gpus,
)
from suites._shared.gpu_requests import gpu_pods, names_gpus
from suites._shared.grace import every_driver_is_pre_installed
from suites._shared.node_gpus import driver, product
from suites._shared.operator_resource import without_stack
from suites._shared.pool_nodes import Members, set_aside, without_nodes
from suites._shared.refused_pods import refusal_of
from suites._shared.runtime_classes import create_the_class
from suites.workloads.terminating import why_terminating

_MAY_HELP = (Forward.WITH_PACKAGE, Forward.UNKNOWN)
# How long after the grace period a kubelet may need to clean up a pod.
_CLEAN_UP = timedelta(minutes=2)


@requirement(
    "WORK-08",
    "Every declared test pod fits on a node of its pools",
    level=MUST,
    sources=["guide-6", "k8s-taints"],
    remedy="Give the test pod one toleration for each taint of its pools, and requests that a node can meet.",
)
def test_every_test_pod_fits_somewhere(reference: Reference, facts: Facts, members: Members, judge: Judge) -> None:
    if not reference.test_pods:
        raise NotApplicable(f"{reference} declares no test pod")
    for test_pod in reference.test_pods:
        spec = _spec_of(test_pod, facts)
        nodes = [node for pool in _pools_of(test_pod, reference) for node in members(pool)]
        if not nodes:
            set_aside(judge, test_pod, without_nodes(_pools_of(test_pod, reference), reference, members))
            continue
        obstacles = {node.name: _obstacles(spec, node) for node in nodes}
        fitting = [name for name, reasons in obstacles.items() if not reasons]
        nearest = min(obstacles, key=lambda name: len(obstacles[name]))
        judge(
            test_pod,
            ok=bool(fitting),
            expected=f"a node of {format_value(_pools_of(test_pod, reference))} that it can be scheduled to",
            actual=join_limited(fitting) or f"none of {len(nodes)} nodes does: it stays Pending",
            cause=f"node {nearest}: {'; '.join(obstacles[nearest])}",
            hidden_because="a Pending test pod looks like a cluster without free GPUs",
            inspect=f"kubectl get node {nearest} -o jsonpath='{{.spec.taints}}'",
        )


@requirement(
    "WORK-09",
    "The CUDA version in the images of declared GPU workloads runs on the drivers of their pools",
    level=MUST,
    owner=Owner.UNKNOWN,
    sources=["guide-6", "cuda-compatibility", "operator-1947", "toolkit-152"],
    remedy="Upgrade the driver of the pool, or take an image with an older CUDA.",
)
def test_images_run_on_the_driver(reference: Reference, facts: Facts, members: Members, judge: Judge) -> None:
    pairs = [
        (subject, image, cuda_of(image), found)
        for subject, spec, pools in _declared_specs(reference, facts)
        for image in images_with_gpus(spec, reference)
        for found in sorted(_drivers_of(pools, reference, members).items())
    ]
    if not pairs:
        raise NotApplicable(f"{reference} declares no GPU workload on a pool with a known driver")
    if not any(members(pool) for pool in reference.gpu_pools):
        raise without_nodes(reference.gpu_pools, reference, members)
    known = [(subject, image, cuda, found) for subject, image, cuda, found in pairs if cuda is not None]
    if not known:
        raise NotApplicable(
            f"no image tag has a CUDA version: {join_limited(sorted({image for _, image, _, _ in pairs}))}"
        )
    for subject, image, cuda, (found, products) in known:
        verdict = _runs_on(cuda, found)
        ways = _ways_out(cuda, found, products) if verdict.runs is Runs.NOT else []
        not_judged = _why_unknown(verdict, ways)
        if not_judged:
            judge.pass_over(subject.only(f"image {image} on driver {found}"), not_judged)
            continue
        judge(
            subject,
            ok=verdict.runs is not Runs.NOT,
            expected=f"image {image} runs on driver {found}",
            actual=verdict,
            cause="; ".join([verdict.reason, *_why_none_helps(ways)]),
            hidden_because="the pod starts and nvidia-smi works in it: only the first CUDA call fails",
        )


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


def _spec_of(test_pod: TestPod, facts: Facts) -> PodSpec:
    """The pod as admission would take it."""
    pods = Facts.from_objects([test_pod.manifest]).pods
    if not pods:
        raise Inconclusive(f"the manifest of {test_pod} is not a Pod")
    return facts.as_admitted(pods[0])


def _pools_of(test_pod: TestPod, reference: Reference) -> tuple[Pool, ...]:
    named_pools = tuple(pool for pool in reference.pools if pool.name in test_pod.pools)
    return named_pools or reference.gpu_pools


def _obstacles(spec: PodSpec, node: Any) -> list[str]:
    """Why a pod cannot run on a node even when it is idle."""
    repelling = [taint for taint in node.untolerated(spec.tolerations) if taint in node.lasting_taints]
    obstacles = [f"taint {taint} is not tolerated" for taint in repelling]
    if not spec.selects(node):
        obstacles.append("its required affinity or nodeSelector is not met")
    return [*obstacles, *lacking(spec, node).values()]


def _declared_specs(reference: Reference, facts: Facts) -> list[tuple[ObjectReference, PodSpec, tuple[Pool, ...]]]:
    """The declared workloads and test pods with the GPU pools on which they may run."""
    found: list[tuple[ObjectReference, PodSpec, tuple[Pool, ...]]] = [
        (workload.subject, workload.template, workload.pools) for workload in declared_in(reference, facts)
    ]
    found += [
        (test_pod.subject, _spec_of(test_pod, facts), _pools_of(test_pod, reference))
        for test_pod in reference.test_pods
    ]
    return [(subject, spec, tuple(pool for pool in pools if pool.gpu)) for subject, spec, pools in found]


def _drivers_of(pools: tuple[Pool, ...], reference: Reference, members: Members) -> dict[str, set[str]]:
    """The drivers that are declared for pools and those that their nodes have, with the products that each drives."""
    found: dict[str, set[str]] = {}
    for pool in pools:
        declared = pool.gpu.product if pool.gpu is not None else ""
        found.setdefault(driver_of(reference, pool), set()).add(declared)
        for node in members(pool):
            found.setdefault(driver(node), set()).add(product(node) or declared)
    found.pop("", None)
    return found


def _runs_on(cuda: CudaVersion, driver: str) -> Compatibility:
    try:
        return runs(cuda, DriverVersion.parse(driver))
    except ValueError as error:
        return Compatibility(Runs.UNKNOWN, str(error))


def _ways_out(cuda: CudaVersion, driver: str, products: set[str]) -> list[ForwardCompatibility]:
    """Whether compatibility libraries in the image would help, different answers for several products each once.

    NVIDIA's images bring them, and the container toolkit puts them before the driver's (nvidia-container-toolkit pull
    request 1055); an image's name does not show whether it has them.
    """
    version = DriverVersion.parse(driver)
    answers = (forward_compatibility(cuda, version, is_data_center(each)) for each in sorted(products))
    return list(dict.fromkeys(answers))


def _why_none_helps(ways: list[ForwardCompatibility]) -> list[str]:
    """Why compatibility libraries do not help on some GPU that the image may run on; empty where they may."""
    return [way.reason for way in ways if way.forward not in _MAY_HELP]


def _why_unknown(verdict: Compatibility, ways: list[ForwardCompatibility]) -> str:
    """Why it is unknown whether an image runs on a driver; empty when it is known."""
    if verdict.runs is Runs.UNKNOWN:
        return verdict.reason
    if not ways or _why_none_helps(ways):
        return ""
    unsure = {way.reason for way in ways if way.forward is Forward.UNKNOWN}
    return "; ".join([f"{verdict.reason}, or {ways[0].package} in the image, which its name does not show", *unsure])


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

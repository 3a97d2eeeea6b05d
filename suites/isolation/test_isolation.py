"""Isolation: a pod reaches the GPUs that it was given, and no other.

The scheduler counts devices, but whether a container can open one is decided elsewhere: by the container runtime, which
may obey an environment variable that any image can set; by privileges that give a container every device of its node;
by host paths that bypass the allocator; by annotations that name a device outright. Each of them is a way to a GPU that
no quota counts and no report shows. CNCF's AI conformance asks for this isolation (secure_accelerator_access).

The pods of the first requirements ask for nothing and look for everything: with every library, with nvidia-smi, and by
opening device files. That nvidia-smi is missing would prove nothing.
"""

from collections.abc import Callable
from typing import Any

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, OWN_NAMESPACE, requirement
from conformance.facts import Facts, Pod
from conformance.lab import ProbeResult, RequirementLab
from conformance.lab.probe_jobs import ProbeOptions
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported
from suites._shared.formatting import join_limited
from suites._shared.node_probes import (
    Seen,
    asking_for_devices,
    asking_for_none,
    asking_for_none_in_ways,
    holding_devices,
    judge_each,
    knows_no_handler,
    nobody,
    uuids,
)
from suites._shared.pool_nodes import GpuPoolNode
from suites.isolation.gpu_access import (
    ALL_DEVICES,
    VISIBLE,
    cdi_devices_named,
    gpu_files,
    nvidia_runtime_classes,
    privileged_containers,
    protected_host_paths,
    reached,
)

CNCF = "CNCF Kubernetes AI Conformance: secure_accelerator_access"
TOOLKIT = "NVIDIA/nvidia-container-toolkit: accept-nvidia-visible-devices-envvar-when-unprivileged"
CDI = "NVIDIA GPU Operator: CDI"
POLICY = "kubernetes.io: Pod Security Standards"
# How the runtime hook refuses a container that may not choose its devices by a variable.
_UNPRIVILEGED = "insufficient privileges to read device list"
CLOSE_THE_DOOR = (
    "Set ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED=false for the container toolkit (toolkit.env) and let "
    "devices be given by CDI."
)


@requirement(
    "ISO-01",
    "A pod that asks for no GPU reaches none, on every GPU node",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[CNCF, "NVIDIA/k8s-device-plugin README", "NVIDIA/gpu-operator issue 421"],
    remedy="Take the NVIDIA runtime away as the default runtime of the node (NVIDIA_RUNTIME_SET_AS_DEFAULT=false), and "
    "let devices be given by CDI.",
)
def test_who_asks_for_nothing_gets_nothing(
    lab: RequirementLab, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    # Nothing about such a pod gives a runtime reason to refuse it: one that did not start proves nothing.
    seen = asking_for_none(lab, gpu_pool_nodes)
    _must_reach_nothing(seen, judge, "a container without any request", kept_out=nobody)


@requirement(
    "ISO-02",
    "NVIDIA_VISIBLE_DEVICES=all gives no GPU to a pod that asks for none",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[CNCF, TOOLKIT, "NVIDIA/gpu-operator issues 421, 700", "kubeflow/kubeflow issue 6451"],
    remedy=CLOSE_THE_DOOR,
)
def test_a_variable_opens_no_device(lab: RequirementLab, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge) -> None:
    seen = asking_for_none(lab, gpu_pool_nodes, env={VISIBLE: ALL_DEVICES})
    _must_reach_nothing(seen, judge, f"{VISIBLE}={ALL_DEVICES}, which every CUDA image sets,")


@requirement(
    "ISO-03",
    "Neither does the variable together with a runtime class of NVIDIA",
    level=MUST,
    effect=OWN_NAMESPACE,
    sources=[CNCF, TOOLKIT, "NVIDIA/gpu-operator issue 1588", "NVIDIA GPU Operator: Release Notes 25.10.0"],
    remedy=f"{CLOSE_THE_DOOR} Or refuse pods that name the runtime class and ask for no GPU, by an admission policy.",
)
def test_a_runtime_class_opens_no_device(
    lab: RequirementLab, facts: Facts, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    classes = nvidia_runtime_classes(facts)
    if not classes:
        raise Unsupported("the cluster has no runtime class whose handler is NVIDIA's")
    ways = [ProbeOptions(env={VISIBLE: ALL_DEVICES}, runtime_class=name) for name in classes]
    for name, seen in zip(classes, asking_for_none_in_ways(lab, gpu_pool_nodes, ways), strict=True):
        _must_reach_nothing(seen, judge, f"runtimeClassName {name} with {VISIBLE}={ALL_DEVICES}")


@requirement(
    "ISO-04",
    "Naming the UUID of a neighbour's GPU gives no access to it",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[CNCF, "kubernetes-sigs/ai-conformance KAR-0049", TOOLKIT],
    remedy=CLOSE_THE_DOOR,
)
def test_a_neighbours_gpu_stays_out_of_reach(
    lab: RequirementLab,
    reference: Reference,
    facts: Facts,
    one_node_of_each_pool: tuple[GpuPoolNode, ...],
    judge: Judge,
) -> None:
    with holding_devices(lab, reference, one_node_of_each_pool) as neighbours:
        owned = {each.node.name: uuids(each.result.found) for each in neighbours if not each.result.trouble}
        if not owned:
            raise Inconclusive(
                f"no neighbour could hold a GPU; {join_limited([each.result.trouble for each in neighbours])}"
            )
        for each in neighbours:
            if each.result.trouble:
                judge.pass_over(each.subject, each.result.trouble)
        neighbourhood = [each for each in one_node_of_each_pool if each.node.name in owned]
        wishes = {name: {VISIBLE: ",".join(devices)} for name, devices in owned.items()}
        classes = ("", *nvidia_runtime_classes(facts))
        ways = [ProbeOptions(env_of=wishes, runtime_class=name) for name in classes]
        for seen in asking_for_none_in_ways(lab, neighbourhood, ways):
            _must_not_reach(seen, owned, judge)


@requirement(
    "ISO-05",
    "A pod with one device can open the device file of that GPU only",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[CNCF, "NVIDIA/k8s-device-plugin issue 87"],
    remedy="Let the device plugin name single devices (CDI, or its deviceListStrategy), and give no container all of "
    "/dev.",
)
def test_one_device_is_one_device_file(
    lab: RequirementLab, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    several = [each for each in gpu_pool_nodes if each.gpu.count > 1]
    if not several:
        raise NotApplicable("no GPU pool declares nodes with a second GPU that a pod could reach for")

    def of(seen: Seen, record: dict[str, Any]) -> None:
        files = gpu_files(record["opened"])
        gpus = [name for name in record["devices"] if name.startswith("GPU-")]
        judge(
            seen.subject,
            ok=len(files) == 1 and len(gpus) <= 1,
            expected="one GPU, by library and by device file",
            actual=(
                f"{join_limited(files) or 'no device file'} can be opened, {join_limited(gpus) or 'no GPU'} is listed"
            ),
            cause=f"{len(files)} device files of GPUs can be opened by a container that was given one",
            hidden_because="programs that behave use the one device that they are told to use",
            inspect=seen.inspect,
        )

    judge_each(asking_for_devices(lab, reference, several, "isolation"), judge, of, blame=nobody)


@requirement(
    "ISO-06",
    "No ordinary pod on a GPU node is privileged",
    level=MUST,
    sources=[POLICY, "kubernetes/kubernetes issue 81256", "NVIDIA/k8s-device-plugin issue 336"],
    remedy="Enforce the Pod Security Standard baseline in the namespaces of teams (TEN-01 shows their labels).",
)
def test_no_ordinary_pod_is_privileged(pods_on_gpu_nodes: tuple[Pod, ...], judge: Judge) -> None:
    wrong = [(pod, names) for pod in pods_on_gpu_nodes if (names := privileged_containers(pod))]
    for pod, names in wrong:
        judge(
            pod,
            ok=False,
            expected="no container with privileged: true",
            actual=f"privileged: {join_limited(names)}",
            cause=f"a privileged container opens every device of {pod.node}, whatever it asked for",
            hidden_because="it asks for one GPU, or none, and quota and scheduler believe it",
            inspect=(
                f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.containers[*].securityContext}}'"
            ),
        )
    _judge_the_rest(pods_on_gpu_nodes, len(wrong), "unprivileged", judge)


@requirement(
    "ISO-07",
    "No ordinary pod on a GPU node mounts device files, the driver or the sockets of the device plugin",
    level=MUST,
    sources=[CNCF, POLICY],
    remedy="Ask for nvidia.com/gpu instead of mounting devices, and enforce the Pod Security Standard baseline, which "
    "forbids host paths.",
)
def test_no_ordinary_pod_mounts_devices(pods_on_gpu_nodes: tuple[Pod, ...], judge: Judge) -> None:
    wrong = [(pod, paths) for pod in pods_on_gpu_nodes if (paths := protected_host_paths(pod))]
    for pod, paths in wrong:
        judge(
            pod,
            ok=False,
            expected="no host path through which devices or the driver can be reached",
            actual=f"host paths {join_limited(paths)}",
            cause=f"{join_limited(paths)} of {pod.node} is in the pod past device plugin and scheduler",
            hidden_because="the pod works, on a GPU that counts as free; so does the next pod, on the same GPU",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.volumes}}'",
        )
    _judge_the_rest(pods_on_gpu_nodes, len(wrong), "no such host path", judge)


@requirement(
    "ISO-08",
    "No ordinary pod takes devices by a CDI annotation",
    level=MUST,
    sources=[CDI, CNCF],
    remedy="Refuse the annotation in the namespaces of teams by an admission policy, or switch the NRI plugin off "
    "(cdi.nriPluginEnabled: false).",
)
def test_no_ordinary_pod_takes_devices_by_annotation(pods_on_gpu_nodes: tuple[Pod, ...], judge: Judge) -> None:
    wrong = [(pod, named) for pod in pods_on_gpu_nodes if (named := cdi_devices_named(pod))]
    for pod, named in wrong:
        judge(
            pod,
            ok=False,
            expected="devices by request or claim only",
            actual=named,
            cause="the runtime injects what the annotation names, from any namespace",
            hidden_because="scheduler and quota never see an annotation",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.metadata.annotations}}'",
        )
    _judge_the_rest(pods_on_gpu_nodes, len(wrong), "no such annotation", judge)


@pytest.fixture
def one_node_of_each_pool(gpu_pool_nodes: tuple[GpuPoolNode, ...]) -> tuple[GpuPoolNode, ...]:
    """The first node of each GPU pool that takes pods: what its runtime obeys is configured for the whole pool."""
    taking = [each for each in gpu_pool_nodes if each.node.ready and not each.node.unschedulable]
    if not taking:
        raise Inconclusive("no GPU node is Ready and schedulable")
    return tuple({each.pool.name: each for each in reversed(taking)}.values())


@pytest.fixture
def pods_on_gpu_nodes(
    facts: Facts, ordinary_pods: tuple[Pod, ...], gpu_pool_nodes: tuple[GpuPoolNode, ...]
) -> tuple[Pod, ...]:
    """The ordinary pods on GPU nodes, those of the GPU stack left out: it has to reach what others must not."""
    names, stack = {node.name for _, node, _ in gpu_pool_nodes}, facts.stack_namespaces
    pods = tuple(pod for pod in ordinary_pods if pod.node in names and pod.namespace not in stack)
    if not pods:
        raise NotApplicable("no ordinary pod is on a GPU node")
    return pods


def _kept_out(result: ProbeResult) -> bool:
    """Whether the container runtime refused to start a pod for the devices that it named.

    Some versions of NVIDIA's runtime do (NVIDIA/nvidia-container-toolkit), and one that lacks the handler of a
    runtime class. What failed for another reason says nothing of the devices.
    """
    return result.placed and (_UNPRIVILEGED in result.trouble or knows_no_handler(result))


def _must_reach_nothing(
    seen: tuple[Seen, ...], judge: Judge, by: str, *, kept_out: Callable[[ProbeResult], bool] = _kept_out
) -> None:
    """Judge that nothing was reached by pods that asked for nothing."""

    def of(each: Seen, record: dict[str, Any]) -> None:
        judge(
            each.subject,
            ok=not reached(record),
            expected=f"no GPU within reach ({by.rstrip(',')})",
            actual=join_limited(reached(record)) or "no GPU, and no device file that opens",
            cause=f"{by} is enough for the container runtime of {each.node.name} to give devices",
            hidden_because="such a pod asks for nothing, so that no quota and no metric counts it",
            inspect=f"kubectl get node {each.node.name} -o jsonpath='{{.status.nodeInfo.containerRuntimeVersion}}'; "
            "kubectl get clusterpolicies -o jsonpath='{.items[*].spec.toolkit.env}'",
        )

    judge_each(seen, judge, of, blame=kept_out, when_refused=_not_started)


def _must_not_reach(seen: tuple[Seen, ...], owned: dict[str, list[str]], judge: Judge) -> None:
    """Judge that pods without a request have not reached the devices of their neighbours, which they named."""

    def of(each: Seen, record: dict[str, Any]) -> None:
        theirs = owned[each.node.name]
        taken = [name for name in record["devices"] if name in theirs]
        judge(
            each.subject,
            ok=not taken and not gpu_files(record["opened"]),
            expected=f"{join_limited(theirs)} of the neighbour out of reach",
            actual=join_limited([*taken, *gpu_files(record["opened"])]) or "out of reach",
            cause=f"the container runtime of {each.node.name} gives whatever device {VISIBLE} names",
            hidden_because="the owner of the device notices nothing but lost speed and memory",
            inspect=each.inspect,
        )

    judge_each(seen, judge, of, blame=_kept_out, when_refused=_not_started)


def _not_started(each: Seen, judge: Judge) -> None:
    """A container that its runtime does not even start has reached nothing."""
    judge(each.subject, ok=True, expected="no GPU within reach", actual=f"not started: {each.result.trouble}")


def _judge_the_rest(pods: tuple[Pod, ...], wrong: int, what: str, judge: Judge) -> None:
    """One finding for all the pods about which there is nothing to say."""
    good = len(pods) - wrong
    if good:
        which = ObjectReference.many("Pod", f"{good} of {len(pods)} ordinary pods on GPU nodes")
        judge(which, ok=True, expected=what, actual=what)

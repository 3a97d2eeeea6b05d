"""Isolation: a pod reaches the GPUs that are allocated to it, and no other.

The scheduler counts devices, but whether a container can open one is decided elsewhere: by the container runtime, which
may follow an environment variable that any image can set; by privileges that give a container every device of its node;
by host paths that bypass the allocator; by annotations that name a device. Each of them gives access to a GPU that no
quota counts and no report shows. CNCF's AI conformance asks for this isolation (secure_accelerator_access).

The pods of the first requirements request no GPU and try every access: with every library, with nvidia-smi, and by
opening device files. That nvidia-smi is missing would prove nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, OWN_NAMESPACE, WITHOUT_DEVICES, Owner, requirement
from conformance.facts import Facts, Pod, Resource
from conformance.lab import ProbeResult, RequirementLab
from conformance.lab.probe_jobs import ProbeOptions
from conformance.reference.model import Reference
from conformance.subjects import ObjectReference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Unsupported
from suites._shared.formatting import join_limited
from suites._shared.gpu_requests import classes_of_others
from suites._shared.node_probes import (
    Observed,
    holding_devices,
    judge_each,
    knows_no_handler,
    no_node,
    request_devices,
    request_no_devices,
    request_no_devices_in_variants,
    uuids,
)
from suites._shared.pool_nodes import GpuPoolNode, Members, without_open_nodes
from suites._shared.resource_slices import has_admin_access, requests_of
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

# The error of the runtime hook for a container that may not select its devices by the variable.
_UNPRIVILEGED = "insufficient privileges to read device list"
ADMIN_ACCESS = "resource.kubernetes.io/admin-access"
"""The label by which a namespace lets claims set adminAccess (kubernetes.io: Dynamic Resource Allocation)."""

_KEEP_OTHERS_OUT = (
    "Set ACCEPT_NVIDIA_VISIBLE_DEVICES_ENVVAR_WHEN_UNPRIVILEGED=false for the container toolkit (toolkit.env) and let "
    "CDI inject devices."
)


@requirement(
    "ISO-01",
    "A pod without a GPU request reaches no GPU on any GPU node",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=WITHOUT_DEVICES,
    sources=["cncf-secure-access", "device-plugin", "operator-421"],
    remedy="Do not make the NVIDIA runtime the default runtime of the node (NVIDIA_RUNTIME_SET_AS_DEFAULT=false), and "
    "let CDI inject devices.",
)
def test_a_pod_without_gpu_request_reaches_no_gpu(
    lab: RequirementLab, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    # A runtime has no reason to refuse such a pod: one that did not start proves nothing.
    observed = request_no_devices(lab, nvidia_pool_nodes)
    _must_reach_nothing(observed, judge, "a container without any request", rejected=no_node)


@requirement(
    "ISO-02",
    "NVIDIA_VISIBLE_DEVICES=all exposes no GPU to a pod that requests none",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=WITHOUT_DEVICES,
    sources=["cncf-secure-access", "toolkit-envvar", "operator-421", "operator-700", "kubeflow-6451"],
    remedy=_KEEP_OTHERS_OUT,
)
def test_a_variable_gives_no_device(
    lab: RequirementLab, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    observed = request_no_devices(lab, nvidia_pool_nodes, env={VISIBLE: ALL_DEVICES})
    _must_reach_nothing(observed, judge, f"{VISIBLE}={ALL_DEVICES}, which every CUDA image sets,")


@requirement(
    "ISO-03",
    "NVIDIA_VISIBLE_DEVICES=all with an NVIDIA RuntimeClass exposes no GPU to a pod that requests none",
    level=MUST,
    effect=OWN_NAMESPACE,
    pods=WITHOUT_DEVICES,
    sources=["cncf-secure-access", "toolkit-envvar", "operator-1588", "operator-notes-25.10.0"],
    remedy=f"{_KEEP_OTHERS_OUT} Or refuse pods that name the runtime class and ask for no GPU, by an admission policy.",
)
def test_a_runtime_class_gives_no_device(
    lab: RequirementLab, facts: Facts, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    classes = nvidia_runtime_classes(facts)
    if not classes:
        raise Unsupported("the cluster has no runtime class whose handler is NVIDIA's")
    ways = [ProbeOptions(env={VISIBLE: ALL_DEVICES}, runtime_class=name) for name in classes]
    for name, observed in zip(classes, request_no_devices_in_variants(lab, nvidia_pool_nodes, ways), strict=True):
        _must_reach_nothing(observed, judge, f"runtimeClassName {name} with {VISIBLE}={ALL_DEVICES}")


@requirement(
    "ISO-04",
    "NVIDIA_VISIBLE_DEVICES with the UUID of another pod's GPU gives no access to that GPU",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["cncf-secure-access", "kar-0049", "toolkit-envvar"],
    remedy=_KEEP_OTHERS_OUT,
)
def test_the_uuid_of_another_pods_gpu_gives_no_access(
    lab: RequirementLab,
    reference: Reference,
    facts: Facts,
    one_node_of_each_pool: tuple[GpuPoolNode, ...],
    judge: Judge,
) -> None:
    with holding_devices(lab, reference, one_node_of_each_pool) as others:
        owned = {each.node.name: uuids(each.result.found) for each in others if not each.result.failure}
        if not owned:
            raise Inconclusive(
                f"no other pod could hold a GPU; {join_limited([each.result.failure for each in others])}"
            )
        for each in others:
            if each.result.failure:
                judge.pass_over(each.subject, each.result.failure)
        probed_nodes = [each for each in one_node_of_each_pool if each.node.name in owned]
        variables = {name: {VISIBLE: ",".join(devices)} for name, devices in owned.items()}
        classes = ("", *nvidia_runtime_classes(facts))
        ways = [ProbeOptions(env_of=variables, runtime_class=name) for name in classes]
        for observed in request_no_devices_in_variants(lab, probed_nodes, ways):
            _must_not_reach(observed, owned, judge)


@requirement(
    "ISO-05",
    "A pod with one device can open the device file of that GPU only",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["cncf-secure-access", "device-plugin-87"],
    remedy="Let the device plugin pass single devices (CDI, or its deviceListStrategy), and mount no container all of "
    "/dev.",
)
def test_one_device_is_one_device_file(
    lab: RequirementLab, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    several = [each for each in nvidia_pool_nodes if each.gpu.count > 1]
    if not several:
        raise NotApplicable("no GPU pool declares nodes with a second GPU that a pod could open")

    def of(observed: Observed, record: dict[str, Any]) -> None:
        files = gpu_files(record["opened"])
        gpus = [name for name in record["devices"] if not name.startswith("MIG-")]
        judge(
            observed.subject,
            ok=len(files) == 1 and len(gpus) <= 1,
            expected="one GPU, by library and by device file",
            actual=(
                f"{join_limited(files) or 'no device file'} can be opened, {join_limited(gpus) or 'no GPU'} is listed"
            ),
            cause=f"{len(files)} device files of GPUs can be opened by a container that has one",
            hidden_because="ordinary programs use only the device that is allocated to them",
            inspect=observed.inspect,
        )

    judge_each(request_devices(lab, reference, several, "isolation"), judge, of, blame=no_node)


@requirement(
    "ISO-06",
    "No ordinary pod on a GPU node has a privileged container",
    level=MUST,
    owner=Owner.BOTH,
    sources=["k8s-pod-security", "k8s-81256", "device-plugin-336"],
    remedy="Take privileged: true out of the pod's template; to refuse the next one, enforce the Pod Security Standard "
    "baseline in the namespaces of teams (TEN-01 shows their labels).",
)
def test_no_ordinary_pod_is_privileged(pods_on_gpu_nodes: tuple[Pod, ...], judge: Judge) -> None:
    wrong = [(pod, names) for pod in pods_on_gpu_nodes if (names := privileged_containers(pod))]
    for pod, names in wrong:
        judge(
            pod,
            ok=False,
            expected="no container with privileged: true",
            actual=f"privileged: {join_limited(names)}",
            cause=f"a privileged container can open every device of {pod.node}, whatever it requests",
            hidden_because="it requests one GPU, or none, and quota and scheduler count that",
            inspect=(
                f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.containers[*].securityContext}}'"
            ),
        )
    _judge_the_others(pods_on_gpu_nodes, len(wrong), "unprivileged", judge)


@requirement(
    "ISO-07",
    "No ordinary pod on a GPU node mounts device files, the driver or device plugin sockets by hostPath",
    level=MUST,
    owner=Owner.BOTH,
    sources=["cncf-secure-access", "k8s-pod-security"],
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
            cause=f"{join_limited(paths)} of {pod.node} is in the pod without device plugin and scheduler",
            hidden_because="the pod works, on a GPU that counts as free; the next pod works on the same GPU",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.spec.volumes}}'",
        )
    _judge_the_others(pods_on_gpu_nodes, len(wrong), "no such host path", judge)


@requirement(
    "ISO-08",
    "No ordinary pod on a GPU node gets devices by a CDI annotation",
    level=MUST,
    owner=Owner.BOTH,
    sources=["operator-cdi", "cncf-secure-access"],
    remedy="Take the annotation out of the pod's template and ask for nvidia.com/gpu; refuse it in the namespaces of "
    "teams by an admission policy, or switch the NRI plugin off (cdi.nriPluginEnabled: false).",
)
def test_no_ordinary_pod_takes_devices_by_annotation(pods_on_gpu_nodes: tuple[Pod, ...], judge: Judge) -> None:
    wrong = [(pod, named) for pod in pods_on_gpu_nodes if (named := cdi_devices_named(pod))]
    for pod, named in wrong:
        judge(
            pod,
            ok=False,
            expected="devices by request or ResourceClaim only",
            actual=named,
            cause="the runtime injects what the annotation names, from any namespace",
            hidden_because="scheduler and quota ignore the annotation",
            inspect=f"kubectl get pod -n {pod.namespace} {pod.name} -o jsonpath='{{.metadata.annotations}}'",
        )
    _judge_the_others(pods_on_gpu_nodes, len(wrong), "no such annotation", judge)


@requirement(
    "ISO-09",
    "No namespace of a team has the label resource.kubernetes.io/admin-access=true",
    level=MUST,
    sources=["k8s-dra", "cncf-secure-access"],
    remedy="Take the label off the namespace, and run what watches GPUs in a namespace of the platform. Pods that have "
    "devices by adminAccess keep them until they end.",
)
def test_no_team_may_claim_devices_of_others(facts: Facts, reference: Reference, judge: Judge) -> None:
    namespaces = [found for team in reference.teams if (found := facts.namespace(team.namespace)) is not None]
    if not namespaces:
        raise NotApplicable(f"{reference} declares no team whose namespace exists")
    others = classes_of_others(facts)
    if not any(each.name not in others for each in facts.device_classes):
        raise NotApplicable("the cluster has no DeviceClass of accelerators: no claim gives access to any")
    for each in namespaces:
        value = each.labels.get(ADMIN_ACCESS)
        claims = _claims_by_admin_access(each.name, facts)
        made = f"; {join_limited([str(claim) for claim in claims])} has it" if claims else ""
        judge(
            each,
            ok=value != "true",
            expected=f"no label {ADMIN_ACCESS}=true",
            actual=f"{ADMIN_ACCESS}={value}" if value else "no such label",
            cause=f"whoever makes a claim here may set adminAccess and gets GPUs that other pods have{made}",
            hidden_because="a claim with adminAccess is allocated beside the pods that have the device, and takes none",
            inspect=f"kubectl get ns {each.name} --show-labels; kubectl get resourceclaims -n {each.name} -o yaml",
        )


@pytest.fixture
def one_node_of_each_pool(
    nvidia_pool_nodes: tuple[GpuPoolNode, ...], reference: Reference, members: Members
) -> tuple[GpuPoolNode, ...]:
    """The first node of each GPU pool that takes pods: its container runtime is configured for the whole pool."""
    taking = [each for each in nvidia_pool_nodes if each.node.ready and not each.node.unschedulable]
    if not taking:
        raise without_open_nodes(reference.gpu_pools, reference, members)
    return tuple({each.pool.name: each for each in reversed(taking)}.values())


@pytest.fixture
def pods_on_gpu_nodes(
    facts: Facts, ordinary_pods: tuple[Pod, ...], gpu_pool_nodes: tuple[GpuPoolNode, ...]
) -> tuple[Pod, ...]:
    """The ordinary pods on GPU nodes, those of the GPU stack left out: these need access to all devices."""
    names, stack = {node.name for _, node, _ in gpu_pool_nodes}, facts.stack_namespaces
    pods = tuple(pod for pod in ordinary_pods if pod.node in names and pod.namespace not in stack)
    if not pods:
        raise NotApplicable("no pod but those of DaemonSets, of kubelets and of system namespaces is on a GPU node")
    return pods


def _claims_by_admin_access(namespace: str, facts: Facts) -> list[Resource]:
    """The claims of a namespace for devices that other pods have; none where claims could not be read."""
    with suppress(Inconclusive):
        return [each for each in facts.resource_claims if each.namespace == namespace and _by_admin_access(each)]
    return []


def _by_admin_access(claim: Resource) -> bool:
    return any(has_admin_access(each) for each in requests_of(claim.spec))


def _is_rejected(result: ProbeResult) -> bool:
    """Whether the container runtime refused to start a pod for the devices that it named.

    Some versions of NVIDIA's runtime do (NVIDIA/nvidia-container-toolkit), and one that lacks the handler of a
    runtime class. A failure for another reason proves nothing.
    """
    return result.placed and (_UNPRIVILEGED in result.failure or knows_no_handler(result))


def _must_reach_nothing(
    observed: tuple[Observed, ...], judge: Judge, by: str, *, rejected: Callable[[ProbeResult], bool] = _is_rejected
) -> None:
    """Judge that pods without a request reached no GPU."""

    def of(each: Observed, record: dict[str, Any]) -> None:
        judge(
            each.subject,
            ok=not reached(record),
            expected=f"no GPU that can be opened ({by.rstrip(',')})",
            actual=join_limited(reached(record)) or "no GPU, and no device file that can be opened",
            cause=f"{by} is enough for the container runtime of {each.node.name} to give devices",
            hidden_because="such a pod requests no GPU, so that no quota and no metric counts it",
            inspect=f"kubectl get node {each.node.name} -o jsonpath='{{.status.nodeInfo.containerRuntimeVersion}}'; "
            "kubectl get clusterpolicies -o jsonpath='{.items[*].spec.toolkit.env}'",
        )

    judge_each(observed, judge, of, blame=rejected, when_refused=_not_started)


def _must_not_reach(observed: tuple[Observed, ...], owned: dict[str, list[str]], judge: Judge) -> None:
    """Judge that pods without a request have not reached the devices of other pods, which they named."""

    def of(each: Observed, record: dict[str, Any]) -> None:
        others = owned[each.node.name]
        taken = [name for name in record["devices"] if name in others]
        judge(
            each.subject,
            ok=not taken and not gpu_files(record["opened"]),
            expected=f"{join_limited(others)} of another pod cannot be opened",
            actual=join_limited([*taken, *gpu_files(record["opened"])]) or "no device of another pod",
            cause=f"the container runtime of {each.node.name} gives every device that {VISIBLE} names",
            hidden_because="the pod that has the device loses only speed and memory",
            inspect=each.inspect,
        )

    judge_each(observed, judge, of, blame=_is_rejected, when_refused=_not_started)


def _not_started(each: Observed, judge: Judge) -> None:
    """A container that its runtime does not start has reached no GPU."""
    judge(each.subject, ok=True, expected="no GPU that can be opened", actual=f"not started: {each.result.failure}")


def _judge_the_others(pods: tuple[Pod, ...], wrong: int, what: str, judge: Judge) -> None:
    """One passing finding for all the other pods."""
    good = len(pods) - wrong
    if good:
        which = ObjectReference.many("Pod", f"{good} of {len(pods)} ordinary pods on GPU nodes")
        judge(which, ok=True, expected=what, actual=what)

"""Workloads: a pod that requests GPUs gets exactly those, and computes correctly on each of them.

Labels, taints and allocatable resources prove nothing by themselves. So on every GPU node a pod requests devices, reads
what was allocated to it, and computes. nvidia-smi alone is weak evidence, since it lists GPUs on machines where every
computation fails. So each node also multiplies and adds a million whole numbers, of which each result is known.

The pods do no harm: they request free devices, preempt no pod, and can be preempted by any pod. A node without a free
device is reported as not judged.
"""

from typing import Any

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, requirement
from conformance.gpu.drivers import DriverVersion
from conformance.gpu.smi import Unparsable, parse_listing
from conformance.lab import RequirementLab
from conformance.reference.expected import driver_of
from conformance.reference.model import Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, Waits, format_value, note_container
from suites._shared.formatting import join_limited
from suites._shared.node_gpus import memory_agrees
from suites._shared.node_probes import (
    TOO_FAR_APART,
    Observed,
    got_no_library,
    holding_devices,
    judge_each,
    no_node,
    offered_resources,
    product_label,
    profiles,
    request_again,
    request_devices,
    uuids,
)
from suites._shared.pool_nodes import GpuPoolNode
from suites.workloads.gpu_failures import (
    HARDWARE,
    NO_ANSWER,
    OUT_OF_MEMORY,
    cuda_failure,
    named,
    nvml_failure,
    smi_failure,
)

_FAR_FROM_THE_OTHERS = "its kubelet allocates only devices of one NUMA node together, and others were tested"
_SHARED_WITH_OTHERS = "other pods that share this device may use its memory, or its MPS daemon as another user"


@pytest.fixture(scope="session")
def observations() -> dict[tuple[str, ...], tuple[Observed, ...]]:
    """Probe results of this run, so that requirements about the same pods do not start them again."""
    return {}


@pytest.fixture
def one_device_each(
    observations: dict[tuple[str, ...], tuple[Observed, ...]],
    lab: RequirementLab,
    reference: Reference,
    nvidia_pool_nodes: tuple[GpuPoolNode, ...],
) -> tuple[Observed, ...]:
    """The results of a pod with one device on every GPU node."""
    key = ("devices", *(node.name for _, node, _ in nvidia_pool_nodes))
    if key not in observations:
        observations[key] = request_devices(lab, reference, nvidia_pool_nodes, "devices")
    return _noted(observations[key])


@pytest.fixture
def every_free_device(
    observations: dict[tuple[str, ...], tuple[Observed, ...]],
    lab: RequirementLab,
    reference: Reference,
    nvidia_pool_nodes: tuple[GpuPoolNode, ...],
) -> tuple[Observed, ...]:
    """The results of a pod with all free devices of a node, on every GPU node."""
    key = ("cuda", *(node.name for _, node, _ in nvidia_pool_nodes))
    if key not in observations:
        observations[key] = request_devices(lab, reference, nvidia_pool_nodes, "cuda", gpus="free")
    return _noted(observations[key])


def _noted(observed: tuple[Observed, ...]) -> tuple[Observed, ...]:
    """The results, whose containers are the evidence of every requirement that uses them."""
    for each in observed:
        note_container(each.result.container_id)
    return observed


@requirement(
    "WORK-01",
    "A pod that requests one device sees exactly one, the declared one, on every GPU node",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["guide-6", "cncf-secure-access", "device-plugin"],
    remedy="Check driver, container toolkit and device plugin in this order, and the device list strategy (CDI or "
    "environment variable).",
)
def test_one_device_asked_for_is_one_device_seen(one_device_each: tuple[Observed, ...], judge: Judge) -> None:
    def of(observed: Observed, record: dict[str, Any]) -> None:
        given, names = uuids(record), sorted({product_label(device["name"]) for device in record["devices"]})
        wrong = _what_is_not_as_declared(observed, record)
        judge(
            observed.subject,
            ok=not wrong,
            expected=f"one device: {_declared(observed)}",
            actual=f"{len(given)} of {format_value(names)}: {join_limited(given) or format_value(_nvml_words(record))}",
            cause=wrong or "",
            hidden_because="the pod runs; only a comparison with the declaration shows the difference",
            remedy=_remedy_of(record),
            inspect=observed.inspect,
        )

    judge_each(one_device_each, judge, of)


@requirement(
    "WORK-02",
    "nvidia-smi succeeds in a pod with a device on every GPU node",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["guide-6", "operator-troubleshooting", "toolkit-48", "operator-898"],
    remedy="Look up the exit code: a code other than 0 names the broken part.",
)
def test_nvidia_smi_works_on_every_node(one_device_each: tuple[Observed, ...], judge: Judge) -> None:
    def of(observed: Observed, record: dict[str, Any]) -> None:
        smi = record["nvidia_smi"] or {"exit_code": 127, "listing": "", "table": ""}
        listed = parse_listing(smi["listing"])
        fine = smi["exit_code"] == 0 and not isinstance(listed, Unparsable)
        error = record.get("nvml_error")
        failure = nvml_failure(error) if error else smi_failure(smi["exit_code"])
        words = str(listed) if isinstance(listed, Unparsable) else f"{len(listed)} GPUs listed"
        judge(
            observed.subject,
            ok=fine,
            expected="exit code 0 and a list of GPUs",
            actual=f"exit code {smi['exit_code']}; {words}",
            cause=failure.cause if smi["exit_code"] or error else f"its output cannot be read: {words}",
            hidden_because="the kubelet allocates the device without checking the driver",
            remedy=failure.remedy if smi["exit_code"] or error else "",
            inspect=observed.inspect,
        )

    judge_each(one_device_each, judge, of, blame=no_node)


@requirement(
    "WORK-03",
    "Pods on GPU nodes see the driver version declared for their pool",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["guide-2", "operator-upgrades"],
    remedy="Finish the driver upgrade on this node, or declare the version that the pool really has to have.",
)
def test_pods_see_the_declared_driver(
    one_device_each: tuple[Observed, ...], reference: Reference, judge: Judge
) -> None:
    declared = [observed for observed in one_device_each if driver_of(reference, observed.pool)]
    if not declared:
        raise NotApplicable(f"{reference} declares no driver version")

    def of(observed: Observed, record: dict[str, Any]) -> None:
        wanted, found = driver_of(reference, observed.pool), record["driver"]
        if not found:
            raise Inconclusive(f"the driver does not answer: {_nvml_words(record)}")
        judge(
            observed.subject,
            ok=_same_driver(wanted, found),
            expected=f"driver {wanted}",
            actual=found,
            cause=f"the driver that is loaded on {observed.node.name} is not the declared one",
            hidden_because="labels show the installed driver; the pod uses the loaded one",
            inspect=f"kubectl get node {observed.node.name} -L nvidia.com/cuda.driver-version.full",
        )

    judge_each(declared, judge, of, blame=no_node)


@requirement(
    "WORK-04",
    "CUDA computes correct results on every free device of every GPU node",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["guide-6", "operator-troubleshooting", "operator-1043", "cuda-errors"],
    remedy="By error: 802 is the Fabric Manager, 803 and 804 are libraries; wrong results are the hardware.",
)
def test_cuda_computes_right_on_every_node(every_free_device: tuple[Observed, ...], judge: Judge) -> None:
    def of(observed: Observed, record: dict[str, Any]) -> None:
        error = record["cuda_error"]
        if error and _others_are_to_blame(observed, error):
            raise Inconclusive(f"CUDA error {named(error)}: {_SHARED_WITH_OTHERS}")
        broken = {device["uuid"]: device["wrong"] for device in record["devices"] if device["wrong"]}
        computed = [device["uuid"] for device in record["devices"] if not device["wrong"]]
        asked, there = observed.result.devices, len(record["devices"])
        if computed and not error and there < asked:
            judge.pass_over(
                observed.subject.only(f"{asked - there} of its devices"), Waits("CUDA did not reach them", on="WORK-05")
            )
        if observed.kept_apart:
            judge.pass_over(observed.subject.only(f"{observed.kept_apart} of its devices"), _FAR_FROM_THE_OTHERS)
        numbers = join_limited([f"{wrong} wrong results on {uuid}" for uuid, wrong in broken.items()], apart="; ")
        failure = cuda_failure(error) if error else None
        judge(
            observed.subject,
            ok=not error and not broken and bool(computed),
            expected="correct results on every device that is allocated to the pod",
            actual=f"CUDA error {named(error)}" if error else numbers or f"correct on {len(computed)} devices",
            cause=failure.cause if failure else numbers or "CUDA finds no device in this container",
            hidden_because="nvidia-smi lists the GPU as healthy: it does not compute anything",
            remedy=failure.remedy if failure else HARDWARE,
            inspect=observed.inspect,
        )

    judge_each(every_free_device, judge, of, blame=got_no_library)


@requirement(
    "WORK-05",
    "A pod that requests several devices gets that many distinct ones",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["device-plugin", "k8s-gpus"],
    remedy="Check for sharing (two replicas can be one GPU), and whether device plugin and DRA both serve the node.",
)
def test_a_pod_with_several_devices_has_that_many(
    every_free_device: tuple[Observed, ...], reference: Reference, judge: Judge
) -> None:
    if not any(_has_several_unshared(observed, reference) for observed in every_free_device):
        raise NotApplicable("no GPU pool declares nodes with two devices that are not shared")
    several = [observed for observed in every_free_device if observed.result.devices > 1]
    if not several:
        raise Inconclusive("no GPU node has two free devices that could be allocated to one pod")
    for observed in every_free_device:
        if observed.result.devices < 2 and _has_several_unshared(observed, reference):
            judge.pass_over(observed.subject, observed.result.failure or "it has no two free devices")

    def of(observed: Observed, record: dict[str, Any]) -> None:
        there = [device["uuid"] for device in record["devices"]]
        if record["cuda_error"] and not there:
            raise Inconclusive(f"CUDA finds no device: {named(record['cuda_error'])}")
        judge(
            observed.subject,
            ok=len(set(there)) == observed.result.devices,
            expected=f"{observed.result.devices} distinct devices",
            actual=f"{len(set(there))}: {join_limited(sorted(set(there))) or 'none'}",
            cause=f"{len(there)} devices reached the container, {len(set(there))} of them distinct",
            hidden_because="the scheduler counts devices and does not know which ones are allocated",
            inspect=observed.inspect,
        )

    judge_each(several, judge, of, blame=no_node)


@requirement(
    "WORK-06",
    "Two pods on one node never get the same device unless it is declared as shared",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["cncf-secure-access", "dra-driver-tests"],
    remedy="Switch undeclared sharing off, and let one allocator serve a node: the device plugin or DRA, never both.",
)
def test_two_pods_never_get_one_device(
    lab: RequirementLab, reference: Reference, nvidia_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    with_room = [each for each in nvidia_pool_nodes if each.gpu.replicas == 1 and each.gpu.count > 1]
    if not with_room:
        raise NotApplicable("no GPU pool declares nodes with two devices that are not shared")
    with holding_devices(lab, reference, with_room) as held:
        given = {_key(observed): set(uuids(observed.result.found)) for observed in held if not observed.result.failure}
        holding = {key: devices for key, devices in given.items() if devices}
        if not holding:
            raise Inconclusive(
                f"no GPU node gave a pod a device; {join_limited([observed.result.failure for observed in held])}"
            )
        for observed in held:
            if _key(observed) not in holding:
                judge.pass_over(observed.subject, observed.result.failure or "the first pod there has no device")
        rest = request_devices(lab, reference, with_room, "devices", gpus="free")
        second = [observed for observed in rest if _key(observed) in holding]

    def of(observed: Observed, record: dict[str, Any]) -> None:
        mine, theirs = set(uuids(record)), holding[_key(observed)]
        judge(
            observed.subject,
            ok=bool(mine) and not mine & theirs,
            expected=f"other devices than the first pod has, {join_limited(sorted(theirs))}",
            actual=join_limited(sorted(mine)) or "none",
            cause=f"{join_limited(sorted(mine & theirs))} was allocated to both pods"
            if mine & theirs
            else "the second pod has no device",
            hidden_because="both pods run; each is slower than it should be and they share one memory",
            inspect=observed.inspect,
        )

    judge_each(second, judge, of, blame=no_node)


@requirement(
    "WORK-07",
    "Devices of ended pods can be allocated to new pods again",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["k8s-130145", "device-plugin-231"],
    remedy="Restart the kubelet of the node, whose count of devices is stale, and delete no pods by force there.",
)
def test_devices_come_back(every_free_device: tuple[Observed, ...], lab: RequirementLab, judge: Judge) -> None:
    had = [observed for observed in every_free_device if _took_devices(observed)]
    if not had:
        raise Inconclusive("no GPU node had a free device to allocate and to release")
    for observed in every_free_device:
        if not _took_devices(observed):
            judge.pass_over(observed.subject, observed.result.failure or "it had no free device")
    before = {_key(observed): _distinct(observed) for observed in had}

    def of(observed: Observed, record: dict[str, Any]) -> None:
        given, earlier = set(uuids(record)), before[_key(observed)]
        if record.get("nvml_error") and not given:
            raise Inconclusive(f"the driver does not answer: {_nvml_words(record)}")
        judge(
            observed.subject,
            ok=len(given) >= earlier,
            expected=f"{earlier} devices again, as an ended pod had",
            actual=f"{len(given)}: {join_limited(sorted(given)) or 'none'}",
            cause=f"{earlier - len(given)} devices were not released on {observed.node.name}",
            hidden_because="the node still offers the same number; only the next pod is refused",
            inspect=observed.inspect,
        )

    judge_each(request_again(lab, had), judge, of)


def _took_devices(observed: Observed) -> bool:
    """Whether devices of a node were allocated to a pod, or were to be.

    A kubelet that refuses devices which no pod holds has not released them; one whose devices are too far apart has.
    """
    return observed.result.placed and bool(observed.result.devices) and observed.result.reason != TOO_FAR_APART


def _has_several_unshared(observed: Observed, reference: Reference) -> bool:
    return not observed.shared and offered_resources(reference, observed.pool)[observed.resource] > 1


def _others_are_to_blame(observed: Observed, error: dict[str, Any]) -> bool:
    """Whether an error on a shared device can be caused by the other pods that share it.

    Time-slicing isolates no memory. An MPS daemon serves one user at a time, and the others wait
    (nvidia-cuda-mps-control(1)).
    """
    waits = error["code"] == NO_ANSWER and observed.gpu.shared_by == "mps"
    return observed.shared and (error["code"] == OUT_OF_MEMORY or waits)


def _key(observed: Observed) -> tuple[str, str]:
    return observed.node.name, observed.resource


def _distinct(observed: Observed) -> int:
    """How many devices a pod had: as many as it reported, or where it reported none, as it had requested."""
    record = observed.result.record or {}
    return len({device["uuid"] for device in record.get("devices") or ()}) or observed.result.devices


def _declared(observed: Observed) -> str:
    memory = f" with {observed.gpu.memory_mib} MiB" if observed.gpu.memory_mib and not observed.profile else ""
    profile = f", MIG {observed.profile}" if observed.profile else ""
    return f"{observed.gpu.product or observed.gpu.model}{memory}{profile}"


def _what_is_not_as_declared(observed: Observed, record: dict[str, Any]) -> str:
    """What of a container's devices differs from one device of the declared kind; empty when nothing does."""
    given = uuids(record)
    if not given:
        error = record.get("nvml_error")
        return nvml_failure(error).cause if error else "the container has no device"
    if len(given) != 1:
        return f"{len(given)} devices reached a container that requests one"
    device = record["devices"][0]
    if observed.gpu.product and product_label(device["name"]) != observed.gpu.product:
        return f"the device is a {device['name']}"
    wanted = str(observed.profile) if observed.profile else ""
    if wanted and profiles(record) != [wanted]:
        return f"the MIG device has the profile {format_value(profiles(record))}"
    if not wanted and not device.get("mig") and not memory_agrees(device["memory_mib"], observed.gpu.memory_mib):
        return f"the device has {device['memory_mib']} MiB"
    return ""


def _nvml_words(record: dict[str, Any]) -> str:
    error = record.get("nvml_error")
    return named(error) if error else ""


def _remedy_of(record: dict[str, Any]) -> str:
    error = record.get("nvml_error")
    return nvml_failure(error).remedy if error else ""


def _same_driver(wanted: str, found: str) -> bool:
    try:
        return DriverVersion.parse(wanted) == DriverVersion.parse(found)
    except ValueError:
        return wanted == found

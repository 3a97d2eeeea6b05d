"""Workloads: a pod that asks for GPUs gets exactly those, and computes right on each of them.

Labels, taints and numbers that a node advertises are promises. This chapter takes them at their word: on every GPU
node a pod asks for devices, looks at what it was given, and computes. nvidia-smi alone is weak evidence, since it
lists GPUs on machines where every computation fails. So each node also multiplies and adds a million whole numbers,
of which each result is known.

The pods are harmless: they take devices that nobody holds, push nobody out, and can be pushed out by anybody. A node
without a free device is named and not judged.
"""

from typing import Any

import pytest

from conformance.catalog import MUST, OCCUPIES_IDLE_GPUS, requirement
from conformance.gpu.drivers import DriverVersion
from conformance.gpu.smi import Unparsable, parse_listing
from conformance.lab import RequirementLab
from conformance.reference.expected import driver_of
from conformance.reference.model import Reference
from conformance.verdict import Inconclusive, Judge, NotApplicable, format_value
from suites._shared.formatting import join_limited
from suites._shared.node_probes import (
    TOO_FAR_APART,
    Seen,
    asking_again,
    asking_for_devices,
    got_no_library,
    holding_devices,
    judge_each,
    memory_agrees,
    nobody,
    offered_resources,
    product_label,
    profiles,
    uuids,
)
from suites._shared.pool_nodes import GpuPoolNode
from suites.workloads.gpu_failures import HARDWARE, NO_ANSWER, OUT_OF_MEMORY, named, of_cuda, of_nvml, of_smi

GUIDE = "guide part 6"
TROUBLESHOOTING = "NVIDIA GPU Operator: Troubleshooting"
PLUGIN = "NVIDIA/k8s-device-plugin"
_FAR_FROM_THE_OTHERS = "its kubelet gives only devices of one NUMA node together, and others were tried"
_SHARED_WITH_OTHERS = "others who share this device may use its memory, or its MPS daemon as another user"


@pytest.fixture(scope="session")
def sights() -> dict[tuple[str, ...], tuple[Seen, ...]]:
    """What probes said in this run, so that requirements about the same pods do not start them anew."""
    return {}


@pytest.fixture
def one_device_each(
    sights: dict[tuple[str, ...], tuple[Seen, ...]],
    lab: RequirementLab,
    reference: Reference,
    gpu_pool_nodes: tuple[GpuPoolNode, ...],
) -> tuple[Seen, ...]:
    """What a pod with one device saw on every GPU node."""
    key = ("devices", *(node.name for _, node, _ in gpu_pool_nodes))
    if key not in sights:
        sights[key] = asking_for_devices(lab, reference, gpu_pool_nodes, "devices")
    return sights[key]


@pytest.fixture
def every_free_device(
    sights: dict[tuple[str, ...], tuple[Seen, ...]],
    lab: RequirementLab,
    reference: Reference,
    gpu_pool_nodes: tuple[GpuPoolNode, ...],
) -> tuple[Seen, ...]:
    """What a pod with all free devices of a node computed there, on every GPU node."""
    key = ("cuda", *(node.name for _, node, _ in gpu_pool_nodes))
    if key not in sights:
        sights[key] = asking_for_devices(lab, reference, gpu_pool_nodes, "cuda", gpus="free")
    return sights[key]


@requirement(
    "WORK-01",
    "On every GPU node a pod that asks for one device sees exactly one, and the declared one",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[GUIDE, "CNCF Kubernetes AI Conformance: secure_accelerator_access", PLUGIN],
    remedy="Follow the chain from the pod to the device: driver, container toolkit, device plugin, and how the pod is "
    "given its devices (CDI or environment).",
)
def test_one_device_asked_for_is_one_device_seen(one_device_each: tuple[Seen, ...], judge: Judge) -> None:
    def of(seen: Seen, record: dict[str, Any]) -> None:
        given, names = uuids(record), sorted({product_label(device["name"]) for device in record["devices"]})
        wrong = _what_is_not_as_declared(seen, record)
        judge(
            seen.subject,
            ok=not wrong,
            expected=f"one device: {_declared(seen)}",
            actual=f"{len(given)} of {format_value(names)}: {join_limited(given) or format_value(_nvml_words(record))}",
            cause=wrong or "",
            hidden_because="the pod runs, and what it finds is wrong only for whoever counts or compares",
            remedy=_remedy_of(record),
            inspect=seen.inspect,
        )

    judge_each(one_device_each, judge, of)


@requirement(
    "WORK-02",
    "On every GPU node nvidia-smi works in a pod that was given a device",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[GUIDE, TROUBLESHOOTING, "NVIDIA/nvidia-container-toolkit issue 48", "NVIDIA/gpu-operator issue 898"],
    remedy="Look up the exit code: nvidia-smi ends with 0 or it names the part that is broken.",
)
def test_nvidia_smi_works_on_every_node(one_device_each: tuple[Seen, ...], judge: Judge) -> None:
    def of(seen: Seen, record: dict[str, Any]) -> None:
        smi = record["nvidia_smi"] or {"exit_code": 127, "listing": "", "table": ""}
        listed = parse_listing(smi["listing"])
        fine = smi["exit_code"] == 0 and not isinstance(listed, Unparsable)
        error = record.get("nvml_error")
        trouble = of_nvml(error) if error else of_smi(smi["exit_code"])
        words = str(listed) if isinstance(listed, Unparsable) else f"{len(listed)} GPUs listed"
        judge(
            seen.subject,
            ok=fine,
            expected="exit code 0 and a list of GPUs",
            actual=f"exit code {smi['exit_code']}; {words}",
            cause=trouble.link if smi["exit_code"] or error else f"its output cannot be read: {words}",
            hidden_because="the kubelet gives the device away without asking the driver",
            remedy=trouble.remedy if smi["exit_code"] or error else "",
            inspect=seen.inspect,
        )

    judge_each(one_device_each, judge, of, blame=nobody)


@requirement(
    "WORK-03",
    "Pods see the driver version that is declared for their node",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["guide part 2", "NVIDIA GPU Operator: GPU Driver Upgrades"],
    remedy="Finish the driver upgrade on this node, or declare the version that the pool really has to have.",
)
def test_pods_see_the_declared_driver(one_device_each: tuple[Seen, ...], reference: Reference, judge: Judge) -> None:
    declared = [seen for seen in one_device_each if driver_of(reference, seen.pool)]
    if not declared:
        raise NotApplicable(f"{reference} declares no driver version")

    def of(seen: Seen, record: dict[str, Any]) -> None:
        wanted, found = driver_of(reference, seen.pool), record["driver"]
        if not found:
            raise Inconclusive(f"no driver answers: {_nvml_words(record)}")
        judge(
            seen.subject,
            ok=_same_driver(wanted, found),
            expected=f"driver {wanted}",
            actual=found,
            cause=f"the driver that is loaded on {seen.node.name} is not the declared one",
            hidden_because="labels say what was installed; the pod uses what is loaded",
            inspect=f"kubectl get node {seen.node.name} -L nvidia.com/cuda.driver-version.full",
        )

    judge_each(declared, judge, of, blame=nobody)


@requirement(
    "WORK-04",
    "CUDA computes right on every free device of every GPU node",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[GUIDE, TROUBLESHOOTING, "NVIDIA/gpu-operator issue 1043", "NVIDIA CUDA Driver API: CUresult"],
    remedy="Follow the error: 802 is the Fabric Manager, 803 and 804 are libraries, wrong numbers are the hardware.",
)
def test_cuda_computes_right_on_every_node(every_free_device: tuple[Seen, ...], judge: Judge) -> None:
    def of(seen: Seen, record: dict[str, Any]) -> None:
        error = record["cuda_error"]
        if error and _others_are_to_blame(seen, error):
            raise Inconclusive(f"CUDA error {named(error)}: {_SHARED_WITH_OTHERS}")
        broken = {device["uuid"]: device["wrong"] for device in record["devices"] if device["wrong"]}
        computed = [device["uuid"] for device in record["devices"] if not device["wrong"]]
        asked, there = seen.result.devices, len(record["devices"])
        if computed and not error and there < asked:
            judge.pass_over(
                seen.subject.only(f"{asked - there} of its devices"), "CUDA did not reach them (see WORK-05)"
            )
        if seen.kept_apart:
            judge.pass_over(seen.subject.only(f"{seen.kept_apart} of its devices"), _FAR_FROM_THE_OTHERS)
        numbers = join_limited([f"{wrong} wrong results on {uuid}" for uuid, wrong in broken.items()], apart="; ")
        trouble = of_cuda(error) if error else None
        judge(
            seen.subject,
            ok=not error and not broken and bool(computed),
            expected="right results on every device that the pod was given",
            actual=f"CUDA error {named(error)}" if error else numbers or f"right on {len(computed)} devices",
            cause=trouble.link if trouble else numbers or "CUDA shows no device to this container",
            hidden_because="nvidia-smi lists the GPU as healthy: it never asks the GPU to compute anything",
            remedy=trouble.remedy if trouble else HARDWARE,
            inspect=seen.inspect,
        )

    judge_each(every_free_device, judge, of, blame=got_no_library)


@requirement(
    "WORK-05",
    "A pod that asks for several devices is given that many distinct ones",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[PLUGIN, "kubernetes.io: Schedule GPUs"],
    remedy="See whether sharing is on (two shares can be one GPU), and whether device plugin and DRA both serve the "
    "node.",
)
def test_a_pod_with_several_devices_has_that_many(
    every_free_device: tuple[Seen, ...], reference: Reference, judge: Judge
) -> None:
    if not any(_has_several_unshared(seen, reference) for seen in every_free_device):
        raise NotApplicable("no GPU pool declares nodes with two devices that nobody shares")
    several = [seen for seen in every_free_device if seen.result.devices > 1]
    if not several:
        raise Inconclusive("no GPU node has two free devices that a pod could be given together")
    for seen in every_free_device:
        if seen.result.devices < 2 and _has_several_unshared(seen, reference):
            judge.pass_over(seen.subject, seen.result.trouble or "it has no two free devices")

    def of(seen: Seen, record: dict[str, Any]) -> None:
        there = [device["uuid"] for device in record["devices"]]
        if record["cuda_error"] and not there:
            raise Inconclusive(f"CUDA shows no device: {named(record['cuda_error'])}")
        judge(
            seen.subject,
            ok=len(set(there)) == seen.result.devices,
            expected=f"{seen.result.devices} distinct devices",
            actual=f"{len(set(there))}: {join_limited(sorted(set(there))) or 'none'}",
            cause=f"{len(there)} devices reached the container, {len(set(there))} of them distinct",
            hidden_because="the scheduler counts numbers; which devices stand behind them it never learns",
            inspect=seen.inspect,
        )

    judge_each(several, judge, of, blame=nobody)


@requirement(
    "WORK-06",
    "Two pods on one node never get the same device, unless it is declared to be shared",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=[
        "CNCF Kubernetes AI Conformance: secure_accelerator_access",
        "kubernetes-sigs/dra-driver-nvidia-gpu tests",
    ],
    remedy="Switch undeclared sharing off, and let one allocator serve a node: the device plugin or DRA, never both.",
)
def test_two_pods_never_get_one_device(
    lab: RequirementLab, reference: Reference, gpu_pool_nodes: tuple[GpuPoolNode, ...], judge: Judge
) -> None:
    with_room = [each for each in gpu_pool_nodes if each.gpu.shares == 1 and each.gpu.count > 1]
    if not with_room:
        raise NotApplicable("no GPU pool declares nodes with two devices that nobody shares")
    with holding_devices(lab, reference, with_room) as held:
        given = {_key(seen): set(uuids(seen.result.found)) for seen in held if not seen.result.trouble}
        holding = {key: devices for key, devices in given.items() if devices}
        if not holding:
            raise Inconclusive(
                f"no GPU node gave a pod a device; {join_limited([seen.result.trouble for seen in held])}"
            )
        for seen in held:
            if _key(seen) not in holding:
                judge.pass_over(seen.subject, seen.result.trouble or "the first pod there was given no device")
        rest = asking_for_devices(lab, reference, with_room, "devices", gpus="free")
        second = [seen for seen in rest if _key(seen) in holding]

    def of(seen: Seen, record: dict[str, Any]) -> None:
        mine, theirs = set(uuids(record)), holding[_key(seen)]
        judge(
            seen.subject,
            ok=bool(mine) and not mine & theirs,
            expected=f"other devices than the first pod has, {join_limited(sorted(theirs))}",
            actual=join_limited(sorted(mine)) or "none",
            cause=f"{join_limited(sorted(mine & theirs))} was given to both pods"
            if mine & theirs
            else "the second pod was given no device",
            hidden_because="both pods run; each is slower than it should be and can run out of the other's memory",
            inspect=seen.inspect,
        )

    judge_each(second, judge, of, blame=nobody)


@requirement(
    "WORK-07",
    "Devices come back when the pods that had them have ended",
    level=MUST,
    effect=OCCUPIES_IDLE_GPUS,
    sources=["kubernetes/kubernetes issue 130145", "NVIDIA/k8s-device-plugin issue 231"],
    remedy="Restart the kubelet of the node, whose count of devices is stale, and delete no pods by force there.",
)
def test_devices_come_back(every_free_device: tuple[Seen, ...], lab: RequirementLab, judge: Judge) -> None:
    had = [seen for seen in every_free_device if _took_devices(seen)]
    if not had:
        raise Inconclusive("no GPU node had a free device to give and to take back")
    for seen in every_free_device:
        if not _took_devices(seen):
            judge.pass_over(seen.subject, seen.result.trouble or "it had no free device")
    before = {_key(seen): _distinct(seen) for seen in had}

    def of(seen: Seen, record: dict[str, Any]) -> None:
        given, earlier = set(uuids(record)), before[_key(seen)]
        if record.get("nvml_error") and not given:
            raise Inconclusive(f"no driver answers: {_nvml_words(record)}")
        judge(
            seen.subject,
            ok=len(given) >= earlier,
            expected=f"{earlier} devices again, which an ended pod had",
            actual=f"{len(given)}: {join_limited(sorted(given)) or 'none'}",
            cause=f"{earlier - len(given)} devices did not come back on {seen.node.name}",
            hidden_because="the node goes on offering the number that it had; the next pod learns that it is wrong",
            inspect=seen.inspect,
        )

    judge_each(asking_again(lab, had), judge, of)


def _took_devices(seen: Seen) -> bool:
    """Whether a pod took devices off a node, or was to.

    A kubelet that refuses devices which nobody holds has not got them back; one whose devices are too far apart has.
    """
    return seen.result.placed and bool(seen.result.devices) and seen.result.reason != TOO_FAR_APART


def _has_several_unshared(seen: Seen, reference: Reference) -> bool:
    return not seen.shared and offered_resources(reference, seen.pool)[seen.resource] > 1


def _others_are_to_blame(seen: Seen, error: dict[str, Any]) -> bool:
    """Whether an error on a shared device can come from those who share it, lawfully.

    Time-slicing divides no memory. A daemon of MPS serves one user at a time, and has everybody else wait
    (nvidia-cuda-mps-control(1)).
    """
    waits = error["code"] == NO_ANSWER and seen.gpu.shared_by == "mps"
    return seen.shared and (error["code"] == OUT_OF_MEMORY or waits)


def _key(seen: Seen) -> tuple[str, str]:
    return seen.node.name, seen.resource


def _distinct(seen: Seen) -> int:
    """How many devices a pod had: as many as it saw, or where it could see none, as it had asked for."""
    record = seen.result.record or {}
    return len({device["uuid"] for device in record.get("devices") or ()}) or seen.result.devices


def _declared(seen: Seen) -> str:
    memory = f" with {seen.gpu.memory_mib} MiB" if seen.gpu.memory_mib and not seen.profile else ""
    profile = f", MIG {seen.profile}" if seen.profile else ""
    return f"{seen.gpu.product or seen.gpu.model}{memory}{profile}"


def _what_is_not_as_declared(seen: Seen, record: dict[str, Any]) -> str:
    """What of a container's devices differs from one device of the declared kind; empty when nothing does."""
    given = uuids(record)
    if not given:
        error = record.get("nvml_error")
        return of_nvml(error).link if error else "the container was given no device"
    if len(given) != 1:
        return f"{len(given)} devices reached a container that asked for one"
    device = record["devices"][0]
    if seen.gpu.product and product_label(device["name"]) != seen.gpu.product:
        return f"the device is a {device['name']}"
    wanted = str(seen.profile) if seen.profile else ""
    if wanted and profiles(record) != [wanted]:
        return f"the MIG device has the profile {format_value(profiles(record))}"
    if not wanted and not device.get("mig") and not memory_agrees(device["memory_mib"], seen.gpu.memory_mib):
        return f"the device has {device['memory_mib']} MiB"
    return ""


def _nvml_words(record: dict[str, Any]) -> str:
    error = record.get("nvml_error")
    return named(error) if error else ""


def _remedy_of(record: dict[str, Any]) -> str:
    error = record.get("nvml_error")
    return of_nvml(error).remedy if error else ""


def _same_driver(wanted: str, found: str) -> bool:
    try:
        return DriverVersion.parse(wanted) == DriverVersion.parse(found)
    except ValueError:
        return wanted == found

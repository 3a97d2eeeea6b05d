"""Judging what programs said on nodes: who is judged, who is blamed, who is only named."""

import re

import pytest

from conformance.facts import Node
from conformance.lab import ProbeResult
from conformance.reference.model import Gpu, Pool, Reference
from conformance.verdict import Inconclusive, Judge
from suites._shared.node_gpus import memory_agrees
from suites._shared.node_probes import (
    Observed,
    got_no_library,
    is_the_nodes_fault,
    judge_each,
    no_node,
    request_devices,
)
from suites._shared.pool_nodes import GpuPoolNode
from suites.isolation import test_isolation
from suites.workloads import gpu_failures, test_workloads

POOL = Pool(name="t4", selector={"a": "b"}, gpu=Gpu(model="t4", count=4))


def seen(name, resource="nvidia.com/gpu", **result):
    return Observed(POOL, Node(name=name), POOL.gpu, resource, ProbeResult(name, **result))


def looked(name, **record):
    return seen(name, pod="ns/p", phase="Succeeded", exit_code=0, record={"error": None, **record})


BUSY = seen("busy", failure="1 nvidia.com/gpu asked for, 0 of 4 free")
REFUSED = seen("refused", pod="ns/p", phase="Failed", reason="UnexpectedAdmissionError", failure="the kubelet did not")
NO_IMAGE = seen("no-image", pod="ns/p", reason="ImagePullBackOff", failure="its container cannot start")
NO_DRIVER = seen(
    "no-driver", pod="ns/p", phase="Failed", exit_code=2, failure="libcuda.so.1: cannot open",
    record={"error": "libcuda.so.1: cannot open", "missing": "libcuda.so.1"},
)  # fmt: skip
CRASHED = seen(
    "crashed", pod="ns/p", phase="Failed", exit_code=2, record={"error": "KeyError: 1"}, failure="KeyError: 1"
)


def no_sandbox(words):
    return seen("no-sandbox", pod="ns/p", phase="Pending", reason="FailedCreatePodSandBox", failure=words)


NO_NETWORK = no_sandbox("FailedCreatePodSandBox: cilium failed: no IP")
NO_HANDLER = no_sandbox('failed to get sandbox runtime: no runtime for "nvidia" is configured')


def judged(*every, **how):
    judge = Judge()
    judge_each(
        every,
        judge,
        lambda each, record: judge(each.subject, ok=record["fine"], expected="fine", actual=record["fine"]),
        **how,
    )
    return {str(finding.subject): finding.ok for finding in judge.findings}, judge


def test_nodes_with_a_result_are_judged_and_the_others_named():
    verdicts, judge = judged(looked("one", fine=True), looked("two", fine=False), BUSY, NO_IMAGE)

    assert verdicts == {"node one": True, "node two": False}
    assert [str(each) for each in judge.unseen] == [
        "node busy: 1 nvidia.com/gpu asked for, 0 of 4 free",
        "node no-image: its container cannot start",
    ]


def test_a_node_that_did_not_run_its_pod_fails_and_says_what_broke():
    verdicts, judge = judged(looked("one", fine=True), REFUSED, NO_DRIVER)

    assert verdicts == {"node one": True, "node refused": False, "node no-driver": False}
    assert "counts devices no pod holds" in judge.findings[1].cause
    assert "did not get the driver's libraries" in judge.findings[2].cause


def test_whoever_expects_a_refusal_can_say_so():
    verdicts, _ = judged(REFUSED, when_refused=lambda each, judge: judge(each.subject, ok=True, expected="", actual=""))

    assert verdicts == {"node refused": True}


FULL = seen("full", failure="free nvidia.com/gpu asked for, 0 of 4 free")
DECLARED = Reference(name="r", pools=(POOL,))


def given(name, devices, gpu=POOL.gpu):
    """A node of which a pod was given so many devices."""
    record = {"error": None, "cuda_error": None, "devices": [{"uuid": f"GPU-{number}"} for number in range(devices)]}
    pool = Pool(name="t4", selector={"a": "b"}, gpu=gpu)
    result = ProbeResult(name, pod="ns/p", phase="Succeeded", exit_code=0, record=record, devices=devices)
    return Observed(pool, Node(name=name), gpu, gpu.resource, result)


def test_nodes_without_two_free_devices_are_named_where_several_are_declared():
    shared = Gpu(model="t4", count=4, resource="nvidia.com/gpu.shared", replicas=4, shared_by="time-slicing")
    single = Gpu(model="t4", count=1)
    every = (given("two", 2), given("one", 1), FULL, given("shared", 1, shared), given("single", 1, single))
    judge = Judge()

    test_workloads.test_a_pod_with_several_devices_has_that_many(every, DECLARED, judge)

    assert [str(each.subject) for each in judge.findings] == ["node two"]
    assert [str(each) for each in judge.unseen] == [
        "node one: it has no two free devices",
        "node full: free nvidia.com/gpu asked for, 0 of 4 free",
    ]


def test_nodes_that_had_no_device_to_give_back_are_named(monkeypatch):
    monkeypatch.setattr(test_workloads, "request_again", lambda lab, before: before)
    judge = Judge()

    test_workloads.test_devices_come_back((given("two", 2), FULL), None, judge)

    assert [str(each.subject) for each in judge.findings] == ["node two"]
    assert [str(each) for each in judge.unseen] == ["node full: free nvidia.com/gpu asked for, 0 of 4 free"]


def test_without_any_result_nothing_was_judged():
    _, judge = judged(BUSY, NO_IMAGE)

    assert re.search(r"node busy: 1 nvidia.com/gpu asked for.*node no-image", str(judge.nothing_judged()))


def test_what_an_image_lacks_is_not_the_nodes_fault():
    assert is_the_nodes_fault(REFUSED.result)
    assert is_the_nodes_fault(NO_DRIVER.result)
    assert not is_the_nodes_fault(NO_IMAGE.result)
    assert not is_the_nodes_fault(BUSY.result)


def test_a_resource_that_is_not_the_usual_one_is_named():
    assert str(looked("one").subject) == "node one"
    assert str(seen("one", resource="nvidia.com/mig-1g.5gb").subject) == "node one, nvidia.com/mig-1g.5gb"
    assert str(seen("one", resource="nvidia.com/mig-1g.10gb.me").profile) == "1g.10gb+me"


@pytest.mark.parametrize(("code", "word"), [(802, "Fabric Manager"), (803, "different versions"), (804, "cuda-compat")])
def test_errors_of_cuda_are_reported_with_what_to_do(code, word):
    failure = gpu_failures.cuda_failure({"code": code, "name": "N", "call": "cuInit"})

    assert word in failure.cause + failure.remedy


def test_an_error_that_nobody_knows_is_still_named():
    assert (
        "CUDA_ERROR_NEW (4711) of cuInit"
        in gpu_failures.cuda_failure({"code": 4711, "name": "CUDA_ERROR_NEW", "call": "cuInit"}).cause
    )
    assert "NVML_ERROR_77 (77)" in gpu_failures.nvml_failure({"code": 77, "name": "NVML_ERROR_77"}).cause
    assert "infoROM" in gpu_failures.smi_failure(14).cause


def test_a_node_that_is_not_to_blame_is_only_named():
    verdicts, judge = judged(looked("one", fine=True), REFUSED, NO_DRIVER, blame=no_node)

    assert verdicts == {"node one": True}
    assert [str(each.subject) for each in judge.unseen] == ["node refused", "node no-driver"]


def test_a_container_without_libraries_is_distinguished_from_a_refused_one_and_from_a_crash():
    assert got_no_library(NO_DRIVER.result)
    assert not got_no_library(REFUSED.result)
    assert not got_no_library(CRASHED.result)
    assert not is_the_nodes_fault(CRASHED.result)


def test_a_sandbox_that_fails_is_reported_by_what_it_lacks():
    _, judge = judged(NO_NETWORK, NO_HANDLER)

    network, handler = (finding.cause for finding in judge.findings)
    assert "network" in network
    assert "has no handler" in handler


# --- A computation ------------------------------------------------------------------------------------------------


def computed(name, gpu=POOL.gpu, *, error=None, uuids=("GPU-1",), asked=1, kept_apart=0):
    devices = [{"uuid": each, "wrong": 0} for each in uuids]
    record = {"error": None, "cuda_error": error, "devices": devices}
    result = ProbeResult(name, pod="ns/p", phase="Succeeded", exit_code=0, record=record, devices=asked)
    return Observed(
        Pool(name="t4", selector={"a": "b"}, gpu=gpu), Node(name=name), gpu, gpu.resource, result, kept_apart
    )


def work_04(*every):
    judge = Judge()
    test_workloads.test_cuda_computes_right_on_every_node(every, judge)
    return {str(finding.subject): finding.ok for finding in judge.findings}, judge


OUT_OF_MEMORY = {"code": 2, "name": "CUDA_ERROR_OUT_OF_MEMORY", "call": "cuMemAlloc_v2"}
NO_ANSWER = {"code": -1, "name": "NO_ANSWER", "call": "CUDA"}
SLICED = Gpu(model="t4", count=4, replicas=4, shared_by="time-slicing")
SERVED = Gpu(model="t4", count=4, replicas=4, shared_by="mps")


@pytest.mark.parametrize(("gpu", "error"), [(SLICED, OUT_OF_MEMORY), (SERVED, OUT_OF_MEMORY), (SERVED, NO_ANSWER)])
def test_what_sharers_may_do_to_each_other_is_no_fault_of_the_device(gpu, error):
    verdicts, judge = work_04(computed("one"), computed("shared", gpu, error=error, uuids=()))

    assert verdicts == {"node one": True}
    assert [str(each.subject) for each in judge.unseen] == ["node shared"]


@pytest.mark.parametrize(("gpu", "error"), [(POOL.gpu, OUT_OF_MEMORY), (SLICED, NO_ANSWER), (POOL.gpu, NO_ANSWER)])
def test_what_sharers_do_not_explain_fails(gpu, error):
    verdicts, judge = work_04(computed("one"), computed("broken", gpu, error=error, uuids=()))

    assert verdicts == {"node one": True, "node broken": False}
    assert judge.findings[1].cause == gpu_failures.cuda_failure(error).cause


def test_devices_that_nothing_was_computed_on_are_named():
    verdicts, judge = work_04(computed("one", asked=4), computed("two", kept_apart=4))

    assert verdicts == {"node one": True, "node two": True}
    assert [str(each.subject) for each in judge.unseen] == ["node one, 3 of its devices", "node two, 4 of its devices"]


class FarApart:
    """A lab whose nodes give at most ``most`` devices together."""

    def __init__(self, most):
        self.most, self.asked = most, []

    def run_programs(self, programs):
        return [
            {node.name: self._ask(node.name, program.options["gpus"]) for node in program.nodes} for program in programs
        ]

    def _ask(self, name, gpus):
        devices = 8 if gpus == "free" else gpus[name]
        self.asked.append(devices)
        if devices > self.most:
            return ProbeResult(name, pod="ns/p", reason="TopologyAffinityError", failure="refused", devices=devices)
        return ProbeResult(name, pod="ns/p", phase="Succeeded", record={"error": None}, devices=devices)


def test_devices_of_several_numa_nodes_are_asked_for_again_in_smaller_numbers():
    gpu = Gpu(model="h100", count=8)
    pool = Pool(name="h100", selector={"a": "b"}, gpu=gpu)
    lab, nodes = FarApart(most=2), [GpuPoolNode(pool, Node(name="n"), gpu)]

    [seen] = request_devices(lab, Reference(name="r", pools=(pool,)), nodes, "cuda", gpus="free")

    assert lab.asked == [8, 4, 2]
    assert (seen.result.devices, seen.kept_apart) == (2, 6)
    assert not seen.result.failure


def test_a_pod_whose_devices_were_too_far_apart_had_nothing_to_give_back(monkeypatch):
    monkeypatch.setattr(test_workloads, "request_again", lambda lab, before: before)
    judge = Judge()

    test_workloads.test_devices_come_back(
        (given("two", 2), REFUSED._replace(result=FarApart(0)._ask("n", "free"))), None, judge
    )

    assert [str(each.subject) for each in judge.findings] == ["node two"]
    assert [each.why for each in judge.unseen] == ["refused"]


def test_a_gpu_without_memory_of_its_own_has_no_wrong_memory():
    assert memory_agrees(None, 128000)
    assert not memory_agrees(40960, 81559)


# --- Isolation ----------------------------------------------------------------------------------------------------

UNPRIVILEGED = seen(
    "strict", pod="ns/p", phase="Failed", reason="StartError",
    failure="insufficient privileges to read device list from NVIDIA_VISIBLE_DEVICES envvar",
)  # fmt: skip


def isolated(*every, requirement=test_isolation.test_a_variable_gives_no_device, monkeypatch):
    monkeypatch.setattr(test_isolation, "request_no_devices", lambda *_, **__: every)
    judge = Judge()
    requirement(None, (), judge)
    return {str(finding.subject): finding.ok for finding in judge.findings}, [
        str(each.subject) for each in judge.unseen
    ]


OUT_OF_REACH = looked("one", devices=[], opened=[])


def test_a_runtime_that_refuses_the_variable_keeps_devices_out_of_reach(monkeypatch):
    verdicts, unseen = isolated(UNPRIVILEGED, NO_HANDLER, monkeypatch=monkeypatch)

    assert verdicts == {"node strict": True, "node no-sandbox": True}
    assert not unseen


@pytest.mark.parametrize("broken", [NO_NETWORK, CRASHED, REFUSED, NO_IMAGE])
def test_a_pod_that_did_not_run_for_another_reason_proves_no_isolation(monkeypatch, broken):
    verdicts, unseen = isolated(OUT_OF_REACH, broken, monkeypatch=monkeypatch)

    assert verdicts == {"node one": True}
    assert unseen == [str(broken.subject)]


def test_a_pod_that_names_no_device_cannot_have_been_refused_for_it(monkeypatch):
    bare = test_isolation.test_a_pod_without_gpu_request_reaches_no_gpu

    verdicts, unseen = isolated(OUT_OF_REACH, UNPRIVILEGED, requirement=bare, monkeypatch=monkeypatch)

    assert verdicts == {"node one": True}
    assert unseen == ["node strict"]


def test_what_was_seen_may_not_tell():
    def of(each, record):
        raise Inconclusive("no driver answers")

    judge = Judge()
    judge_each([looked("one")], judge, of)

    assert "node one: no driver answers" in str(judge.nothing_judged())

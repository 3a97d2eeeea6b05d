import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lab_runs import RUN_ID, rule
from memory_cluster import MemoryCluster
from patience import PATIENCE

from conformance.gpu.taints import Taint, Toleration
from conformance.kube.effects import Effect
from conformance.kube.errors import EffectRefused, Forbidden
from conformance.kube.names import MANAGED_BY, RUN_LABEL
from conformance.lab import TAINTED, Images, Lab, LabPods, RequirementLab, pods
from conformance.lab.podspec import merged, pinned, tolerations_for
from conformance.lab.policies import BELOW_ZERO
from conformance.verdict import ExpectationFailed, Inconclusive, Judge

TOLERATION = Toleration("gpu", "Exists")


def node(name: str = "gpu-1", *taints: Taint) -> Any:
    return SimpleNamespace(name=name, taints=taints)


def priority(name: str, value: int, policy: str = "PreemptLowerPriority") -> Any:
    return SimpleNamespace(name=name, value=value, preemption_policy=policy)


def test_every_pod_carries_the_run_and_the_requirement(scenario: RequirementLab, memory: MemoryCluster) -> None:
    pod = scenario.pod(labels={"app": "x", RUN_LABEL: "forged"})

    labels = memory.get("Pod", pod.name, pod.namespace)["metadata"]["labels"]
    assert labels[RUN_LABEL] == RUN_ID
    assert labels[MANAGED_BY] == "gpu-conformance"
    assert labels["gpu-conformance.io/requirement"] == "PRIO-99"
    assert labels["app"] == "x"


def test_a_pod_without_priority_can_push_nobody_out(scenario: RequirementLab, memory: MemoryCluster) -> None:
    spec = memory.get("Pod", (pod := scenario.pod()).name, pod.namespace)["spec"]

    harmless = memory.get("PriorityClass", spec["priorityClassName"])
    assert (harmless["value"], harmless["preemptionPolicy"]) == (BELOW_ZERO, "Never")
    assert harmless["globalDefault"] is False
    assert harmless["metadata"]["name"].startswith(f"gpuc-{RUN_ID}-")


def test_a_gated_pod_is_left_to_the_clusters_own_default(scenario: RequirementLab, memory: MemoryCluster) -> None:
    pod = scenario.pod(gated=True, gpus=1)

    assert "priorityClassName" not in memory.get("Pod", pod.name, pod.namespace)["spec"]
    assert pod.state.unscheduled == "SchedulingGated"


def test_where_the_run_may_make_no_classes_pods_have_to_be_gated(memory: MemoryCluster) -> None:
    with Lab(memory.client(RUN_ID, Effect.OCCUPIES_IDLE_GPUS), RUN_ID) as lab, lab.for_requirement(rule()) as scenario:
        scenario.pod(gated=True)
        with pytest.raises(EffectRefused, match="own-cluster-objects"):
            scenario.pod()


@pytest.mark.parametrize(
    ("effect", "options", "needed"),
    [
        (Effect.OWN_NAMESPACE, {"gpus": 1}, "occupies-idle-gpus"),
        (Effect.OWN_NAMESPACE, {"spec": {"resourceClaims": [{"name": "a"}]}}, "occupies-idle-gpus"),
        (Effect.PATCHES_NODES, {"priority": "high"}, "disruptive"),
        (Effect.PATCHES_NODES, {"priority": "high", "on": "gpu-1"}, "disruptive"),
    ],
)
def test_a_pod_that_reaches_further_than_its_requirement_is_not_created(
    effect: Effect,
    options: dict[str, Any],
    needed: str,
    scenario_of: Callable[[Effect], RequirementLab],
    memory: MemoryCluster,
) -> None:
    with pytest.raises(EffectRefused, match=needed):
        scenario_of(effect).pod(**options)

    assert memory.of("Pod") == []


@pytest.mark.parametrize(
    ("effect", "options"),
    [
        (Effect.OWN_NAMESPACE, {"gpus": 1, "gated": True}),
        (Effect.OWN_NAMESPACE, {"priority": "high", "gated": True}),
        (Effect.OWN_NAMESPACE, {"priority": "patient"}),
        (Effect.OWN_NAMESPACE, {}),
        (Effect.OCCUPIES_IDLE_GPUS, {"gpus": 1}),
        (Effect.DISRUPTIVE, {"gpus": 1, "priority": "high"}),
    ],
)
def test_a_pod_within_reach_is_created(
    effect: Effect, options: dict[str, Any], scenario_of: Callable[[Effect], RequirementLab], memory: MemoryCluster
) -> None:
    scenario_of(effect).pod(**options)

    assert memory.of("Pod") == ["pod-1"]


def test_on_a_borrowed_node_a_strong_pod_can_push_out_nobody_elses(
    scenario_of: Callable[[Effect], RequirementLab],
) -> None:
    scenario = scenario_of(Effect.PATCHES_NODES)
    with scenario.borrow(node()) as borrowed:
        pod = scenario.pod(priority="high", on=borrowed, tolerates=borrowed, gpus=1)
        assert pod.node == "gpu-1"
    with pytest.raises(EffectRefused):
        scenario.pod(priority="high", on=node())


def test_a_mirror_keeps_order_and_policy_below_every_real_workload(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    low = scenario.below_zero(priority("low", 100, "Never"))
    high = scenario.below_zero(priority("high", 1000))

    assert scenario.below_zero(priority("low", 100, "Never")) == low
    assert memory.get("PriorityClass", low)["value"] == 100 - 2_000_000_000
    assert memory.get("PriorityClass", low)["preemptionPolicy"] == "Never"
    assert memory.get("PriorityClass", high)["value"] == 1000 - 2_000_000_000
    assert memory.get("PriorityClass", high)["preemptionPolicy"] == "PreemptLowerPriority"


@pytest.mark.parametrize("value", [2_000_000_000, -200_000_000])
def test_what_has_no_mirror_is_said(scenario: RequirementLab, value: int) -> None:
    with pytest.raises(Inconclusive, match="has no mirror below zero"):
        scenario.below_zero(priority("x", value))


def test_expectations_that_hold_are_recorded(scenario: RequirementLab, judge: Judge) -> None:
    pod = scenario.pod(gpus=1, tolerates=[TOLERATION])

    pod.wait_until_scheduled(because="there is room").wait_until_running()
    pod.keeps_running(because="nobody outranks it")
    scenario.pod(gpus=1).stays_pending(because="it tolerates nothing")

    assert [finding.ok for finding in judge.findings] == [True] * 4
    assert judge.findings[0].expected == "to get a node (there is room)"
    assert judge.findings[3].actual == "Pending without node (Unschedulable)"


def test_an_expectation_that_does_not_hold_names_the_cause(scenario: RequirementLab, judge: Judge) -> None:
    with pytest.raises(ExpectationFailed) as disproof:
        scenario.pod(gpus=1).wait_until_running(because="x")

    finding = disproof.value.finding
    assert str(finding.subject) == f"pod gpuc-{RUN_ID}-prio-99-default-1/pod-1"
    assert finding.actual == "Pending without node (Unschedulable)"
    assert finding.cause.startswith("node gpu-1: taint gpu=yes:NoSchedule is not tolerated")


def test_a_pod_that_was_placed_disproves_that_it_stays_pending(scenario: RequirementLab, judge: Judge) -> None:
    with pytest.raises(ExpectationFailed, match="found Running on node"):
        scenario.pod().stays_pending(because="it should have nowhere to go")


def test_several_pods_stay_pending_for_one_and_the_same_time(
    scenario: RequirementLab, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, windows = pods.holds, []

    def noted(*given: Any, what: str, **more: Any) -> Any:
        windows.append(what)
        return held(*given, what=what, **more)

    monkeypatch.setattr(pods, "holds", noted)

    both = scenario.pods(2, gpus=1).stay_pending(because=["one reason", "another"])

    assert windows == [f"2 pods stay Pending, {both[0]} the first"]
    assert [(finding.subject, finding.expected) for finding in judge.findings] == [
        (both[0].subject, "to stay Pending (one reason)"),
        (both[1].subject, "to stay Pending (another)"),
    ]


def test_of_several_pods_the_one_that_is_placed_disproves_it_and_nothing_is_said_of_the_others(
    scenario: RequirementLab, judge: Judge
) -> None:
    waiting, placed = scenario.pod(gpus=1), scenario.pod()

    with pytest.raises(ExpectationFailed) as disproof:
        LabPods([waiting, placed]).stay_pending(because=["it tolerates nothing", "it should have nowhere to go"])

    assert disproof.value.finding.subject == placed.subject
    assert "it should have nowhere to go" in disproof.value.finding.expected
    assert judge.findings == []


def test_a_scheduler_that_never_looks_is_no_proof_of_anything(
    scenario: RequirementLab, memory: MemoryCluster, judge: Judge
) -> None:
    memory.scheduler_runs = False

    with pytest.raises(Inconclusive, match="Is a scheduler running"):
        scenario.pod().stays_pending(because="x")


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImagePull"])
def test_an_image_that_cannot_be_pulled_says_nothing_about_scheduling(
    scenario: RequirementLab, memory: MemoryCluster, judge: Judge, reason: str
) -> None:
    pod = scenario.pod()
    status = memory.get("Pod", pod.name, pod.namespace)["status"]
    status |= {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}

    with pytest.raises(Inconclusive, match=rf"{reason} for image registry\.k8s\.io/pause.*Name a registry"):
        pod.wait_until_running()


def test_eviction_by_others_is_told_from_our_own_deletion(
    scenario: RequirementLab, memory: MemoryCluster, judge: Judge
) -> None:
    pods = scenario.pods(3, held=True)
    memory.evict(pods[0].namespace, pods[0].name)
    pods[1].delete()

    assert [pod.evicted for pod in pods] == [True, False, False]
    assert pods.evicted() == [pods[0]]
    assert pods[0].state.disrupted == "PreemptionByScheduler"
    pods[0].wait_until_evicted()
    with pytest.raises(ExpectationFailed, match="expected to keep running, found Running on node"):
        pods[0].keeps_running()
    pods[0].release()
    pods[0].wait_until_gone()
    assert pods[0].evicted


@pytest.mark.parametrize("reason", ["EvictionByEvictionAPI", "TerminationByKubelet", "DeletionByPodGC"])
def test_what_a_drain_or_an_autoscaler_removes_was_not_preempted(
    scenario: RequirementLab, memory: MemoryCluster, judge: Judge, reason: str
) -> None:
    pods = scenario.pods(2, held=True)
    memory.evict(pods[0].namespace, pods[0].name, reason)

    for look in (pods[0].wait_until_evicted, pods[0].keeps_running, pods.evicted):
        with pytest.raises(Inconclusive, match=f"for another reason than the trial gave, {reason}"):
            look()


def test_a_scenario_says_whether_it_means_the_taint_manager(
    scenario: RequirementLab, memory: MemoryCluster, judge: Judge
) -> None:
    [pod] = scenario.pods(1, held=True)
    memory.evict(pod.namespace, pod.name, "DeletionByTaintManager")

    pod.wait_until_evicted(by=TAINTED)
    with pytest.raises(Inconclusive, match="DeletionByTaintManager"):
        pod.wait_until_evicted(because="it is below the newcomer")


def test_a_program_that_takes_time_to_end_asks_for_the_signal_and_says_its_time(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    pod = scenario.pod(grace_seconds=10, stop_seconds=1)

    found = memory.get("Pod", pod.name, pod.namespace)
    assert found["metadata"]["annotations"]["gpu-conformance.io/stop-seconds"] == "1"
    [container] = found["spec"]["containers"]
    assert container["image"] == Images().reference("python")
    assert container["command"][0] == "python3"
    assert container["resources"]["limits"]["memory"] == "64Mi"
    plain = memory.get("Pod", (other := scenario.pod()).name, other.namespace)["spec"]
    assert "command" not in plain["containers"][0]
    assert "readinessProbe" not in plain["containers"][0]


def test_the_program_is_ready_once_it_has_asked_for_the_signal_and_ends_after_its_time(
    scenario: RequirementLab, memory: MemoryCluster, tmp_path: Path
) -> None:
    pod = scenario.pod(grace_seconds=10, stop_seconds=1)
    [container] = memory.get("Pod", pod.name, pod.namespace)["spec"]["containers"]
    here = str(tmp_path / "started")
    program, probe = (
        [sys.executable, *(word.replace("/dev/shm/started", here) for word in command[1:])]
        for command in (container["command"], container["readinessProbe"]["exec"]["command"])
    )
    assert subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 1

    with subprocess.Popen(program) as running:
        until = time.monotonic() + PATIENCE
        while subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode and time.monotonic() < until:
            time.sleep(0.01)
        assert _catches(running.pid, signal.SIGTERM)
        began = time.monotonic()
        running.terminate()
        assert running.wait(PATIENCE) == 0
        assert time.monotonic() - began >= 1


def _catches(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("code", [0, 143, 137])
def test_whoever_is_killed_did_not_end_by_itself(
    scenario: RequirementLab, memory: MemoryCluster, judge: Judge, code: int
) -> None:
    [pod] = scenario.pods(1, held=True, grace_seconds=10, stop_seconds=1)
    memory.evict(pod.namespace, pod.name)
    found = memory.get("Pod", pod.name, pod.namespace)
    ended = {"name": "holder", "state": {"terminated": {"exitCode": code}}}
    memory._put({**found, "status": {**found["status"], "containerStatuses": [ended]}})

    if code != 137:
        pod.ends_by_itself()
        return
    with pytest.raises(ExpectationFailed, match="within its grace period of 10 s, found exit code 137") as disproof:
        pod.ends_by_itself()
    assert "SIGTERM did not reach its program" in disproof.value.finding.cause


def test_whoever_has_not_asked_for_the_signal_in_time_is_judged_all_the_same(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    pod = scenario.pod(grace_seconds=10, stop_seconds=1)
    found = memory.get("Pod", pod.name, pod.namespace)
    unready = {**found["status"], "phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}
    memory._put({**found, "status": unready})

    assert pod.require_running() is pod


def test_an_end_that_nobody_saw_is_no_proof_of_anything(
    scenario: RequirementLab, memory: MemoryCluster, judge: Judge
) -> None:
    [pod] = scenario.pods(1, grace_seconds=10, stop_seconds=1)
    memory.evict(pod.namespace, pod.name)

    with pytest.raises(Inconclusive, match="removed before its node said how its container had ended"):
        pod.ends_by_itself()


def test_nobody_evicts_a_pod_that_is_let_alone(scenario: RequirementLab, judge: Judge) -> None:
    with pytest.raises(ExpectationFailed) as disproof:
        scenario.pod().wait_until_evicted(because="it is the least important")

    assert "nothing evicted it: it has priority -2000000000" in disproof.value.finding.cause


def test_a_node_is_filled_to_the_last_device(scenario: RequirementLab) -> None:
    first = scenario.fill(node(), gpus_each=2, count=1)
    rest = scenario.fill(node())

    assert len(first) == 1
    assert len(rest) == 2
    assert {pod.node for pod in [*first, *rest]} == {"gpu-1"}
    with pytest.raises(Inconclusive, match=r"node gpu-1 has 0 nvidia\.com/gpu free"):
        scenario.fill(node())


def test_leaving_frees_the_devices_before_the_next_requirement_begins(lab: Lab) -> None:
    for _ in range(2):
        with lab.for_requirement(rule()) as scenario:
            assert len(scenario.fill(node())) == 4


def test_a_pull_secret_is_copied_into_every_namespace(memory: MemoryCluster) -> None:
    memory.add("Secret", "registry", "team", type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "e30="})
    images = Images(registry="mirror.example.com/k8s/", pull_secret="team/registry")
    with Lab(memory.client(RUN_ID), RUN_ID, images=images) as lab, lab.for_requirement(rule()) as scenario:
        pod = scenario.pod()
        spec = memory.get("Pod", pod.name, pod.namespace)["spec"]
        copied = memory.get("Secret", "registry", pod.namespace)

    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["containers"][0]["image"].startswith("mirror.example.com/k8s/pause:3.10@sha256:")
    assert copied["data"] == {".dockerconfigjson": "e30="}
    assert copied["metadata"]["labels"][RUN_LABEL] == RUN_ID


def test_a_pull_secret_that_is_not_there_is_said(memory: MemoryCluster) -> None:
    lab = Lab(memory.client(RUN_ID), RUN_ID, images=Images(pull_secret="team/none"))
    with lab, lab.for_requirement(rule()) as scenario, pytest.raises(Inconclusive, match="pull secret team/none"):
        scenario.pod()


def test_an_image_that_nobody_uses_cannot_be_replaced() -> None:
    assert Images(replacements={"pause": "mine:1", "python": "mine:2"}).all() == ["mine:1", "mine:2"]
    with pytest.raises(ValueError, match="no image is called cuda; there are: pause, python"):
        Images(replacements={"cuda": "mine:1"})
    with pytest.raises(ValueError, match="is not NAMESPACE/NAME"):
        Images(pull_secret="registry")


def test_a_pod_asks_for_little_and_may_use_enough_to_start(scenario: RequirementLab, memory: MemoryCluster) -> None:
    pods = [scenario.pod(), scenario.pod(cpu="1")]
    found = [memory.get("Pod", pod.name, pod.namespace)["spec"]["containers"][0]["resources"] for pod in pods]

    assert [each["requests"]["cpu"] for each in found] == ["10m", "1"]
    assert [each["limits"]["cpu"] for each in found] == ["100m", "1"]
    assert [each["requests"]["memory"] == each["limits"]["memory"] for each in found] == [True, True]


def test_a_pod_may_ask_for_no_cpu_and_memory(scenario: RequirementLab, memory: MemoryCluster) -> None:
    pod = scenario.pod(cpu=None, memory=None, spec={"priority": None, "hostNetwork": True, "enableServiceLinks": None})
    spec = memory.get("Pod", pod.name, pod.namespace)["spec"]

    assert spec["containers"][0]["resources"] == {"requests": {}, "limits": {}}
    assert spec["hostNetwork"] is True
    assert "enableServiceLinks" not in spec


def test_a_pod_that_admission_refuses_is_an_error_that_names_why(scenario: RequirementLab) -> None:
    with pytest.raises(Forbidden, match="no PriorityClass with name nowhere"):
        scenario.pod(priority="nowhere", gated=True)


def test_several_nodes_and_terms_give_one_term_for_each_pair() -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = [{"matchExpressions": [{"key": key, "operator": "Exists"}]} for key in ("a", "b")]

    affinity = pinned({"nodeAffinity": {required: {"nodeSelectorTerms": terms}}}, ("one", "two"))

    pairs = affinity["nodeAffinity"][required]["nodeSelectorTerms"]
    assert [(pair["matchExpressions"][0]["key"], pair["matchFields"][0]["values"]) for pair in pairs] == [
        ("a", ["one"]),
        ("a", ["two"]),
        ("b", ["one"]),
        ("b", ["two"]),
    ]


def test_tolerations_come_from_nodes_taints_and_themselves() -> None:
    cordon, lasting = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"), Taint("a", "b", "NoSchedule")
    wanted = Toleration("a", "Equal", "b", "NoSchedule")

    assert tolerations_for(node("x", cordon, lasting)) == (wanted,)
    assert tolerations_for([lasting, wanted, {"key": "c", "operator": "Exists"}]) == (wanted, Toleration("c", "Exists"))
    with pytest.raises(TypeError, match="no toleration"):
        tolerations_for([3])  # type: ignore[list-item]


def test_merging_goes_deep_into_mappings_only() -> None:
    assert merged({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2]}, "d": None}) == {"a": {"b": 1, "c": [2]}}

from types import SimpleNamespace
from typing import Any

import pytest
from lab_runs import RUN_ID, rule
from memory_cluster import MemoryCluster

from conformance.gpu.taints import Taint
from conformance.kube.effects import Effect
from conformance.kube.errors import EffectRefused
from conformance.lab import Lab, RequirementLab
from conformance.lab.borrowing import FENCE, fence
from conformance.verdict import Inconclusive, Waits

GPU_1, GPU_2, CPU_1 = (SimpleNamespace(name=name) for name in ("gpu-1", "gpu-2", "cpu-1"))
SPEC = {"nodeName": "gpu-1", "containers": []}


def taints(memory: MemoryCluster, name: str = "gpu-1") -> list[str]:
    return [f"{raw['key']}:{raw['effect']}" for raw in memory.get("Node", name)["spec"].get("taints", [])]


def occupy(memory: MemoryCluster, name: str = "theirs", **metadata: Any) -> None:
    memory.add("Pod", name, "team", metadata=metadata, spec=dict(SPEC), status={"phase": "Running"})


def test_a_borrowed_node_is_fenced_before_anything_else_and_until_the_very_end(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    before = memory.everything()
    seen: list[list[str]] = []

    def watch(number: int, when: str) -> None:
        if memory.requests[-1].startswith("PATCH /api/v1/nodes") and when == "after":
            seen.append(taints(memory))

    memory.accident = watch
    with scenario.borrow(GPU_1, taints=[]) as node:
        assert memory.get("Node", "gpu-1")["metadata"]["labels"][FENCE] == RUN_ID
        node.set_taints([Taint("a", "b", "NoSchedule")])
        assert node.taints == (Taint("a", "b", "NoSchedule"),)

    ours = f"{FENCE}:NoSchedule"
    assert seen[0] == ["gpu:NoSchedule", ours]
    assert all(ours in each for each in seen[:-1])
    assert seen[-1] == ["gpu:NoSchedule"]
    del before["Namespace", "", "gpu-conformance"]
    assert {key: value for key, value in memory.everything().items() if key[0] == "Node"} == {
        key: value for key, value in before.items() if key[0] == "Node"
    }


def test_a_node_on_which_somebody_works_is_not_borrowed(scenario: RequirementLab, memory: MemoryCluster) -> None:
    occupy(memory)

    with pytest.raises(Inconclusive, match=r"node gpu-1 is not idle: team/theirs"):
        scenario.borrow(GPU_1)

    assert taints(memory) == ["gpu:NoSchedule"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [{"kind": "DaemonSet", "uid": "x"}]},
        {"ownerReferences": [{"kind": "Node", "uid": "x"}]},
        {"annotations": {"kubernetes.io/config.mirror": "x"}},
    ],
)
def test_pods_that_belong_to_the_node_do_not_make_it_busy(
    scenario: RequirementLab, memory: MemoryCluster, metadata: dict[str, Any]
) -> None:
    occupy(memory, **metadata)

    with scenario.borrow(GPU_1):
        assert f"{FENCE}:NoSchedule" in taints(memory)


def test_a_pod_that_slips_in_behind_the_fence_makes_the_node_busy(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    looks: list[int] = []

    def slip_in(number: int, when: str) -> None:
        if memory.requests[-1] == "GET /api/v1/pods" and when == "after":
            looks.append(number)
            if len(looks) == 1:
                occupy(memory)

    memory.accident = slip_in
    with pytest.raises(Inconclusive, match="is not idle"):
        scenario.borrow(GPU_1)


def test_lab_pods_pass_the_fence_and_are_gone_when_the_node_is_given_back(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    with scenario.borrow(GPU_1, taints=[]) as node:
        pod = scenario.pod(on=node)
        held = scenario.pod(on=node, held=True)
        assert (pod.node, held.node) == ("gpu-1", "gpu-1")
        assert scenario.pod(on=GPU_2).node is None

    assert pod.state.gone
    assert held.state.gone


def test_others_are_kept_off_by_the_fence(scenario: RequirementLab, memory: MemoryCluster) -> None:
    with scenario.borrow(GPU_1, taints=[]):
        theirs = memory.add("Pod", "new", "team", spec={"containers": [], "nodeSelector": {"pool": "gpu"}})
        memory.schedule(theirs)
        assert "nodeName" not in memory.get("Pod", "new", "team")["spec"]


def test_a_resource_that_nobody_else_knows_comes_and_goes(scenario: RequirementLab, memory: MemoryCluster) -> None:
    with scenario.borrow(GPU_1) as node:
        resource = scenario.fake_gpus(node, 5)
        assert resource == f"gpu-conformance.io/fake-{RUN_ID}"
        pods = scenario.fill(node, resource=resource, gpus_each=2)
        assert len(pods) == 2

    assert resource not in memory.get("Node", "gpu-1")["status"]["capacity"]
    assert resource not in memory.get("Node", "gpu-1")["status"]["allocatable"]


def test_fake_gpus_borrow_the_node_for_the_rest_of_the_requirement(lab: Lab, memory: MemoryCluster) -> None:
    with lab.for_requirement(rule()) as scenario:
        scenario.fake_gpus(GPU_2, 1)
        assert f"{FENCE}:NoSchedule" in taints(memory, "gpu-2")
        with pytest.raises(ValueError, match="borrowed already"):
            scenario.borrow(GPU_2)

    assert taints(memory, "gpu-2") == ["gpu:NoSchedule"]


def test_a_fence_of_another_run_is_respected(scenario: RequirementLab, memory: MemoryCluster) -> None:
    other = fence("zyxwvuts")
    raw = {"key": other.key, "value": other.value, "effect": other.effect}
    memory.get("Node", "gpu-1")["spec"]["taints"].append(raw)

    with pytest.raises(Inconclusive, match=r"borrowed by run zyxwvuts.*gpu-conformance clean --cluster NAME zyxwvuts"):
        scenario.borrow(GPU_1)


def test_borrowing_needs_a_requirement_that_patches_nodes(lab: Lab, memory: MemoryCluster) -> None:
    with lab.for_requirement(rule(Effect.OWN_CLUSTER_OBJECTS)) as scenario, pytest.raises(EffectRefused):
        scenario.borrow(GPU_1)

    assert taints(memory) == ["gpu:NoSchedule"]
    assert lab.left_behind == []
    assert lab.journal.outstanding == ()


def test_no_execute_taints_do_not_evict_the_nodes_own_pods(lab: Lab, memory: MemoryCluster) -> None:
    occupy(memory, "agent", ownerReferences=[{"kind": "DaemonSet", "uid": "x"}])
    evicting = [Taint("a", "", "NoExecute")]

    careful = lab.for_requirement(rule(Effect.PATCHES_NODES))
    expected = r"taint a:NoExecute on node gpu-1 would evict team/agent"
    with careful, careful.borrow(GPU_1) as node, pytest.raises(Inconclusive, match=expected):
        node.set_taints(evicting)
    with lab.for_requirement(rule(Effect.DISRUPTIVE)) as scenario, scenario.borrow(GPU_1) as node:
        node.set_taints(evicting)
        assert node.taints == tuple(evicting)


def test_lifecycle_taints_are_nobodys_to_remove(scenario: RequirementLab, memory: MemoryCluster) -> None:
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    with scenario.borrow(GPU_1) as node:
        memory.get("Node", "gpu-1")["spec"]["taints"].append(cordon)
        node.set_taints([])
        assert "node.kubernetes.io/unschedulable:NoSchedule" in taints(memory)


def test_idle_nodes_are_picked_and_the_others_explained(scenario: RequirementLab, memory: MemoryCluster) -> None:
    occupy(memory)
    memory.get("Node", "cpu-1")["spec"]["unschedulable"] = True

    assert scenario.pick_idle([GPU_1, GPU_2, CPU_1]) == [GPU_2]
    with pytest.raises(Waits, match=r"too few nodes are idle for scenarios: cpu-1 is .*; gpu-1 has team/theirs"):
        scenario.pick_idle([GPU_1, GPU_2, CPU_1], 2)


def test_scenarios_that_find_too_few_of_the_same_nodes_wait_for_one_cause(
    scenario: RequirementLab, memory: MemoryCluster
) -> None:
    occupy(memory)
    memory.get("Node", "gpu-2")["spec"]["unschedulable"] = True

    causes = set()
    for nodes, wanted in (([GPU_1, GPU_2], 1), ([GPU_2, GPU_1], 2)):
        with pytest.raises(Waits) as reason:
            scenario.pick_idle(nodes, wanted)
        causes.add(str(reason.value))
    assert len(causes) == 1

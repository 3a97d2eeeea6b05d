"""Scenarios of one run at the same time: never on one node, and each only where it says that its pods land."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from lab_runs import lab_on, rule
from memory_cluster import MemoryCluster

from conformance.kube.effects import Landing
from conformance.lab import RequirementLab
from conformance.verdict import Inconclusive

GPU_1, GPU_2 = (SimpleNamespace(name=name) for name in ("gpu-1", "gpu-2"))
BOTH = (GPU_1, GPU_2)
SOON = 90


def test_scenarios_at_the_same_time_get_different_nodes(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())

        assert one.pick_idle(BOTH) == [GPU_1]
        assert other.pick_idle(BOTH) == [GPU_2]
        assert one.pick_idle(BOTH) == [GPU_1], "what it has in use itself it may have again"


def test_a_scenario_waits_for_a_node_that_another_one_has_in_use(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())
        one.pick_idle([GPU_1])
        got: list[SimpleNamespace] = []
        waiting = threading.Thread(target=lambda: got.extend(other.pick_idle([GPU_1])), daemon=True)
        waiting.start()
        waiting.join(0.05)
        assert not got

        one.close()

        waiting.join(SOON)
        assert got == [GPU_1]


def test_a_scenario_that_has_nodes_waits_for_no_others(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())
        one.pick_idle([GPU_1])
        other.pick_idle([GPU_2])

        with pytest.raises(Inconclusive, match="too few nodes are idle for scenarios"):
            other.pick_idle([GPU_1])


def test_nobody_waits_for_nodes_that_others_of_the_run_do_not_have(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())
        one.pick_idle([GPU_1])
        memory.add("Pod", "theirs", "team", spec={"nodeName": "gpu-2", "containers": []}, status={"phase": "Running"})

        with pytest.raises(Inconclusive, match="gpu-2 has team/theirs"):
            other.pick_idle([GPU_2])


def test_a_preferred_node_comes_first_and_is_worth_waiting_for(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        lab.preferred_nodes = frozenset({"gpu-2"})
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())
        assert one.pick_idle(BOTH) == [GPU_2]
        got: list[SimpleNamespace] = []
        waiting = threading.Thread(target=lambda: got.extend(other.pick_idle(BOTH)), daemon=True)
        waiting.start()
        waiting.join(0.05)
        assert not got

        one.close()

        waiting.join(SOON)
        assert got == [GPU_2]


def test_a_preferred_node_that_is_not_idle_keeps_nobody_waiting(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        lab.preferred_nodes = frozenset({"gpu-2"})
        memory.add("Pod", "theirs", "team", spec={"nodeName": "gpu-2", "containers": []}, status={"phase": "Running"})

        assert lab.for_requirement(rule()).pick_idle(BOTH) == [GPU_1]


def test_pods_that_may_choose_prefer_preferred_nodes_and_others_are_as_they_were(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        scenario = lab.for_requirement(rule())
        plain = scenario.pod().created["spec"]
        lab.preferred_nodes = frozenset({"gpu-2"})
        choosing, told = scenario.pod().created["spec"], scenario.pod(on=GPU_1).created["spec"]
        own = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
        with_terms = scenario.pod(affinity=own).created["spec"]

    assert "affinity" not in plain
    [term] = choosing["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["preference"]["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["gpu-2"]}]
    assert "preferredDuringSchedulingIgnoredDuringExecution" not in told["affinity"]["nodeAffinity"]
    assert with_terms["affinity"] == own


def test_a_node_in_use_is_not_borrowed_by_another_scenario(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())
        one.pick_idle([GPU_1])

        with pytest.raises(Inconclusive, match="node gpu-1 is in use by PRIO-98, which runs at the same time"):
            other.borrow(GPU_1)

        one.close()
        other.borrow(GPU_1).give_back()


@contextmanager
def scenario_with(memory: MemoryCluster, pods: Landing) -> Iterator[RequirementLab]:
    with lab_on(memory) as lab:
        yield lab.for_requirement(rule(pods=pods))


def test_pods_that_are_to_get_to_no_node_are_gated(memory: MemoryCluster) -> None:
    with scenario_with(memory, Landing.NOWHERE) as scenario:
        scenario.pod(gated=True)
        with pytest.raises(ValueError, match=r"pods of PRIO-99 land on no node, as it declares, and Pod \S+ may land"):
            scenario.pod()
        with pytest.raises(ValueError, match="Deployment"):
            scenario.deployment()


def test_pods_that_are_for_borrowed_nodes_are_pinned_to_them(memory: MemoryCluster) -> None:
    with scenario_with(memory, Landing.ON_BORROWED_NODES) as scenario, scenario.borrow(GPU_1) as node:
        scenario.pod(on=node)
        with pytest.raises(ValueError, match="land on nodes that it has borrowed, as it declares"):
            scenario.pod(on=[node, GPU_2])
        with pytest.raises(ValueError, match="land on nodes that it has borrowed"):
            scenario.pod()


def test_pods_that_are_for_picked_nodes_are_pinned_to_them(memory: MemoryCluster) -> None:
    with scenario_with(memory, Landing.ON_PICKED_NODES) as scenario:
        with pytest.raises(ValueError, match="land on nodes that it has picked, as it declares"):
            scenario.pod(on=GPU_1)
        scenario.pick_idle([GPU_1])

        scenario.pod(on=GPU_1)
        with pytest.raises(ValueError, match="land on nodes that it has picked"):
            scenario.pod(on=BOTH)
        with pytest.raises(ValueError, match="land on nodes that it has picked"):
            scenario.pod()
        with pytest.raises(ValueError, match="Deployment"):
            scenario.deployment()


def test_pods_that_may_land_anywhere_without_devices_ask_for_none(memory: MemoryCluster) -> None:
    with scenario_with(memory, Landing.WITHOUT_DEVICES) as scenario:
        scenario.pod()
        scenario.pod(gpus=1, gated=True)
        with pytest.raises(ValueError, match=r"land anywhere, without devices, .* asks for devices"):
            scenario.pod(gpus=1, on=GPU_1)


def test_a_node_is_picked_by_what_a_scenario_wants_among_those_that_no_other_one_has(memory: MemoryCluster) -> None:
    memory.add("Pod", "theirs", "team", spec={"nodeName": "gpu-2", "containers": []}, status={"phase": "Running"})
    with lab_on(memory) as lab:
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())
        got: list[SimpleNamespace] = []

        def last(unused: Sequence[SimpleNamespace]) -> SimpleNamespace:
            if not unused:
                raise Inconclusive("none is left")
            return unused[-1]

        assert one.pick(BOTH, last) == GPU_2, "it need not be idle"
        assert other.pick(BOTH, last) == GPU_1
        third = lab.for_requirement(rule(rule_id="PRIO-97"))
        waiting = threading.Thread(target=lambda: got.append(third.pick(BOTH, last)), daemon=True)
        waiting.start()
        waiting.join(0.05)
        assert not got

        other.close()

        waiting.join(SOON)
        assert got == [GPU_1]


def test_a_node_that_a_scenario_lets_go_of_is_empty_and_open_to_others(memory: MemoryCluster) -> None:
    with lab_on(memory) as lab:
        one, other = lab.for_requirement(rule(rule_id="PRIO-98")), lab.for_requirement(rule())
        assert one.pick_idle(BOTH, 2) == list(BOTH)
        pods = [one.pod(on=node, tolerates={"operator": "Exists"}).wait_until_scheduled() for node in BOTH]

        one.let_go(GPU_1)

        assert [pod.node for pod in pods] == [None, "gpu-2"]
        assert other.pick_idle(BOTH) == [GPU_1]
        with pytest.raises(Inconclusive, match="too few nodes are idle"):
            other.pick_idle([GPU_2])


def test_what_a_stopped_scenario_did_can_be_undone_afterwards(memory: MemoryCluster) -> None:
    lab = lab_on(memory)
    taints = list(memory.get("Node", "gpu-1")["spec"]["taints"])
    with lab:
        scenario = lab.for_requirement(rule())
        scenario.borrow(GPU_1)
        before = len(memory.requests)
        lab.stopped.set()

        with pytest.raises(KeyboardInterrupt, match="the run was interrupted"):
            scenario.pod(on=GPU_1)
        assert len(memory.requests) == before
        lab.stopped.clear()

    assert memory.get("Node", "gpu-1")["spec"]["taints"] == taints
    assert not lab.left_behind

from dataclasses import dataclass
from typing import Any

import pytest
from memory_cluster import MemoryCluster

from conformance.gpu.taints import Taint
from conformance.kube.client import Client
from conformance.kube.errors import Conflict, NotFound
from conformance.kube.nodechange import NodeChange, plan, restore, store

GPU_TAINT = Taint("gpu", "yes", "NoSchedule")


@dataclass
class Node:
    """One node of the cluster, and whoever changes it."""

    memory: MemoryCluster
    client: Client

    @property
    def object(self) -> dict[str, Any]:
        return self.memory.get("Node", "gpu-1")

    def labels(self) -> dict[str, str]:
        return dict(self.object["metadata"]["labels"])

    def taints(self) -> list[dict[str, str]]:
        return list(self.object["spec"].get("taints") or [])

    def change(self, **wanted: Any) -> NodeChange:
        change = plan(self.object, **wanted)
        store(self.client, change)
        return change


@pytest.fixture
def node(memory: MemoryCluster) -> Node:
    return Node(memory, memory.client())


def test_what_the_node_already_has_is_no_change(node: Node) -> None:
    assert not plan(node.object, labels={"pool": "gpu"}, add_taints=[GPU_TAINT], remove_taints=[Taint("x", "", "y")])


def test_a_change_is_taken_back_exactly(node: Node, memory: MemoryCluster) -> None:
    before = memory.everything()

    change = node.change(
        labels={"pool": "mine", "new": "label", "kubernetes.io/hostname": None},
        add_taints=[Taint("mine", "", "NoExecute")],
        remove_taints=[GPU_TAINT],
        resources={"example.com/fake": 4},
    )

    assert node.labels() == {"pool": "mine", "new": "label"}
    assert node.taints() == [{"key": "mine", "effect": "NoExecute"}]
    assert node.object["status"]["capacity"]["example.com/fake"] == "4"
    assert restore(node.client, change) == ()
    assert memory.everything() == before


def test_storing_and_restoring_may_be_repeated(node: Node, memory: MemoryCluster) -> None:
    before = memory.everything()
    change = node.change(labels={"pool": "mine"}, add_taints=[Taint("a", "b", "NoSchedule")], resources={"x.y/z": 1})

    store(node.client, change)
    changed = memory.everything()
    restore(node.client, change)
    restore(node.client, change)

    assert changed != before
    assert memory.everything() == before


def test_restoring_what_was_recorded_but_never_made_changes_nothing(node: Node, memory: MemoryCluster) -> None:
    before = memory.everything()
    wanted = {"pool": "mine", "kubernetes.io/hostname": None, "new": "x"}

    change = plan(node.object, labels=wanted, remove_taints=[GPU_TAINT], resources={"x.y/z": 1})

    assert restore(node.client, change) == ()
    assert memory.everything() == before


def test_a_label_that_somebody_changed_since_stays_theirs(node: Node) -> None:
    change = node.change(labels={"pool": "mine", "other": "mine"})
    node.client.patch("/api/v1/nodes/gpu-1", {"metadata": {"labels": {"pool": "theirs"}}})

    assert restore(node.client, change) == ("label pool=theirs",)
    assert node.labels()["pool"] == "theirs"
    assert "other" not in node.labels()


def test_taints_of_others_survive_both_ways(node: Node) -> None:
    change = node.change(add_taints=[Taint("mine", "", "NoSchedule")], remove_taints=[GPU_TAINT])
    theirs = {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}
    node.client.patch("/api/v1/nodes/gpu-1", {"spec": {"taints": [*node.taints(), theirs]}})

    restore(node.client, change)

    assert node.taints() == [theirs, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}]


def test_a_taint_with_another_value_is_replaced_and_comes_back(node: Node) -> None:
    change = node.change(add_taints=[Taint("gpu", "no", "NoSchedule")])

    assert node.taints() == [{"key": "gpu", "value": "no", "effect": "NoSchedule"}]
    restore(node.client, change)
    assert node.taints() == [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]


def test_the_time_of_a_removed_taint_comes_back_with_it(node: Node) -> None:
    timed = {"key": "slow", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
    node.client.patch("/api/v1/nodes/gpu-1", {"spec": {"taints": [timed]}})

    change = node.change(remove_taints=[Taint("slow", "", "NoExecute")])
    assert node.taints() == []
    restore(node.client, change)

    assert node.taints() == [timed]


def test_later_changes_of_the_same_label_are_taken_back_in_reverse(node: Node) -> None:
    first, second = node.change(labels={"pool": "one"}), node.change(labels={"pool": "two"})

    restore(node.client, second)
    restore(node.client, first)

    assert node.labels()["pool"] == "gpu"


def test_a_true_amount_is_never_overwritten(node: Node) -> None:
    with pytest.raises(ValueError, match=r"gpu-1 has nvidia.com/gpu already"):
        plan(node.object, resources={"nvidia.com/gpu": 8})


def test_a_write_in_between_makes_us_look_again(node: Node, memory: MemoryCluster) -> None:
    change = plan(node.object, add_taints=[Taint("mine", "", "NoSchedule")])
    theirs = {"key": "theirs", "effect": "NoSchedule"}

    def interfere(number: int, when: str) -> None:
        if memory.requests[-1] == "GET /api/v1/nodes/gpu-1" and when == "after" and theirs not in node.taints():
            node.object["spec"]["taints"].append(theirs)
            node.object["metadata"]["resourceVersion"] += "0"

    memory.accident = interfere
    store(node.client, change)

    assert theirs in node.taints()
    assert {"key": "mine", "effect": "NoSchedule"} in node.taints()


def test_a_node_that_is_never_still_is_an_error(node: Node, memory: MemoryCluster) -> None:
    change = plan(node.object, labels={"a": "b"})

    def restless(number: int, when: str) -> None:
        if when == "before":
            node.object["metadata"]["resourceVersion"] += "0"

    memory.accident = restless
    with pytest.raises(Conflict):
        store(node.client, change)


def test_a_node_that_is_gone_needs_no_restoring(node: Node, memory: MemoryCluster) -> None:
    change = node.change(labels={"a": "b"}, resources={"x.y/z": 1})
    node.client.delete("/api/v1/nodes/gpu-1")

    assert restore(node.client, change) == ()
    with pytest.raises(NotFound):
        store(node.client, change)


def test_a_change_says_what_it_does() -> None:
    change = NodeChange("a", {"x": None}, {"x": "y"}, (GPU_TAINT,), (Taint("b", "", "NoExecute"),), {}, {"z/w": 2})

    assert str(change) == "node a: label x=y, taint gpu=yes:NoSchedule, without taint b:NoExecute, 2 z/w"

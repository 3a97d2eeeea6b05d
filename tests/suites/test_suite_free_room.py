"""What nodes have free, as the scheduler's filters decide it."""

from typing import Any

from conformance.facts import Facts
from suites._shared.free_room import FreeRoom

Object = dict[str, Any]


def node(name: str, gpus: int = 2, **spec: Any) -> Object:
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "8", "pods": "10"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, on: str = "", gpus: int = 1, priority: int = 0, **spec: Any) -> Object:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [{"name": "a", "image": "a", "resources": resources}],
            "nodeName": on,
            "priority": priority,
            **spec,
        },
        "status": {"phase": "Running"},
    }


def placed(objects: list[Object], *wanted: Object, above: int | None = None) -> list[str]:
    facts, pods = Facts.from_objects(objects), Facts.from_objects(list(wanted)).pods
    room = FreeRoom(facts.nodes, facts, above=above)
    return [found.name if (found := room.place(each)) else "" for each in pods]


def test_pods_that_are_placed_take_their_part() -> None:
    assert placed([node("a"), pod("there", "a")], pod("one"), pod("two")) == ["a", ""]


def test_what_has_ended_takes_nothing() -> None:
    ended = pod("ended", "a", gpus=2)
    ended["status"]["phase"] = "Succeeded"

    assert placed([node("a"), ended], pod("one", gpus=2)) == ["a"]


def test_nodes_that_take_no_pods_have_no_room() -> None:
    taint = {"key": "dedicated", "value": "x", "effect": "NoSchedule"}

    assert placed([node("a", unschedulable=True), node("b", taints=[taint])], pod("one")) == [""]


def test_a_pod_goes_where_its_selector_says() -> None:
    assert placed([node("a"), node("b")], pod("one", nodeSelector={"kubernetes.io/hostname": "b"})) == ["b"]


def test_pods_of_lower_priority_make_room_and_others_do_not() -> None:
    full = [node("a"), pod("low", "a", gpus=2, priority=5)]

    assert placed(full, pod("one", priority=10)) == [""]
    assert placed(full, pod("one", priority=10), above=10) == ["a"]
    assert placed(full, pod("one", priority=5), above=5) == [""]

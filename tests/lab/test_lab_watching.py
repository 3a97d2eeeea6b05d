"""The timeline of a scenario: what its pods did as it was seen, and who evicted whom as far as that was seen."""

from typing import Any

from conformance.lab.pod_states import PREEMPTED, TAINTED, PodState
from conformance.lab.watching import Watch
from conformance.subjects import ObjectReference
from conformance.timeline import MOST, Timeline


class Scenario:
    """A scenario's pods on one node, each created and then seen."""

    def __init__(self) -> None:
        self.watch = Watch(Timeline())
        self.priorities: dict[str, int] = {}

    def create(self, name: str, priority: int) -> None:
        limits = {"nvidia.com/gpu": "2", "cpu": "1"}
        pod: dict[str, Any] = {
            "kind": "Pod", "metadata": {"name": name, "namespace": "team", "uid": name},
            "spec": {"priority": priority, "containers": [{"resources": {"limits": limits}}]},
        }  # fmt: skip
        self.watch.created(pod)
        self.priorities[name] = priority

    def see(self, name: str, *, ours: bool = False, **state: Any) -> None:
        about = ObjectReference.of("Pod", name, namespace="team")
        self.watch.saw(name, about, PodState(priority=self.priorities[name], **state), ours=ours)

    def runs(self, name: str, priority: int) -> None:
        self.create(name, priority)
        self.see(name, phase="Running", node="gpu-1")

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(step.did, step.name, step.by) for step in self.watch.steps]


def test_a_preempted_pod_is_told_with_the_pod_that_got_its_node() -> None:
    scenario = Scenario()
    scenario.runs("low", 1)
    scenario.runs("bystander", 1)
    scenario.create("high", 9)
    scenario.see("high", phase="Pending", nominated_node="gpu-1", unscheduled="Unschedulable")
    scenario.see("low", phase="Running", node="gpu-1", deleting=True, disrupted=PREEMPTED)
    scenario.see("high", phase="Running", node="gpu-1")

    assert scenario.told == [
        ("created", "low", ""), ("running", "low", ""), ("created", "bystander", ""), ("running", "bystander", ""),
        ("created", "high", ""), ("nominated", "high", ""), ("evicted", "low", "pod team/high"),
        ("running", "high", ""),
    ]  # fmt: skip


def test_one_that_ran_already_or_came_later_or_was_gone_is_not_the_one_that_evicted() -> None:
    scenario = Scenario()
    scenario.runs("low", 1)
    scenario.runs("first", 9)
    scenario.see("low", phase="Running", node="gpu-1")
    scenario.create("gone", 9)
    scenario.see("gone", ours=True, gone=True)
    scenario.runs("second", 9)
    scenario.see("low", gone=True)
    scenario.runs("third", 9)

    assert [by for did, name, by in scenario.told if (did, name) == ("evicted", "low")] == ["pod team/second"]


def test_equal_pods_and_pods_on_other_nodes_evicted_nobody() -> None:
    scenario = Scenario()
    scenario.runs("low", 1)
    scenario.runs("equal", 1)
    scenario.create("elsewhere", 9)
    scenario.see("elsewhere", phase="Running", node="gpu-2")
    scenario.see("low", deleting=True, disrupted=PREEMPTED)

    assert scenario.told[-1] == ("evicted", "low", "the scheduler")


def test_the_taint_that_evicts_is_named_only_where_there_is_one() -> None:
    scenario = Scenario()
    node = ObjectReference.of("Node", "gpu-1")
    for name in ("a", "b", "c"):
        scenario.runs(name, 1)
    scenario.see("a", gone=True)
    scenario.watch.timeline.add("tainted", node, detail="x=y:NoExecute")
    scenario.see("b", gone=True)
    scenario.see("c", node="gpu-1", deleting=True, disrupted=TAINTED)

    assert [by for did, _, by in scenario.told if did == "evicted"] == [
        "",
        "the NoExecute taint",
        "the NoExecute taint",
    ]


def test_a_pod_that_somebody_drained_has_that_reason_and_no_author() -> None:
    scenario = Scenario()
    scenario.runs("low", 1)
    scenario.runs("high", 9)
    scenario.see("low", deleting=True, disrupted="EvictionByEvictionAPI")

    assert scenario.told[-1] == ("evicted", "low", "")
    assert scenario.watch.steps[-1].detail == "EvictionByEvictionAPI"


def test_what_the_scenario_deletes_is_no_eviction_and_nothing_is_told_twice() -> None:
    scenario = Scenario()
    scenario.runs("mine", 1)
    for state in ({"phase": "Running"}, {"deleting": True}, {"deleting": True}, {"gone": True}, {"gone": True}):
        scenario.see("mine", ours=True, node="gpu-1", **state)

    assert scenario.told == [("created", "mine", ""), ("running", "mine", ""), ("deleted", "mine", "")]


def test_a_created_pod_is_told_with_its_devices_and_priority() -> None:
    scenario = Scenario()
    scenario.create("low", -5)

    assert scenario.watch.steps[0].detail == "2 nvidia.com/gpu, priority -5"
    assert scenario.watch.steps[0].object == "team/low"


def test_steps_beyond_the_limit_are_counted() -> None:
    timeline = Timeline()
    for number in range(MOST + 3):
        timeline.add("created", ObjectReference.of("Pod", f"p-{number}", namespace="n"))

    assert (len(timeline.steps), timeline.left_out) == (MOST, 3)

"""Budgets taken together: counter-examples in which each budget by itself lets its pods go, and all of them do not."""

from collections.abc import Sequence
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference.model import Pool
from conformance.subjects import ObjectReference
from conformance.upgrading.policy import UpgradePolicy
from suites.upgrade.evictions import DRIVER_MAY_TAKE, Evictions
from suites.upgrade.upgrade_groups import UpgradeGroup

GPU = "nvidia.com/gpu"
Object = dict[str, Any]
DELETES = {"force": True, "deleteEmptyDir": True}


def node(name: str, gpus: int = 4) -> Object:
    amounts = {GPU: str(gpus), "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.present": "true"}},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(app: str, at: str, number: int = 1, *, gpus: int = 1, ready: bool = True, phase: str = "Running") -> Object:
    """A pod of the Deployment ``app`` on a node."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": app, "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{app}-{at}-{number}",
            "namespace": "ml",
            "labels": {"app": app},
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": at,
            "schedulerName": "default-scheduler",
            "containers": [{"name": "main", "image": "busybox", "resources": {"limits": {GPU: str(gpus)}}}],
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def budget(
    app: str, allowed: int, *, healthy: int = 2, desired: int = 1, expected: int = 2, name: str = "", **spec: Any
) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name or app, "namespace": "ml"},
        "spec": {"selector": {"matchLabels": {"app": app}}, **spec},
        "status": {
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
        },
    }


def group(facts: Facts, names: Sequence[str], at_once: int, *, seconds: int = 300, source: str = "p") -> UpgradeGroup:
    """Nodes of one policy, of which as many may be away at once."""
    settings = {
        "maxParallelUpgrades": at_once,
        "maxUnavailable": "100%",
        "podDeletion": {**DELETES, "timeoutSeconds": seconds},
    }
    nodes = tuple((Pool(name="gpu", selector={}), each) for each in facts.nodes if each.name in names)
    return UpgradeGroup(UpgradePolicy(source, settings), ObjectReference.of("ClusterPolicy", source), nodes)


def kept(*objects: Object, groups: Sequence[tuple[str, int]] = (), seconds: int = 300) -> dict[str, str]:
    """Why pods cannot leave, by node; nodes that they can leave are left out."""
    facts = Facts.from_objects(objects)
    named = groups or [("".join(each.name for each in facts.nodes), 1)]
    made = [
        group(facts, list(names), at_once, seconds=seconds, source=f"policy {number}")
        for number, (names, at_once) in enumerate(named, 1)
    ]
    found = Evictions(made, facts).refusals()
    return {name: "; ".join(each.why for each in refusals) for name, refusals in found.items() if refusals}


def test_a_budget_that_lets_all_pods_of_a_node_go_keeps_none():
    assert not kept(node("a"), pod("x", "a"), pod("x", "a", 2), budget("x", 2))


def test_the_second_pod_goes_when_the_first_runs_elsewhere():
    assert not kept(node("a"), node("b", 1), pod("x", "a"), pod("x", "a", 2), budget("x", 1))


def test_the_second_pod_stays_where_nobody_has_room_for_the_first():
    found = kept(node("a"), node("b", 0), pod("x", "a"), pod("x", "a", 2), budget("x", 1))

    assert "other nodes have room for 0" in found["a"]


def test_two_budgets_that_need_the_same_room_keep_a_pod():
    """By itself each of the two finds the one free GPU."""
    objects = [node("a"), node("b", 1)]
    for app in ("x", "y"):
        objects += [pod(app, "a"), pod(app, "a", 2), budget(app, 1)]

    assert "other nodes have room for 0" in kept(*objects)["a"]
    assert not kept(node("a"), node("b", 2), *objects[2:])


def test_pods_without_budget_compete_for_the_room_as_well():
    objects = [node("a"), node("b", 1), pod("x", "a"), pod("x", "a", 2), budget("x", 1), pod("free", "a")]

    assert "other nodes have room for 0" in kept(*objects)["a"]
    assert not kept(node("a"), node("b", 2), *objects[2:])


def test_two_nodes_that_go_together_use_one_budget_twice():
    """On each of them one pod, which the budget lets go: by nodes nothing is wrong."""
    objects = [node("a", 1), node("b", 1), pod("x", "a"), pod("x", "b"), budget("x", 1)]

    found = kept(*objects, groups=[("ab", 2)])

    assert found.keys() == {"a", "b"}
    assert "where a, b are upgraded together" in found["a"]
    assert "allows 1 of 2 pods" in found["a"]
    assert "waits 300 seconds" in found["a"]


def test_nodes_that_go_one_after_the_other_use_it_once_each():
    objects = [node("a", 1), node("b", 1), pod("x", "a"), pod("x", "b"), budget("x", 1)]

    assert not kept(*objects, groups=[("ab", 1)])


def test_nodes_of_two_policies_go_together():
    """NVIDIADriver objects are upgraded side by side, each with slots of its own."""
    objects = [node("a", 1), node("b", 1), pod("x", "a"), pod("x", "b"), budget("x", 1)]

    assert kept(*objects, groups=[("a", 1), ("b", 1)]).keys() == {"a", "b"}


def test_room_on_a_third_node_lets_both_go():
    objects = [node("a", 1), node("b", 1), node("c", 1), pod("x", "a"), pod("x", "b"), budget("x", 1)]

    assert not kept(*objects, groups=[("ab", 2)])
    assert not kept(*objects, groups=[("abc", 2)]), "which of the three go together is not known, and c may stay"


def test_room_on_a_node_that_is_away_too_is_none():
    objects = [node("a", 1), node("b", 1), node("c", 1), pod("x", "a"), pod("x", "b"), budget("x", 1)]

    assert kept(*objects, groups=[("abc", 3)]).keys() == {"a", "b"}


@pytest.mark.parametrize("seconds", [0, DRIVER_MAY_TAKE])
def test_a_policy_that_waits_until_the_first_node_is_back_lets_all_go(seconds):
    objects = [node("a", 1), node("b", 1), pod("x", "a"), pod("x", "b"), budget("x", 1)]

    assert not kept(*objects, groups=[("ab", 2)], seconds=seconds)


def test_without_timeout_a_node_that_needs_room_never_goes_on():
    """The room that it waits for is its own."""
    assert kept(node("a"), pod("x", "a"), pod("x", "a", 2), budget("x", 1), seconds=0)


def test_two_budgets_of_one_pod_are_an_error_whatever_they_allow():
    found = kept(node("a"), node("b"), pod("x", "a"), budget("x", 9), budget("x", 9, name="other"))

    assert "more than one forbids eviction" in found["a"]


@pytest.mark.parametrize("more", [{"phase": "Pending"}, {"phase": "Succeeded"}])
def test_a_pod_that_does_not_run_goes_whatever_budgets_say(more):
    of_two = [budget("x", 0, healthy=0), budget("x", 0, healthy=0, name="other")]

    assert not kept(node("a"), pod("x", "a", ready=False, **more), *of_two)


def test_a_pod_that_is_not_ready_takes_nothing_of_a_budget_with_enough_healthy_ones():
    sick = pod("x", "a", ready=False)

    assert not kept(node("a"), sick, budget("x", 0, healthy=2, desired=2, expected=3))
    assert "allows no disruption" in kept(node("a"), sick, budget("x", 0, healthy=1, desired=2, expected=3))["a"]


def test_a_budget_may_let_pods_go_that_are_not_ready():
    sick = pod("x", "a", ready=False)
    allowing = budget("x", 0, healthy=1, desired=2, expected=3, unhealthyPodEvictionPolicy="AlwaysAllow")

    assert not kept(node("a"), sick, allowing)


def test_a_pod_that_nobody_makes_again_gives_nothing_back_to_its_budget():
    bare = [pod("x", "a"), pod("x", "a", 2)]
    for each in bare:
        del each["metadata"]["ownerReferences"]

    assert kept(node("a"), node("b"), *bare, budget("x", 1))


def test_where_another_scheduler_places_a_pod_nothing_is_known():
    objects = [node("a"), node("b"), pod("x", "a"), pod("x", "a", 2), budget("x", 1)]
    for each in objects[2:4]:
        each["spec"]["schedulerName"] = "kai-scheduler"
    facts = Facts.from_objects(objects)

    (refusal,) = Evictions([group(facts, ["a", "b"], 1)], facts).refusals()["a"]

    assert not refusal.known
    assert "kai-scheduler places it" in refusal.why


def test_a_budget_that_counts_nothing_yet_says_so():
    found = kept(node("a"), pod("x", "a"), budget("x", 0, healthy=0, desired=0, expected=0))

    assert "has counted none of its pods" in found["a"]

"""Whom kube-scheduler evicts: as few as it can, the least important, and those whom a budget keeps only at last."""

import pytest

from conformance.gpu.preemption import Holding, Victims, fits, victims_on

GPU = "nvidia.com/gpu"
FOUR = {GPU: 4}


def gpus(count: int) -> dict[str, int]:
    return {GPU: count}


def pod(name: str, priority: int, count: int = 1, started: float = 0.0, *budgets: str) -> Holding:
    return Holding(name, priority, gpus(count), started, budgets)


def evicted(wanted: int, here: list[Holding], priority: int = 100, **allowed: int) -> list[str] | None:
    found = victims_on(gpus(wanted), FOUR, here, priority, allowed)
    return None if found is None else [each.name for each in found.pods]


def test_what_nobody_asks_for_does_not_count() -> None:
    assert fits(gpus(1), FOUR, {GPU: 3, "cpu": 100})
    assert not fits(gpus(2), FOUR, {GPU: 3})
    assert not fits({"other": 1}, FOUR, {})


def test_the_least_important_goes_and_only_as_many_as_it_takes() -> None:
    here = [pod("high", 50), pod("low", 10), pod("middle", 20), pod("lower", 5)]

    assert evicted(1, here) == ["lower"]
    assert evicted(2, here) == ["low", "lower"]


def test_of_two_of_one_priority_the_younger_goes() -> None:
    assert evicted(1, [pod("old", 10, 2, 100.0), pod("young", 10, 2, 200.0)]) == ["young"]


@pytest.mark.parametrize("priority", [10, 5])
def test_nobody_goes_for_a_pod_that_is_not_above(priority: int) -> None:
    assert evicted(1, [pod("one", 10, 4)], priority) is None


def test_nobody_goes_where_that_would_not_make_room() -> None:
    assert evicted(3, [pod("above", 200, 2), pod("low", 10, 2)]) is None


def test_a_big_pod_of_more_importance_goes_where_the_small_ones_do_not_make_room() -> None:
    assert evicted(4, [pod("big", 50, 3), pod("small", 10, 1)]) == ["big", "small"]
    assert evicted(3, [pod("big", 50, 3), pod("small", 10, 1)]) == ["big"]


def test_whom_a_budget_keeps_goes_at_last() -> None:
    here = [pod("kept", 5, 2, 0.0, "budget"), pod("other", 50, 2)]

    assert evicted(2, here, budget=0) == ["other"]
    assert evicted(2, here, budget=1) == ["kept"]


def test_a_budget_that_must_be_broken_is_counted() -> None:
    here = [pod("a", 5, 2, 1.0, "budget"), pod("b", 5, 2, 2.0, "budget")]

    found = victims_on(gpus(4), FOUR, here, 100, {"budget": 1})

    assert found is not None
    assert found.violating == 1
    assert [each.name for each in found.pods] == ["a", "b"]


def test_nodes_are_compared_by_what_is_broken_there() -> None:
    def rank(*pods: Holding, violating: int = 0) -> tuple[float, ...]:
        return Victims(pods, violating).rank

    assert rank(pod("a", 90)) < rank(pod("a", 0), violating=1), "a budget first"
    assert rank(pod("a", 10)) < rank(pod("a", 20)), "then the highest priority"
    assert rank(pod("a", 10)) < rank(pod("a", 10), pod("b", -5)), "then the sum, to which every victim adds"
    assert rank(pod("a", 10, 1, 200.0)) < rank(pod("a", 10, 1, 100.0)), "then the one that started last"

"""Which bounds of KAI's queues are judged, and what counts as used."""

from typing import Any

import pytest

from conformance.explaining import seen_from
from conformance.explaining.kai_quota import over_bound


def queue(parent: str = "", name: str = "research", **gpu: Any) -> dict[str, Any]:
    return {
        "kind": "Queue",
        "metadata": {"name": name},
        "spec": {"parentQueue": parent, "resources": {"gpu": gpu}},
    }


def pod(gpus: int = 0, on: str = "", annotations: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    return {
        "kind": "Pod",
        "metadata": {
            "name": "first" if on else "train",
            "namespace": "ml",
            "labels": {"kai.scheduler/queue": "research", **metadata.pop("labels", {})},
            "annotations": annotations or {},
            **metadata,
        },
        "spec": {
            "schedulerName": "kai-scheduler",
            "containers": [{"name": "main", "resources": resources}],
            **({"nodeName": on} if on else {}),
        },
        "status": {"phase": "Running" if on else "Pending"},
    }


def told(waiting: dict[str, Any], *others: dict[str, Any]) -> str:
    return over_bound(seen_from([waiting, *others]), waiting)[0]


@pytest.mark.parametrize("bound", [{}, {"limit": -1}, {"limit": 12}, {"quota": 1}], ids=str)
def test_a_bound_that_is_not_stated_unlimited_or_not_reached_is_none(bound):
    assert told(pod(8), queue(**bound), pod(4, on="gpu-1")) == ""


def test_pods_that_are_going_and_those_of_other_schedulers_use_nothing():
    going = pod(8, on="gpu-1", deletionTimestamp="2026-11-28T11:00:00Z")
    other = pod(8, on="gpu-1")
    other["spec"]["schedulerName"] = "default-scheduler"

    assert told(pod(8), queue(limit=8), going, other) == ""
    assert "8 are used by ml/first (8)" in told(pod(8), queue(limit=8), pod(8, on="gpu-1"))


def test_fractions_count_as_such():
    half = {"gpu-fraction": "0.5", "gpu-fraction-num-devices": "2"}

    assert "1 GPUs asked for, its limit is 1.5, 1 are used" in told(
        pod(annotations=half), queue(limit=1.5), pod(annotations=half, on="gpu-1")
    )


@pytest.mark.parametrize(("said", "kept"), [("preemptible", False), ("non-preemptible", True)])
def test_a_quota_bounds_only_what_is_not_preemptible(said, kept):
    waiting = pod(8, labels={"kai.scheduler/preemptibility": said})

    assert bool(told(waiting, queue(quota=4, limit=-1))) is kept


def test_queues_in_a_circle_are_walked_once():
    assert told(pod(1), queue("above", limit=8), queue("research", "above", limit=8)) == ""


def test_an_amount_that_is_none_leaves_the_words_to_kai():
    assert told(pod(1), queue(limit="many")) == ""

"""What a Kueue Workload lacks in its ClusterQueue: what is counted, and what to do about it."""

from typing import Any

from conformance.explaining import seen_from
from conformance.explaining.kueue_quota import lacking

GPU = "nvidia.com/gpu"


def queue(nominal: int, *flavors: str) -> dict[str, Any]:
    resources = [{"name": GPU, "nominalQuota": nominal}]
    group = {
        "coveredResources": [GPU],
        "flavors": [{"name": name, "resources": resources} for name in flavors or ("h100",)],
    }
    return {"kind": "ClusterQueue", "metadata": {"name": "gpus"}, "spec": {"resourceGroups": [group]}}


def asking(*gpus: int, pods: int = 1, message: str = "", **pod_set: Any) -> dict[str, Any]:
    sets = [
        {
            "name": f"set-{number}",
            "count": pods,
            "template": {"spec": {"containers": [{"name": "x", "resources": {"limits": {GPU: str(amount)}}}]}},
            **pod_set,
        }
        for number, amount in enumerate(gpus)
    ]
    condition = {"type": "QuotaReserved", "status": "False", "message": message}
    return {
        "kind": "Workload",
        "metadata": {"name": "train", "namespace": "ml"},
        "spec": {"podSets": sets},
        "status": {"conditions": [condition]},
    }


def using(gpus: int, **status: Any) -> dict[str, Any]:
    assigned = {"name": "main", "count": 4, "flavors": {GPU: "h100"}, "resourceUsage": {GPU: str(gpus)}}
    admission = {"clusterQueue": "gpus", "podSetAssignments": [assigned]}
    return {
        "kind": "Workload",
        "metadata": {"name": "first", "namespace": "ml"},
        "status": {"admission": admission, **status},
    }


def told(workload: dict[str, Any], queued_in: dict[str, Any], *others: dict[str, Any]) -> tuple[str, str]:
    return lacking(seen_from([workload, queued_in, *others]), workload, queued_in)


def test_waiting_is_advised_only_where_it_helps():
    _, never = told(asking(16), queue(8))
    _, later = told(asking(8), queue(8), using(8))

    assert never.startswith("Waiting does not help")
    assert later.startswith("Nothing is broken: wait")


def test_pods_that_were_given_back_are_not_counted():
    given_back = using(8, reclaimablePods=[{"name": "main", "count": 3}])

    assert told(asking(6), queue(8), given_back) == ("", "")
    assert "6 left" in told(asking(7), queue(8), given_back)[0]


def test_a_workload_that_may_start_with_fewer_pods_lacks_nothing_where_those_fit():
    assert told(asking(2, pods=8, minCount=4), queue(8)) == ("", "")
    assert "lacks 2" in told(asking(2, pods=8, minCount=5), queue(8))[0]


def test_pod_sets_share_the_only_flavor_and_may_take_different_ones_of_several():
    assert "lacks 4" in told(asking(6, 6), queue(8))[0]
    assert told(asking(6, 6), queue(8, "h100", "a100")) == ("", "")


def test_what_kueue_says_that_it_counted_comes_before_the_template():
    changed = asking(16)
    changed["status"]["resourceRequests"] = [{"name": "set-0", "resources": {GPU: "2"}}]

    assert told(changed, queue(8)) == ("", "")


def test_a_resource_that_the_queue_does_not_cover_is_told_only_where_kueue_names_it():
    cpus = {"coveredResources": ["cpu"], "flavors": [{"name": "any", "resources": [{"name": "cpu"}]}]}
    without = {"kind": "ClusterQueue", "metadata": {"name": "gpus"}, "spec": {"resourceGroups": [cpus]}}

    assert told(asking(1), without) == ("", "")
    assert "covers no nvidia.com/gpu" in told(asking(1, message=f"resource {GPU} unavailable"), without)[0]


def test_a_workload_with_its_quota_lacks_none():
    workload = asking(16)
    workload["status"]["conditions"] = [{"type": "QuotaReserved", "status": "True"}]

    assert told(workload, queue(8)) == ("", "")


def test_an_amount_that_is_none_leaves_the_words_to_kueue():
    broken = queue(8)
    broken["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "many"

    assert told(asking(16), broken) == ("", "")

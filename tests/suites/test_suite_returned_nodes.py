"""Nodes of managed pools come back under other names, or not at all where an autoscaler took them away."""

from datetime import UTC, datetime
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.gpu.labels import UPGRADE_STATE
from conformance.reference.model import Gpu, Pool, Reference
from conformance.upgrading.baseline import Baseline, BaselineError, NodeBefore, require_cluster
from conformance.verdict import Judge
from suites.upgrade import test_after_upgrade as after
from suites.upgrade.returned_nodes import Returned

GPU = "nvidia.com/gpu"


def reference(nodes: int) -> Reference:
    pool = Pool(name="gpu", selector={"pool": "gpu"}, nodes=nodes, gpu=Gpu(model="t4", count=4))
    return Reference(name="r", pools=(pool,))


def before(*names: str, pool: str = "gpu", uid: str = "") -> Baseline:
    nodes = tuple(
        NodeBefore(name, True, False, "6.8", "580.95.05", "Tesla-T4", "", "", "", {GPU: 4}, {}, {}, pool)
        for name in names
    )
    return Baseline("prod", "driver 595.91.07", datetime(2026, 1, 1, tzinfo=UTC), nodes, uid=uid)


def node(name: str, *, ready: bool = True, gpus: int = 4, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"pool": "gpu", **labels}},
        "status": {
            "capacity": {GPU: str(gpus)},
            "allocatable": {GPU: str(gpus)},
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def judged(was: Baseline, *objects: dict[str, Any], declared: int = 2) -> Judge:
    facts, judge = Facts.from_objects(objects), Judge()
    after.test_every_node_is_back(was, Returned(facts, reference(declared), was), judge)
    return judge


def broken(judge: Judge) -> dict[str, str]:
    return {each.subject.name: each.cause for each in judge.findings if not each.ok}


def test_new_names_in_the_same_pool_are_the_nodes_back() -> None:
    judge = judged(before("old-1", "old-2"), node("new-1"), node("new-2"))

    assert not broken(judge)
    assert [each.actual for each in judge.findings] == [
        "back, node new-1 in its place",
        "back, node new-2 in its place",
    ]


def test_a_replacement_that_is_not_ready_is_not_back() -> None:
    assert broken(judged(before("old-1", "old-2"), node("new-1"), node("new-2", ready=False))) == {
        "new-2": "the node is not Ready"
    }


def test_a_replacement_with_fewer_gpus_is_noticed() -> None:
    was = before("old-1")
    facts, judge = Facts.from_objects([node("new-1", gpus=3)]), Judge()
    (pair,) = Returned(facts, reference(1), was).pairs
    assert pair[1] is not None

    after.test_no_node_offers_less(reference(1), [(pair[0], pair[1])], judge)

    assert [each.ok for each in judge.findings] == [False]


def test_a_pool_below_what_is_declared_has_lost_a_node() -> None:
    assert broken(judged(before("old-1", "old-2"), node("old-1"), declared=2)) == {
        "old-2": "the node is no longer in the cluster"
    }


def test_a_pool_that_still_has_what_is_declared_was_scaled_down() -> None:
    judge = judged(before("old-1", "old-2"), node("old-1"), declared=1)

    assert not broken(judge)
    assert judge.findings[1].actual == "gone: pool gpu has 1 nodes, and at least 1 are declared"


def test_where_no_number_is_declared_a_node_that_is_gone_is_not_judged() -> None:
    judge = judged(before("old-1", "old-2"), node("old-1"), declared=0)

    assert not broken(judge)
    assert len(judge.findings) == 1


def test_a_baseline_without_pools_knows_nodes_by_their_names_only() -> None:
    assert broken(judged(before("old-1", pool=""), node("new-1"))) == {"old-1": "the node is no longer in the cluster"}


def test_an_upgrade_state_of_the_replacement_counts() -> None:
    judge = judged(before("old-1"), node("new-1", **{UPGRADE_STATE: "validation-required"}))

    assert "its upgrade has not ended" in broken(judge)["new-1"]


@pytest.mark.parametrize(
    ("was", "now", "names", "refused"),
    [
        ("u", "u", ["other"], ""),
        ("u", "v", ["old-1"], "whose UID u is another one"),
        ("", "v", ["old-1"], ""),
        ("", "v", ["other"], "has none of its 1 GPU nodes"),
        ("u", None, ["other"], "has none of its 1 GPU nodes"),
    ],
)
def test_a_cluster_is_known_by_its_uid_and_else_by_its_nodes(was, now, names, refused, tmp_path) -> None:
    if not refused:
        require_cluster(before("old-1", uid=was), tmp_path, names, now)
        return
    with pytest.raises(BaselineError, match=refused):
        require_cluster(before("old-1", uid=was), tmp_path, names, now)

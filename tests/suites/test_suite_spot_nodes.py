"""Nodes that come and go: one whose machine is shut down, a spot node that was taken back, one that has just joined."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference import Reference
from conformance.reference.model import Gpu, Pool
from conformance.verdict import Judge
from suites._shared.pool_nodes import GpuPoolNode
from suites.pools.test_pools import test_every_gpu_node_advertises_its_gpus as offers
from suites.pools.test_pools import test_every_gpu_node_is_ready_and_schedulable as takes_pods

SHUT_DOWN = {"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"}
SPOT = {"kubernetes.azure.com/scalesetpriority": "spot"}


def judged(labels: dict[str, str], taints: list[Any], declared: int, **status: Any) -> Judge:
    """What POOL-10 says of a pool of a node that runs and one that does not, of which some are declared."""
    pool = Pool("spot", {"pool": "spot"}, nodes=declared, gpu=Gpu("t4", 1))
    facts = Facts.from_objects(
        {
            "kind": "Node",
            "metadata": {"name": name, "labels": {"pool": "spot", **labels}},
            "spec": {"taints": [] if ready == "True" else taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}], **status},
        }
        for name, ready in (("up", "True"), ("down", "Unknown"))
    )
    judge = Judge()
    nodes = tuple(GpuPoolNode(pool, node, pool.gpu) for node in facts.nodes if pool.gpu)
    takes_pods(nodes, facts, Reference("cluster", pools=(pool,)), judge)
    return judge


def test_a_spot_node_that_the_cloud_took_back_is_no_failure():
    found = judged(SPOT, [SHUT_DOWN], declared=1)

    assert not found.broken
    assert [str(each) for each in found.unseen] == [
        "node down: the cloud took its machine back: a spot node that is shut down"
    ]


@pytest.mark.parametrize(("labels", "declared"), [({}, 1), (SPOT, 2)], ids=["on demand", "fewer than declared"])
def test_a_machine_that_is_shut_down_is_told_as_that(labels, declared):
    (found,) = judged(labels, [SHUT_DOWN], declared).broken

    assert "the machine of down is shut down" in found.cause
    assert found.remedy.startswith("Start the machine again")


def test_a_spot_node_that_only_does_not_answer_is_broken():
    (found,) = judged(SPOT, [], declared=1).broken

    assert "shut down" not in found.cause


@pytest.mark.parametrize(
    ("age", "labels", "missed"),
    [
        (timedelta(minutes=5), {}, False),
        (timedelta(minutes=5), {"nvidia.com/gpu.product": "Tesla-T4"}, True),
        (timedelta(hours=1), {}, True),
    ],
    ids=["starting", "discovered", "old"],
)
def test_a_new_node_may_have_the_label_that_its_owners_give_it_before_its_gpus(age, labels, missed):
    pool = Pool("spot", {"pool": "spot"}, nodes=1, gpu=Gpu("t4", 1))
    given = {"pool": "spot", "nvidia.com/gpu.present": "true", **labels}
    created = (datetime.now(UTC) - age).isoformat()
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "4"}}
    facts = Facts.from_objects(
        [{"kind": "Node", "metadata": {"name": "new", "labels": given, "creationTimestamp": created}, "status": status}]
    )
    assert pool.gpu is not None
    reference, judge = Reference("cluster", pools=(pool,)), Judge()

    offers((GpuPoolNode(pool, facts.nodes[0], pool.gpu),), reference, facts, judge)

    assert bool(judge.broken) is missed
    assert bool(judge.unseen) is not missed

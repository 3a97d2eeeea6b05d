"""The chapter on observability, on objects made by hand: which exporters are asked, and what is said of the others."""

from typing import Any

import pytest

from conformance.facts import Facts
from conformance.reference import Reference, load
from conformance.shipped import shipped
from conformance.verdict import CouldNotLook, Judge
from suites import test_observability
from suites.conftest import GpuPoolNode
from suites.exporters import ASKED_OF_A_POOL

Object = dict[str, Any]
POOL = "a100-training"


def node(number: int) -> Object:
    metadata = {"name": f"node-{number:02}", "labels": {"eks.amazonaws.com/nodegroup": POOL}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}, "status": {}}


def exporter(number: int, *, ready: bool = True) -> Object:
    container = {"name": "nvidia-dcgm-exporter", "image": "nvcr.io/nvidia/k8s/dcgm-exporter:4.5.1"}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"exporter-{number}", "namespace": "gpu-operator"},
        "spec": {"nodeName": f"node-{number:02}", "containers": [container]},
        "status": {"phase": "Running", "conditions": conditions},
    }


def members(reference: Reference, found: Facts) -> tuple[GpuPoolNode, ...]:
    pool = reference.pool(POOL)
    assert pool is not None
    assert pool.gpu is not None
    return tuple(GpuPoolNode(pool, each, pool.gpu) for each in found.nodes)


def asked(*objects: Object) -> tuple[list[str], dict[str, str]]:
    """The nodes whose exporters are asked, and of the others why they are not."""
    found, judge = Facts.from_objects(objects), Judge()
    reference = load(shipped("fixtures/reference"))
    chosen = test_observability.exporters.__wrapped__(found, members(reference, found), judge)
    return [each.node.name for each in chosen], {each.subject: each.why for each in judge.unseen}


def test_every_exporter_of_a_small_pool_is_asked() -> None:
    names, unseen = asked(*(node(number) for number in range(3)), *(exporter(number) for number in range(3)))

    assert (names, unseen) == (["node-00", "node-01", "node-02"], {})


def test_of_a_large_pool_some_are_asked_and_the_others_are_named() -> None:
    every = range(30)

    names, unseen = asked(*map(node, every), *map(exporter, every))

    assert len(names) == ASKED_OF_A_POOL
    assert {"node-00", "node-29"} <= set(names)
    assert set(unseen.values()) == {"25 other exporters of its pool were asked"}
    assert len(unseen) == len(every) - ASKED_OF_A_POOL


def test_a_node_without_a_ready_exporter_is_left_to_its_own_requirement() -> None:
    names, unseen = asked(node(0), node(1), node(2), exporter(0), exporter(1, ready=False))

    assert names == ["node-00"]
    assert unseen == dict.fromkeys(("node node-01", "node node-02"), "it has no ready exporter (OBS-01)")


def test_without_any_ready_exporter_nothing_can_be_seen() -> None:
    with pytest.raises(CouldNotLook, match="OBS-01"):
        asked(node(0), exporter(0, ready=False))
